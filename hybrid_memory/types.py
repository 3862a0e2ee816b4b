"""The values that flow through the library. All are immutable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, TypeAlias, get_args

from hybrid_memory.errors import InvalidInputError

Namespace: TypeAlias = tuple[str, ...]
Kind: TypeAlias = Literal["message", "fact", "event", "instruction", "document"]
Role: TypeAlias = Literal["user", "assistant", "system", "tool"]
Message: TypeAlias = Mapping[str, Any]  # a chat message in the form of the OpenAI API
Where: TypeAlias = Mapping[str, Any]
# What to do with an id, or a key of a profile, that is there with other content.
OnConflict: TypeAlias = Literal["error", "skip", "replace"]
# What an importer yields: an item of `Scope.add_many`, and whose it is, if that is known.
Items: TypeAlias = Iterable[tuple[Namespace | None, Mapping[str, Any]]]
Target: TypeAlias = Path | str | IO[bytes] | IO[str]  # what an export is written to
Origin: TypeAlias = Target | Items  # what an import is read from

KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES: tuple[Role, ...] = get_args(Role)
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Record:
    """One remembered thing. `metadata` and `data` are JSON, to be read only.

    `at` is when it happened, `created_at` when it was stored; both are aware. `data` is its
    structured form (a fact's slots, a message's tool calls, a chunk's position). `importance` is
    in [0, 1]. `valid_from`, `valid_to` and `superseded_by` are for facts.
    """

    id: str
    namespace: Namespace
    kind: Kind
    text: str
    at: datetime
    created_at: datetime
    role: Role = "user"
    speaker: str | None = None
    session_id: str | None = None
    source: str = "user"
    importance: float = 0.5
    metadata: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    data: Mapping[str, Any] | None = None
    version: int = 1
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    superseded_by: str | None = None
    expires_at: datetime | None = None

    def as_message(self) -> dict[str, Any]:
        """Return the turn as a chat message, with the tool calls it was stored with.

        Its role is the record's, whatever the data says.
        """
        message: dict[str, Any] = {"role": self.role, "content": self.text}
        stored = (self.data or NOTHING).get("message")
        return (
            message | dict(stored) | {"role": self.role} if isinstance(stored, Mapping) else message
        )


@dataclass(frozen=True, slots=True)
class Item:
    """A JSON value under a key. `score`, in [0, 1], is None where nothing was asked.

    `updated_at` is when it was last written, `created_at` when it first was; both are aware. The
    value is a copy: what is done to it changes nothing that is stored.
    """

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What is to stand under a key: a value, or None for nothing any more.

    It is found by each of its `texts`, the best of them counting; by none, only by its key; by
    the words of the value, if there are no `texts` given. `ttl` is how long it lives from its last
    use.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any] | None
    texts: Sequence[str] | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A record found: its rank from 1, its score in [0, 1], and the signals that add up to it.

    `duplicates` counts older records of the same text that were left out in favour of this one.
    `relevance`, in [0, 1], is what meaning and words alone say of it: the score without boosts.
    """

    record: Record
    score: float
    rank: int
    signals: Mapping[str, float]
    duplicates: int = 0
    relevance: float = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What an outside retriever found: a text, and what it knows of it.

    What `score` means is said by the `Source` of the retriever. `at`, aware, is when the text was
    written or said, `source` the title or address it comes from, `metadata` and `data` as in a
    Record.
    """

    text: str
    score: float | None = None
    id: str | None = None
    source: str | None = None
    at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, `start` included and `end` not, that a query speaks of."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Query:
    """What a question asks for: the text the encoder gets, its words, names and dates.

    `dense_text` is the question without the names of known speakers. `words` are the stems of
    its content words and `terms` the same as codes (see `words.py`). `speaker` is the one speaker
    it names, if it names exactly one. `asks_assistant` tells whether it asks what an assistant
    said, `version` whether it asks for what is so now or for what was so before.
    """

    text: str
    dense_text: str
    words: tuple[str, ...]
    terms: tuple[int, ...]
    now: datetime
    speaker: str | None = None
    windows: tuple[Window, ...] = ()
    asks_when: bool = False
    asks_how_many: bool = False
    asks_assistant: bool = False
    version: Literal["newest", "oldest"] | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """Why a question recalls a record, or does not.

    `rank` is its place among the hits, from 1, or None; then `reason` says what kept it out and
    `lacked` by how much each signal fell short of the last hit's. `candidates` is how many records
    were compared. `score`, `signals` and `relevance` are as in `Hit`, without the bounds of the
    search. `prompt` says what became of it in the context: empty if it is in, else why not.
    """

    record: Record
    query: Query
    rank: int | None
    candidates: int
    score: float
    signals: Mapping[str, float]
    relevance: float
    lacked: Mapping[str, float]
    reason: str
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether memory may be used at all, and whether the answer must rest on it."""

    memory_allowed: bool = True
    memory_reasoning_required: bool = False

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> Gate:
        """Read `{"memory_allowed": true, "memory_reasoning_required": false}`.

        Raises:
            InvalidInputError: not an object, an unknown key, or a value that is not a boolean.
        """
        try:
            values = json.loads(source) if isinstance(source, str) else dict(source)
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise InvalidInputError(f"gate is not a JSON object: {error}") from error
        names = cls.__dataclass_fields__
        if not isinstance(values, dict):
            raise InvalidInputError(f"gate must be a JSON object, not {type(values).__name__}")
        for key, value in values.items():
            if key not in names:
                raise InvalidInputError(f"gate has no setting {key!r}; it has {', '.join(names)}")
            if not isinstance(value, bool):
                raise InvalidInputError(f"gate setting {key!r} must be true or false: {value!r}")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Budget:
    """What share of a context's tokens each of its blocks may take at most, in [0, 1].

    Instructions are served first, then the profile, the session, and the hits; what one leaves
    goes to the next. With 0 a block stays empty.
    """

    instructions: float = 0.25
    profile: float = 0.15
    session: float = 0.30
    memories: float = 1.0
    documents: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float):
                raise InvalidInputError(
                    f"budget share {name} must be a number, not {type(share).__name__}"
                )
            if not 0 <= share <= 1:
                raise InvalidInputError(f"budget share {name} must be between 0 and 1: {share}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the chat model counted them (0 where it did not say)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a chat model returned."""

    text: str
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Stats:
    """What a scope's own namespace holds. `bytes` counts texts, vectors and derived columns."""

    namespace: Namespace
    records: Mapping[str, int]
    profile_keys: int
    sessions: int
    bytes: int
    first_at: datetime | None
    last_at: datetime | None

    @property
    def total(self) -> int:
        """The number of records of all kinds."""
        return sum(self.records.values())


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did with the records it read; `profile_keys` were added or replaced."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0
    profile_keys: int = 0

    def __add__(self, other: Imported) -> Imported:
        """Return the counts of both."""
        names = self.__dataclass_fields__
        return Imported(**{name: getattr(self, name) + getattr(other, name) for name in names})


PURGE_TIMEOUT_S = 30.0  # how long what is in the way of a purge is waited for


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure or a purge removed, what it could not, and what lies beyond its reach.

    Without a namespace it is a purge of the store as a whole. The counts are of the store and of
    those beside it (see `HybridMemory.beside`) together. `records` are counted by kind;
    `removals` are notes of former deletions, `quarantined` are damaged rows that had been moved
    away. `files` were written anew or cut, and are smaller by `bytes`. `unfinished` has a sentence
    for everything that still lies in a file, with the way out; `outside` names what no call of
    this library can reach.
    """

    namespace: Namespace | None = None
    records: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    removals: int = 0
    profile_keys: int = 0
    quarantined: int = 0
    files: tuple[str, ...] = ()
    bytes: int = 0
    unfinished: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many records were removed."""
        return sum(self.records.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left in any file of the store."""
        return not self.unfinished


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a piece of something was found: never what it says.

    `number` is its place among the texts, or the vectors, that were asked for. From `offset` on
    `length` of its `size` bytes stand in the file.
    """

    file: str
    offset: int
    what: Literal["text", "vector"]
    number: int
    length: int
    size: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What a scan of the bytes of all files looked at, and where it found what was asked for."""

    files: tuple[str, ...]
    bytes: int
    found: tuple[Trace, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.found


@dataclass(frozen=True, slots=True)
class Quota:
    """How many records, and bytes of them, a namespace may hold, and what a full one does.

    A full namespace first loses what is expired. Then it refuses what is written, or prunes: the
    records of least worth go (see `PrunePolicy`) in the transaction of the write, never the ones
    just written, and up to a twentieth of the quota at once, so that not each write has to look
    for them. Bytes are those of `Stats.bytes`; the profile is not counted.
    """

    records: int | None = None
    bytes: int | None = None
    when_full: Literal["refuse", "prune"] = "refuse"

    def __post_init__(self) -> None:
        if self.records is None and self.bytes is None:
            raise InvalidInputError("a quota bounds records, bytes or both: Quota(records=10_000)")
        _check_bound(self.records, "records of a quota", low=1)
        _check_bound(self.bytes, "bytes of a quota", low=1)
        if self.when_full not in ("refuse", "prune"):
            raise InvalidInputError(
                f"when_full must be 'refuse' or 'prune', not {_shown(self.when_full)}"
            )


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """Which records go; each bound on its own, so that a record goes if any of them says so.

    What is expired always goes. Then what happened longer than `older_than` ago, what is of an
    importance below `importance_below`, and what is of least worth over `max_records` and
    `max_bytes`: superseded facts first, then the less important, then the older.

    Pinned records stay unless they are expired: those of importance 1 and those whose metadata
    say `{"pinned": true}` or `{"durable": true}`. So do instructions, unless `kinds` names them.
    With `kinds` only these are looked at and counted; without, all count, pinned ones as well.
    The profile is never pruned.
    """

    max_records: int | None = None
    max_bytes: int | None = None
    older_than: timedelta | None = None
    importance_below: float | None = None
    kinds: Iterable[Kind] | Kind | None = None

    def __post_init__(self) -> None:
        _check_bound(self.max_records, "max_records", low=0)
        _check_bound(self.max_bytes, "max_bytes", low=0)
        if self.older_than is not None:
            check_span(self.older_than, "older_than")
        below = self.importance_below
        if below is not None:
            if isinstance(below, bool) or not isinstance(below, int | float):
                raise InvalidInputError(
                    f"importance_below must be a number, not {type(below).__name__}"
                )
            if not 0 <= below <= 1:
                raise InvalidInputError(
                    f"importance_below must be between 0 and 1: {_shown(below)}"
                )
        if self.kinds is not None:
            given = (self.kinds,) if isinstance(self.kinds, str) else self.kinds
            if not isinstance(given, Iterable):
                raise InvalidInputError(f"kinds to prune are kinds, not {_shown(given)}")
            kinds = tuple(given)
            for kind in kinds:
                if kind not in KINDS:
                    raise InvalidInputError(
                        f"unknown kind {_shown(kind)} to prune; one of {', '.join(KINDS)}"
                    )
            object.__setattr__(self, "kinds", kinds)


def check_span(value: object, name: str) -> None:
    """Raise InvalidInputError for what is no span of time, or none that is longer than nothing."""
    if not isinstance(value, timedelta):
        raise InvalidInputError(f"{name} must be a timedelta, not {type(value).__name__}")
    if value <= timedelta(0):
        raise InvalidInputError(f"{name} must be longer than nothing: {value}")


def _check_bound(value: object, name: str, *, low: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name} must be an integer, not {type(value).__name__}")
    if value < low:
        raise InvalidInputError(f"{name} must be at least {low}: {_shown(value)}")
    if value > _MOST:
        raise InvalidInputError(f"{name} must be at most {_MOST}: {_shown(value)}")


_MOST = 2**63 - 1  # what a store can count to


def _shown(value: object) -> str:
    """Return a number or a short name for a message; of what may be a text, only the type."""
    if isinstance(value, str) and value.isidentifier() and len(value) <= 32:
        return repr(value)
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64):
        return str(value)
    return f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Victim:
    """A record that is pruned, or would be, and why."""

    id: str
    kind: Kind
    at: datetime
    importance: float
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` removed or, after a dry run, would remove, least worth first.

    `records` and `bytes` are what is left in the namespace; above the bounds of the policy only
    where what is left is pinned or of other kinds.
    """

    namespace: Namespace
    victims: Sequence[Victim]
    records: int
    bytes: int
    dry_run: bool

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many records go for each reason."""
        return Counter(victim.reason for victim in self.victims)

    @property
    def freed(self) -> int:
        """The bytes of what goes."""
        return sum(victim.bytes for victim in self.victims)
