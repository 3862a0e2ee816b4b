"""The contract of DocumentReader, as tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_memory.errors import DocumentError
from hybrid_memory.protocols import DocumentReader

SENTENCE = "The canteen serves lentils."


class DocumentReaderSuite:
    """Override `reader`, and files of its format: `good` with SENTENCE in it, `damaged`."""

    @pytest.fixture
    def reader(self) -> DocumentReader:
        """Return the reader under test."""
        raise NotImplementedError("override the fixture reader")

    @pytest.fixture
    def good(self) -> Path:
        """Return a file whose first page holds SENTENCE."""
        raise NotImplementedError("override the fixture good")

    @pytest.fixture
    def damaged(self) -> Path:
        """Return a file that is not of this format."""
        raise NotImplementedError("override the fixture damaged")

    def test_the_text_comes_page_by_page(self, reader: DocumentReader, good: Path) -> None:
        pages = reader.read(good)

        assert isinstance(pages, list)
        assert SENTENCE in " ".join(pages[0].split())

    def test_pages_can_be_stored(self, reader: DocumentReader, good: Path) -> None:
        for page in reader.read(good):
            assert "\0" not in page
            assert page.encode().decode() == page

    def test_reading_again_gives_the_same(self, reader: DocumentReader, good: Path) -> None:
        assert reader.read(good) == reader.read(good)

    def test_a_damaged_file_is_named(self, reader: DocumentReader, damaged: Path) -> None:
        with pytest.raises(DocumentError) as caught:
            reader.read(damaged)
        assert str(damaged) in str(caught.value)

    def test_a_missing_file_is_named(self, reader: DocumentReader, tmp_path: Path) -> None:
        with pytest.raises(DocumentError) as caught:
            reader.read(tmp_path / "missing")
        assert str(tmp_path / "missing") in str(caught.value)

    def test_a_folder_is_not_a_document(self, reader: DocumentReader, tmp_path: Path) -> None:
        with pytest.raises(DocumentError) as caught:
            reader.read(tmp_path)
        assert str(tmp_path) in str(caught.value)
