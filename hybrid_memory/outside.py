"""Read path, stage 2 as well: candidates from outside retrievers, each asked in its own time."""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from hybrid_memory import limits
from hybrid_memory.errors import InvalidInputError, MetadataError
from hybrid_memory.partition import Pool, view_of
from hybrid_memory.protocols import IndexRow, Retriever
from hybrid_memory.types import Found, Hit, Record

Scores: TypeAlias = Literal["similarity", "distance", "rank"]
Values: TypeAlias = NDArray[np.float32]

# The names of the signals of `score` and `merge`, and of who speaks: no source can pass for one.
SCORED = frozenset(
    {"cosine", "bm25", "answer", "speaker", "date", "time", "number", "role", "question"}
)
MERGED = frozenset({"session", "version", "rerank", "recency", "importance"})
AUTHORS = frozenset({"user", "assistant", "developer", "system", "tool"})
MAX_TIMEOUT_S = 3600
MAX_AT_ONCE = 32  # questions that one retriever may be at

_ROUNDING = 1e-3  # cosines of half precision leave [-1, 1] by about as much
_MAX_LEAF_CHARS = 1024  # of a value that JSON cannot hold, as text
# Where the time of a text is unknown, it gives way to what is known of the same text.
_UNKNOWN = limits.microseconds(datetime.min.replace(tzinfo=UTC))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """An outside retriever, what its word counts for, and how long it is waited for.

    `name` names its signal, and its texts where they have no source of their own. `weight`, in
    (0, 1], counts beside those of `Weights`. `scores` tells what its scores mean: "similarity",
    larger is better; "distance", smaller is better; "rank", nothing beyond the order. With None
    they are similarities if every text has one, else the order counts. It is asked for `k` texts.

    Raises:
        InvalidInputError: a value that cannot be, or an object without a synchronous `search`.
    """

    retriever: Retriever
    _: KW_ONLY
    name: str
    weight: float = 0.5
    scores: Scores | None = None
    timeout_s: float = 2.0
    k: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", limits.label(self.name, "the name of a source"))
        if self.name in SCORED | MERGED | AUTHORS:
            raise InvalidInputError(
                f"a source cannot be called {self.name!r}: that is the name of a signal or author"
            )
        named = f"of source {self.name!r}"
        search = getattr(self.retriever, "search", None)
        if not callable(search) or inspect.iscoroutinefunction(search):
            raise InvalidInputError(
                f"the retriever {named} needs a synchronous method search(query, k), which "
                f"{type(self.retriever).__name__} has not"
            )
        if limits.fraction(self.weight, f"the weight {named}") == 0:
            raise InvalidInputError(f"the weight {named} is 0; leave the source out instead")
        if self.scores is not None and self.scores not in get_args(Scores):
            raise InvalidInputError(
                f"scores {named} are {', '.join(get_args(Scores))} or None, not {self.scores!r}"
            )
        seconds = self.timeout_s
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidInputError(
                f"timeout_s {named} must be a number, not {type(seconds).__name__}"
            )
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise InvalidInputError(
                f"timeout_s {named} must be above 0 and at most {MAX_TIMEOUT_S}: {seconds}"
            )
        limits.whole(self.k, f"k {named}", low=1, high=limits.MAX_K)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking a source: its texts, best first, or a sentence why there are none.

    The texts are checked: storable, of the types they promise, with finite scores where scores
    count.
    """

    source: Source
    found: tuple[Found | Hit, ...] = ()
    problem: str | None = None


class Candidates(NamedTuple):
    """The texts of a source as the merger takes them; `records` are the candidates by key."""

    pool: Pool
    signals: dict[str, Values]
    records: dict[int, Record]


def ask(sources: Iterable[Source], query: str) -> list[Outcome]:
    """Ask all sources side by side and return what came of it: `start`, collected at once."""
    return start(sources, query).collect()


def start(sources: Iterable[Source], query: str) -> Pending:
    """Begin to ask all sources, each in a thread of its own; collect the outcomes later.

    The threads carry the caller's context variables, so that traces hang together, and end with
    the process, whatever they wait for. A source that let an earlier question run out of its time,
    and is still at it, is not asked: those that hang do not pile up.

    Raises:
        InvalidInputError: something that is not a `Source`, or two of one name.
    """
    asked = checked(sources)
    now = time.monotonic()
    return Pending([_begun(source, query, now) for source in asked])


def checked(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources if they can be asked together.

    Raises:
        InvalidInputError: something that is not a `Source`, or two of one name.
    """
    given = tuple(sources)
    names = set()
    for source in given:
        if not isinstance(source, Source):
            raise InvalidInputError(
                f"a source is a Source(retriever, name=...), not a {type(source).__name__}"
            )
        if source.name in names:
            raise InvalidInputError(f"two sources are called {source.name!r}; rename one")
        names.add(source.name)
    return given


