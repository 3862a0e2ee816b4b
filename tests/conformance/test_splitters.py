"""The suite of DocumentSplitter on every implementation, and the size of chunks."""

from importlib.resources import files
from itertools import pairwise

import pytest
from tokenizers import Tokenizer

from hybrid_memory.backends.text_splitter import SemanticSplitter
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.protocols import DocumentSplitter
from hybrid_memory.testing import DocumentSplitterSuite, LineSplitter
from hybrid_memory.testing.splitters import TEXTS


class TestLineSplitter(DocumentSplitterSuite):
    @pytest.fixture
    def splitter(self) -> DocumentSplitter:
        return LineSplitter()

    # A line is a chunk, however many sentences it has.
    @pytest.mark.parametrize("name", ["lines", "windows", "ragged"])
    def test_a_long_text_is_cut(self, splitter: DocumentSplitter, name: str) -> None:
        super().test_a_long_text_is_cut(splitter, name)


class TestSemanticSplitter(DocumentSplitterSuite):
    @pytest.fixture
    def splitter(self) -> DocumentSplitter:
        return SemanticSplitter(max_tokens=64)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    file = files("hybrid_memory") / "models" / "all-MiniLM-L6-v2" / "tokenizer.json"
    tokenizer = Tokenizer.from_str(file.read_text())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("max_tokens", [32, 200])
def test_no_chunk_has_more_tokens_than_allowed(
    tokenizer: Tokenizer, max_tokens: int, name: str, markdown: bool
) -> None:
    splitter = SemanticSplitter(max_tokens=max_tokens)

    for _, chunk in splitter.split(TEXTS[name], markdown=markdown):
        assert len(tokenizer.encode(chunk, add_special_tokens=False)) <= max_tokens


def test_chunks_are_well_filled(tokenizer: Tokenizer) -> None:
    text = TEXTS["prose"]
    chunks = SemanticSplitter(max_tokens=200).split(text)

    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    assert len(chunks) <= 1.5 * tokens / 200


def test_chunks_break_at_headings() -> None:
    text = "# Menu\n\nLentils on Mondays.\n\n# Hours\n\nOpen from noon."

    chunks = SemanticSplitter(max_tokens=10).split(text, markdown=True)

    assert [chunk for _, chunk in chunks] == [
        "# Menu\n\nLentils on Mondays.",
        "# Hours\n\nOpen from noon.",
    ]


def test_overlapping_chunks_share_text_and_still_stand_in_it() -> None:
    text = TEXTS["lines"]
    chunks = SemanticSplitter(max_tokens=64, overlap=24).split(text)

    assert all(text[offset : offset + len(chunk)] == chunk for offset, chunk in chunks)
    for (start, chunk), (following, _) in pairwise(chunks):
        assert start < following < start + len(chunk)


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"max_tokens": 8, "overlap": 8}, {"overlap": -1}]
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError):
        SemanticSplitter(**options)
