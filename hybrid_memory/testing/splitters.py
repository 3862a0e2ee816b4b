"""The contract of DocumentSplitter, as tests."""

from __future__ import annotations

import pytest

from hybrid_memory.protocols import DocumentSplitter

SENTENCE = "The canteen serves lentils on Mondays, and soup on all other days."
TEXTS = {
    "prose": "\n\n".join(" ".join([SENTENCE] * 5) for _ in range(30)),
    "lines": "\n".join(SENTENCE for _ in range(200)),
    "windows": "\r\n\r\n".join(f"{i}. {SENTENCE}\r\n{SENTENCE}" for i in range(100)),
    "unicode": "\n".join(
        "Zoë trinkt \N{HOT BEVERAGE}\ufe0f — 茶を飲みます。e\u0301 👩‍👩‍👧 " * 3 for _ in range(60)
    ),
    "one word": "x" * 20_000,
    "no spaces": "茶を飲みます。" * 2000,
    "ragged": "  \n\n\t " + "\n   \n".join(f"  {SENTENCE}  " for _ in range(100)) + "  \n \n",
    "markdown": "\n\n".join(
        f"# Part {i}\n\n{SENTENCE} *{SENTENCE}*\n\n- one\n- two\n\n```python\nprint({i})\n```\n\n"
        f"| a | b |\n|---|---|\n| {i} | {SENTENCE} |"
        for i in range(40)
    ),
    "broken markdown": "```\n# [a](b\n| x |\n" * 200 + "<div>\n" * 50,
}


class DocumentSplitterSuite:
    """Override `splitter`, one that lets its chunks not overlap."""

    @pytest.fixture
    def splitter(self) -> DocumentSplitter:
        """Return the splitter under test."""
        raise NotImplementedError("override the fixture splitter")

    @pytest.mark.parametrize("markdown", [False, True])
    @pytest.mark.parametrize("name", TEXTS)
    def test_chunks_stand_in_the_text_in_order_and_lose_nothing(
        self, splitter: DocumentSplitter, name: str, markdown: bool
    ) -> None:
        text = TEXTS[name]

        chunks = splitter.split(text, markdown=markdown)

        end = 0
        for offset, chunk in chunks:
            assert chunk.strip()
            assert text[offset : offset + len(chunk)] == chunk
            assert offset >= end
            assert not text[end:offset].strip()
            end = offset + len(chunk)
        assert not text[end:].strip()

    @pytest.mark.parametrize("name", ["prose", "lines", "windows", "ragged"])
    def test_a_long_text_is_cut(self, splitter: DocumentSplitter, name: str) -> None:
        assert len(splitter.split(TEXTS[name])) > 5

    @pytest.mark.parametrize("markdown", [False, True])
    def test_a_sentence_is_one_chunk(self, splitter: DocumentSplitter, markdown: bool) -> None:
        assert splitter.split(SENTENCE, markdown=markdown) == [(0, SENTENCE)]

    @pytest.mark.parametrize("markdown", [False, True])
    @pytest.mark.parametrize("text", ["", " ", "\n\n \t\r\n"])
    def test_a_blank_text_has_no_chunks(
        self, splitter: DocumentSplitter, text: str, markdown: bool
    ) -> None:
        assert splitter.split(text, markdown=markdown) == []

    def test_the_same_text_is_cut_the_same(self, splitter: DocumentSplitter) -> None:
        assert splitter.split(TEXTS["prose"]) == splitter.split(TEXTS["prose"])
