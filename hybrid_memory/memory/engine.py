"""HybridMemory: the parts that all scopes of a memory share, and how it is opened and closed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack

from numpy.typing import ArrayLike

from hybrid_memory import indexing, limits, records, spaces
from hybrid_memory.errors import EmbedderMismatchError, InvalidInputError, StoreError
from hybrid_memory.memory import parts as parts_of
from hybrid_memory.memory.encoding import Encoding
from hybrid_memory.memory.items import Items
from hybrid_memory.memory.putting import put
from hybrid_memory.memory.scope import Scope
from hybrid_memory.memory.shelf import Shelves
from hybrid_memory.outside import Source, checked
from hybrid_memory.partition import Partition, PartitionCache
from hybrid_memory.protocols import (
    Bound,
    ChatModel,
    Clock,
    DocumentReader,
    DocumentSplitter,
    DocumentStore,
    Draft,
    Embedder,
    IndexFactory,
    OnConflict,
    RecordStore,
    Reranker,
    TokenCounter,
    VectorIndex,
)
from hybrid_memory.report import Report
from hybrid_memory.types import (
    PURGE_TIMEOUT_S,
    Erased,
    Imported,
    Kind,
    Namespace,
    Origin,
    Quota,
    Record,
    Target,
    Verified,
)
from hybrid_memory.weights import Weights

if TYPE_CHECKING:
    from hybrid_memory import upkeep

T = TypeVar("T")


class Parts(TypedDict, total=False):
    """The parts of a memory that can be replaced; each has a default.

    `llm` answers `Scope.ask` (an OpenAI-compatible model named by the environment). `documents`
    keeps the vectors of documents (the partition does). `index` makes the vector index of a
    namespace with more than `index_above` vectors (50,000; FAISS); below, all are compared.
    `splitter` and `readers`, by suffix, make chunks of documents. `rerank` looks a second time at
    the best 50: "maxsim" compares their words one by one with the question's, in context.
    `count_tokens` measures budgets (word pieces of the bundled tokenizer). `clock` tells an aware
    time. `max_cache_bytes` bounds the namespaces held in RAM (1 GiB). `redact` goes over texts and
    all strings in data, metadata and values of profiles before they are stored or encoded; a
    second time must change nothing. `hybrid_memory.redaction.redact_secrets` takes out keys and
    card numbers.

    `quota` bounds each namespace, whoever else writes to it; it is of this memory and not of the
    store, so give it wherever you write. `retention` says, by kind, how long after they happened
    records expire that say nothing of it themselves and are not pinned; what is imported keeps
    what it says. Both are explained at `Quota` and `PrunePolicy`.
    """

    llm: ChatModel | None
    documents: DocumentStore | None
    index: IndexFactory | None
    index_above: int
    splitter: DocumentSplitter | None
    readers: Mapping[str, DocumentReader] | None
    weights: Weights | None
    rerank: Reranker | Literal["maxsim"] | None
    count_tokens: TokenCounter | None
    clock: Clock | None
    max_cache_bytes: int
    redact: Callable[[str], str] | None
    quota: Quota | None
    retention: Mapping[Kind, timedelta] | None


class HybridMemory:
    """A memory over one store. Open it with `open`; work with it through `scope`.

    Thread-safe. Several processes may have the same directory open. After a fork parent and child
    may both go on with it, unless a call was going on that took longer than the fork could wait:
    then the child gets a ForkError.
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
        rerank: Reranker | Literal["maxsim"] | None = None,
        count_tokens: TokenCounter | None = None,
        clock: Clock | None = None,
        max_cache_bytes: int = 2**30,
        redact: Callable[[str], str] | None = None,
        quota: Quota | None = None,
        retention: Mapping[Kind, timedelta] | None = None,
    ) -> None:
        """Put a memory together from parts; what is None is the default of `open`.

        Raises:
            EmbedderMismatchError: the store was written with another embedder.
        """
        given = {
            "embedder": embedder,
            "llm": llm,
            "documents": documents,
            "index": index,
            "index_above": index_above,
            "splitter": splitter,
            "readers": readers,
            "weights": weights,
            "rerank": rerank,
            "count_tokens": count_tokens,
            "clock": clock,
            "max_cache_bytes": max_cache_bytes,
            "redact": redact,
        }
        parts_of.check(given)
        self._store = store
        self._documents = documents
        # A part given here stands in for the default below, which is then never imported.
        lazy = {"_llm": llm, "_splitter": splitter, "_readers": readers}
        self.__dict__.update({name: part for name, part in lazy.items() if part is not None})
        self._weights = weights or Weights()
        self._count_tokens = count_tokens or _bundled_token_counter
        self._clock = clock or _utc_now
        self._redact = redact
        self._quota = quota
        self._retention = records.retention(retention or {})
        self._beside: list[tuple[str, HybridMemory]] = []
        self._shelves: dict[str, Shelves] = {}  # of items, by their source
        self._index = index or _faiss_index
        self._index_above = index_above
        self._max_cache_bytes = max_cache_bytes
        self._filling = threading.RLock()  # held by whoever writes to the document store
        self._moving = threading.RLock()  # held while this memory moves to another embedder
        self._encoding = self._encoding_with(embedder)
        self._reranker = self._maxsim() if rerank == "maxsim" else rerank
        self._check_name()
        if store.was_interrupted or store.rules() not in (None, indexing.RULES):
            from hybrid_memory import upkeep

            upkeep.look_over(store)

    def _encoding_with(self, embedder: Embedder) -> Encoding:
        def cache(accept: Callable[[int], None]) -> PartitionCache:
            return PartitionCache(
                lambda namespace: Partition(
                    namespace,
                    store=self._store,
                    dim=embedder.dim,
                    index=self._index,
                    index_above=self._index_above,
                    documents=self._documents,
                    filling=self._filling,
                    accept=accept,
                ),
                max_bytes=self._max_cache_bytes,
                filling=self._filling,
            )

        return Encoding(self._store, embedder, cache=cache)

    @property
    def _embedder(self) -> Embedder:
        return self._encoding.embedder

    @property
    def _cache(self) -> PartitionCache:
        return self._encoding.cache

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        embedder: Embedder | None = None,
        durability: Literal["full", "normal"] = "full",
        reembed: bool = False,
        **parts: Unpack[Parts],
    ) -> HybridMemory:
        """Open the memory of a directory, which is made if it is missing.

        Without an embedder the bundled all-MiniLM-L6-v2 is used: no key, no network. It is loaded
        when the first text is encoded. `durability`, and what can be done where nothing can be
        written, is explained at `SQLRecordStore.open`, the other parts at `Parts`.

        A store keeps to the vector space that it was first written in. Another name or dimension
        of the embedder is refused here, other vectors under the same name before the first text is
        encoded. With `reembed` a store of another space is moved to this embedder first, as by
        the method of that name.

        Raises:
            InvalidInputError: no path, or a part that lacks what it is used for.
            StorePathError: the path is a file, or cannot be made.
            SchemaVersionError: the store is of a newer version of this library.
            EmbedderMismatchError: the store was written with another embedder.
        """
        from hybrid_memory.backends.sql import SQLRecordStore

        parts_of.check({"embedder": embedder, **parts})  # before a directory is made
        store = SQLRecordStore.open(limits.path(path), durability=durability)
        embedder = _bundled_embedder() if embedder is None else embedder
        try:
            if limits.claim(reembed, "reembed"):
                from hybrid_memory import upkeep

                upkeep.reembed(store, embedder)
            return cls(store, embedder=embedder, **parts)
        except BaseException:
            store.close()
            raise

    @property
    def embedder(self) -> Embedder:
        """The embedder whose vector space this memory is in."""
        return self._embedder

    @property
    def weights(self) -> Weights:
        """What the merger is set to."""
        return self._weights

    def count_tokens(self, text: str) -> int:
        """Return the size of a text as budgets count it."""
        return self._count_tokens(limits.string(text))

    def scope(
        self,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] | None = None,
        session_id: str | None = None,
        read: Iterable[Sequence[str]] = (),
        sources: Iterable[Source] = (),
    ) -> Scope:
        """Return a handle on one namespace, the only way to read or write anything.

        `user_id="ana"` is short for `namespace=("ana",)`. `read` names further namespaces that
        may be searched and never written, `sources` outside retrievers that are asked beside them.

        Raises:
            InvalidInputError: neither or both of `user_id` and `namespace`.
            NamespaceError: a malformed namespace.
        """
        if (user_id is None) == (namespace is None):
            raise InvalidInputError("a scope takes either user_id or namespace")
        own = limits.namespace((user_id,) if namespace is None else namespace)
        read = limits.several(read, "read takes a list of namespaces, such as [('handbook',)]")
        others = dict.fromkeys(limits.namespace(other) for other in read)
        others.pop(own, None)
        session = limits.optional_label(session_id, "session_id")
        return Scope(self, own, tuple(others), session, checked(sources))

    def items(self, *, source: str = "item") -> Items:
        """Return what programs keep under keys, of all namespaces; see `Items`.

        Items of another `source` are others. It is no scope: who calls it answers for whose
        namespaces are read.
        """
        return Items(self, source)

    def beside(self, name: str, *, embedder: Embedder) -> HybridMemory:
        """Return a memory of its own in the same place, for vectors of another embedder.

        It is found again under its `name` (of letters, digits, - and _), has the weights, clock
        and `redact` of this one, and is closed with it. What is in one is unknown to the other:
        each is searched, counted, exported and moved to another embedder by itself. But what is
        done to the whole of this one is done to those beside it too, whoever has them open:
        `Scope.erase`, `purge`, `check`, `repair`, `backup` and `verify_erased`.

        Raises:
            EmbedderMismatchError: it was written with another embedder.
        """
        if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is None:
            raise InvalidInputError("a name is 1 to 64 letters, digits, - and _")
        limits.part(embedder, "embedder", "embed", "embed_query")
        store = self._store.beside(name)
        try:
            memory = HybridMemory(
                store,
                embedder=embedder,
                weights=self._weights,
                count_tokens=self._count_tokens,
                clock=self._clock,
                redact=self._redact,
            )
        except BaseException:
            store.close()
            raise
        self._beside.append((name, memory))
        return memory

    def export(
        self,
        path: Target,
        *,
        namespaces: Iterable[Sequence[str]] | None = None,
        vectors: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write these namespaces (all, if None) as JSON Lines; return the number of records.

        Of this store alone: a memory beside (see `beside`) has an export of its own.
        A path gets a new file (mode 0600), in place of an old one once all is written; an open
        file is written to. With `vectors` an import into a memory with the same embedder need not
        encode anything. What is written meanwhile may be in it or not.

        Raises:
            TransferError: the path cannot be written.
            StoreCorruptError: a record is damaged; nothing is left out in silence.
        """
        from hybrid_memory import transfer

        limits.part(on_progress, "on_progress")
        if namespaces is not None:
            namespaces = limits.several(namespaces, "namespaces takes a list of namespaces")
        wanted = None if namespaces is None else [limits.namespace(one) for one in namespaces]
        return transfer.save(
            self._store,
            path,
            namespaces=wanted,
            vectors=limits.claim(vectors, "vectors"),
            on_progress=on_progress,
        )

    def import_(
        self,
        path: Origin,
        *,
        namespace: Sequence[str] | None = None,
        on_conflict: OnConflict = "error",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Imported:
        """Store an export as it was, or what an importer of `backends` yields; return the counts.

        Everything goes where it came from or, if one is given, into one `namespace`. What is there
        already is left as it is, so a repeated import changes nothing; where an id has other
        content, that is an error, or the record is kept ("skip") or replaced ("replace"). Records
        are stored in batches of 500: of a batch that is refused nothing is, and with the fault
        mended the import can be repeated.

        Raises:
            TransferError: the file cannot be read, or a line of it is malformed.
            ConflictError: an id or a key of a profile is there with other content.
            QuotaExceededError: a batch does not fit; those before it are stored.
        """
        from hybrid_memory import transfer

        limits.part(on_progress, "on_progress")
        return transfer.load(
            path,
            store=self._store,
            embedder=self._encoding,
            claim=self._encoding.claimed,
            now=limits.when(self._clock(), "now"),
            namespace=None if namespace is None else limits.namespace(namespace),
            on_conflict=on_conflict,
            quota=self._quota,
            on_progress=on_progress,
            redact=self._redact,
        )

    def backup(
        self, path: Path | str, *, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Copy the store, as of one moment, into a new directory that `open` can open.

        The stores beside (see `beside`) are copied too, each as of a moment of its own.
        Others may write meanwhile. The copy appears whole or not at all. Vectors that a document
        store such as Chroma keeps are derived from the records and not part of it: the copy has
        them made again.

        Raises:
            StorePathError: the directory is not empty, or cannot be made.
        """
        limits.part(on_progress, "on_progress")
        self._store.backup(limits.path(path), on_progress=on_progress)

    def check(
        self,
        *,
        quick: bool = False,
        vectors: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Look for damage and return what was found, as values without any text.

        Looked at are the database, each record and each value of a profile, what they are found
        by, the copies in RAM, and the document store, which is brought up to date first.
        `quick` looks at the structure of the database, the last 1,000 records of each namespace
        and the size of the document store. `vectors` encodes all texts again and compares: as slow
        as adding them was. `on_progress(done, total)` is called as records are looked at, and the
        total grows with each store beside. Others may read and write meanwhile.

        The stores beside (see `beside`) are looked at too; those that this memory has not opened,
        without encoding anything, as their embedder is not known.
        """
        from hybrid_memory import upkeep

        limits.part(on_progress, "on_progress")
        self._check_name()
        return upkeep.check(
            self._store,
            held=self._held(),
            documents=self._documents,
            quick=limits.claim(quick, "quick"),
            vectors=limits.claim(vectors, "vectors"),
            on_progress=on_progress,
        )

    def repair(self, *, on_progress: Callable[[int, int], None] | None = None) -> Report:
        """Make anew what is derived, move damaged records into quarantine, and report on it.

        Needed after an update that says so, or when `check` finds something. Texts are encoded
        again only where their vector is damaged or was made of another text; in a store beside that
        this memory has not opened they cannot be, which is told. Quarantine is a table
        that nothing reads; what is deleted by its id is deleted there too. A repair that was
        killed can be repeated, one that is repeated changes nothing, and others may read and write
        meanwhile.

        Raises:
            SchemaVersionError: the store was written by a newer version of this library.
        """
        from hybrid_memory import upkeep

        limits.part(on_progress, "on_progress")
        self._check_name()
        return upkeep.repair(
            self._store,
            held=self._held(),
            documents=self._documents,
            now=limits.when(self._clock(), "now"),
            on_progress=on_progress,
        )

    def reembed(
        self,
        embedder: Embedder,
        *,
        batch_size: int = 128,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Move the store, and this memory, to the vector space of another embedder.

        All texts of all namespaces are encoded, `batch_size` (1 to 65,536) at a time, while others
        read and write in the space that is in force; then the new vectors are put in force at once.
        A move that was killed goes on where it stopped when it is called again. Returns how many
        texts were encoded: none if the store is of that space already.

        A memory that was opened with the former embedder, in whichever process, from then on gets
        EmbedderMismatchError wherever it needs a vector. To go back, call this with the former
        embedder: its vectors are kept until `purge` or another move, and only what was written
        since is encoded.

        The switch is one short transaction; what it leaves to be put in place is done in batches.

        Raises:
            ConflictError: somebody else began to move the store to a third space.
            VectorError: the embedder gave something else than finite vectors of its dimension.
        """
        from hybrid_memory import upkeep

        limits.part(embedder, "embedder", "embed", "embed_query")
        limits.whole(batch_size, "batch_size", low=1, high=limits.MAX_BATCH)
        limits.part(on_progress, "on_progress")
        with self._moving:
            encoded = upkeep.reembed(
                self._store, embedder, batch_size=batch_size, on_progress=on_progress
            )
            if embedder is not self._embedder:
                self._encoding = self._encoding_with(embedder)
        return encoded

    def purge(self, *, timeout_s: float = PURGE_TIMEOUT_S) -> Erased:
        """Remove from all files, and from RAM, what deletes and updates left behind.

        A delete overwrites what it deletes; but copies of it may lie in the log, in unused parts
        of the file, and its vector in the document store. The database and, where it is a
        directory of ours, Chroma's are written anew, and those of the stores beside (see `beside`):
        about as long as copying them takes. What is in the way of one of them for longer than
        `timeout_s`, as a reader of another process may be, is told in `Erased.unfinished`; then
        purge again. The vectors that `reembed` keeps for the way back go too.
        """
        from hybrid_memory import upkeep

        timeout_s = limits.seconds(timeout_s, "timeout_s")
        purged = upkeep.purge(
            self._store,
            cache=self._cache,
            documents=self._documents,
            parts=self._keeping(),
            timeout_s=timeout_s,
        )
        self._drop()
        return purged

    def verify_erased(
        self, texts: Sequence[str] = (), vectors: Sequence[ArrayLike] = ()
    ) -> Verified:
        """Look for texts and vectors in the bytes of all files of the store, and say where.

        Looked at is everything in the directory of the store and in that of the document store,
        as bytes: a text in UTF-8 or as in JSON, a vector as float32 or its hexadecimal digits.
        Anything that is left of one in 63 bytes or more is found, and a shorter one as a whole;
        of a common phrase or a short text that others have too the same holds. What is still
        stored is found, of course.

        Raises:
            StorePathError: a file cannot be read.
        """
        from hybrid_memory import upkeep

        files = {path.resolve(): None for path in self._store.files()}
        outside = [upkeep.OUTSIDE_OF_SCAN]
        if self._documents is not None:
            files |= {path.resolve(): None for path in self._documents.files()}
            if not self._documents.files():
                outside.append("the document store, whose files are not on this machine or unknown")
        return upkeep.verify_erased(files, texts=texts, vectors=vectors, outside=outside)

    def close(self) -> None:
        """Release files and connections. A second call does nothing."""
        for _, beside in self._beside:
            beside.close()
        self._drop()
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

    def _drop(self, namespace: Namespace | None = None) -> None:
        """Drop what is held in RAM of a namespace, or of all, here and by the memories beside."""
        holding: list[PartitionCache | Shelves] = [self._cache, *self._shelves.values()]
        for held in holding:
            if namespace is None:
                held.clear()
            else:
                held.drop(namespace)
        for _, beside in self._beside:
            beside._drop(namespace)

    def _keeping(self) -> list[object]:
        """Return the parts, here and of the memories beside, that may keep something of texts."""
        others = [part for _, beside in self._beside for part in beside._keeping()]
        return [self._embedder, self._reranker, *others]

    def _held(self) -> upkeep.Held:
        from hybrid_memory import upkeep

        beside = {name: memory._held() for name, memory in self._beside}
        return upkeep.Held(self._encoding, self._cache, beside)

    def _check_name(self) -> None:
        """Refuse a store that says to be of another embedder: its vectors are compared later."""
        if (space := self._store.space()) is not None:
            spaces.refuse_other_name(space, self._embedder)

    def _in_space(self, act: Callable[[Encoding], T]) -> T:
        """Return what is done with the encoding; if it was replaced meanwhile, with the new one."""
        looked_at = None
        while True:
            encoding = self._encoding
            try:
                return act(encoding)
            except EmbedderMismatchError:
                with self._moving:  # a move by this memory is over then
                    is_replaced = self._encoding is not encoding
                if is_replaced:
                    continue
                if looked_at is encoding:
                    raise
                looked_at = encoding
            encoding.check_again()

    def _redacted(self, record: Record) -> Record:
        return record if self._redact is None else records.redacted(record, self._redact)

    def _redact_text(self, text: str) -> str:
        return text if self._redact is None else self._redact(text)

    def _insert(
        self,
        namespace: Namespace,
        made: Sequence[Record],
        at_given: Sequence[bool],
        on_conflict: OnConflict,
    ) -> list[Record]:
        """Encode, then commit: no writer waits for an encoder."""

        def insert(encoding: Encoding) -> list[Record]:
            if on_conflict != "error":
                return put(
                    self._store,
                    encoding,
                    namespace,
                    made,
                    at_given=at_given,
                    on_conflict=on_conflict,
                    finish=self._expiring,
                    bound=self._bound(),
                )
            drafts = encoding.drafts(made, at_given=at_given)
            drafts = [self._expiring(draft) for draft in drafts]
            return self._store.insert(namespace, drafts, bound=self._bound())

        return self._in_space(insert)

    def _update(
        self, namespace: Namespace, new: Record, *, expected_version: int, bound: Bound | None
    ) -> Record:
        def update(encoding: Encoding) -> Record:
            [draft] = encoding.drafts([new], at_given=[True])
            return self._store.update(
                namespace, draft, expected_version=expected_version, bound=bound
            )

        return self._in_space(update)

    def _expiring(self, draft: Draft) -> Draft:
        if not self._retention:
            return draft
        record = records.expiring(draft.record, self._retention)
        return (
            draft if record is draft.record else replace(draft, record=record, expiry_given=False)
        )

    def _bound(self) -> Bound | None:
        if self._quota is None:
            return None
        return Bound(self._quota, limits.when(self._clock(), "now"))

    def _fence_key(self, namespace: Namespace, session_id: str | None) -> bytes:
        """Return what names the memory block of a session: the same as long as the store lives.

        So the beginning of a prompt stays the same for caches, and nobody who can only write texts
        can work it out.
        """
        said = json.dumps([*namespace, session_id]).encode()
        return hashlib.blake2b(said, key=self._secret, person=b"fence key").digest()

    @cached_property
    def _secret(self) -> bytes:
        try:
            return hashlib.blake2b(self._store.id.encode()).digest()
        except StoreError:  # read-only, or full: the name is this process's own
            return os.urandom(32)

    def _maxsim(self) -> Reranker:
        from hybrid_memory.backends.onnx import MaxSim, MiniLMEmbedder

        mine = self._embedder if isinstance(self._embedder, MiniLMEmbedder) else None
        return MaxSim(mine)  # on the same session, where there is one

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
