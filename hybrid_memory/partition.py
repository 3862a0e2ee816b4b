"""The hot copy of a namespace: vectors, postings and columns in RAM, caught up before each read.

A partition is a cache of the record store. It has two shelves, one for what a user's life is made
of (messages, facts, events) and one for documents, whose lengths and words would distort the
statistics of the first. Records without a vector, such as instructions, are on neither.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.filters import MISSING, RECORD_FIELDS, Predicate, metadata_value
from hybrid_memory.limits import microseconds
from hybrid_memory.protocols import (
    Changes,
    DocumentStore,
    IndexFactory,
    IndexRow,
    RecordStore,
    Terms,
    Vector,
    VectorIndex,
    Vectors,
)
from hybrid_memory.types import KINDS, Kind, Namespace
from hybrid_memory.words import Postings

NEVER = np.iinfo(np.int64).max  # the microsecond at which what does not expire expires
_NONE = -1  # the code of an absent name
_COMPACT_ABOVE = 0.2  # share of dead rows at which a partition is loaded afresh
# Each an array of its own: a search reads few of them, and all of their rows.
_COLUMNS: dict[str, Any] = {
    "key": np.int64,
    "at": np.int64,
    "expires_at": np.int64,
    "valid_from": np.int64,
    "valid_to": np.int64,
    "digest": np.int64,
    "importance": np.float64,
    "kind": np.int16,
    "role": np.int32,
    "speaker": np.int32,
    "session_id": np.int32,
    "source": np.int32,
    "question": np.float32,
    "tells_time": np.bool_,
    "tells_number": np.bool_,
    "durable": np.bool_,
    "answers": np.int32,  # the row of the question that a turn answers
}
_MESSAGE = KINDS.index("message")
NAMED = ("role", "speaker", "session_id", "source")
_FIRST = microseconds(datetime(1, 1, 1, tzinfo=UTC))
_LAST = microseconds(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
# What reading a damaged row may raise.
_DAMAGED = (TypeError, ValueError, AttributeError, OverflowError)

_log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]


class _Names:
    """Gives each distinct string a small number."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, name: str | None) -> int:
        if name is None:
            return _NONE
        if name not in self._codes:
            name.encode()  # of a damaged row it may be bytes, or text that is none
            self._codes[name] = len(self.values)
            self.values.append(name)
        return self._codes[name]

    def find(self, name: str) -> int | None:
        return self._codes.get(name)


