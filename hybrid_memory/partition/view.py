"""What a reader sees of a partition: rows that nobody changes any more, and candidates of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.filters import MISSING, RECORD_FIELDS, Predicate, metadata_value
from hybrid_memory.protocols import DocumentStore, Vector, VectorIndex, Vectors
from hybrid_memory.types import KINDS, Kind, Namespace
from hybrid_memory.words import Postings

ABSENT = -1  # the code of an absent name
NAMED = ("role", "speaker", "session_id", "source")

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]


class Names:
    """Gives each distinct string a small number."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, name: str | None) -> int:
        if name is None:
            return ABSENT
        if name not in self._codes:
            name.encode()  # of a damaged row it may be bytes, or text that is none
            self._codes[name] = len(self.values)
            self.values.append(name)
        return self._codes[name]

    def find(self, name: str) -> int | None:
        return self._codes.get(name)


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
    names: Names
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
                    metadata = parsed(self.metadata[row])
                return metadata_value(metadata, name)
            if name == "kind":
                return KINDS[self.columns["kind"][row]]
            if name in NAMED:
                code = int(self.columns[name][row])
                return MISSING if code == ABSENT else self.names.values[code]
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


def parsed(metadata: str | None) -> Mapping[str, Any]:
    """Return metadata from JSON; of a damaged row, which will not be returned, there is none."""
    if metadata is None:
        return {}
    try:
        parsed = json.loads(metadata)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
