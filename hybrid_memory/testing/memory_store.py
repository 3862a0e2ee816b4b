"""The fake of the record store: every promise of RecordStore but durability."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from hybrid_memory.errors import ConflictError, NotFoundError
from hybrid_memory.limits import microseconds, to_json
from hybrid_memory.protocols import Changes, Draft, IndexRow
from hybrid_memory.types import KINDS, Kind, Namespace, Record, Stats


@dataclass(slots=True)
class _Kept:
    key: int
    change: int
    draft: Draft


@dataclass(slots=True)
class _Shelf:
    """What is kept of one namespace. `counter` numbers keys and changes and only rises."""

    number: int
    counter: int = 0
    kept: dict[str, _Kept] = field(default_factory=dict)
    removed: list[tuple[int, int]] = field(default_factory=list)  # (change, key)
    profile: dict[str, Any] = field(default_factory=dict)


class MemoryRecordStore:
    """A RecordStore in dictionaries; changes come in slices of `slice_size` rows."""

    def __init__(self, *, slice_size: int = 1000) -> None:
        self.id = uuid.uuid4().hex
        self._slice_size = slice_size
        self._shelves: dict[Namespace, _Shelf] = {}
        self._space: tuple[str, int] | None = None
        self._lock = threading.RLock()

    def insert(self, namespace: Namespace, drafts: Sequence[Draft]) -> list[Record]:
        """See `RecordStore.insert`."""
        with self._lock:
            shelf = self._shelf(namespace)
            known = {id_: kept.draft.record for id_, kept in shelf.kept.items()}
            fresh: list[Draft] = []
            for draft in drafts:
                twin = known.get(draft.record.id)
                if twin is None:
                    known[draft.record.id] = draft.record
                    fresh.append(draft)
                elif not draft.repeats(twin):
                    raise ConflictError(f"id {draft.record.id!r} is taken by other content")
            for draft in fresh:
                shelf.counter += 1
                key = shelf.number << 32 | shelf.counter
                shelf.kept[draft.record.id] = _Kept(key, shelf.counter, draft)
            return [known[draft.record.id] for draft in drafts]

    def update(
        self, namespace: Namespace, draft: Draft, *, expected_version: int | None = None
    ) -> Record:
        """See `RecordStore.update`."""
        id_ = draft.record.id
        with self._lock:
            shelf = self._shelf(namespace)
            if id_ not in shelf.kept:
                raise NotFoundError(f"no record {id_!r} in this scope")
            kept = shelf.kept[id_]
            version = kept.draft.record.version
            if expected_version not in (None, version):
                raise ConflictError(f"record {id_!r} is at version {version}")
            shelf.counter += 1
            record = replace(draft.record, version=version + 1)
            shelf.kept[id_] = _Kept(kept.key, shelf.counter, replace(draft, record=record))
            return record

    def delete(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """See `RecordStore.delete`."""
        with self._lock:
            shelf = self._shelf(namespace)
            gone = [shelf.kept.pop(id_) for id_ in dict.fromkeys(ids) if id_ in shelf.kept]
            for kept in gone:
                shelf.counter += 1
                shelf.removed.append((shelf.counter, kept.key))
            return len(gone)

    def get(self, namespace: Namespace, ids: Sequence[str]) -> list[Record]:
        """See `RecordStore.get`."""
        with self._lock:
            kept = self._shelf(namespace).kept
            return [kept[id_].draft.record for id_ in ids if id_ in kept]

    def fetch(self, namespace: Namespace, keys: Sequence[int]) -> dict[int, Record]:
        """See `RecordStore.fetch`."""
        with self._lock:
            held = {kept.key: kept for kept in self._shelf(namespace).kept.values()}
            return {key: held[key].draft.record for key in keys if key in held}

    def newest(
        self,
        namespace: Namespace,
        *,
        kinds: Sequence[Kind],
        session_id: str | None = None,
        limit: int | None = None,
        unexpired_at: datetime | None = None,
    ) -> Generator[Record, None, None]:
        """See `RecordStore.newest`."""
        with self._lock:
            rows = sorted(self._shelf(namespace).kept.values(), key=lambda kept: -kept.key)
        records = [
            kept.draft.record
            for kept in rows
            if kept.draft.record.kind in kinds
            and session_id in (None, kept.draft.record.session_id)
            and not _expired(kept.draft.record, unexpired_at)
        ]
        yield from records[:limit]

    def position(self, namespace: Namespace) -> int:
        """See `RecordStore.position`."""
        return self._shelf(namespace).counter

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        """See `RecordStore.changes`."""
        with self._lock:
            shelf = self._shelf(namespace)
            position = shelf.counter
            removed = [key for change, key in shelf.removed if change > since] if since else []
            kept = [kept for kept in shelf.kept.values() if kept.change > since]
        rows = [_index_row(one, with_document_vectors) for one in sorted(kept, key=_by_key)]
        if removed:
            yield Changes(position, (), removed)
        for start in range(0, len(rows), self._slice_size):
            yield Changes(position, rows[start : start + self._slice_size])

    def stats(self, namespace: Namespace) -> Stats:
        """See `RecordStore.stats`."""
        with self._lock:
            shelf = self._shelf(namespace)
            drafts = [kept.draft for kept in shelf.kept.values()]
            profile_keys = len(shelf.profile)
        records = [draft.record for draft in drafts]
        times = [record.at for record in records]
        return Stats(
            namespace=namespace,
            records={kind: sum(record.kind == kind for record in records) for kind in KINDS},
            profile_keys=profile_keys,
            sessions=len({record.session_id for record in records} - {None}),
            bytes=sum(_size(draft) for draft in drafts),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
        )

    def profile(self, namespace: Namespace) -> dict[str, Any]:
        """See `RecordStore.profile`."""
        with self._lock:
            return copy.deepcopy(dict(sorted(self._shelf(namespace).profile.items())))

    def set_profile(self, namespace: Namespace, values: Mapping[str, Any]) -> None:
        """See `RecordStore.set_profile`."""
        with self._lock:
            self._shelf(namespace).profile |= copy.deepcopy(dict(values))

    def delete_profile(self, namespace: Namespace, key: str) -> bool:
        """See `RecordStore.delete_profile`."""
        with self._lock:
            profile = self._shelf(namespace).profile
            there = key in profile
            profile.pop(key, None)
            return there

    def space(self) -> tuple[str, int] | None:
        """See `RecordStore.space`."""
        return self._space

    def set_space(self, name: str, dim: int) -> tuple[str, int]:
        """See `RecordStore.set_space`."""
        with self._lock:
            self._space = self._space or (name, dim)
            return self._space

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _shelf(self, namespace: Namespace) -> _Shelf:
        with self._lock:
            return self._shelves.setdefault(namespace, _Shelf(len(self._shelves) + 1))


def _by_key(kept: _Kept) -> int:
    return kept.key


def _index_row(kept: _Kept, with_document_vectors: bool) -> IndexRow:
    draft, record = kept.draft, kept.draft.record
    with_vector = with_document_vectors or record.kind != "document"
    return IndexRow(
        key=kept.key,
        kind=record.kind,
        role=record.role,
        speaker=record.speaker,
        session_id=record.session_id,
        source=record.source,
        at=microseconds(record.at),
        expires_at=None if record.expires_at is None else microseconds(record.expires_at),
        valid_from=None if record.valid_from is None else microseconds(record.valid_from),
        valid_to=None if record.valid_to is None else microseconds(record.valid_to),
        importance=record.importance,
        metadata=to_json(dict(record.metadata)) if record.metadata else None,
        vector=draft.vector.tobytes() if with_vector and draft.vector is not None else None,
        terms=draft.terms.tobytes(),
        digest=draft.digest,
        question=draft.traits.question,
        tells_time=draft.traits.tells_time,
        tells_number=draft.traits.tells_number,
    )


def _size(draft: Draft) -> int:
    size = len(draft.record.text.encode()) + draft.terms.nbytes
    size += 0 if draft.vector is None else draft.vector.nbytes
    size += 0 if draft.record.data is None else len(to_json(dict(draft.record.data)))
    return size + (len(to_json(dict(draft.record.metadata))) if draft.record.metadata else 0)


def _expired(record: Record, moment: datetime | None) -> bool:
    if record.expires_at is None or moment is None:
        return False
    return record.expires_at <= moment
