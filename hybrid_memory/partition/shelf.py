"""The growing side of a shelf: rows of the store become arrays, and a view of them is swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.limits import microseconds
from hybrid_memory.partition.view import ABSENT, Columns, Mask, Names, View, parsed
from hybrid_memory.protocols import DocumentStore, IndexFactory, IndexRow, Terms, Vectors
from hybrid_memory.types import KINDS, Namespace
from hybrid_memory.words import Postings

NEVER = np.iinfo(np.int64).max  # the microsecond at which what does not expire expires
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
_FIRST = microseconds(datetime(1, 1, 1, tzinfo=UTC))
_LAST = microseconds(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
# What reading a damaged row may raise.
DAMAGED = (TypeError, ValueError, AttributeError, OverflowError)


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


class Shelf:
    """A shelf as rows come in; `view` is swapped, never changed."""

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
            names=Names(),
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
            has_answers |= bool((fresh["answers"] != ABSENT).any())
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
                answers.append(ABSENT)
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
        turns = self.view.alive & (columns["kind"] == _MESSAGE) & (columns["session_id"] != ABSENT)
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


_NO_QUESTION: tuple[int, Terms] = (ABSENT, np.empty(0, np.uint32))


def _is_durable(row: IndexRow) -> bool:
    """Tell whether a record does not age: facts and documents, and what its metadata calls so."""
    if row.kind in ("fact", "document"):
        return True
    flagged = row.metadata is not None and '"durable"' in row.metadata
    return flagged and parsed(row.metadata).get("durable") is True


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
        Shelf((), (), dim, None).apply(rows, [])
    except DAMAGED:
        half = len(rows) // 2
        return [*sound(rows[:half], dim), *sound(rows[half:], dim)] if half else []
    return list(rows)


def _has_bounds(columns: Columns) -> bool:
    unbounded = {"expires_at": NEVER, "valid_from": -NEVER, "valid_to": NEVER}
    return any(bool((columns[name] != value).any()) for name, value in unbounded.items())


def _has(codes: NDArray[np.int32], code: int | None) -> bool:
    return code is not None and bool((codes == code).any())


def _speakers(codes: NDArray[np.int32], names: Names) -> frozenset[str]:
    seen = np.bincount(codes[codes != ABSENT])
    return frozenset(names.values[code] for code in np.flatnonzero(seen).tolist())


def view_of(rows: Sequence[IndexRow], *, dim: int | None = None) -> View:
    """Return a view, of no namespace, on some records: for one question.

    Without a `dim` it has neither vectors nor words, so that a cosine with it is 0.
    """
    shelf = Shelf((), (), 1 if dim is None else dim, None, are_documents=True)
    shelf.apply(rows, [])
    if dim is not None:
        return shelf.view
    # Who speaks in them tells nothing of the memories that they are ranked beside.
    return replace(shelf.view, vectors=None, speakers=frozenset(), has_assistant=False)
