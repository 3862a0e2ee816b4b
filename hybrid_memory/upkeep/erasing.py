"""Erasure: nothing left, in any file of the store and in what this process keeps in RAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from types import MappingProxyType

from hybrid_memory import words
from hybrid_memory.errors import HybridMemoryError, StoreError
from hybrid_memory.partition import PartitionCache, collection_of, fill
from hybrid_memory.protocols import DocumentStore, Forgets, RecordStore
from hybrid_memory.types import PURGE_TIMEOUT_S, Erased, Namespace

OUTSIDE = (
    "backups and exports, which are files of their own",
    "copies that the file system or the device keeps: snapshots, worn blocks, swap",
    "what other processes hold in RAM, until their next read",
    "what was sent to models and to outside retrievers",
)
_NO_DOCUMENTS = (
    "vectors in a document store such as Chroma, if there is one: none was opened here; open the "
    "memory with it and do this again"
)


def erase(
    store: RecordStore,
    namespace: Namespace,
    *,
    cache: PartitionCache | None = None,
    documents: DocumentStore | None = None,
    parts: Iterable[object] = (),
    timeout_s: float = PURGE_TIMEOUT_S,
) -> Erased:
    """See `Scope.erase`. `parts` are asked to forget if they can."""
    erased = store.erase(namespace)
    if cache is not None:
        cache.drop(namespace)
    purged = _purge(store, namespace, cache, documents, parts, timeout_s=timeout_s)
    erased = replace(
        erased,
        files=purged.files,
        bytes=purged.bytes,
        unfinished=purged.unfinished,
        outside=purged.outside,
    )
    return _beside(erased, store, lambda other: erase(other, namespace, timeout_s=timeout_s))


def count(store: RecordStore, namespace: Namespace) -> int:
    """Return how many records `erase` would remove."""
    total = store.stats(namespace).total
    for name in store.besides():
        with closing(store.beside(name)) as other:
            total += count(other, namespace)
    return total


def purge(
    store: RecordStore,
    *,
    cache: PartitionCache | None = None,
    documents: DocumentStore | None = None,
    parts: Iterable[object] = (),
    timeout_s: float = PURGE_TIMEOUT_S,
) -> Erased:
    """See `HybridMemory.purge`."""
    if cache is not None:
        cache.clear()  # the rows of deleted records are still in its arrays
    purged = _purge(store, None, cache, documents, parts, timeout_s=timeout_s)
    return _beside(purged, store, lambda other: purge(other, timeout_s=timeout_s))


def _beside(erased: Erased, store: RecordStore, act: Callable[[RecordStore], Erased]) -> Erased:
    """Do the same in the stores beside, whoever has them open, and return what all of it was."""
    for name in store.besides():
        try:
            with closing(store.beside(name)) as other:
                done = act(other)
        except HybridMemoryError as error:  # what can be removed elsewhere is
            done = Erased(
                unfinished=(f"the store beside, {name!r}, is as it was: {error}; do this again",)
            )
        erased = replace(
            erased,
            records=MappingProxyType(Counter(erased.records) + Counter(done.records)),
            removals=erased.removals + done.removals,
            profile_keys=erased.profile_keys + done.profile_keys,
            quarantined=erased.quarantined + done.quarantined,
            files=(*erased.files, *done.files),
            bytes=erased.bytes + done.bytes,
            unfinished=(*erased.unfinished, *done.unfinished),
        )
    return erased


def _purge(
    store: RecordStore,
    namespace: Namespace | None,
    cache: PartitionCache | None,
    documents: DocumentStore | None,
    parts: Iterable[object],
    *,
    timeout_s: float,
) -> Erased:
    for part in parts:
        if isinstance(part, Forgets):
            part.forget()
    words.forget()
    unfinished: list[str] = []
    files: list[str] = []
    freed = 0
    if documents is not None:
        before = _size(documents)
        try:
            unfinished += _purge_documents(documents, store, namespace, cache)
        except HybridMemoryError as error:  # the records are gone, and the rest is to go as well
            unfinished.append(f"the document store was not purged: {error}; purge again")
        files = [str(path) for path in documents.files()]
        freed = before - _size(documents)
    try:
        if namespace is None:
            while store.settle_space():
                pass
            store.drop_former_spaces()
        purged = store.purge(timeout_s=timeout_s)
    except StoreError as error:
        purged = Erased(unfinished=(f"the files were not purged: {error}; purge again",))
    outside = OUTSIDE if documents is not None else (*OUTSIDE, _NO_DOCUMENTS)
    return replace(
        purged,
        files=(*purged.files, *files),
        bytes=purged.bytes + freed,
        unfinished=(*purged.unfinished, *unfinished),
        outside=outside,
    )


def _purge_documents(
    documents: DocumentStore,
    store: RecordStore,
    namespace: Namespace | None,
    cache: PartitionCache | None,
) -> list[str]:
    # Who fills it after this reads the records as they are now.
    with nullcontext() if cache is None else cache.filling:
        if namespace is not None:
            documents.drop(collection_of(store, namespace))
        else:
            _catch_up(documents, store)
        return list(documents.purge())


def _catch_up(documents: DocumentStore, store: RecordStore) -> None:
    """Delete there what the records have not any more: else it would be kept by the purge."""
    space = store.space()
    for namespace in store.namespaces() if space is not None else ():
        collection = collection_of(store, namespace)
        since, position = documents.position(collection), store.position(namespace)
        if since > position:
            documents.drop(collection)  # it is filled anew at the next read
        elif since and space is not None:
            fill(documents, store, namespace, since=since, to=position, dim=space.dim)


def _size(documents: DocumentStore) -> int:
    size = 0
    for path in documents.files():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
