"""Which records have to go: of a policy, and of a write into a full namespace."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from hybrid_memory.errors import QuotaExceededError
from hybrid_memory.limits import from_microseconds, microseconds, to_json
from hybrid_memory.protocols import Bound, Draft
from hybrid_memory.types import Kind, Namespace, Pruned, PrunePolicy, Quota, Record, Victim

SLACK = 20  # a full namespace loses up to this part of its quota at once, once for many writes
PINS = ("pinned", "durable")  # in the metadata


class Candidate(NamedTuple):
    """What a store tells of a record, by which it may have to go.

    Times are microseconds since 1970 UTC; `metadata` is JSON, or None where empty.
    """

    key: int
    id: str
    kind: Kind
    at: int
    expires_at: int | None
    valid_to: int | None
    superseded_by: str | None
    importance: float
    metadata: str | None
    bytes: int


class Size(NamedTuple):
    """How much a namespace holds, or by how much it grew."""

    records: int
    bytes: int


class Chosen(NamedTuple):
    """A record that has to go, and why."""

    candidate: Candidate
    reason: str


def is_pinned(record: Record) -> bool:
    """Tell whether a record is to stay whatever its age and worth."""
    return record.importance >= 1 or any(record.metadata.get(pin) is True for pin in PINS)


def size(draft: Draft) -> int:
    """Return the bytes of a record: its text, its JSON, its vector and its words."""
    record = draft.record
    texts = [record.text]
    if record.data is not None:
        texts.append(to_json(dict(record.data)))
    if record.metadata:
        texts.append(to_json(dict(record.metadata)))
    vector = 0 if draft.vector is None else draft.vector.nbytes
    return sum(len(text.encode()) for text in texts) + vector + draft.terms.nbytes


def report(namespace: Namespace, chosen: Sequence[Chosen], *, held: Size, dry_run: bool) -> Pruned:
    """Return what was chosen as a caller sees it; `held` is what was there before."""
    left = _less(held, chosen)
    victims = tuple(_victim(one) for one in chosen)
    return Pruned(namespace, victims, left.records, left.bytes, dry_run)


def _victim(chosen: Chosen) -> Victim:
    found, reason = chosen
    at = from_microseconds(found.at)
    return Victim(found.id, found.kind, at, found.importance, found.bytes, reason)


def choose(candidates: Iterable[Candidate], policy: PrunePolicy, *, now: datetime) -> list[Chosen]:
    """Return what a policy says of all records of a namespace, least worth first."""
    mine = [one for one in candidates if policy.kinds is None or one.kind in policy.kinds]
    moment = microseconds(now)
    ranked = sorted(_wholes(mine), key=lambda whole: _worth(whole[0], moment))
    judges = policy.older_than is not None or policy.importance_below is not None
    reasons: dict[int, str] = {}
    for whole in ranked:
        first = whole[0]
        if first.expires_at is not None and first.expires_at <= moment:
            reasons[first.key] = "expired"
        elif (
            judges and _is_prunable(whole, policy) and (reason := _unworthy(first, policy, moment))
        ):
            reasons[first.key] = reason
    left = [whole for whole in ranked if whole[0].key not in reasons]
    records, held = _sum(chain.from_iterable(left))
    total = _sum(mine)
    for whole in left:
        over = _over(records, held, policy.max_records, policy.max_bytes)
        if not over:
            break
        if _is_prunable(whole, policy):
            why = "superseded, " if _is_superseded(whole[0], moment) else ""
            reasons[whole[0].key] = why + _least(over, policy, total)
            less = _sum(whole)
            records, held = records - less.records, held - less.bytes
    return [
        Chosen(one, reasons[whole[0].key])
        for whole in ranked
        if whole[0].key in reasons
        for one in whole
    ]


def _wholes(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Return what can only go together: an item and its further texts, else each by itself."""
    wholes: dict[object, list[Candidate]] = {}
    for one in sorted(candidates, key=attrgetter("key")):  # by key: the item comes first
        wholes.setdefault(_revision(one) or (one.key,), []).append(one)
    return list(wholes.values())


def _revision(one: Candidate) -> str | None:
    """Return what an item has in common with its further texts, if it has any."""
    if one.metadata is None or '"revision"' not in one.metadata:
        return None
    try:
        about = json.loads(one.metadata).get("item")
    except ValueError:
        return None
    return str(about["revision"]) if isinstance(about, dict) and "revision" in about else None


