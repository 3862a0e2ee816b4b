"""The shelves of a namespace, caught up with the store before each read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from hybrid_memory.partition.filling import collection_of, fill
from hybrid_memory.partition.shelf import DAMAGED, Shelf, sound
from hybrid_memory.partition.view import View
from hybrid_memory.protocols import DocumentStore, IndexFactory, IndexRow, RecordStore
from hybrid_memory.types import Namespace

_COMPACT_ABOVE = 0.2  # share of dead rows at which a partition is loaded afresh

_log = logging.getLogger(__name__)


class Partition:
    """The shelves of one namespace. Thread-safe."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        store: RecordStore,
        dim: int,
        index: IndexFactory,
        index_above: int,
        documents: DocumentStore | None,
        filling: threading.RLock | None = None,
        accept: Callable[[int], None] | None = None,
    ) -> None:
        """`accept` raises if vectors of a generation are not of the space of the questions."""
        self._namespace = namespace
        self._accept = accept
        self._filling = filling or threading.RLock()
        self._collection = collection_of(store, namespace) if documents is not None else namespace
        self._store = store
        self._dim = dim
        self._index = index
        self._index_above = index_above
        self._documents = documents
        self._is_careful = False  # whether each row is looked at, since there was a damaged one
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._position = 0
        self._memories = Shelf(self._namespace, self._collection, self._dim, None)
        self._papers = Shelf(
            self._namespace, self._collection, self._dim, self._documents, are_documents=True
        )
        self._documents_position: int | None = None
        self.nbytes = 0  # the size in RAM, about

    def views(self) -> tuple[View, View]:
        """Return both shelves, memories first, as of the last acknowledged write."""
        position = self._store.position(self._namespace)
        with self._lock:
            if position < self._position:
                # Another reader was faster, the namespace was erased, or the directory is back
                # from a backup.
                position = self._store.position(self._namespace)
                if position < self._position:
                    self._clear()
            if position > self._position:
                try:
                    self._catch_up_with_care()
                    if max(self._memories.dead_share, self._papers.dead_share) > _COMPACT_ABOVE:
                        self._clear()
                        self._catch_up_with_care()
                except BaseException:
                    self._clear()  # half of a change must not be read
                    raise
            return self._memories.view, self._papers.view

    def _catch_up_with_care(self) -> None:
        try:
            self._catch_up()
        except DAMAGED:
            if self._is_careful:
                raise
            self._is_careful = True
            self._clear()
            self._catch_up()

    def _without_damage(self, rows: list[IndexRow]) -> list[IndexRow]:
        fine = sound(rows, self._dim)
        if len(fine) < len(rows):
            _log.warning(
                "%d records of %s have damaged columns and are not found; memory.repair(), or "
                "hybrid-memory repair, mends them",
                len(rows) - len(fine),
                self._namespace,
            )
        return fine

    def hide(self, keys: Sequence[int]) -> None:
        """Let records be found no more, until they change: the store will not return them."""
        with self._lock:
            self._memories.hide(keys)
            self._papers.hide(keys)

    def _catch_up(self) -> None:
        rows: list[IndexRow] = []
        removed: list[int] = []
        position = self._position
        reading = self._store.changes(
            self._namespace,
            since=position,
            with_document_vectors=self._documents is None,
        )
        for changes in reading:
            if self._accept is not None:
                self._accept(changes.generation)
            if changes.is_afresh:
                self._clear()
            position = changes.position
            rows += changes.rows
            removed += changes.removed
        if self._is_careful:
            rows = self._without_damage(rows)
        # What has no vector (instructions, system messages) is not ranked.
        memories = [row for row in rows if row.kind != "document" and row.vector is not None]
        if self._memories.breaks_a_pair(changed=[row.key for row in memories], removed=removed):
            self._clear()
            self._catch_up()
            return
        papers = [row for row in rows if row.kind == "document"]
        if self._documents is not None:
            self._fill(self._documents, position, touched=bool(papers or removed))
        # An update may have moved a record from one shelf to the other.
        self._memories.apply(memories, [*removed, *(row.key for row in papers)])
        self._papers.apply(papers, [*removed, *(row.key for row in memories)])
        for shelf in (self._memories, self._papers):
            shelf.indexed(self._index, self._index_above)
        self._position = position
        self.nbytes = self._memories.nbytes + self._papers.nbytes

    def _fill(self, documents: DocumentStore, position: int, *, touched: bool) -> None:
        """Bring the document store, which outlives this process, up to the records."""
        if not touched and self._documents_position is not None:
            return  # nothing of what happened since concerns documents
        since = documents.position(self._collection)
        if since > max(position, self._store.position(self._namespace)):
            documents.drop(self._collection)  # the records are back from a backup
            since = 0
        if not since and not touched:
            return  # a namespace without documents needs no collection
        if since < position:
            with self._filling:
                fill(
                    documents, self._store, self._namespace, since=since, to=position, dim=self._dim
                )
        self._documents_position = position

    @property
    def is_empty(self) -> bool:
        """Whether the namespace has never held anything."""
        return self._position == 0
