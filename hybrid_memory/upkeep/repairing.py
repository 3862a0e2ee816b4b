"""Makes anew what is derived, and moves away what is damaged. Every step can be repeated.

What is changed is committed page by page, so that a repair that was killed has lost one page of
its work, and the next one passes over what is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from hybrid_memory import indexing
from hybrid_memory.errors import SchemaVersionError, StoreCorruptError
from hybrid_memory.partition import collection_of, fill
from hybrid_memory.protocols import DocumentStore, Draft, Embedder, RecordStore, Space, Stored
from hybrid_memory.report import Problem, Report
from hybrid_memory.types import Namespace, Record
from hybrid_memory.upkeep import rows
from hybrid_memory.upkeep.beside import Held, dim_of, with_those_beside
from hybrid_memory.upkeep.checking import UNREADABLE, documents_detail, note_lost
from hybrid_memory.upkeep.report import Findings, OnProgress

PAGE = 256  # encoded and committed together
NO_EMBEDDER = "open it with HybridMemory.beside and its embedder, and repair again"


def repair(
    store: RecordStore,
    *,
    held: Held | None,
    documents: DocumentStore | None,
    now: datetime,
    on_progress: OnProgress | None = None,
) -> Report:
    """See `HybridMemory.repair`. In a store that is not held vectors stay as they are."""

    def mend(store: RecordStore, held: Held | None, on_progress: OnProgress | None) -> Report:
        return repair(store, held=held, documents=None, now=now, on_progress=on_progress)

    report = _repair(store, held, documents, now=now, on_progress=on_progress)
    return with_those_beside(report, store, held, mend, on_progress=on_progress)


def _repair(
    store: RecordStore,
    held: Held | None,
    documents: DocumentStore | None,
    *,
    now: datetime,
    on_progress: OnProgress | None,
) -> Report:
    written_by = _rules(store)
    space = store.space()
    dim = dim_of(store, held)
    is_up_to_date = True
    findings = Findings()
    broken = store.integrity("full")
    if broken:
        note_lost(store, findings)
        _set_aside_all(store, findings, now=now)
        # What it cannot mend is found again at the end.
        with suppress(StoreCorruptError):
            store.mend(at=now)
    known = _namespaces(store)
    is_readable = known is not None
    known = known or {}
    total = sum(known.values())
    for namespace in known:
        try:
            for page in rows.pages(store, namespace, size=PAGE):
                damaged = [row for row in page if row.record is None]
                _set_aside(store, namespace, damaged, findings, now=now)
                whole = [(row, row.record) for row in page if row.record is not None]
                is_up_to_date &= _refresh(
                    store,
                    namespace,
                    whole,
                    held.embedder if held is not None else None,
                    findings,
                    dim=dim,
                    written_by=written_by,
                    space=space,
                )
                findings.records += len(page)
                if on_progress is not None:
                    on_progress(findings.records, total)
            _repair_profile(store, namespace, findings, now=now)
        except StoreCorruptError:
            is_readable = False
            findings.add(Problem("database", namespace, detail=UNREADABLE))
            continue
        if documents is not None and held is not None:
            with held.cache.filling:
                _repair_documents(documents, store, namespace, findings, dim=dim)
    if held is not None:
        held.cache.clear()
    left = store.integrity("full") if broken else []
    for detail in dict.fromkeys([*broken, *left]):
        findings.add(Problem("database", detail=detail, is_repaired=detail not in left))
    if is_readable and not left:
        if written_by != indexing.RULES:
            detail = f"written by rules {written_by}, this version has {indexing.RULES}"
            findings.add(Problem("rules", detail=detail, is_repaired=is_up_to_date))
        if is_up_to_date:
            store.set_rules(indexing.RULES)
    return findings.report(quarantined=store.quarantined())


def _rules(store: RecordStore) -> int:
    version = store.rules()
    if version is not None and version > indexing.RULES:
        raise SchemaVersionError(
            f"the store was written by rules {version}, this version knows up to "
            f"{indexing.RULES}; upgrade hybrid-rag-memory"
        )
    return indexing.RULES if version is None else version


def _namespaces(store: RecordStore) -> Mapping[Namespace, int] | None:
    try:
        return store.namespaces()
    except StoreCorruptError:
        return None


def _set_aside_all(store: RecordStore, findings: Findings, *, now: datetime) -> None:
    """Move all damaged records away before the indexes, which may know better, are made of them."""
    for namespace in _namespaces(store) or ():
        with suppress(StoreCorruptError):
            for page in rows.pages(store, namespace, size=PAGE):
                damaged = [row for row in page if row.record is None]
                _set_aside(store, namespace, damaged, findings, now=now)


def _set_aside(
    store: RecordStore,
    namespace: Namespace,
    damaged: Sequence[Stored],
    findings: Findings,
    *,
    now: datetime,
) -> None:
    if not damaged:
        return
    moved = store.quarantine(namespace, keys=[row.key for row in damaged], at=now)
    # In a broken table a row may be seen in passing and not found by its key.
    is_done = moved == len(damaged)
    for row in damaged:
        findings.add(Problem("record", namespace, row.id, row.key, is_repaired=is_done))


def _refresh(
    store: RecordStore,
    namespace: Namespace,
    whole: Sequence[tuple[Stored, Record]],
    embedder: Embedder | None,
    findings: Findings,
    *,
    dim: int,
    written_by: int,
    space: Space | None,
) -> bool:
    """Derive anew what records are found by; encode only those whose vector is not theirs.

    Without an embedder those are left as they are, and the answer is False.
    """
    is_up_to_date = True
    bad = rows.bad_vectors(whole, dim=dim)
    changed: list[tuple[Stored, Draft]] = []
    to_encode: list[int] = []  # places in `changed`
    for row, record in whole:
        draft = indexing.draft(record, None)
        kinds = rows.differences(row, draft)
        is_bad = row.key in bad
        if not (kinds or is_bad or row.vector_is_intact is None):
            continue
        # Without a difference it was written, or repaired, by our rules already.
        is_other = is_bad or (bool(kinds) and _was_encoded_otherwise(record, written_by))
        is_to_encode = is_other and indexing.is_ranked(record)
        is_left = is_to_encode and embedder is None
        # That rules have changed is one problem, and not one of each record.
        noted = kinds if written_by == indexing.RULES else []
        for kind in [*noted, "vector"] if is_bad else noted:
            detail = NO_EMBEDDER if is_left else ""
            findings.add(Problem(kind, namespace, row.id, row.key, detail, is_repaired=not is_left))
        if is_left:
            is_up_to_date = False
            continue
        if is_to_encode:
            to_encode.append(len(changed))
        elif indexing.is_ranked(record):
            draft = replace(draft, vector=rows.vector_of(row))
        changed.append((row, draft))
    if to_encode and embedder is not None:
        vectors = rows.encoded([changed[place][1].record for place in to_encode], embedder)
        for place, vector in zip(to_encode, vectors, strict=True):
            row, draft = changed[place]
            changed[place] = (row, replace(draft, vector=vector))
    if changed:
        if space is not None:  # of what was read: a move to another one must not be undone
            changed = [(row, replace(one, generation=space.generation)) for row, one in changed]
        findings.refreshed += store.refresh(namespace, changed)
    return is_up_to_date


def _was_encoded_otherwise(record: Record, written_by: int) -> bool:
    return indexing.index_text(record) != indexing.index_text(record, rules=written_by)


def _repair_profile(
    store: RecordStore, namespace: Namespace, findings: Findings, *, now: datetime
) -> None:
    keys = store.damaged_profile(namespace)
    if keys:
        store.quarantine(namespace, profile_keys=keys, at=now)
    for key in keys:
        findings.add(Problem("profile", namespace, key, is_repaired=True))


def _repair_documents(
    documents: DocumentStore,
    store: RecordStore,
    namespace: Namespace,
    findings: Findings,
    *,
    dim: int,
) -> None:
    detail = documents_detail(documents, store, namespace, dim=dim, quick=False)
    if detail:
        documents.drop(collection_of(store, namespace))
        fill(documents, store, namespace, since=0, to=store.position(namespace), dim=dim)
        findings.add(Problem("documents", namespace, detail=detail, is_repaired=True))
