"""The stores beside another: looked at, and mended, like it and together with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple, TypeAlias

from hybrid_memory.errors import HybridMemoryError
from hybrid_memory.partition import PartitionCache
from hybrid_memory.protocols import Embedder, RecordStore
from hybrid_memory.report import Problem, Report
from hybrid_memory.upkeep.report import Findings, OnProgress, together


class Held(NamedTuple):
    """What a memory that is open in this process has of a store.

    `beside` has the same, by name, of the memories beside that are open as well.
    """

    embedder: Embedder
    cache: PartitionCache
    beside: Mapping[str, Held]


Act: TypeAlias = Callable[[RecordStore, Held | None, OnProgress | None], Report]


def with_those_beside(
    report: Report,
    store: RecordStore,
    held: Held | None,
    act: Act,
    *,
    on_progress: OnProgress | None,
) -> Report:
    """Return the report of a store with those of the stores beside it, whoever has them open."""
    for name in store.besides():
        theirs = held.beside.get(name) if held is not None else None
        try:
            with closing(store.beside(name)) as other:
                found = act(other, _fitting(theirs, other), _after(report.records, on_progress))
        except HybridMemoryError as error:
            detail = f"it cannot be looked at ({type(error).__name__})"
            findings = Findings()
            findings.add(Problem("database", detail=detail))
            found = findings.report(quarantined=0)
        report = together(report, found, name)
    return report


def dim_of(store: RecordStore, held: Held | None) -> int:
    """Return the dimension of the vectors in a store; 0 if nobody knows, as it has none."""
    if held is not None:
        return held.embedder.dim
    space = store.space()
    return 0 if space is None else space.dim


def _fitting(held: Held | None, store: RecordStore) -> Held | None:
    """Return what is held, unless somebody has moved the store to another space since."""
    if held is None or (space := store.space()) is None:
        return held
    own = held.embedder.name, held.embedder.dim
    return held if own == (space.name, space.dim) else None


def _after(done: int, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda records, total: on_progress(done + records, done + total)
