"""What outside retrievers found as candidates of the merger, their scores on one scale."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hybrid_memory import limits
from hybrid_memory.outside.asking import Outcome
from hybrid_memory.outside.source import AUTHORS, Scores, Source, meaning_of
from hybrid_memory.partition import Pool, view_of
from hybrid_memory.protocols import IndexRow
from hybrid_memory.types import Found, Hit, Record

Values: TypeAlias = NDArray[np.float32]

_ROUNDING = 1e-3  # cosines of half precision leave [-1, 1] by about as much
# Where the time of a text is unknown, it gives way to what is known of the same text.
_UNKNOWN = limits.microseconds(datetime.min.replace(tzinfo=UTC))


class Candidates(NamedTuple):
    """The texts of a source as the merger takes them; `records` are the candidates by key."""

    pool: Pool
    signals: dict[str, Values]
    records: dict[int, Record]


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
    the oldest of all: a copy of it in the memory is what is shown. One of a known time ages where
    recency is on, as memories do; unless its metadata say that it is `durable`.
    """
    source = outcome.source
    meaning = meaning_of(source, outcome.found)
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
    view = view_of(rows)
    for row, place in enumerate(kept):
        item = outcome.found[place]
        if isinstance(item, Found) and item.at and item.metadata.get("durable") is not True:
            view.columns["durable"][row] = False
    pool = Pool(view, np.arange(len(kept), dtype=np.int64), zeros, zeros, zeros)
    values = scaled([goodness[place] for place in kept], meaning)
    return Candidates(pool, {"cosine": zeros, "bm25": zeros, source.name: values}, records)


def told_apart(
    outcomes: Iterable[Outcome], *, id_key: str | None = None
) -> Callable[[Record], int]:
    """Return a digest of what these retrievers found: the same for the same document.

    That is one value under `id_key` in the metadata, or one text with one id, with an id that
    another copy lacks, or with equal metadata. So "yes" by two people is two documents, and one
    that two stores keep under ids of their own is one.
    """
    firsts: dict[tuple[str, str], str] = {}
    names: dict[tuple[str, str], str] = {}
    by_text: dict[str, str] = {}
    for outcome in outcomes:
        for item in outcome.found:
            if isinstance(item, Found) and item.id is not None:
                first = firsts.setdefault((item.text, limits.to_json(item.metadata)), item.id)
                name = names.setdefault((item.text, item.id), first)
                by_text.setdefault(item.text, name)

    def digest(record: Record) -> int:
        said: list[object] = [id_key, record.metadata.get(id_key or "")]
        if said[1] is None:
            name = names.get((record.text, record.id)) or by_text.get(record.text) or record.id
            said = [record.text, name]
        hashed = hashlib.blake2b(limits.to_json(said).encode(), digest_size=8).digest()
        return int.from_bytes(hashed, "big", signed=True)

    return digest


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
