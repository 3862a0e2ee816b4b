"""A VectorStore of documents: exact, on disk with every write, and the engine of a memory."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from hybrid_memory import Hit, HybridMemory
from hybrid_memory.errors import EmbedderMismatchError, InvalidInputError
from langchain_hybrid_memory.aio import in_thread
from langchain_hybrid_memory.documents import document, item
from langchain_hybrid_memory.embeddings import embedder_from, embeddings_of
from langchain_hybrid_memory.filters import on_metadata

Filter = Mapping[str, Any]
Mode = Literal["dense", "hybrid"]
Scored = list[tuple[Document, float]]

NAMESPACE = ("documents",)

_log = logging.getLogger(__name__)


class HybridVectorStore(VectorStore):
    """Documents in one namespace of a memory.

    A search finds the `k` nearest by cosine, among all that the filter lets through; its scores
    are in [0, 1], higher is better, and 1 is the same text. `mode="hybrid"` lets the memory's
    merger rank a question instead, by meaning and words: its scores are in [0, 1] too, and a text
    that is there twice comes once. MMR and searches by vector know no words.

    A `filter` is in the language of `where` and speaks of the metadata: `{"page": {"$gte": 3}}`.
    Ids are kept, and adding one again replaces what was there. Times in metadata become ISO 8601.
    """

    def __init__(
        self, memory: HybridMemory, *, namespace: Sequence[str] = NAMESPACE, mode: Mode = "dense"
    ) -> None:
        if mode not in ("dense", "hybrid"):
            raise InvalidInputError(f"mode is 'dense' or 'hybrid', not {mode!r}")
        self.memory = memory
        self.mode = mode
        self.scope = memory.scope(namespace=tuple(namespace))
        self.on_close: Callable[[], object] = lambda: None

    @classmethod
    def open(
        cls,
        path: Path | str | None = None,
        embedding: Embeddings | None = None,
        *,
        namespace: Sequence[str] = NAMESPACE,
        mode: Mode = "dense",
        **parts: Any,
    ) -> Self:
        """Open the store of a directory, or one that lasts as long as the object; close it.

        Without an embedding it is the bundled model. `parts` are those of `HybridMemory.open`.

        Raises:
            EmbedderMismatchError: the directory was written with another embedding.
        """
        embedder = None if embedding is None else embedder_from(embedding)
        directory = Path(tempfile.mkdtemp(prefix="hybrid-memory-")) if path is None else Path(path)
        if path is None:
            parts = {"durability": "normal"} | parts
        memory = HybridMemory.open(directory, embedder=embedder, **parts)
        store = cls(memory, namespace=namespace, mode=mode)
        store.on_close = weakref.finalize(store, _finish, memory, None if path else directory)
        return store

    def close(self) -> None:
        """Close a store that `open` or `from_texts` opened; a memory that was given stays open."""
        self.on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def embeddings(self) -> Embeddings:
        """The embedder of the memory."""
        return embeddings_of(self.memory.embedder)

    # -- writing -----------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts in one commit and return their ids; see `add_documents`."""
        given = list(texts)
        metadata = _as_many(metadatas, given, "metadatas")
        made = [
            Document(page_content=text, metadata=one or {})
            for text, one in zip(given, metadata, strict=True)
        ]
        return self.add_documents(made, ids=ids, **kwargs)

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add documents in one commit and return their ids, one each.

        Whatever the `batch_size`, which LangChain's `index` passes on. An id is the one in `ids`,
        else the document's own, else a new one; what was under it is replaced, and not encoded
        again if it is the same. Of blank ones nothing is stored.

        Raises:
            InvalidInputError: a text over 64 KiB (split it), or metadata that JSON cannot hold.
            ConflictError: an id is taken by what is no document.
        """
        _refuse(kwargs)
        given = list(documents)
        names = [
            name or one.id or uuid.uuid4().hex
            for name, one in zip(_as_many(ids, given, "ids"), given, strict=True)
        ]
        items = [
            item(one, name)
            for one, name in zip(given, names, strict=True)
            if one.page_content.strip("\0 \n\r\t")
        ]
        if len(items) < len(given):
            _log.warning("%d blank documents were left out", len(given) - len(items))
        self.scope.add_many(items, on_conflict="replace")
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents of these ids that are there, or all of them if ids is None."""
        _refuse(kwargs)
        if ids is None:
            self.scope.forget(where={"kind": "document"})
        else:
            self.scope.delete_many([one.id for one in self.get_by_ids(ids) if one.id is not None])
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents of these ids that are there, in the order of the ids."""
        found = self.scope.get_many(ids)
        return [document(record) for record in found if record.kind == "document"]

    # -- searching ---------------------------------------------------------------------------

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the best k documents for a text."""
        return _bare(self.similarity_search_with_score(query, k, filter, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """Return the best k documents for a text, each with its score in [0, 1], best first."""
        _refuse(kwargs)
        if self.mode == "hybrid":
            where = on_metadata(filter)
            return _scored(self.scope.search(query, k=k, kinds="document", where=where))
        return self._nearest(query, k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the k documents nearest to a vector."""
        return _bare(self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """Return the k documents nearest to a vector, each with its score in [0, 1]."""
        _refuse(kwargs)
        return self._nearest(embedding, k, filter)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k of the `fetch_k` nearest; lambda is 1 for nearness alone, 0 for variety."""
        _refuse(kwargs)
        return _bare(self._nearest(query, k, filter, mmr_lambda=lambda_mult, fetch_k=fetch_k))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k of the `fetch_k` nearest to a vector, by MMR."""
        _refuse(kwargs)
        return _bare(self._nearest(embedding, k, filter, mmr_lambda=lambda_mult, fetch_k=fetch_k))

    def _nearest(
        self, query: str | list[float], k: int, filter: Filter | None, **bounds: Any
    ) -> Scored:
        where = on_metadata(filter)
        return _scored(self.scope.nearest(query, k=k, kinds="document", where=where, **bounds))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _as_it_is

    # -- the same in another thread ----------------------------------------------------------

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """See `add_texts`."""
        return await in_thread(self.add_texts, texts, metadatas, ids=ids, **kwargs)

    async def aadd_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        """See `add_documents`."""
        return await in_thread(self.add_documents, documents, **kwargs)

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """See `delete`."""
        return await in_thread(self.delete, ids, **kwargs)

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """See `get_by_ids`."""
        return await in_thread(self.get_by_ids, ids)

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """See `similarity_search`."""
        return await in_thread(self.similarity_search, query, k, **kwargs)

    async def asimilarity_search_with_score(self, *args: Any, **kwargs: Any) -> Scored:
        """See `similarity_search_with_score`."""
        return await in_thread(self.similarity_search_with_score, *args, **kwargs)

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """See `similarity_search_by_vector`."""
        return await in_thread(self.similarity_search_by_vector, embedding, k, **kwargs)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """See `max_marginal_relevance_search`."""
        search = self.max_marginal_relevance_search
        return await in_thread(search, query, k, fetch_k, lambda_mult, **kwargs)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """See `max_marginal_relevance_search_by_vector`."""
        search = self.max_marginal_relevance_search_by_vector
        return await in_thread(search, embedding, k, fetch_k, lambda_mult, **kwargs)

    # -- making ------------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        memory: HybridMemory | None = None,
        path: Path | str | None = None,
        namespace: Sequence[str] = NAMESPACE,
        mode: Mode = "dense",
        **parts: Any,
    ) -> Self:
        """Return a store with these texts: of a `memory`, or of a `path` as `open` does.

        Raises:
            EmbedderMismatchError: the memory, or the path, has another embedding.
        """
        if memory is None:
            store = cls.open(path, embedding, namespace=namespace, mode=mode, **parts)
        else:
            _refuse(parts | ({} if path is None else {"path": path}))
            _check_same(memory, embedding)
            store = cls(memory, namespace=namespace, mode=mode)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """See `from_texts`."""
        return await in_thread(cls.from_texts, texts, embedding, metadatas, ids=ids, **kwargs)


def _finish(memory: HybridMemory, directory: Path | None) -> None:
    memory.close()
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


def _check_same(memory: HybridMemory, embedding: Embeddings | None) -> None:
    mine = memory.embedder
    if embedding is None or embedder_from(embedding, dim=mine.dim).name == mine.name:
        return
    raise EmbedderMismatchError(
        f"the memory is in the vector space of {mine.name}; open it with "
        "embedder=embedder_from(embedding), or leave embedding out"
    )


def _as_many(values: Sequence[Any] | None, documents: Sequence[Any], name: str) -> Sequence[Any]:
    values = [None] * len(documents) if values is None else list(values)
    if len(values) != len(documents):
        raise InvalidInputError(f"{len(values)} {name} were given for {len(documents)} documents")
    return values


def _refuse(unknown: Mapping[str, Any]) -> None:
    # A bound that is passed over in silence gives wrong results.
    if unknown:
        raise InvalidInputError(f"unknown argument {min(unknown)!r}; a filter is given as filter=")


def _scored(hits: Iterable[Hit]) -> Scored:
    return [(document(hit.record), hit.score) for hit in hits]


def _bare(scored: Scored) -> list[Document]:
    return [one for one, _ in scored]


def _as_it_is(score: float) -> float:
    return score