def make_room(
    candidates: Callable[[datetime | None], Sequence[Candidate]],
    bound: Bound,
    *,
    held: Size,
    grown: Size,
    written: Collection[int],
) -> list[Chosen]:
    """Return what has to go for a write, which `held` has grown by; nothing where it fits.

    `candidates` gives all records or, for a time, those expired by then. The keys that were
    `written` stay.

    Raises:
        QuotaExceededError: there is not enough that may go.
    """
    quota, now = bound
    if not _is_exceeded(quota, held, grown):
        return []
    if quota.when_full == "refuse":
        gone = [Chosen(one, "expired") for one in candidates(now) if one.key not in written]
    else:
        stay, others = _divided(candidates(None), written)
        mine = _sum(stay)
        policy = PrunePolicy(
            max_records=_below(quota.records, mine.records),
            max_bytes=_below(quota.bytes, mine.bytes),
        )
        gone = choose(others, policy, now=now)
    left = _less(held, gone)
    if _is_exceeded(quota, left, grown):
        raise QuotaExceededError(_refusal(quota, held, grown, gone))
    return gone


def _divided(
    candidates: Iterable[Candidate], written: Collection[int]
) -> tuple[list[Candidate], list[Candidate]]:
    """Return what was written, with what belongs to it, and the others."""
    stay: list[Candidate] = []
    others: list[Candidate] = []
    for whole in _wholes(candidates):
        is_written = any(one.key in written for one in whole)
        (stay if is_written else others).extend(whole)
    return stay, others


def _below(bound: int | None, written: int) -> int | None:
    """Return what others may keep, so that the next writes have room too."""
    return None if bound is None else max(0, bound - bound // SLACK - written)


def _is_exceeded(quota: Quota, held: Size, grown: Size) -> bool:
    """Tell whether a write has gone too far; one that grows nothing may be in a full namespace."""
    return any(
        bound is not None and more > 0 and there > bound
        for bound, there, more in zip((quota.records, quota.bytes), held, grown, strict=True)
    )


def _sum(candidates: Iterable[Candidate]) -> Size:
    sizes = [one.bytes for one in candidates]
    return Size(len(sizes), sum(sizes))


def _less(held: Size, gone: Sequence[Chosen]) -> Size:
    less = _sum(one.candidate for one in gone)
    return Size(held.records - less.records, held.bytes - less.bytes)


def _refusal(quota: Quota, held: Size, grown: Size, gone: Sequence[Chosen]) -> str:
    bounds = {"records": quota.records, "bytes": quota.bytes}
    said = " and ".join(f"{bound:,} {name}" for name, bound in bounds.items() if bound is not None)
    before = Size(*(there - more for there, more in zip(held, grown, strict=True)))
    full = (
        f"the quota of this scope is {said}; it holds {before.records:,} records of "
        f"{before.bytes:,} bytes, and {grown.records:,} more of {grown.bytes:,} do not fit; "
    )
    if quota.when_full == "prune":
        return full + "what is left is pinned or an instruction: delete some, or raise the quota"
    return full + (
        "call prune(PrunePolicy(...), dry_run=False), raise the quota, or open the memory with "
        "Quota(..., when_full='prune')"
    )


def _worth(one: Candidate, now: int) -> tuple[Any, ...]:
    return (not _is_superseded(one, now), one.importance, one.at, one.key)


def _is_superseded(one: Candidate, now: int) -> bool:
    if one.kind != "fact":
        return False
    return one.superseded_by is not None or (one.valid_to is not None and one.valid_to <= now)


def _is_prunable(whole: Sequence[Candidate], policy: PrunePolicy) -> bool:
    return not any(map(_is_kept, whole)) and (
        whole[0].kind != "instruction" or policy.kinds is not None
    )


def _is_kept(one: Candidate) -> bool:
    if one.importance >= 1:
        return True
    if one.metadata is None or not any(pin in one.metadata for pin in PINS):
        return False
    try:
        values = json.loads(one.metadata)
    except ValueError:
        return True  # damaged: what cannot be read may be pinned
    return any(values.get(pin) is True for pin in PINS)


def _unworthy(one: Candidate, policy: PrunePolicy, now: int) -> str:
    """Return what a policy has against a record by itself, or nothing."""
    if policy.older_than is not None and one.at < now - policy.older_than // _MICROSECOND:
        return f"older than {span(policy.older_than)}"
    if policy.importance_below is not None and one.importance < policy.importance_below:
        return f"importance {one.importance:g}, below {policy.importance_below:g}"
    return ""


_MICROSECOND = timedelta(microseconds=1)


def _over(records: int, held: int, max_records: int | None, max_bytes: int | None) -> str:
    if max_records is not None and records > max_records:
        return "records"
    return "bytes" if max_bytes is not None and held > max_bytes else ""


def _least(over: str, policy: PrunePolicy, total: Size) -> str:
    if over == "records":
        return f"least worth of {total.records:,}, {policy.max_records:,} are kept"
    return f"least worth of {total.bytes:,} bytes, {policy.max_bytes:,} are kept"


def span(value: timedelta) -> str:
    """Return a span of time as it is read: `90 days`, `12 hours`."""
    seconds = value.total_seconds()
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