class Pending:
    """Questions to sources that are under way."""

    def __init__(self, calls: Sequence[_Call | Outcome]) -> None:
        self._calls = calls

    def collect(self) -> list[Outcome]:
        """Return the outcomes, one a source in their order.

        Waits for each until its time is over, counted from the common start; what has come by
        then counts. Never raises for what a retriever does.
        """
        return [call if isinstance(call, Outcome) else call.collected() for call in self._calls]


class _Call:
    """One question to one source, in a thread of its own."""

    def __init__(self, source: Source, query: str, deadline: float) -> None:
        self.source = source
        self._deadline = deadline
        self._abandoned = False
        self._outcome: Outcome | None = None
        # Not of a pool: the interpreter joins those at its exit, so that one call that hangs
        # would keep the process.
        self.thread = threading.Thread(
            target=copy_context().run,
            args=(self._run, query),
            name=f"hybrid-memory source {source.name}",
            daemon=True,
        )

    def is_overdue(self, now: float) -> bool:
        return self._abandoned or self._deadline <= now

    def collected(self) -> Outcome:
        self.thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._outcome is not None:
            return self._outcome
        self._abandoned = True
        return _failed(self.source, f"was slower than {float(self.source.timeout_s)} s")

    def _run(self, query: str) -> None:
        try:
            given = self.source.retriever.search(query, k=self.source.k)
            self._outcome = Outcome(self.source, _read(given, self.source))
        except _UnreadableError as error:
            self._outcome = _failed(self.source, str(error))
        except BaseException as error:  # also of SystemExit nobody else would hear in a thread
            # Not its message, which may hold the question or a text.
            kind = type(error).__name__
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            _log.info("%s at %s:%d", kind, frame.f_code.co_filename, line)
            self._outcome = _failed(self.source, f"failed with {kind}")
        finally:
            _running.discard(self)


# Of the whole process, as threads are: a source may be made anew for each question.
_running: set[_Call] = set()


def _begun(source: Source, query: str, now: float) -> _Call | Outcome:
    # After a fork the calls of the parent are still listed, but their threads are not alive.
    others = [
        call
        for call in _running.copy()
        if call.source.retriever is source.retriever and call.thread.is_alive()
    ]
    if len(others) >= MAX_AT_ONCE or any(call.is_overdue(now) for call in others):
        return _failed(source, "is still busy with an earlier question")
    call = _Call(source, query, now + source.timeout_s)
    _running.add(call)
    try:
        call.thread.start()
    except RuntimeError:  # no more threads, or the interpreter is about to exit
        _running.discard(call)
        return _failed(source, "could not be asked for want of a thread")
    return call


def _failed(source: Source, what: str) -> Outcome:
    problem = f"source {source.name!r} {what} and was left out"
    _log.warning("%s", problem)
    return Outcome(source, problem=problem)


# -- what a retriever gave, checked ----------------------------------------------------------


class _UnreadableError(Exception):
    """What a retriever gave cannot be used; says how, and no text."""


