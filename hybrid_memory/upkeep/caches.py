"""Do the copies, in RAM and in a document store, hold what the records say?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from hybrid_memory.partition import NAMED, PartitionCache, View, collection_of, fill, sound, view_of
from hybrid_memory.protocols import Changes, DocumentStore, IndexRow, RecordStore
from hybrid_memory.types import Namespace

TRIES = 3  # at a namespace that is written to while it is looked at
TOLERANCE = 1e-3  # of a cosine that a document store computes


def wrong_in_partition(
    cache: PartitionCache,
    store: RecordStore,
    namespace: Namespace,
    *,
    dim: int,
    damaged: Collection[int],
) -> list[int]:
    """Return the keys of records that the partition in RAM holds otherwise, or does not hold.

    Not those that are `damaged`, which it may have been told to hide.
    """
    for _ in range(TRIES):
        views = cache.views(namespace)
        with_vectors = views[1].vectors is not None
        reading = store.changes(namespace, with_document_vectors=with_vectors)
        wrong = _differing(views, reading, dim=dim)
        now = cache.views(namespace)
        if now[0] is views[0] and now[1] is views[1]:
            return sorted(wrong - set(damaged))
    return []


def _differing(views: tuple[View, View], reading: Iterable[Changes], *, dim: int) -> set[int]:
    memories, papers = (_Held(view, dim) for view in views)
    wrong: set[int] = set()
    for changes in reading:
        rows = sound(changes.rows, dim)
        wrong |= memories.differing(
            [row for row in rows if row.kind != "document" and row.vector is not None]
        )
        wrong |= papers.differing([row for row in rows if row.kind == "document"])
    return wrong | memories.unseen() | papers.unseen()


class _Held:
    """The rows that a view holds, by key."""

    def __init__(self, view: View, dim: int) -> None:
        rows = np.flatnonzero(view.alive)
        keys = view.columns["key"][rows]
        order = np.argsort(keys)
        self._view = view
        self._dim = dim
        self._keys, self._rows = keys[order], rows[order]
        self._seen = np.zeros(len(keys), np.bool_)

    def differing(self, rows: Sequence[IndexRow]) -> set[int]:
        """Return the keys of those rows that the view does not hold as they are."""
        if not rows:
            return set()
        fresh = view_of(rows, dim=self._dim)
        wanted = fresh.columns["key"]
        at = np.minimum(np.searchsorted(self._keys, wanted), max(len(self._keys) - 1, 0))
        there = self._keys[at] == wanted if len(self._keys) else np.zeros(len(rows), np.bool_)
        at = at[there]
        self._seen[at] = True
        held = self._rows[at]
        same = np.ones(len(held), np.bool_)
        for name, column in fresh.columns.items():
            if name == "answers":
                continue  # counts rows, and those differ
            values = column[there]
            if name in NAMED:
                values = self._codes(fresh)[values]
            same &= self._view.columns[name][held] == values
        if self._view.vectors is not None and fresh.vectors is not None:
            same &= (self._view.vectors[held] == fresh.vectors[there]).all(axis=1)
        metadata = [row.metadata for row, is_there in zip(rows, there, strict=True) if is_there]
        kept = [self._view.metadata[row] for row in held.tolist()]
        same &= np.array([a == b for a, b in zip(kept, metadata, strict=True)], np.bool_)
        return {*wanted[~there].tolist(), *wanted[there][~same].tolist()}

    def _codes(self, fresh: View) -> np.ndarray:
        """Return what the names of another view are called here; the last is that of no name."""
        known = [self._view.code(name) for name in fresh.names.values]
        return np.array([*(-2 if code is None else code for code in known), -1])

    def unseen(self) -> set[int]:
        """Return the keys of rows that no record has."""
        return set(self._keys[~self._seen].tolist())


def wrong_in_documents(
    documents: DocumentStore,
    store: RecordStore,
    namespace: Namespace,
    *,
    dim: int,
    with_vectors: bool,
) -> str:
    """Return how a document store differs from the records; empty if it does not.

    It is brought up to date first, as any search would. Of one that was never filled there is
    nothing to say.
    """
    collection = collection_of(store, namespace)
    probe = np.random.default_rng(0).standard_normal(dim).astype(np.float32)
    probe /= np.linalg.norm(probe)
    for _ in range(TRIES):
        at = documents.position(collection)
        position = store.position(namespace)
        if at > position:
            return f"it stands at change {at}, the records at {position}"
        if not at:
            return ""
        if at < position:
            fill(documents, store, namespace, since=at, to=position, dim=dim)
        expected = wrong = reached = 0
        for changes in store.changes(namespace):
            reached = changes.position
            papers = [row for row in changes.rows if row.kind == "document" and row.vector]
            papers = sound(papers, dim)
            expected += len(papers)
            if with_vectors and papers:
                joined = b"".join(row.vector or b"" for row in papers)
                vectors = np.frombuffer(joined, np.float32).reshape(-1, dim)
                keys = np.array([row.key for row in papers], np.int64)
                found = documents.cosines(collection, probe, keys)
                wrong += int((~(np.abs(found - vectors @ probe) < TOLERANCE)).sum())
        count = documents.count(collection)
        if store.position(namespace) == reached == documents.position(collection):
            if wrong or count != expected:
                return f"it has {count} of {expected} vectors, {wrong} of them wrong or missing"
            return ""
    return ""