class _Growing:
    """An array that rows are appended to; a slice handed out before stays as it was."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._array = np.empty((0, *shape), dtype)
        self._count = 0

    def append(self, rows: NDArray[Any]) -> NDArray[Any]:
        needed = self._count + len(rows)
        if needed > len(self._array):
            # A first load is exact; afterwards doubling keeps appends cheap.
            room = needed if not self._count else max(needed, 2 * self._count)
            array = np.empty((room, *self._array.shape[1:]), self._array.dtype)
            array[: self._count] = self._array[: self._count]
            self._array = array
        self._array[self._count : needed] = rows
        self._count = needed
        return self._array[:needed]

    @property
    def nbytes(self) -> int:
        return self._array.nbytes


@dataclass(frozen=True, slots=True)
class View:
    """What a reader sees of a shelf: n rows that nobody changes any more.

    `has_assistant` tells whether an assistant speaks here, or people among themselves.
    `vectors` is (n, dim), or None where a document store keeps them. `alive` is False for rows
    that were deleted or replaced. `speakers` are those who said something here, `span` the first
    and the last time (microseconds). `collection` is the name of the namespace in the document
    store. `has_bounds` tells whether any row expires or is in force for a time only, `has_answers`
    whether any follows a question.
    """

    namespace: Namespace
    collection: Namespace
    columns: Columns
    alive: Mask
    vectors: Vectors | None
    words: Postings
    metadata: Sequence[str | None]
    names: _Names
    index: VectorIndex | None
    documents: DocumentStore | None
    speakers: frozenset[str] = frozenset()
    span: tuple[int, int] = (0, 0)
    has_assistant: bool = False
    has_bounds: bool = False
    has_answers: bool = False
    are_documents: bool = False

    def code(self, name: str) -> int | None:
        """Return the number that a name (a speaker, a session...) has here, if it has one."""
        return self.names.find(name)

    def allowed(self, *, now: int, kinds: frozenset[Kind] | None, where: Predicate | None) -> Mask:
        """Return which rows may be found: alive, in force at `now` (microseconds), as filtered."""
        columns, mask = self.columns, self.alive
        if self.has_bounds:
            mask = mask & (columns["expires_at"] > now)
            mask &= (columns["valid_from"] <= now) & (columns["valid_to"] > now)
        if kinds is not None:
            mask = mask & np.isin(columns["kind"], [KINDS.index(kind) for kind in kinds])
        if where is not None:
            mask = mask.copy()
            for row in np.flatnonzero(mask).tolist():
                mask[row] = where(self._fields(row))
        return mask

    def _fields(self, row: int) -> Callable[[str], Any]:
        metadata: Any = None

        def value(name: str) -> Any:
            nonlocal metadata
            if name not in RECORD_FIELDS:
                if metadata is None:
                    metadata = _parsed(self.metadata[row])
                return metadata_value(metadata, name)
            if name == "kind":
                return KINDS[self.columns["kind"][row]]
            if name in NAMED:
                code = int(self.columns[name][row])
                return MISSING if code == _NONE else self.names.values[code]
            return self.columns[name][row].item()

        return value

    def nearest(self, vector: Vector, k: int) -> Rows | None:
        """Return up to k rows near a vector by index or document store; None without either."""
        if self.documents is not None:
            keys, _ = self.documents.search(self.collection, vector, k)
            rows = np.flatnonzero(self.alive & np.isin(self.columns["key"], keys))
            return rows.astype(np.int64)
        if self.index is None:
            return None
        # The index knows dead rows and rows newer than this view.
        rows = self.index.search(vector, 2 * k)
        rows = rows[rows < len(self.alive)]
        rows = rows[self.alive[rows]][:k]
        enough = min(k, int(np.count_nonzero(self.alive)))
        return rows if len(rows) >= enough else None

    def cosines(self, vector: Vector, rows: Rows | slice) -> NDArray[np.float32]:
        """Return the cosines of rows with a vector of norm 1."""
        if self.vectors is None:
            if self.documents is None:
                return np.zeros(len(self.columns["key"][rows]), np.float32)
            return self.documents.cosines(self.collection, vector, self.columns["key"][rows])
        # Row by row on this thread: a matrix product over 5,000 rows wakes a pool of threads, which
        # costs tens of milliseconds on a busy machine.
        cosines: NDArray[np.float32] = np.vecdot(self.vectors[rows], vector)
        return cosines


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of one view, with what was measured while finding them.

    `rows`, `cosine`, `bm25` and `asked` have one entry a candidate; `bm25` is its share, in [0, 1],
    of what the query asks for (see `Postings.scores`); `asked` is the cosine of the question that
    it answers, or its own where it answers none.
    """

    view: View
    rows: Rows
    cosine: NDArray[np.float32]
    bm25: NDArray[np.float32]
    asked: NDArray[np.float32]
    is_part: bool = False  # whether there were more rows that an index passed over

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of the candidates."""
        column: NDArray[Any] = self.view.columns[name]
        # All rows, each once and in order, need no copy.
        return column if len(self.rows) == len(column) else column[self.rows]

    def taken(self, mask: Mask) -> Pool:
        """Return the candidates of a (candidates,) mask."""
        chosen = (self.rows[mask], self.cosine[mask], self.bm25[mask], self.asked[mask])
        return Pool(self.view, *chosen, is_part=True)


class _ShelfState:
    """The growing side of a shelf; `view` is swapped, never changed."""

    def __init__(
        self,
        namespace: Namespace,
        collection: Namespace,
        dim: int,
        documents: DocumentStore | None,
        *,
        are_documents: bool = False,
    ) -> None:
        self._columns = {name: _Growing((), dtype) for name, dtype in _COLUMNS.items()}
        self._last_key = 0
        self._vectors = None if documents is not None else _Growing((dim,), np.float32)
        self._metadata: list[str | None] = []
        self._metadata_bytes = 0
        # Of each session the question just asked: its row and its words.
        self._asked: dict[str, tuple[int, Terms]] = {}
        self._indexed = 0
        self._dim = dim
        self.view = View(
            namespace=namespace,
            collection=collection,
            columns={name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()},
            alive=np.empty(0, np.bool_),
            vectors=None if documents is not None else np.empty((0, dim), np.float32),
            words=Postings(),
            metadata=self._metadata,
            names=_Names(),
            index=None,
            documents=documents,
            are_documents=are_documents,
        )

    def apply(self, rows: Sequence[IndexRow], removed: Sequence[int]) -> None:
        old = self.view
        gone = [*removed, *(row.key for row in rows)] if len(old.alive) else []
        alive = old.alive
        if gone:
            alive = alive & ~np.isin(old.columns["key"], np.array(gone, np.int64))
        if not rows and alive is old.alive:
            return
        names = old.names
        words, answers = self._joined(rows, first=len(old.alive))
        table = [
            (
                row.key,
                row.at,
                NEVER if row.expires_at is None else row.expires_at,
                -NEVER if row.valid_from is None else row.valid_from,
                NEVER if row.valid_to is None else row.valid_to,
                row.digest,
                row.importance,
                KINDS.index(row.kind),
                names.code(row.role),
                names.code(row.speaker),
                names.code(row.session_id),
                names.code(row.source),
                row.question,
                row.tells_time,
                row.tells_number,
                _is_durable(row),
                question,
            )
            for row, question in zip(rows, answers, strict=True)
        ]
        self._metadata.extend(row.metadata for row in rows)
        self._metadata_bytes += sum(len(row.metadata) for row in rows if row.metadata)
        columns, has_bounds, has_answers = old.columns, old.has_bounds, old.has_answers
        if table:
            fresh = {
                name: np.array(values, dtype)
                for (name, dtype), values in zip(
                    _COLUMNS.items(), zip(*table, strict=True), strict=True
                )
            }
            _check(fresh)
            columns = {name: self._columns[name].append(part) for name, part in fresh.items()}
            has_bounds |= _has_bounds(fresh)
            has_answers |= bool((fresh["answers"] != _NONE).any())
        self._last_key = max([self._last_key, *(row.key for row in rows)])
        alive = np.concatenate([alive, np.ones(len(rows), np.bool_)])
        self.view = replace(
            old,
            columns=columns,
            alive=alive,
            vectors=self._with_vectors(rows),
            words=old.words.extended(words),
            speakers=_speakers(columns["speaker"][alive], names),
            span=(int(columns["at"].min()), int(columns["at"].max())),
            has_assistant=_has(columns["role"][alive], names.find("assistant")),
            has_bounds=has_bounds,
            has_answers=has_answers,
        )

    def _joined(self, rows: Sequence[IndexRow], *, first: int) -> tuple[list[Terms], list[int]]:
        """Return the words of each row, an answer's together with those of its question's row.

        "Paris." says little; with "Where do you live?" before it, it can be found. The question
        is the turn before in the same session. (Joining the questions of turns lifts the recall
        of BM25 more than any other text tried, and its precision with it.)
        """
        words, answers = [], []
        for number, row in enumerate(rows, first):
            own = np.frombuffer(row.terms, np.uint32)
            if row.kind != "message" or row.session_id is None:
                words.append(own)
                answers.append(_NONE)
                continue
            question, asked = self._asked.get(row.session_id, _NO_QUESTION)
            words.append(np.concatenate([asked, own]))
            answers.append(question)
            self._asked[row.session_id] = (number, own) if row.question else _NO_QUESTION
        return words, answers

    def breaks_a_pair(self, *, changed: Sequence[int], removed: Sequence[int]) -> bool:
        """Tell whether with these keys a turn loses or changes what it is joined with."""
        changed = [key for key in changed if key <= self._last_key]  # the others are new
        if not changed and not removed:
            return False
        columns = self.view.columns
        turns = self.view.alive & (columns["kind"] == _MESSAGE) & (columns["session_id"] != _NONE)
        if (turns & np.isin(columns["key"], changed)).any():
            return True
        for row in np.flatnonzero(turns & np.isin(columns["key"], removed)).tolist():
            session = turns & (columns["session_id"] == columns["session_id"][row])
            rows = np.flatnonzero(session)
            at = int(np.searchsorted(rows, row))
            # Either it asks, or what comes after it now follows a question.
            if columns["question"][rows[max(0, at - 1) : at + 1]].any():
                return True
        return False

    def _with_vectors(self, rows: Sequence[IndexRow]) -> Vectors | None:
        if self._vectors is None:
            return None
        blank = bytes(4 * self._dim)
        joined = b"".join(row.vector or blank for row in rows)
        vectors = np.frombuffer(joined, np.float32).reshape(-1, self._dim)
        if not are_units(vectors).all():
            raise ValueError("a damaged vector")
        return self._vectors.append(vectors)

    def hide(self, keys: Sequence[int]) -> None:
        """Let rows be found no more, until they change."""
        alive = self.view.alive & ~np.isin(self.view.columns["key"], np.array(keys, np.int64))
        self.view = replace(self.view, alive=alive)

    def indexed(self, factory: IndexFactory, above: int) -> None:
        """Keep an index over the vectors once there are more of them than `above`."""
        old = self.view
        if old.vectors is None or len(old.vectors) <= above:
            return
        index = old.index or factory(self._dim)
        if self._indexed < len(old.vectors):
            index.add(old.vectors[self._indexed :])
            self._indexed = len(old.vectors)
        if index is not old.index:
            self.view = replace(old, index=index)

    @property
    def dead_share(self) -> float:
        alive = self.view.alive
        return 1 - np.count_nonzero(alive) / len(alive) if len(alive) > 1000 else 0.0

    @property
    def nbytes(self) -> int:
        vectors = 0 if self._vectors is None else self._vectors.nbytes
        columns = sum(column.nbytes for column in self._columns.values())
        return columns + vectors + self.view.words.nbytes + self._metadata_bytes


_NO_QUESTION: tuple[int, Terms] = (_NONE, np.empty(0, np.uint32))


def _is_durable(row: IndexRow) -> bool:
    """Tell whether a record does not age: facts and documents, and what its metadata calls so."""
    if row.kind in ("fact", "document"):
        return True
    flagged = row.metadata is not None and '"durable"' in row.metadata
    return flagged and _parsed(row.metadata).get("durable") is True


def _parsed(metadata: str | None) -> Mapping[str, Any]:
    """Return metadata from JSON; of a damaged row, which will not be returned, there is none."""
    if metadata is None:
        return {}
    try:
        parsed = json.loads(metadata)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _check(columns: Columns) -> None:
    """Refuse what would break a search; all at once, for it is seldom there."""
    for name, low, high in (("at", _FIRST, _LAST), ("importance", 0, 1), ("question", 0, 1)):
        if not ((columns[name] >= low) & (columns[name] <= high)).all():
            raise ValueError(f"a damaged row: {name} is out of range")


def are_units(vectors: Vectors) -> Mask:
    """Return which rows are as an embedder has to give them: finite, of norm 1, or zero."""
    with np.errstate(all="ignore"):
        squares = np.vecdot(vectors, vectors)
        fine: Mask = (np.abs(squares - 1) < 1e-3) | (squares == 0)
    return fine


def sound(rows: Sequence[IndexRow], dim: int) -> list[IndexRow]:
    """Return those rows that can be searched; one whose bits were changed may not."""
    try:
        _ShelfState((), (), dim, None).apply(rows, [])
    except _DAMAGED:
        half = len(rows) // 2
        return [*sound(rows[:half], dim), *sound(rows[half:], dim)] if half else []
    return list(rows)


def _has_bounds(columns: Columns) -> bool:
    unbounded = {"expires_at": NEVER, "valid_from": -NEVER, "valid_to": NEVER}
    return any(bool((columns[name] != value).any()) for name, value in unbounded.items())


def _has(codes: NDArray[np.int32], code: int | None) -> bool:
    return code is not None and bool((codes == code).any())


def _speakers(codes: NDArray[np.int32], names: _Names) -> frozenset[str]:
    seen = np.bincount(codes[codes != _NONE])
    return frozenset(names.values[code] for code in np.flatnonzero(seen).tolist())


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
    ) -> None:
        self._namespace = namespace
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
        self._memories = _ShelfState(self._namespace, self._collection, self._dim, None)
        self._papers = _ShelfState(
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
        except _DAMAGED:
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


class PartitionCache:
    """The partitions in use, least recently used out first once they pass a size in bytes."""

    def __init__(self, make: Callable[[Namespace], Partition], *, max_bytes: int) -> None:
        self._make = make
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.filling = threading.RLock()  # held by whoever writes to the document store
        self._partitions: OrderedDict[Namespace, Partition] = OrderedDict()
        self._sizes: dict[Namespace, int] = {}
        self._bytes = 0

    def views(self, namespace: Namespace) -> tuple[View, View]:
        """Return the caught-up shelves of a namespace."""
        with self._lock:
            partition = self._partitions.get(namespace)
            if partition is None:
                partition = self._partitions[namespace] = self._make(namespace)
            self._partitions.move_to_end(namespace)
        views = partition.views()
        if partition.nbytes == self._sizes.get(namespace):
            return views
        with self._lock:
            if self._partitions.get(namespace) is not partition:
                return views  # dropped meanwhile
            if partition.is_empty:
                del self._partitions[namespace]
            else:
                size = partition.nbytes
                self._bytes += size - self._sizes.get(namespace, 0)
                self._sizes[namespace] = size
            while len(self._partitions) > 1 and self._bytes > self._max_bytes:
                oldest, _ = self._partitions.popitem(last=False)
                self._bytes -= self._sizes.pop(oldest, 0)
        return views

    def hide(self, namespace: Namespace, keys: Sequence[int]) -> None:
        """Let records be found no more, until they change: the store will not return them."""
        with self._lock:
            partition = self._partitions.get(namespace)
        if partition is not None:
            partition.hide(keys)

    def drop(self, namespace: Namespace) -> None:
        """Forget the partition of a namespace."""
        with self._lock:
            self._partitions.pop(namespace, None)
            self._bytes -= self._sizes.pop(namespace, 0)

    def held(self) -> list[Namespace]:
        """Return the namespaces that are in RAM."""
        with self._lock:
            return list(self._partitions)

    def clear(self) -> None:
        """Forget all partitions."""
        with self._lock:
            self._partitions.clear()
            self._sizes.clear()
            self._bytes = 0


def view_of(rows: Sequence[IndexRow], *, dim: int | None = None) -> View:
    """Return a view, of no namespace, on some records: for one question.

    Without a `dim` it has neither vectors nor words, so that a cosine with it is 0.
    """
    shelf = _ShelfState((), (), 1 if dim is None else dim, None, are_documents=True)
    shelf.apply(rows, [])
    if dim is not None:
        return shelf.view
    # Who speaks in them tells nothing of the memories that they are ranked beside.
    return replace(shelf.view, vectors=None, speakers=frozenset(), has_assistant=False)