def _read(given: object, source: Source) -> tuple[Found | Hit, ...]:
    """Return the first k items, without blank ones."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise _UnreadableError(f"gave {type(given).__name__} where a list is expected")
    read = [_item(item) for item in islice(given, source.k)]
    found = tuple(item for item in read if item is not None)
    if source.scores in ("similarity", "distance") and any(item.score is None for item in found):
        raise _UnreadableError(f"gave a text without the score that is called a {source.scores}")
    if _meaning(source, found) != "rank":
        for item in found:
            if item.score is not None and not math.isfinite(item.score):
                raise _UnreadableError("gave a score that is no finite number")
    return found


def _item(item: Any) -> Found | Hit | None:
    match item:
        case Hit():
            record = _whole(item.record)
            return replace(item, record=record, score=_score(item.score)) if record else None
        case Found():
            return _found(item)
        case str():
            return _found(Found(item))
        case (text, score) if isinstance(item, tuple):
            return _found(Found(text, score))
    raise _UnreadableError(
        f"gave {type(item).__name__} where a text, a (text, score), a Found or a Hit is expected"
    )


def _found(item: Found) -> Found | None:
    text = _storable(_typed(item.text, str, "text"))
    if not text.strip():
        return None
    return Found(
        text=text,
        score=None if item.score is None else _score(item.score),
        id=_label(item.id, "id"),
        source=_label(item.source, "source"),
        at=None if item.at is None else _when(item.at),
        metadata=_plain_object(
            _typed(item.metadata, Mapping, "metadata"),
            max_bytes=limits.MAX_METADATA_BYTES,
            max_depth=limits.MAX_METADATA_DEPTH,
        ),
        data=None
        if item.data is None
        else _plain_object(
            _typed(item.data, Mapping, "data"),
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        ),
    )


def _whole(record: object) -> Record | None:
    """Return a record of our own as it came, if it can be shown; None if it is blank."""
    if not isinstance(record, Record):
        raise _UnreadableError(f"gave a hit with {type(record).__name__} as its record")
    if record.kind == "instruction":
        raise _UnreadableError("gave an instruction, which only a user or developer may")
    try:
        limits.kind(record.kind)
        limits.role(record.role)
        for part in (record.id, *record.namespace):
            limits.label(part, "id")
        limits.label(record.source, "source")
        limits.optional_label(record.speaker, "speaker")
        limits.optional_label(record.session_id, "session_id")
        limits.fraction(record.importance, "importance")
        limits.json_object(record.metadata, "metadata")
        limits.json_object(
            record.data or {},
            "data",
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        )
        for moment in (record.at, record.created_at):
            limits.when(moment, "at")
        for bound in (record.valid_from, record.valid_to, record.expires_at):
            limits.optional_when(bound, "valid_to")
    except InvalidInputError as error:
        raise _UnreadableError("gave a hit whose record is none that is stored") from error
    text = _storable(_typed(record.text, str, "text"))
    return replace(record, text=text) if text.strip() else None


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise _UnreadableError(f"gave {type(value).__name__} as {name}")
    return value


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _UnreadableError(f"gave {type(value).__name__} as score")
    return float(value)


def _when(value: object) -> datetime:
    try:
        return limits.when(value, "at")
    except InvalidInputError as error:
        raise _UnreadableError("gave a time that is no datetime with a zone") from error


def _label(value: str | None, name: str) -> str | None:
    """Return an id or a source as one line of at most 256 characters, or None if it is blank."""
    if value is None:
        return None
    words = _storable(_typed(value, str, name)).split()
    line = "".join(one for one in " ".join(words) if one.isprintable())
    return line[: limits.MAX_LABEL_CHARS].strip() or None


def _storable(text: str) -> str:
    """Return a text without NULs and lone surrogates, cut at 64 KiB."""
    clean = text.replace("\0", "").encode("utf-8", "ignore")
    return clean[: limits.MAX_TEXT_BYTES].decode("utf-8", "ignore")


def _plain_object(values: Mapping[Any, Any], *, max_bytes: int, max_depth: int) -> dict[str, Any]:
    """Return a mapping as JSON: what JSON cannot hold as text, and no more than has room."""
    try:
        return limits.json_object(values, "it", max_bytes=max_bytes, max_depth=max_depth)
    except MetadataError:
        room = max_bytes - 2
    kept: dict[str, Any] = {}
    for key, value in values.items():
        part = {_storable(str(key)): _plain(value, max_depth - 1)}
        size = len(limits.to_json(part).encode())
        if size <= room:
            kept |= part
            room -= size
    return kept


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, Mapping) and depth:
        return {_storable(str(key)): _plain(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(part, depth - 1) for part in value]
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, np.generic):  # scores and counts of vector libraries
        value = value.item()
    try:
        return limits.json_value(value, "it", max_bytes=limits.MAX_DATA_BYTES, max_depth=0)
    except MetadataError:
        # Times in the form in which `where` compares them.
        if isinstance(value, datetime) and value.utcoffset() is not None:
            value = value.astimezone(UTC).isoformat()
        return _storable(str(value))[:_MAX_LEAF_CHARS]


# -- as candidates ---------------------------------------------------------------------------


def candidates(
    outcome: Outcome,
    *,
    now: datetime,
    digest: Callable[[Record], int],
    first_key: int = 0,
) -> Candidates:
    """Return what a source found as candidates with one signal, called as the source is.

    They are of the empty namespace, which no user can hold, and keys count from `first_key`. Texts
    become documents; hits stay what they are. The same text twice counts once, at its best place.
    `digest` is that of `indexing`; a hit's is the one it has where it is stored, so that it is the
    same text as there. A text of unknown time is shown with `now` and compared as
    the oldest of all: a copy of it in the memory is what is shown.
    """
    source = outcome.source
    meaning = _meaning(source, outcome.found)
    made = [_record(item, source, now) for item in outcome.found]
    digests = [digest(record) for record in made]
    goodness = _goodness(outcome.found, meaning)
    best: dict[int, int] = {}
    for place, said in enumerate(digests):
        if said not in best or goodness[place] > goodness[best[said]]:
            best[said] = place
    kept = sorted(best.values())
    records = {
        first_key + number: replace(made[place], namespace=()) for number, place in enumerate(kept)
    }
    rows = [
        _row(
            key,
            record,
            at=_at(outcome.found[place]),
            digest=digests[place],
        )
        for (key, record), place in zip(records.items(), kept, strict=True)
    ]
    zeros = np.zeros(len(kept), np.float32)
    pool = Pool(view_of(rows), np.arange(len(kept), dtype=np.int64), zeros, zeros, zeros)
    values = scaled([goodness[place] for place in kept], meaning)
    return Candidates(pool, {"cosine": zeros, "bm25": zeros, source.name: values}, records)


def scaled(goodness: Sequence[float], meaning: Scores) -> Values:
    """Return (n,) values in [0, 1], never less for a better one.

    Similarities that all lie in [-1, 1] are taken as given, those below 0 as 0: cosines and shares
    are on an absolute scale, and a lone poor text stays poor on it, where spreading would make it
    the best there is. Others (BM25, logits) have no such scale and are spread, from 0 for the
    worst that came to 1. Distances become 1 / (1 + d) if none is negative, else they are spread
    too. Ranks become 1 / rank.
    """
    scores = np.array(goodness, np.float64)
    if not len(scores):
        return scores.astype(np.float32)
    if meaning == "rank":
        # So falls the chance of a plain retriever's text: on LoCoMo's first five conversations
        # BM25 has 48, 8 and 8 % of the evidence at ranks 1 to 5, 6 to 10 and 11 to 20, the cosine
        # 41, 10 and 10. 61 / (60 + rank), of reciprocal rank fusion, is still 0.76 at rank 20:
        # beside absolute scores a whole tail would pass for the best.
        values = 1 / np.arange(1, len(scores) + 1)
    elif meaning == "distance" and scores.max() <= _ROUNDING:
        values = 1 / (1 + np.maximum(-scores, 0))
    elif meaning == "similarity" and np.abs(scores).max() <= 1 + _ROUNDING:
        values = np.clip(scores, 0, 1)
    else:
        values = _spread(scores)
    return values.astype(np.float32)


def _spread(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = scores / (np.abs(scores).max() or 1)  # the span of two huge ones would be infinite
    low, span = scores.min(), np.ptp(scores)
    spread: NDArray[np.float64] = (scores - low) / span if span else np.ones(len(scores))
    return spread


def _meaning(source: Source, found: Sequence[Found | Hit]) -> Scores:
    if source.scores is not None:
        return source.scores
    return "similarity" if all(item.score is not None for item in found) else "rank"


def _goodness(found: Sequence[Found | Hit], meaning: Scores) -> list[float]:
    """Return a number for each item, larger for a better one."""
    if meaning == "rank":
        return [-float(place) for place in range(len(found))]
    sign = -1 if meaning == "distance" else 1
    return [sign * (item.score or 0.0) for item in found]


def _record(item: Found | Hit, source: Source, now: datetime) -> Record:
    if isinstance(item, Hit):
        return item.record
    named = item.source if item.source and item.source.casefold() not in AUTHORS else source.name
    return Record(
        id=item.id or hashlib.blake2b(item.text.encode(), digest_size=16).hexdigest(),
        namespace=(),
        kind="document",
        text=item.text,
        at=item.at or limits.when(now, "now"),
        created_at=limits.when(now, "now"),
        source=named,
        metadata=item.metadata,
        data=item.data,
    )


def _at(item: Found | Hit) -> int:
    at = item.record.at if isinstance(item, Hit) else item.at
    return _UNKNOWN if at is None else limits.microseconds(at)


def _row(key: int, record: Record, *, at: int, digest: int) -> IndexRow:
    def optional(moment: datetime | None) -> int | None:
        return None if moment is None else limits.microseconds(moment)

    return IndexRow(
        key=key,
        kind=record.kind,
        role=record.role,
        speaker=record.speaker,
        session_id=record.session_id,
        source=record.source,
        at=at,
        expires_at=optional(record.expires_at),
        valid_from=optional(record.valid_from),
        valid_to=optional(record.valid_to),
        importance=record.importance,
        metadata=limits.to_json(dict(record.metadata)) if record.metadata else None,
        vector=None,
        terms=b"",
        digest=digest,
        question=0.0,
        tells_time=False,
        tells_number=False,
    )
