"""Cuts documents into chunks with semantic-text-splitter, measured in the embedder's tokens."""

from __future__ import annotations

import json
from functools import cached_property
from importlib.resources import files

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from hybrid_memory.errors import InvalidInputError, ModelFileError
from hybrid_memory.limits import whole

_TOKENIZER = ("models", "all-MiniLM-L6-v2", "tokenizer.json")


class SemanticSplitter:
    """A DocumentSplitter that breaks at headings, paragraphs and sentences, in this order.

    Chunks have at most `max_tokens` tokens of the bundled all-MiniLM-L6-v2, which reads 256 at
    once, the title and headings of a chunk among them, and share up to `overlap` tokens with the
    one before. Thread-safe.
    """

    def __init__(self, *, max_tokens: int = 200, overlap: int = 0) -> None:
        self.max_tokens = whole(max_tokens, "max_tokens", low=1)
        self.overlap = whole(overlap, "overlap", low=0)
        if overlap >= max_tokens:
            raise InvalidInputError(
                f"overlap must be less than max_tokens={max_tokens}, not {overlap}"
            )

    def split(self, text: str, *, markdown: bool = False) -> list[tuple[int, str]]:
        """Return (offset in characters, chunk), in order; every chunk stands in the text."""
        return (self._markdown if markdown else self._plain).chunk_indices(text)

    @cached_property
    def _plain(self) -> TextSplitter:
        return TextSplitter.from_huggingface_tokenizer_str(
            _tokenizer(), self.max_tokens, self.overlap
        )

    @cached_property
    def _markdown(self) -> MarkdownSplitter:
        return MarkdownSplitter.from_huggingface_tokenizer_str(
            _tokenizer(), self.max_tokens, self.overlap
        )


def _tokenizer() -> str:
    """Return the bundled tokenizer as JSON, without the truncation that would cap every count."""
    file = files("hybrid_memory").joinpath(*_TOKENIZER)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{file} is missing or damaged; install the package again") from error
    return json.dumps(settings | {"truncation": None, "padding": None})
