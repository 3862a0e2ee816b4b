"""The vectors of documents that a document store keeps, brought up to the records."""

from __future__ import annotations

import numpy as np

from hybrid_memory.partition.shelf import sound
from hybrid_memory.protocols import Changes, DocumentStore, RecordStore
from hybrid_memory.types import Namespace


def collection_of(store: RecordStore, namespace: Namespace) -> Namespace:
    """Return the name of a namespace in a document store, which may serve several stores."""
    return (store.id, *namespace)


def fill(
    documents: DocumentStore,
    store: RecordStore,
    namespace: Namespace,
    *,
    since: int,
    to: int,
    dim: int,
) -> None:
    """Bring a document store from one position to another.

    Hold `PartitionCache.filling` meanwhile: what was read must not be written after an erasure.
    """
    collection = collection_of(store, namespace)
    for changes in store.changes(namespace, since=since):
        if changes.is_afresh:
            documents.drop(collection)
        _apply_documents(documents, collection, changes, since, dim)
    if store.position(namespace) < to:
        documents.drop(collection)  # the namespace was erased meanwhile
        return
    empty = np.empty(0, np.int64)
    documents.apply(
        collection,
        keys=empty,
        vectors=np.empty((0, dim), np.float32),
        removed=empty,
        position=to,
    )


def _apply_documents(
    documents: DocumentStore, collection: Namespace, changes: Changes, position: int, dim: int
) -> None:
    papers = [row for row in changes.rows if row.kind == "document" and row.vector]
    papers = sound(papers, dim)
    if not papers and not changes.removed:
        return
    joined = b"".join(row.vector or b"" for row in papers)
    documents.apply(
        collection,
        keys=np.array([row.key for row in papers], np.int64),
        vectors=np.frombuffer(joined, np.float32).reshape(-1, dim),
        removed=np.array(changes.removed, np.int64),
        position=position,  # raised only when all slices are in
    )
