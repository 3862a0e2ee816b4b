"""Every seam of the library: what a part must do to be put in the place of ours.

Objects are passed in; nothing is looked up by name. For each seam `hybrid_memory.testing` has a
fake and a conformance suite to subclass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.types import (
    NOTHING,
    Completion,
    Erased,
    Found,
    Hit,
    Imported,
    Kind,
    Message,
    Namespace,
    Pruned,
    PrunePolicy,
    Quota,
    Record,
    Stats,
)
from hybrid_memory.types import OnConflict as OnConflict  # of the seams too

Vector: TypeAlias = NDArray[np.float32]  # (dim,)
Vectors: TypeAlias = NDArray[np.float32]  # (n, dim)
Keys: TypeAlias = NDArray[np.int64]  # (n,), the store's own numbers of records
Terms: TypeAlias = NDArray[np.uint32]  # (n,), codes of words, see `words.py`
Clock: TypeAlias = Callable[[], datetime]  # an aware datetime
TokenCounter: TypeAlias = Callable[[str], int]


class Embedder(Protocol):
    """Turns texts into vectors of norm 1. Thread-safe; the same text gives the same vector."""

    @property
    def name(self) -> str:
        """What identifies the vector space: another model, pooling or prefix, another name."""

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, in the space of `embed`."""


class ChatModel(Protocol):
    """Answers a conversation."""

    def complete(
        self, messages: Sequence[Message], *, on_token: Callable[[str], None] | None = None
    ) -> Completion:
        """Return the model's reply; with `on_token`, hand over its pieces as they come.

        Raises:
            ChatModelNotConfiguredError: a key or a setting is missing; the message names it.
            ChatModelUnavailableError: no answer after retries.
        """


class VectorIndex(Protocol):
    """Finds near vectors among many. A cache: built from a partition, thrown away with it.

    Thread-safe: it is searched while another thread adds.
    """

    def add(self, vectors: Vectors) -> None:
        """Append (n, dim) vectors of norm 1; rows are numbered from 0 in the order added."""

    def search(self, vector: Vector, k: int) -> NDArray[np.int64]:
        """Return up to k distinct row numbers, nearest first, never -1."""


IndexFactory: TypeAlias = Callable[[int], VectorIndex]  # dim -> an empty index


class Reranker(Protocol):
    """Looks a second time at the best candidates: how well does each text answer the question?

    Thread-safe.
    """

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts),) values in [0, 1], higher is better, whatever the order of texts."""


@runtime_checkable
class Forgets(Protocol):
    """What an Embedder or a Reranker may be as well: one that keeps something of its texts."""

    def forget(self) -> None:
        """Drop all that is kept in RAM of texts that were seen: one of them has been erased."""


class DocumentStore(Protocol):
    """Keeps the vectors of documents outside of the process, one collection a namespace.

    It is derived from the records and may be thrown away: `position` is the operation up to which
    it has been filled, 0 for a new one.
    """

    def position(self, namespace: Namespace) -> int:
        """Return the last `position` that was applied to this namespace, or 0."""

    def apply(
        self, namespace: Namespace, *, keys: Keys, vectors: Vectors, removed: Keys, position: int
    ) -> None:
        """Add or replace (n, dim) vectors by key, remove others, then remember the position.

        Repeating a call changes nothing. Unknown keys in `removed` are fine.
        """

    def search(
        self, namespace: Namespace, vector: Vector, k: int
    ) -> tuple[Keys, NDArray[np.float32]]:
        """Return up to k keys and their cosines, best first."""

    def cosines(self, namespace: Namespace, vector: Vector, keys: Keys) -> NDArray[np.float32]:
        """Return the (len(keys),) cosines of given keys; 0 for unknown ones."""

    def count(self, namespace: Namespace) -> int:
        """Return how many vectors a namespace has."""

    def drop(self, namespace: Namespace) -> None:
        """Remove all of a namespace; its position is 0 again."""

    def purge(self) -> Sequence[str]:
        """Remove from the files what was deleted, replaced or dropped; the rest stays as it is.

        Returns a sentence, with the way out, for each thing that cannot be removed from here.
        """

    def files(self) -> Sequence[Path]:
        """Return the files that hold the vectors, as far as they lie on this machine."""

    def close(self) -> None:
        """Release what is held."""


class Retriever(Protocol):
    """Finds texts for a question somewhere else: any object with `search(query, k)`.

    Another `Scope` is one as it is. Thread-safe: it is called from several threads at once.
    """

    def search(self, query: str, /, *, k: int) -> Sequence[Found | Hit | str | tuple[str, float]]:
        """Return up to k texts, best first: bare, with a score, as `Found`, or as hits of ours.

        What it raises is never seen by who asked: its texts are missing, and a note says so.
        """


class DocumentSplitter(Protocol):
    """Cuts a text into chunks that an embedder can read whole."""

    def split(self, text: str, *, markdown: bool = False) -> list[tuple[int, str]]:
        """Return (offset in characters, chunk), in order; every chunk stands in the text."""


class DocumentReader(Protocol):
    """Reads the text of a file format."""

    def read(self, path: Path) -> list[str]:
        """Return the text page by page; an unpaged format is one page.

        Raises:
            DocumentError: the file cannot be read as this format.
        """


class Space(NamedTuple):
    """A vector space: the name and dimension of its embedder, and how that encodes fixed sentences.

    `probes` are (8, dim) float32 values, see `spaces.PROBES`; None where a store that is older
    than they are has not been asked since. `generation` numbers the spaces that a store has had.
    """

    name: str
    dim: int
    probes: bytes | None = None
    generation: int = 0


class Traits(NamedTuple):
    """What a text is like, computed once on write: see `indexing.traits`.

    `question` is the share of its words that stand in questions, in [0, 1].
    """

    question: float = 0.0
    tells_time: bool = False
    tells_number: bool = False


_PLAIN = Traits()

# What the store or the time of the call decides, and not the caller.
_NOT_SAID = {"at", "created_at", "version", "valid_from", "superseded_by"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A record about to be stored, with what it will be found by.

    `vector` is None for kinds that are not ranked. `digest` is equal for equal texts of the same
    author. `at_given` and `expiry_given` tell whether the caller chose `record.at` and
    `record.expires_at`, so that a repeated call without a time is still the same call. `traits`
    are what its text is like. `generation` is that of the space its vector is of, if there is one
    to keep to.
    """

    record: Record
    vector: Vector | None
    terms: Terms
    digest: int
    at_given: bool = True
    traits: Traits = _PLAIN
    expiry_given: bool = True
    generation: int | None = None

    def repeats(self, stored: Record) -> bool:
        """Tell whether this insert says the same as the record that is there."""
        if self.at_given and stored.at != self.record.at:
            return False
        names = Record.__dataclass_fields__.keys() - _NOT_SAID
        if not self.expiry_given:
            names -= {"expires_at"}
        return all(getattr(stored, name) == getattr(self.record, name) for name in names)


