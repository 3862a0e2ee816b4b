"""Looks at everything and changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from hybrid_memory import indexing
from hybrid_memory.errors import HybridMemoryError, StoreCorruptError
from hybrid_memory.protocols import DocumentStore, Embedder, RecordStore, Stored
from hybrid_memory.report import Problem, Report
from hybrid_memory.types import Namespace
from hybrid_memory.upkeep import caches, rows
from hybrid_memory.upkeep.beside import Held, dim_of, with_those_beside
from hybrid_memory.upkeep.report import Findings, OnProgress

PAGE = 1000
UNREADABLE = "not all of it can be read; restore a backup"
QUICK_ROWS = 1000  # of each namespace, those changed last
GLANCE_ROWS, GLANCE_NAMESPACES = 128, 16

_log = logging.getLogger(__name__)


def check(
    store: RecordStore,
    *,
    held: Held | None,
    documents: DocumentStore | None,
    quick: bool = False,
    vectors: bool = False,
    on_progress: OnProgress | None = None,
) -> Report:
    """See `HybridMemory.check`. Of a store that is not held nothing is encoded."""

    def look(store: RecordStore, held: Held | None, on_progress: OnProgress | None) -> Report:
        return check(
            store,
            held=held,
            documents=None,
            quick=quick,
            vectors=vectors,
            on_progress=on_progress,
        )

    report = _check(store, held, documents, quick=quick, vectors=vectors, on_progress=on_progress)
    return with_those_beside(report, store, held, look, on_progress=on_progress)


def _check(
    store: RecordStore,
    held: Held | None,
    documents: DocumentStore | None,
    *,
    quick: bool,
    vectors: bool,
    on_progress: OnProgress | None,
) -> Report:
    findings = Findings()
    broken = store.integrity("quick" if quick else "full")
    for detail in broken:
        findings.add(Problem("database", detail=detail))
    if broken:
        note_lost(store, findings)
    quarantined = 0
    try:
        has_rules = _has_rules(store, findings)
        quarantined = store.quarantined()
        known = store.namespaces()
        dim = dim_of(store, held)
    except StoreCorruptError:
        findings.add(Problem("database", detail="its tables cannot be read"))
        return findings.report(quarantined=quarantined)
    total = sum(known.values())
    for namespace in known:
        damaged: set[int] = set()
        try:
            for page in _pages(store, namespace, quick=quick):
                damaged |= _check_page(
                    page,
                    namespace,
                    held.embedder if vectors and held is not None else None,
                    findings,
                    dim=dim,
                    has_rules=has_rules,
                )
                findings.records += len(page)
                if on_progress is not None:
                    on_progress(findings.records, total)
            for name in store.damaged_profile(namespace):
                findings.add(Problem("profile", namespace, name))
            if held is not None and not quick and namespace in held.cache.held():
                for key in caches.wrong_in_partition(
                    held.cache, store, namespace, dim=dim, damaged=damaged
                ):
                    findings.add(Problem("partition", namespace, key=key))
        except StoreCorruptError:
            findings.add(Problem("database", namespace, detail=UNREADABLE))
            continue
        if documents is not None and held is not None:
            with held.cache.filling:
                detail = documents_detail(documents, store, namespace, dim=dim, quick=quick)
            if detail:
                findings.add(Problem("documents", namespace, detail=detail))
    return findings.report(quarantined=quarantined)


def note_lost(store: RecordStore, findings: Findings) -> None:
    """Note the records that are gone, as long as a broken database still knows of them."""
    with suppress(StoreCorruptError):
        for namespace, id_ in store.lost():
            findings.add(Problem("record", namespace, id_, detail="it is lost"))


def _pages(store: RecordStore, namespace: Namespace, *, quick: bool) -> Iterable[list[Stored]]:
    if quick:
        return [store.recent(namespace, limit=QUICK_ROWS)]
    return rows.pages(store, namespace, size=PAGE)


def _has_rules(store: RecordStore, findings: Findings) -> bool:
    """Tell whether the records are found by our rules; if not, each would seem to be damaged."""
    version = store.rules()
    if version in (None, indexing.RULES):
        return True
    detail = f"written by rules {version}, this version has {indexing.RULES}"
    findings.add(Problem("rules", detail=detail))
    return False


def _check_page(
    page: list[Stored],
    namespace: Namespace,
    embedder: Embedder | None,
    findings: Findings,
    *,
    dim: int,
    has_rules: bool,
) -> set[int]:
    """Return the keys of the damaged records."""
    damaged = [row for row in page if row.record is None]
    for row in damaged:
        findings.add(Problem("record", namespace, row.id, row.key))
    whole = [(row, row.record) for row in page if row.record is not None]
    bad = rows.bad_vectors(whole, dim=dim)
    if embedder is not None:
        bad |= rows.strange_vectors([pair for pair in whole if pair[0].key not in bad], embedder)
    for row, record in whole:
        kinds = rows.differences(row, indexing.draft(record, None)) if has_rules else []
        for kind in [*kinds, "vector"] if row.key in bad else kinds:
            findings.add(Problem(kind, namespace, row.id, row.key))
    return {row.key for row in damaged}


def documents_detail(
    documents: DocumentStore, store: RecordStore, namespace: Namespace, *, dim: int, quick: bool
) -> str:
    """Return how the document store differs from the records, or that it cannot be asked."""
    try:
        return caches.wrong_in_documents(
            documents, store, namespace, dim=dim, with_vectors=not quick
        )
    except HybridMemoryError as error:
        return f"it cannot be read ({type(error).__name__})"


def look_over(store: RecordStore) -> None:
    """Log what a store that was just opened needs: repair, after an update or an unclean stop."""
    version = store.rules()
    if version not in (None, indexing.RULES):
        _log.warning(
            "the store was written by rules %d and this version finds by rules %d: everything can "
            "be read, and memory.repair(), or hybrid-memory repair, brings it up to date",
            version,
            indexing.RULES,
        )
    if not store.was_interrupted:
        return
    found = store.integrity("glance")
    damaged = _recently_damaged(store)
    if found or damaged:
        _log.warning(
            "the store seems not to have been closed, and a first look finds %d problems of the "
            "database and %d damaged records; memory.check() looks at all, memory.repair(), or "
            "hybrid-memory repair, mends it",
            len(found),
            damaged,
        )


def _recently_damaged(store: RecordStore) -> int:
    namespaces = list(store.namespaces())[-GLANCE_NAMESPACES:]
    damaged = 0
    for namespace in namespaces:
        try:
            recent = store.recent(namespace, limit=GLANCE_ROWS // len(namespaces))
        except StoreCorruptError:
            damaged += 1
        else:
            damaged += sum(row.record is None for row in recent)
    return damaged
