"""HybridMemory: the parts that all scopes of a memory share, and how it is opened and closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack

from hybrid_memory import indexing, limits
from hybrid_memory.errors import EmbedderMismatchError, InvalidInputError
from hybrid_memory.memory.scope import Scope
from hybrid_memory.merge import Weights
from hybrid_memory.partition import Partition, PartitionCache
from hybrid_memory.protocols import (
    ChatModel,
    Clock,
    DocumentReader,
    DocumentSplitter,
    DocumentStore,
    Embedder,
    IndexFactory,
    RecordStore,
    TokenCounter,
    Vector,
    VectorIndex,
)
from hybrid_memory.types import Namespace, Record


class Parts(TypedDict, total=False):
    """The parts of a memory that can be replaced; each has a default.

    `llm` answers `Scope.ask` (an OpenAI-compatible model named by the environment). `documents`
    keeps the vectors of documents (the partition does). `index` makes the vector index of a
    namespace with more than `index_above` vectors (50,000; FAISS); below, all are compared.
    `splitter` and `readers`, by suffix, make chunks of documents. `count_tokens` measures budgets
    (word pieces of the bundled tokenizer). `clock` tells an aware time. `max_cache_bytes` bounds
    the namespaces held in RAM (1 GiB).
    """

    llm: ChatModel | None
    documents: DocumentStore | None
    index: IndexFactory | None
    index_above: int
    splitter: DocumentSplitter | None
    readers: Mapping[str, DocumentReader] | None
    weights: Weights | None
    count_tokens: TokenCounter | None
    clock: Clock | None
    max_cache_bytes: int


class HybridMemory:
    """A memory over one store. Open it with `open`; work with it through `scope`.

    Thread-safe. Several processes may have the same directory open.
    """

    def __init__(
        self,
        store: RecordStore,
        *,
        embedder: Embedder,
        llm: ChatModel | None = None,
        documents: DocumentStore | None = None,
        index: IndexFactory | None = None,
        index_above: int = 50_000,
        splitter: DocumentSplitter | None = None,
        readers: Mapping[str, DocumentReader] | None = None,
        weights: Weights | None = None,
        count_tokens: TokenCounter | None = None,
        clock: Clock | None = None,
        max_cache_bytes: int = 2**30,
    ) -> None:
        """Put a memory together from parts; what is None is the default of `open`.

        Raises:
            EmbedderMismatchError: the store was written with another embedder.
        """
        self._store = store
        self._embedder = embedder
        self._documents = documents
        # A part given here stands in for the default below, which is then never imported.
        given = {"_llm": llm, "_splitter": splitter, "_readers": readers}
        self.__dict__.update({name: part for name, part in given.items() if part is not None})
        self._weights = weights or Weights()
        self._count_tokens = count_tokens or _bundled_token_counter
        self._clock = clock or _utc_now
        self._space_is_set = False
        index = index or _faiss_index
        index_above = limits.whole(index_above, "index_above", low=0)
        self._cache = PartitionCache(
            lambda namespace: Partition(
                namespace,
                store=store,
                dim=embedder.dim,
                index=index,
                index_above=index_above,
                documents=documents,
            ),
            max_bytes=max_cache_bytes,
        )
        if (space := store.space()) is not None:
            self._check_space(*space)
            self._space_is_set = True

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        embedder: Embedder | None = None,
        durability: Literal["full", "normal"] = "full",
        **parts: Unpack[Parts],
    ) -> HybridMemory:
        """Open the memory of a directory, which is made if it is missing.

        Without an embedder the bundled all-MiniLM-L6-v2 is used: no key, no network. It is loaded
        when the first text is encoded. `durability` is explained at `SQLRecordStore.open`, the
        other parts at `Parts`.

        Raises:
            StorePathError: the path is a file, or cannot be written.
            SchemaVersionError: the store is of a newer version of this library.
            EmbedderMismatchError: the store was written with another embedder.
        """
        from hybrid_memory.backends.sql import SQLRecordStore

        store = SQLRecordStore.open(path, durability=durability)
        try:
            return cls(store, embedder=embedder or _bundled_embedder(), **parts)
        except BaseException:
            store.close()
            raise

    def scope(
        self,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] | None = None,
        session_id: str | None = None,
        read: Iterable[Sequence[str]] = (),
    ) -> Scope:
        """Return a handle on one namespace, the only way to read or write anything.

        `user_id="ana"` is short for `namespace=("ana",)`. `read` names further namespaces that
        may be searched and never written.

        Raises:
            InvalidInputError: neither or both of `user_id` and `namespace`.
            NamespaceError: a malformed namespace.
        """
        if (user_id is None) == (namespace is None):
            raise InvalidInputError("a scope takes either user_id or namespace")
        own = limits.namespace((user_id,) if namespace is None else namespace)
        if isinstance(read, str):
            raise InvalidInputError("read takes a list of namespaces, such as [('handbook',)]")
        others = dict.fromkeys(limits.namespace(other) for other in read)
        others.pop(own, None)
        session = limits.optional_label(session_id, "session_id")
        return Scope(self, own, tuple(others), session)

    def close(self) -> None:
        """Release files and connections. A second call does nothing."""
        self._cache.clear()
        self._store.close()
        if self._documents is not None:
            self._documents.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_space(self, name: str, dim: int) -> None:
        mine = (self._embedder.name, self._embedder.dim)
        if mine != (name, dim):
            raise EmbedderMismatchError(
                f"the store was written with {name} ({dim} dimensions), the embedder is "
                f"{mine[0]} ({mine[1]}); open it with the former, or use another directory"
            )

    def _insert(
        self, namespace: Namespace, records: Sequence[Record], at_given: Sequence[bool]
    ) -> list[Record]:
        """Encode, then commit: no writer waits for an encoder."""
        drafts = indexing.drafts(records, self._embedder, at_given=at_given)
        if drafts and not self._space_is_set:
            self._check_space(*self._store.set_space(self._embedder.name, self._embedder.dim))
            self._space_is_set = True
        return self._store.insert(namespace, drafts)

    def _encode(self, query: str) -> Vector:
        return limits.unit_vector(self._embedder.embed_query(query), dim=self._embedder.dim)

    @cached_property
    def _llm(self) -> ChatModel:
        from hybrid_memory.backends.openai import OpenAIChat

        return OpenAIChat()

    @cached_property
    def _splitter(self) -> DocumentSplitter:
        from hybrid_memory.backends.text_splitter import SemanticSplitter

        return SemanticSplitter()

    @cached_property
    def _readers(self) -> Mapping[str, DocumentReader]:
        from hybrid_memory.backends.pypdf import PdfDocumentReader

        return {".pdf": PdfDocumentReader()}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _bundled_embedder() -> Embedder:
    from hybrid_memory.backends.onnx import MiniLMEmbedder

    return MiniLMEmbedder()


def _bundled_token_counter(text: str) -> int:
    from hybrid_memory.backends.onnx import count_tokens

    return count_tokens(text)


def _faiss_index(dim: int) -> VectorIndex:
    from hybrid_memory.backends.faiss import FaissIndex

    return FaissIndex(dim)
