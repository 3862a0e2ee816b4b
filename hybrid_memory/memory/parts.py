"""A part of a memory has the methods of its seam, or it is refused at the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybrid_memory import limits
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.weights import Weights

_METHODS: Mapping[str, tuple[str, ...]] = {
    "embedder": ("embed", "embed_query"),
    "llm": ("complete",),
    "documents": ("apply", "search", "purge", "close"),
    "splitter": ("split",),
    "rerank": ("scores",),
    # Functions:
    "index": (),
    "count_tokens": (),
    "clock": (),
    "redact": (),
}


def check(given: Mapping[str, Any]) -> None:
    """Check parts by their names; what is None, or not given, is a default.

    Raises:
        InvalidInputError: a part that lacks a method, or a number that cannot be.
    """
    for name, methods in _METHODS.items():
        part = given.get(name)
        if part is not None and (name, part) != ("rerank", "maxsim"):
            limits.part(part, name, *methods)
    limits.instance(given.get("weights"), Weights, "weights")
    limits.whole(given.get("index_above", 0), "index_above", low=0)
    limits.whole(given.get("max_cache_bytes", 0), "max_cache_bytes", low=0)
    readers = given.get("readers")
    if readers is None:
        return
    if not isinstance(readers, Mapping):
        raise InvalidInputError(
            f"readers map suffixes to readers, and are not {limits.shown(readers)}"
        )
    for suffix, reader in readers.items():
        limits.part(reader, f"the reader of {limits.shown(suffix)}", "read")
