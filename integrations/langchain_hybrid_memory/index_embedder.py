"""The `embed` of a LangGraph index as an embedder; asynchronous ones run on their caller's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np
from langgraph.store.base import IndexConfig, ensure_embeddings

from hybrid_memory.errors import EmbedderUnavailableError, InvalidInputError
from hybrid_memory.protocols import Vector, Vectors
from langchain_hybrid_memory.embeddings import name_of

# The loop that waits for this thread, if one does: an asynchronous `embed` may be bound to it.
caller_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "hybrid_store_loop", default=None
)


class IndexEmbedder:
    """An `embed` of LangGraph's as the Embedder of a memory: a model, a function, or a name.

    An asynchronous one may be asked from any thread but that of the loop it runs on.
    """

    def __init__(self, config: IndexConfig) -> None:
        """Take the `embed` and `dims` of an index.

        Raises:
            InvalidInputError: it has no dimension.
        """
        embed = config.get("embed")
        self._embeddings = ensure_embeddings(embed)
        self._is_async = hasattr(self._embeddings, "afunc")
        dim = config.get("dims")
        if not isinstance(dim, int) or dim < 1:
            raise InvalidInputError(f"index needs dims, the dimension of embed: {dim!r}")
        self.dim = dim
        self.name = f"langgraph/{name_of(embed)}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (len(texts), dim) float32 vectors, as they come."""
        wanted = list(texts)
        if not wanted:
            return np.empty((0, self.dim), np.float32)
        if self._is_async:
            return _float32(_awaited(self._embeddings.aembed_documents(wanted)))
        return _float32(self._embeddings.embed_documents(wanted))

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, as it comes."""
        if self._is_async:
            return _float32(_awaited(self._embeddings.aembed_query(text)))
        return _float32(self._embeddings.embed_query(text))


def _float32(vectors: object) -> Vectors:
    return np.asarray(vectors, np.float32)


def _awaited(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine gives, from a thread: of the loop that waits for it, or of ours."""
    caller = caller_loop.get()
    future = asyncio.run_coroutine_threadsafe(call, caller or _own_loop())
    while True:
        try:
            return future.result(timeout=1)
        except FutureTimeoutError:
            if future.done():
                raise  # it was the embedding that timed out
            if caller is not None and caller.is_closed():
                raise EmbedderUnavailableError("the event loop was closed meanwhile") from None


@lru_cache(maxsize=1)
def _own_loop() -> asyncio.AbstractEventLoop:
    """Return a loop on a thread of its own, for synchronous calls with an asynchronous `embed`."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="hybrid-store-embed", daemon=True).start()
    return loop
