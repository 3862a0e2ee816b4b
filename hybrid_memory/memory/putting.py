"""Write path: records under ids that may be taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hybrid_memory import words
from hybrid_memory.errors import ConflictError
from hybrid_memory.memory.encoding import Encoding
from hybrid_memory.protocols import Bound, Draft, OnConflict, RecordStore
from hybrid_memory.types import Namespace, Record


def put(
    store: RecordStore,
    encoding: Encoding,
    namespace: Namespace,
    records: Sequence[Record],
    *,
    at_given: Sequence[bool],
    on_conflict: OnConflict,
    finish: Callable[[Draft], Draft] = lambda draft: draft,
    bound: Bound | None = None,
) -> list[Record]:
    """Store what is new or, with "replace", says something else; return the records as stored.

    All in one commit, within a bound. Nothing is encoded again that is there as it is. Of an id
    given twice, the last one counts or, with "skip", the first. `finish` has the last word on each.

    Raises:
        ConflictError: an id is taken by a record of another kind.
        QuotaExceededError: there is no room within the bound; nothing is stored.
    """
    there = {record.id: record for record in store.get(namespace, [one.id for one in records])}
    wanted: dict[str, Record] = {}
    for record, given in zip(records, at_given, strict=True):
        old = wanted.get(record.id, there.get(record.id))
        if old is None:
            wanted[record.id] = record
            continue
        if old.kind != record.kind:
            raise ConflictError(
                f"id {record.id!r} is taken by a record of the kind {old.kind!r}; "
                "a record keeps its kind: delete it, or choose another id"
            )
        said = finish(Draft(record, None, words.encode(()), 0, at_given=given))
        if on_conflict == "skip" or said.repeats(old):
            continue
        stored = there.get(record.id)
        wanted[record.id] = record if stored is None else _next(record, stored)
    if wanted:
        news = list(wanted.values())
        drafts = encoding.drafts(news, at_given=[True] * len(news))
        drafts = [finish(draft) for draft in drafts]
        store.restore(namespace, drafts, on_conflict=on_conflict, bound=bound)
        wanted = {draft.record.id: draft.record for draft in drafts}
    return [(there | wanted)[record.id] for record in records]


def _next(record: Record, old: Record) -> Record:
    return replace(record, created_at=old.created_at, version=old.version + 1)
