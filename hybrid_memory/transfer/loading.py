"""The way in: what of it is new to the store is encoded and stored, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from hybrid_memory import indexing, limits, records
from hybrid_memory.errors import ConflictError
from hybrid_memory.protocols import Bound, Draft, Embedder, OnConflict, RecordStore
from hybrid_memory.transfer.form import OnProgress
from hybrid_memory.transfer.reading import Line, reader
from hybrid_memory.types import Imported, Namespace, Origin, Quota, Record

BATCH = 500  # lines that are encoded and committed together


def load(
    origin: Origin,
    *,
    store: RecordStore,
    embedder: Embedder,
    claim: Callable[[Sequence[Draft]], list[Draft]],
    now: datetime,
    namespace: Namespace | None = None,
    on_conflict: OnConflict = "error",
    quota: Quota | None = None,
    on_progress: OnProgress | None = None,
    redact: Callable[[str], str] | None = None,
) -> Imported:
    """Store what an export or an importer yields, in batches, and return the counts.

    Of a batch all is stored or, if a line of it is refused, nothing. `claim` gets all drafts before
    they are stored. With a `namespace` everything goes there. `redact` goes over each string.

    Raises:
        TransferError: the file cannot be read, or a line of it is malformed.
        ConflictError: an id or a key is there with other content, and `on_conflict` is "error".
        QuotaExceededError: a batch does not fit; those before it are stored.
    """
    limits.on_conflict(on_conflict)
    imported, done = Imported(), 0
    bound = None if quota is None else Bound(quota, now)
    with reader(origin, embedder, namespace, now, count=on_progress is not None) as (total, lines):
        if redact is not None:
            lines = map(partial(_redacted, redact=redact), lines)
        while batch := list(islice(lines, BATCH)):
            imported += _store(batch, store, embedder, claim, on_conflict, bound)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, max(total, done))
    return imported


def _redacted(line: Line, *, redact: Callable[[str], str]) -> Line:
    if line.profile is not None:
        key, value = line.profile
        line = line._replace(profile=(key, records.redacted_value(value, redact, "value")))
    if line.record is None:
        return line
    new = records.redacted(line.record, redact)
    # Its vector was made of what is gone now.
    return line if new == line.record else line._replace(record=new, vector=None)


def _store(
    batch: Sequence[Line],
    store: RecordStore,
    embedder: Embedder,
    claim: Callable[[Sequence[Draft]], list[Draft]],
    on_conflict: OnConflict,
    bound: Bound | None,
) -> Imported:
    imported = Imported()
    fresh: list[Line] = []
    profiles: dict[Namespace, dict[str, Any]] = {}
    for namespace in dict.fromkeys(line.namespace for line in batch):
        mine = [line for line in batch if line.namespace == namespace]
        news, counted = _news(mine, store, on_conflict)
        fresh += news
        imported += counted
        if keys := _new_keys(mine, store, on_conflict):
            profiles[namespace] = keys
    # Encoded together, before anything is written: no writer waits for an encoder.
    bare = [line.record for line in fresh if line.record and line.vector is None]
    encoded = iter(indexing.drafts(bare, embedder, at_given=[True] * len(bare)))
    drafts = [
        next(encoded) if line.vector is None else indexing.draft(line.record, line.vector)
        for line in fresh
        if line.record
    ]
    drafts = claim(drafts)
    for namespace in dict.fromkeys([*(line.namespace for line in fresh), *profiles]):
        imported += store.restore(
            namespace,
            [draft for draft in drafts if draft.record.namespace == namespace],
            profile=profiles.get(namespace, {}),
            on_conflict=on_conflict,
            bound=bound,
        )
    return imported


def _news(
    lines: Sequence[Line], store: RecordStore, on_conflict: OnConflict
) -> tuple[list[Line], Imported]:
    """Return the lines of one namespace whose records are to be stored, and count the others."""
    ids = [line.record.id for line in lines if line.record is not None]
    twins = {record.id: record for record in store.get(lines[0].namespace, ids)} if ids else {}
    fresh, unchanged, skipped = [], 0, 0
    for line in lines:
        if line.record is None:
            continue
        record, twin = line.record, twins.get(line.record.id)
        if twin is not None:
            record = _like(record, twin, line) if line.is_item else record
            if record == twin:
                unchanged += 1
                continue
            if on_conflict == "skip":
                skipped += 1
                continue
            if on_conflict == "error":
                raise ConflictError(
                    f"{line.place}: id {record.id!r} is taken by other content; pass "
                    "on_conflict='skip' or 'replace' to keep or to replace what is there"
                )
            record = replace(record, version=twin.version + 1) if line.is_item else record
        twins[record.id] = record
        fresh.append(line._replace(record=record))
    return fresh, Imported(unchanged=unchanged, skipped=skipped)


def _like(record: Record, twin: Record, line: Line) -> Record:
    """Return the record of an item with what the item does not say as it is stored."""
    if not line.at_given:
        record = replace(record, at=twin.at, valid_from=twin.valid_from)
    return replace(
        record,
        created_at=twin.created_at,
        version=twin.version,
        superseded_by=twin.superseded_by,
    )


def _new_keys(lines: Sequence[Line], store: RecordStore, on_conflict: OnConflict) -> dict[str, Any]:
    given = [(line.place, *line.profile) for line in lines if line.profile is not None]
    there = store.profile(lines[0].namespace) if given else {}
    fresh: dict[str, Any] = {}
    for place, key, value in given:
        if key in there and there[key] != value:
            if on_conflict == "skip":
                continue
            if on_conflict == "error":
                raise ConflictError(
                    f"{place}: the profile has another value under {key!r}; pass "
                    "on_conflict='skip' or 'replace' to keep or to replace it"
                )
        elif key in there:
            continue
        there[key] = fresh[key] = value
    return fresh
