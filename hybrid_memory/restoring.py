"""What of an import a store has to write, given what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hybrid_memory.errors import ConflictError
from hybrid_memory.protocols import Draft, OnConflict
from hybrid_memory.types import Imported, Record


class Plan(NamedTuple):
    """What is to be written."""

    added: list[Draft]
    replaced: list[Draft]
    profile: dict[str, Any]
    counts: Imported


def plan(
    known: Mapping[str, Record],
    drafts: Sequence[Draft],
    values: Mapping[str, Any],
    profile: Mapping[str, Any],
    on_conflict: OnConflict,
) -> Plan:
    """Compare with the records and values that are there.

    Raises:
        ConflictError: one is there with other content, and `on_conflict` is "error".
    """
    there = dict(known)
    added: dict[str, Draft] = {}
    replaced: dict[str, Draft] = {}
    unchanged = skipped = repeated = 0
    for draft in drafts:
        id_ = draft.record.id
        if id_ not in there:
            added[id_] = draft
        elif there[id_] == draft.record:
            unchanged += 1
            continue
        elif on_conflict == "skip":
            skipped += 1
            continue
        elif on_conflict == "error":
            raise ConflictError(f"id {id_!r} is taken by other content")
        else:
            repeated += id_ in added or id_ in replaced
            (added if id_ in added else replaced)[id_] = draft
        there[id_] = draft.record
    news = {
        key: value
        for key, value in profile.items()
        if key not in values or (values[key] != value and on_conflict != "skip")
    }
    if on_conflict == "error" and (taken := [key for key in news if key in values]):
        raise ConflictError(f"the profile has another value under {taken[0]!r}")
    counts = Imported(len(added), len(replaced) + repeated, unchanged, skipped, len(news))
    return Plan(list(added.values()), list(replaced.values()), news, counts)