class Bound(NamedTuple):
    """What a write has to keep within, and the time by which records are expired."""

    quota: Quota
    now: datetime


class IndexRow(NamedTuple):
    """What a partition keeps of a record: its key, columns, vector and words; not its text.

    Times are microseconds since 1970 UTC; `metadata` is JSON, or None where empty.
    """

    key: int
    kind: Kind
    role: str
    speaker: str | None
    session_id: str | None
    source: str
    at: int
    expires_at: int | None
    valid_from: int | None
    valid_to: int | None
    importance: float
    metadata: str | None
    vector: bytes | None
    terms: bytes
    digest: int
    question: float
    tells_time: bool
    tells_number: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """A slice of what happened to a namespace: rows to add or replace, keys to remove.

    `position` is the same in every slice of one read, and so is `generation`, that of the vectors.
    The first slice `is_afresh` if the namespace was erased or moved to another vector space since:
    it has all there is, and what was known before is gone.
    """

    position: int
    rows: Sequence[IndexRow]
    removed: Sequence[int] = ()
    is_afresh: bool = False
    generation: int = 0


class Stored(NamedTuple):
    """A record as it is stored, and what it is found by, for upkeep.

    `record` is None where the row is damaged; then `id` is None too if it cannot be trusted.
    `change` is the number of its last change. `vector_is_intact` tells whether the vector is the
    one that was written, None where nobody knows.
    """

    key: int
    change: int
    id: str | None
    record: Record | None
    vector: bytes | None
    terms: bytes
    digest: int
    traits: Traits
    vector_is_intact: bool | None = True


# How closely a store looks at itself: within some 30 ms, at its structure, at all there is.
Depth: TypeAlias = Literal["glance", "quick", "full"]


