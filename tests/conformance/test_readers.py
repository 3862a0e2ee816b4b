"""The suite of DocumentReader on every implementation, and what is particular to PDF."""

from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from hybrid_memory.backends.pypdf import PdfDocumentReader
from hybrid_memory.errors import DocumentError
from hybrid_memory.protocols import DocumentReader
from hybrid_memory.testing import DocumentReaderSuite, TextReader
from hybrid_memory.testing.readers import SENTENCE
from tests.pdf import write_pdf


class TestTextReader(DocumentReaderSuite):
    @pytest.fixture
    def reader(self) -> DocumentReader:
        return TextReader()

    @pytest.fixture
    def good(self, tmp_path: Path) -> Path:
        path = tmp_path / "menu.txt"
        path.write_text(f"Zoë: {SENTENCE}", encoding="utf-8")
        return path

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        path = tmp_path / "menu.txt"
        path.write_bytes(b"\xff\xfe\x00lentils")
        return path


class TestPdfDocumentReader(DocumentReaderSuite):
    @pytest.fixture
    def reader(self) -> DocumentReader:
        return PdfDocumentReader()

    @pytest.fixture
    def good(self, tmp_path: Path) -> Path:
        return write_pdf(tmp_path / "menu.pdf", [SENTENCE, "", "The last page."])

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        path = tmp_path / "menu.pdf"
        path.write_bytes(b"%PDF-1.7\nnot one really")
        return path


def encrypted(path: Path, *, user_password: str) -> Path:
    writer = PdfWriter(clone_from=PdfReader(write_pdf(path, [SENTENCE])))
    writer.encrypt(user_password, "owner", algorithm="RC4-128")
    writer.write(path)
    return path


def test_a_page_without_text_is_an_empty_page(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "menu.pdf", ["One.", "", "Three."])

    assert [page.strip() for page in PdfDocumentReader().read(path)] == ["One.", "", "Three."]


@pytest.mark.parametrize("pages", [[], ["", ""]])
def test_a_pdf_without_text_needs_ocr(tmp_path: Path, pages: list[str]) -> None:
    path = write_pdf(tmp_path / "scan.pdf", pages)

    with pytest.raises(DocumentError, match="OCR") as caught:
        PdfDocumentReader().read(path)
    assert str(path) in str(caught.value)


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "locked.pdf", user_password="secret")

    with pytest.raises(DocumentError, match="password") as caught:
        PdfDocumentReader().read(path)
    assert str(path) in str(caught.value)


def test_a_pdf_that_only_forbids_printing_is_read(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "open.pdf", user_password="")

    assert SENTENCE in PdfDocumentReader().read(path)[0]


def test_any_damage_is_a_typed_error_or_harmless(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "menu.pdf", [SENTENCE])
    whole = path.read_bytes()
    cuts = [whole[:at] for at in range(0, len(whole), 7)]
    flips = [
        whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :] for at in range(0, len(whole), 5)
    ]

    said = []
    for damaged in cuts + flips:
        path.write_bytes(damaged)
        try:
            PdfDocumentReader().read(path)
        except DocumentError as error:
            said.append(str(error))

    assert len(said) > len(cuts) / 2
    assert all(str(path) in one for one in said)