class RecordStore(Protocol):
    """The one truth: records, profiles and the sequence of what happened to each namespace.

    Thread-safe; several processes may share a store. A write is durable when it returns and is
    one transaction: all of it or nothing. Every change of a namespace raises its position.

    A damaged record is never returned: `fetch` and `newest` go on without it and log its id once.

    All vectors are of one space. A draft with a vector of another generation is refused with
    EmbedderMismatchError, and nothing is stored.
    """

    @property
    def id(self) -> str:
        """A name that no other store has; what is derived of a store is kept under it."""

    def insert(
        self, namespace: Namespace, drafts: Sequence[Draft], *, bound: Bound | None = None
    ) -> list[Record]:
        """Store the drafts and return the records as stored, in order.

        An id that is there with the same content is left as it is and returned as stored. With a
        `bound`, what has to go for them goes in the same transaction.

        Raises:
            ConflictError: an id is there with other content; nothing is stored.
            QuotaExceededError: there is no room within the bound; nothing is stored.
        """

    def update(
        self,
        namespace: Namespace,
        draft: Draft,
        *,
        expected_version: int | None = None,
        bound: Bound | None = None,
    ) -> Record:
        """Replace the record of the draft's id; its version rises by one.

        Raises:
            NotFoundError: no such record.
            ConflictError: it is at another version than expected.
            QuotaExceededError: it has grown beyond the bound; nothing is changed.
        """

    def restore(
        self,
        namespace: Namespace,
        drafts: Sequence[Draft],
        *,
        profile: Mapping[str, Any] = NOTHING,
        on_conflict: OnConflict = "error",
        bound: Bound | None = None,
        removed: Sequence[str] = (),
    ) -> Imported:
        """Store records as they are, version and all, and keys of the profile; return the counts.

        A record that is there and equal in every field is left as it is. One that is replaced
        keeps its place in the order of the records. Those of the ids in `removed` are deleted
        before, in the same transaction, as by `delete`.

        Raises:
            ConflictError: an id or key is there with other content; nothing is stored.
            QuotaExceededError: there is no room within the bound; nothing is stored.
        """

    def prune(
        self, namespace: Namespace, policy: PrunePolicy, *, now: datetime, dry_run: bool
    ) -> Pruned:
        """Delete what a policy says, in one transaction; with `dry_run` only tell what that is."""

    def expire(self, namespace: Namespace, ids: Sequence[str], at: datetime | None) -> int:
        """Set when these records expire, and nothing else; return how many are there.

        Their versions stay: whoever is about to change one loses nothing by it.
        """

    def delete(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """Delete what is there and return how many records that was."""

    def forget(
        self,
        namespace: Namespace,
        *,
        source: str | None = None,
        session_id: str | None = None,
        matches: Callable[[Record], bool] | None = None,
    ) -> int:
        """Delete the records within all of these bounds, in one transaction; return how many.

        A damaged record goes by what stands in it, unless it would have to be matched. With the
        records goes what stands in quarantine under their ids, or within the bounds.
        """

    def erase(self, namespace: Namespace) -> Erased:
        """Delete all of a namespace, its name and its notes of removals too; return the counts.

        What is written after is in a namespace that is new: its position is above all positions
        of the old one, and 0 until then.
        """

    def get(self, namespace: Namespace, ids: Sequence[str]) -> list[Record]:
        """Return the records that are there, in the order of the ids.

        Raises:
            StoreCorruptError: one of them is damaged.
        """

    def fetch(self, namespace: Namespace, keys: Sequence[int]) -> dict[int, Record]:
        """Return the records of these keys that are there."""

    def newest(
        self,
        namespace: Namespace,
        *,
        kinds: Sequence[Kind],
        session_id: str | None = None,
        limit: int | None = None,
        unexpired_at: datetime | None = None,
    ) -> Generator[Record, None, None]:
        """Yield records, latest stored first, at most `limit`; without those expired at a time."""

    def position(self, namespace: Namespace) -> int:
        """Return the number of the last change of a namespace; 0 if it has none, or none any more.

        It rises with each change, also over an erasure.
        """

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        """Yield all changes after a position, as one consistent view, in slices, by key."""

    def stats(self, namespace: Namespace) -> Stats:
        """Return the counts of a namespace."""

    def profile(self, namespace: Namespace) -> dict[str, Any]:
        """Return all keys and values of a profile, by key."""

    def set_profile(self, namespace: Namespace, values: Mapping[str, Any]) -> None:
        """Set these keys."""

    def delete_profile(self, namespace: Namespace, key: str) -> bool:
        """Remove a key and tell whether it was there."""

    def space(self) -> Space | None:
        """Return the vector space of this store, if it has one."""

    def set_space(self, space: Space) -> Space:
        """Declare the vector space unless there is one, and return the one in force.

        Of one that has no probes yet, and the same name and dimension, these become the probes.
        """

    # -- from one vector space to another --------------------------------------------------

    def spaces_aside(self) -> list[Space]:
        """Return the spaces that vectors are kept in beside the one in force.

        One is being filled, or was in force before.
        """

    def open_space(self, space: Space) -> Space:
        """Begin another space beside the one in force, and drop all that were there beside it.

        Returns it with its generation.
        """

    def unmoved(self, generation: int, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """Return records with a vector that have none in a space aside, by key, above `after`.

        A record that is changed or deleted loses the vectors that it has aside.
        """

    def count_moved(self, generation: int) -> tuple[int, int]:
        """Return how many records have a vector in a space aside, and how many have any."""

    def move(self, generation: int, rows: Sequence[tuple[Stored, Vector]]) -> int:
        """Put vectors into a space aside, where nobody has changed the records since.

        Returns how many there were.

        Raises:
            ConflictError: somebody else has begun another space, or dropped this one.
        """

    def switch_space(
        self, generation: int, *, encode: Callable[[Sequence[Record]], Vectors], limit: int
    ) -> bool:
        """Put a space aside in force, all of it in one transaction, and the former one aside.

        Records that have no vector there yet are encoded within; if there are more than `limit`,
        nothing is done, and the answer is False. A damaged record is left without a vector.
        The position of each namespace rises, and its changes are told afresh. `settle_space` does
        afterwards what can be done in parts.

        Raises:
            ConflictError: somebody else has begun another space, or dropped this one.
        """

    def settle_space(self, *, limit: int = 1000) -> int:
        """Put some vectors in their place after a switch; return how many, 0 when all are there.

        Whoever reads sees no difference. A way back, or another space, wants it to be done.
        """

    def drop_former_spaces(self) -> int:
        """Drop the vectors of spaces that were in force before; return how many there were."""

    # -- upkeep ----------------------------------------------------------------------------

    @property
    def was_interrupted(self) -> bool:
        """Whether it looks, on opening, as if the last one to use the store did not close it."""

    def rules(self) -> int | None:
        """Return the version of the rules by which records are found; None for a new store."""

    def set_rules(self, version: int) -> None:
        """Declare the version of the rules by which records are found."""

    def namespaces(self) -> dict[Namespace, int]:
        """Return the namespaces with their number of records, in the order they came."""

    def holders(
        self,
        *,
        kind: Kind,
        source: str,
        under: Namespace = (),
        unexpired_at: datetime | None = None,
        expired_at: datetime | None = None,
    ) -> list[Namespace]:
        """Return the namespaces that hold a record of this kind and source, in the order they came.

        Of the whole store, or of those whose first labels are `under`. With `unexpired_at` only
        records count that have not expired by then, with `expired_at` only those that have.
        """

    def stored(self, namespace: Namespace, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """Return the first records whose keys are above `after`, by key, damaged ones too."""

    def recent(self, namespace: Namespace, *, limit: int) -> list[Stored]:
        """Return the records that were changed last, latest first, damaged ones too."""

    def refresh(self, namespace: Namespace, rows: Sequence[tuple[Stored, Draft]]) -> int:
        """Replace what records are found by, where nobody has changed them since they were read.

        The records stay as they are. Returns how many were refreshed.
        """

    def damaged_profile(self, namespace: Namespace) -> list[str]:
        """Return the keys of the profile whose values are damaged."""

    def quarantine(
        self,
        namespace: Namespace,
        *,
        keys: Sequence[int] = (),
        profile_keys: Sequence[str] = (),
        at: datetime,
    ) -> int:
        """Move the damaged ones of these where nothing reads them; return how many were moved.

        What is deleted by its id later is deleted there as well.
        """

    def quarantined(self) -> int:
        """Return how many rows are in quarantine."""

    def integrity(self, depth: Depth) -> list[str]:
        """Return what is wrong with the store as a whole, a sentence each, without any text."""

    def lost(self) -> list[tuple[Namespace, str]]:
        """Return the namespaces and ids of records that there are traces of, and nothing else."""

    def mend(self, *, at: datetime) -> None:
        """Rebuild what the store derives for itself, such as its indexes."""

    def purge(self, *, timeout_s: float) -> Erased:
        """Remove from the files what was deleted or replaced; return what was done to them.

        What another process keeps from being removed for longer than `timeout_s` is told in
        `Erased.unfinished`.
        """

    def files(self) -> Sequence[Path]:
        """Return all files that lie where the store does."""

    def beside(self, name: str) -> RecordStore:
        """Open, or make, another store in the same place: with a vector space of its own.

        Its files are among `files` of this one; all else is its own, and so is closing it.
        """

    def besides(self) -> list[str]:
        """Return the names of the stores that lie beside this one, whoever has them open."""

    def backup(
        self, directory: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write a copy of the store as of one moment, while others may write.

        It appears whole or not at all, and has an `id` of its own. So are those beside it, each
        as of a moment of its own.

        Raises:
            StorePathError: the directory is not empty, or cannot be made.
        """

    def close(self) -> None:
        """Release what is held. A second call does nothing."""
