"""The fake of the record store: every promise of RecordStore but durability."""

from __future__ import annotations

import copy
import itertools
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hybrid_memory import pruning, restoring
from hybrid_memory.errors import (
    ConflictError,
    EmbedderMismatchError,
    NotFoundError,
    StoreCorruptError,
    StoreError,
)
from hybrid_memory.limits import microseconds, to_json
from hybrid_memory.protocols import (
    Bound,
    Changes,
    Depth,
    Draft,
    IndexRow,
    OnConflict,
    Space,
    Stored,
    Vector,
    Vectors,
)
from hybrid_memory.pruning import Candidate, Size
from hybrid_memory.types import (
    KINDS,
    NOTHING,
    Erased,
    Imported,
    Kind,
    Namespace,
    Pruned,
    PrunePolicy,
    Record,
    Stats,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    key: int
    change: int
    draft: Draft
    is_damaged: bool = False


@dataclass(slots=True)
class _Shelf:
    """What is kept of one namespace. `counter` numbers keys and changes and only rises."""

    number: int
    counter: int = 0
    kept: dict[str, _Kept] = field(default_factory=dict)
    removed: list[tuple[int, int]] = field(default_factory=list)  # (change, key)
    profile: dict[str, Any] = field(default_factory=dict)
    switched: int = 0  # what the counter was when all vectors were last replaced
    damaged_keys: set[str] = field(default_factory=set)  # of the profile
    quarantine: list[tuple[str, str]] = field(default_factory=list)  # ("record" or "profile", id)

    @property
    def position(self) -> int:
        return self.number << 32 | self.counter if self.counter else 0

    @property
    def is_used(self) -> bool:
        return self.counter > 0 or bool(self.profile or self.quarantine)

    @property
    def size(self) -> Size:
        sizes = [pruning.size(kept.draft) for kept in self.kept.values()]
        return Size(len(sizes), sum(sizes))

    def make_room(
        self, drafts: Sequence[Draft], bound: Bound | None, *, removed: Collection[str] = ()
    ) -> None:
        """Remove what has to go for these, before they are put there."""
        if bound is None:
            return
        ids = {draft.record.id for draft in drafts} | set(removed)
        before = self.size
        after = [_candidate(kept) for id_, kept in self.kept.items() if id_ not in ids]
        after += [_candidate(_Kept(-number, 0, draft)) for number, draft in enumerate(drafts, 1)]
        held = Size(len(after), sum(one.bytes for one in after))
        gone = pruning.make_room(
            lambda now: [one for one in after if now is None or _is_over(one, now)],
            bound,
            held=held,
            grown=Size(held.records - before.records, held.bytes - before.bytes),
            written={one.key for one in after if one.key < 0},
        )
        for one in gone:
            self.remove(self.kept.pop(one.candidate.id).key)

    def remove(self, key: int) -> None:
        self.counter += 1
        self.removed.append((self.counter, key))


class MemoryRecordStore:
    """A RecordStore in dictionaries; changes come in slices of `slice_size` rows.

    `damage` does to a record, or to a value of the profile, what a flipped bit would.
    """

    def __init__(self, *, slice_size: int = 1000, was_interrupted: bool = False) -> None:
        self.id = uuid.uuid4().hex
        self.was_interrupted = was_interrupted
        self._slice_size = slice_size
        self._rules: int | None = None
        self._told: set[int] = set()
        self._shelves: dict[Namespace, _Shelf] = {}
        self._numbers = itertools.count(1)  # never used twice
        self._space: Space | None = None
        self._beside: Space | None = None
        self._is_former = False  # whether that one was in force before
        self._generations = itertools.count(1)
        # By key, with the change that the record was at: after another one it is not its vector.
        self._aside: dict[int, tuple[int, Vector]] = {}
        self._lock = threading.RLock()
        self._stores: dict[str, MemoryRecordStore] = {}

    def insert(
        self, namespace: Namespace, drafts: Sequence[Draft], *, bound: Bound | None = None
    ) -> list[Record]:
        """See `RecordStore.insert`."""
        with self._lock:
            shelf = self._shelf(namespace)
            self._keep_to_space(drafts)
            _refuse_damage(shelf, [draft.record.id for draft in drafts])
            known = {id_: kept.draft.record for id_, kept in shelf.kept.items()}
            fresh: list[Draft] = []
            for draft in drafts:
                twin = known.get(draft.record.id)
                if twin is None:
                    known[draft.record.id] = draft.record
                    fresh.append(draft)
                elif not draft.repeats(twin):
                    raise ConflictError(f"id {draft.record.id!r} is taken by other content")
            shelf.make_room(fresh, bound)
            for draft in fresh:
                shelf.counter += 1
                key = shelf.number << 32 | shelf.counter
                shelf.kept[draft.record.id] = _Kept(key, shelf.counter, draft)
            return [known[draft.record.id] for draft in drafts]

    def restore(
        self,
        namespace: Namespace,
        drafts: Sequence[Draft],
        *,
        profile: Mapping[str, Any] = NOTHING,
        on_conflict: OnConflict = "error",
        bound: Bound | None = None,
        removed: Sequence[str] = (),
    ) -> Imported:
        """See `RecordStore.restore`."""
        with self._lock:
            shelf = self._shelf(namespace)
            self._keep_to_space(drafts)
            known = {
                id_: kept.draft.record for id_, kept in shelf.kept.items() if id_ not in removed
            }
            plan = restoring.plan(known, drafts, shelf.profile, profile, on_conflict)
            if plan.added or plan.replaced:
                shelf.make_room([*plan.replaced, *plan.added], bound, removed=removed)
            self.delete(namespace, removed)
            for draft in (*plan.replaced, *plan.added):
                shelf.counter += 1
                twin = shelf.kept.get(draft.record.id)
                key = shelf.number << 32 | shelf.counter if twin is None else twin.key
                shelf.kept[draft.record.id] = _Kept(key, shelf.counter, draft)
            shelf.profile |= copy.deepcopy(plan.profile)
            return plan.counts

    def prune(
        self, namespace: Namespace, policy: PrunePolicy, *, now: datetime, dry_run: bool
    ) -> Pruned:
        """See `RecordStore.prune`."""
        with self._lock:
            shelf = self._shelf(namespace)
            held = shelf.size
            candidates = [_candidate(kept) for kept in shelf.kept.values()]
            chosen = pruning.choose(candidates, policy, now=now)
            if not dry_run:
                self.delete(namespace, [one.candidate.id for one in chosen])
        return pruning.report(namespace, chosen, held=held, dry_run=dry_run)

    def update(
        self,
        namespace: Namespace,
        draft: Draft,
        *,
        expected_version: int | None = None,
        bound: Bound | None = None,
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
            self._keep_to_space([draft])
            shelf.make_room([draft], bound)
            shelf.counter += 1
            record = replace(draft.record, version=version + 1)
            shelf.kept[id_] = _Kept(kept.key, shelf.counter, replace(draft, record=record))
            return record

    def expire(self, namespace: Namespace, ids: Sequence[str], at: datetime | None) -> int:
        """See `RecordStore.expire`."""
        with self._lock:
            shelf = self._shelf(namespace)
            found = [shelf.kept[id_] for id_ in dict.fromkeys(ids) if id_ in shelf.kept]
            for kept in (intact := [one for one in found if not one.is_damaged]):
                shelf.counter += 1
                record = replace(kept.draft.record, expires_at=at)
                draft = replace(kept.draft, record=record)
                shelf.kept[record.id] = _Kept(kept.key, shelf.counter, draft)
            return len(intact)

    def delete(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """See `RecordStore.delete`."""
        with self._lock:
            shelf = self._shelf(namespace)
            gone = [shelf.kept.pop(id_) for id_ in dict.fromkeys(ids) if id_ in shelf.kept]
            for kept in gone:
                shelf.remove(kept.key)
            mine = {("record", id_) for id_ in ids}
            shelf.quarantine = [one for one in shelf.quarantine if one not in mine]
            return len(gone)

    def forget(
        self,
        namespace: Namespace,
        *,
        source: str | None = None,
        session_id: str | None = None,
        matches: Callable[[Record], bool] | None = None,
    ) -> int:
        """See `RecordStore.forget`; of what is in quarantine only the ids are known here."""
        with self._lock:
            return self.delete(
                namespace,
                [
                    id_
                    for id_, kept in self._shelf(namespace).kept.items()
                    if source in (None, kept.draft.record.source)
                    and session_id in (None, kept.draft.record.session_id)
                    and (matches is None or (not kept.is_damaged and matches(kept.draft.record)))
                ],
            )

    def erase(self, namespace: Namespace) -> Erased:
        """See `RecordStore.erase`."""
        with self._lock:
            shelf = self._shelves.pop(namespace, None)
        if shelf is None:
            return Erased(namespace)
        kinds = Counter(str(kept.draft.record.kind) for kept in shelf.kept.values())
        return Erased(
            namespace,
            records=MappingProxyType(dict(kinds)),
            removals=len(shelf.removed),
            profile_keys=len(shelf.profile),
            quarantined=len(shelf.quarantine),
        )

    def get(self, namespace: Namespace, ids: Sequence[str]) -> list[Record]:
        """See `RecordStore.get`."""
        with self._lock:
            shelf = self._shelf(namespace)
            _refuse_damage(shelf, ids)
            return [shelf.kept[id_].draft.record for id_ in ids if id_ in shelf.kept]

    def fetch(self, namespace: Namespace, keys: Sequence[int]) -> dict[int, Record]:
        """See `RecordStore.fetch`."""
        with self._lock:
            held = {kept.key: kept for kept in self._shelf(namespace).kept.values()}
            found = self._intact(namespace, [held[key] for key in keys if key in held])
            return {kept.key: kept.draft.record for kept in found}

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
            for kept in self._intact(namespace, rows)
            if kept.draft.record.kind in kinds
            and session_id in (None, kept.draft.record.session_id)
            and not _expired(kept.draft.record, unexpired_at)
        ]
        yield from records[:limit]

    def _intact(self, namespace: Namespace, rows: Sequence[_Kept]) -> list[_Kept]:
        for kept in rows:
            if kept.is_damaged and kept.key not in self._told:
                self._told.add(kept.key)
                id_ = kept.draft.record.id
                _log.warning("record %r of %s is damaged and left out", id_, namespace)
        return [kept for kept in rows if not kept.is_damaged]

    def position(self, namespace: Namespace) -> int:
        """See `RecordStore.position`."""
        return self._shelf(namespace).position

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        """See `RecordStore.changes`."""
        with self._lock:
            shelf = self._shelf(namespace)
            position = shelf.position
            was_erased = since >> 32 != shelf.number
            is_afresh = since > 0 and (was_erased or since & (2**32 - 1) < shelf.switched)
            reached = 0 if is_afresh or was_erased else since & (2**32 - 1)
            generation = 0 if self._space is None else self._space.generation
            removed = [key for change, key in shelf.removed if change > reached] if reached else []
            kept = [kept for kept in shelf.kept.values() if kept.change > reached]
        rows = [_index_row(one, with_document_vectors) for one in sorted(kept, key=_by_key)]
        if position <= since:
            return
        if removed or is_afresh:
            yield Changes(position, (), removed, is_afresh=is_afresh, generation=generation)
        for start in range(0, len(rows), self._slice_size):
            part = rows[start : start + self._slice_size]
            yield Changes(position, part, generation=generation)

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
            bytes=sum(pruning.size(draft) for draft in drafts),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
        )

    def profile(self, namespace: Namespace) -> dict[str, Any]:
        """See `RecordStore.profile`."""
        with self._lock:
            shelf = self._shelf(namespace)
            values = {
                key: value for key, value in shelf.profile.items() if key not in shelf.damaged_keys
            }
            return copy.deepcopy(dict(sorted(values.items())))

    def set_profile(self, namespace: Namespace, values: Mapping[str, Any]) -> None:
        """See `RecordStore.set_profile`."""
        with self._lock:
            shelf = self._shelf(namespace)
            shelf.profile |= copy.deepcopy(dict(values))
            shelf.damaged_keys -= values.keys()

    def delete_profile(self, namespace: Namespace, key: str) -> bool:
        """See `RecordStore.delete_profile`."""
        with self._lock:
            profile = self._shelf(namespace).profile
            there = key in profile
            profile.pop(key, None)
            shelf = self._shelf(namespace)
            shelf.quarantine = [one for one in shelf.quarantine if one != ("profile", key)]
            return there

    def space(self) -> Space | None:
        """See `RecordStore.space`."""
        return self._space

    def set_space(self, space: Space) -> Space:
        """See `RecordStore.set_space`."""
        with self._lock:
            found = self._space or space._replace(generation=next(self._generations))
            if found.probes is None and found[:2] == space[:2]:
                found = found._replace(probes=space.probes)
            self._space = found
            return found

    def spaces_aside(self) -> list[Space]:
        """See `RecordStore.spaces_aside`."""
        return [] if self._beside is None else [self._beside]

    def open_space(self, space: Space) -> Space:
        """See `RecordStore.open_space`."""
        with self._lock:
            self._aside.clear()
            self._is_former = False
            self._beside = space._replace(generation=next(self._generations))
            return self._beside

    def unmoved(self, generation: int, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """See `RecordStore.unmoved`."""
        with self._lock:
            left = [one for one in self._ranked() if one.key > after and not self._is_moved(one)]
            return [_stored(one) for one in sorted(left, key=_by_key)][:limit]

    def count_moved(self, generation: int) -> tuple[int, int]:
        """See `RecordStore.count_moved`."""
        with self._lock:
            ranked = self._ranked()
            return sum(map(self._is_moved, ranked)), len(ranked)

    def move(self, generation: int, rows: Sequence[tuple[Stored, Vector]]) -> int:
        """See `RecordStore.move`."""
        with self._lock:
            self._check_beside(generation)
            now = {one.key: one.change for one in self._ranked()}
            same = [(row, vector) for row, vector in rows if now.get(row.key) == row.change]
            self._aside |= {row.key: (row.change, vector) for row, vector in same}
            return len(same)

    def switch_space(
        self, generation: int, *, encode: Callable[[Sequence[Record]], Vectors], limit: int
    ) -> bool:
        """See `RecordStore.switch_space`."""
        with self._lock:
            self._check_beside(generation)
            rest = [one for one in self._ranked() if not self._is_moved(one)]
            whole = [one for one in rest if not one.is_damaged]
            if len(whole) > limit:
                return False
            if whole:
                encoded = encode([one.draft.record for one in whole])
                for one, vector in zip(whole, encoded, strict=True):
                    self._aside[one.key] = one.change, vector
            former: dict[int, tuple[int, Vector]] = {}
            for one in self._ranked():
                if one.draft.vector is not None:
                    former[one.key] = one.change, one.draft.vector
                moved = self._aside[one.key][1] if self._is_moved(one) else None
                one.draft = replace(one.draft, vector=moved)
            self._aside = former
            self._space, self._beside, self._is_former = self._beside, self._space, True
            for shelf in self._shelves.values():
                if shelf.counter:
                    shelf.counter += 1
                    shelf.switched = shelf.counter
            return True

    def settle_space(self, *, limit: int = 1000) -> int:
        """Return 0: a switch leaves nothing to be done."""
        return 0

    def drop_former_spaces(self) -> int:
        """See `RecordStore.drop_former_spaces`."""
        with self._lock:
            if not self._is_former:
                return 0
            self._aside.clear()
            self._beside, self._is_former = None, False
            return 1

    def _ranked(self) -> list[_Kept]:
        every = [kept for shelf in self._shelves.values() for kept in shelf.kept.values()]
        return [kept for kept in every if kept.draft.vector is not None]

    def _is_moved(self, kept: _Kept) -> bool:
        return self._aside.get(kept.key, (None,))[0] == kept.change

    def _check_beside(self, generation: int) -> None:
        if self._beside is None or self._beside.generation != generation:
            raise ConflictError("somebody else moves this store, or has done so meanwhile")

    def _keep_to_space(self, drafts: Sequence[Draft]) -> None:
        said = {draft.generation for draft in drafts if draft.vector is not None} - {None}
        if said and (self._space is None or said != {self._space.generation}):
            raise EmbedderMismatchError("the store was moved to another vector space meanwhile")

    def damage(
        self, namespace: Namespace, *, id: str | None = None, profile_key: str | None = None
    ) -> None:
        """Damage a record or a value of the profile."""
        with self._lock:
            shelf = self._shelf(namespace)
            if id is not None:
                shelf.kept[id].is_damaged = True
            if profile_key is not None:
                shelf.damaged_keys.add(profile_key)

    def rules(self) -> int | None:
        """See `RecordStore.rules`."""
        return self._rules

    def set_rules(self, version: int) -> None:
        """See `RecordStore.set_rules`."""
        self._rules = version

    def namespaces(self) -> dict[Namespace, int]:
        """See `RecordStore.namespaces`."""
        with self._lock:
            used = {name: shelf for name, shelf in self._shelves.items() if shelf.is_used}
            return {namespace: len(shelf.kept) for namespace, shelf in used.items()}

    def holders(
        self,
        *,
        kind: Kind,
        source: str,
        under: Namespace = (),
        unexpired_at: datetime | None = None,
        expired_at: datetime | None = None,
    ) -> list[Namespace]:
        """See `RecordStore.holders`."""
        with self._lock:
            return [
                namespace
                for namespace, shelf in self._shelves.items()
                if namespace[: len(under)] == under
                and any(
                    (record := kept.draft.record).kind == kind
                    and record.source == source
                    and not _expired(record, unexpired_at)
                    and (expired_at is None or _expired(record, expired_at))
                    for kept in shelf.kept.values()
                )
            ]

    def stored(self, namespace: Namespace, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """See `RecordStore.stored`."""
        with self._lock:
            kept = sorted(self._shelf(namespace).kept.values(), key=_by_key)
            return [_stored(one) for one in kept if one.key > after][:limit]

    def recent(self, namespace: Namespace, *, limit: int) -> list[Stored]:
        """See `RecordStore.recent`."""
        with self._lock:
            kept = sorted(self._shelf(namespace).kept.values(), key=lambda one: -one.change)
            return [_stored(one) for one in kept[:limit]]

    def refresh(self, namespace: Namespace, rows: Sequence[tuple[Stored, Draft]]) -> int:
        """See `RecordStore.refresh`."""
        done = 0
        with self._lock:
            self._keep_to_space([draft for _, draft in rows])
            shelf = self._shelf(namespace)
            held = {kept.key: kept for kept in shelf.kept.values()}
            for row, draft in rows:
                kept = held.get(row.key)
                if kept is not None and kept.change == row.change:
                    shelf.counter += 1
                    kept.change = shelf.counter
                    kept.draft = replace(draft, record=kept.draft.record)
                    done += 1
        return done

    def damaged_profile(self, namespace: Namespace) -> list[str]:
        """See `RecordStore.damaged_profile`."""
        with self._lock:
            return sorted(self._shelf(namespace).damaged_keys)

    def quarantine(
        self,
        namespace: Namespace,
        *,
        keys: Sequence[int] = (),
        profile_keys: Sequence[str] = (),
        at: datetime,
    ) -> int:
        """See `RecordStore.quarantine`."""
        with self._lock:
            shelf = self._shelf(namespace)
            gone = [one for one in shelf.kept.values() if one.is_damaged and one.key in keys]
            for kept in gone:
                del shelf.kept[kept.draft.record.id]
                shelf.remove(kept.key)
                shelf.quarantine.append(("record", kept.draft.record.id))
            values = shelf.damaged_keys & set(profile_keys)
            shelf.damaged_keys -= values
            for key in sorted(values):
                del shelf.profile[key]
                shelf.quarantine.append(("profile", key))
            return len(gone) + len(values)

    def quarantined(self) -> int:
        """See `RecordStore.quarantined`."""
        with self._lock:
            return sum(len(shelf.quarantine) for shelf in self._shelves.values())

    def integrity(self, depth: Depth) -> list[str]:
        """Return nothing: there is no file to be damaged."""
        return []

    def lost(self) -> list[tuple[Namespace, str]]:
        """Return nothing: nothing gets lost."""
        return []

    def mend(self, *, at: datetime) -> None:
        """Do nothing: there is nothing to mend."""

    def purge(self, *, timeout_s: float) -> Erased:
        """Do nothing: there is no file."""
        return Erased()

    def files(self) -> list[Path]:
        """Return nothing: there is no file."""
        return []

    def beside(self, name: str) -> MemoryRecordStore:
        """See `RecordStore.beside`."""
        with self._lock:
            return self._stores.setdefault(name, MemoryRecordStore(slice_size=self._slice_size))

    def besides(self) -> list[str]:
        """See `RecordStore.besides`."""
        with self._lock:
            return sorted(self._stores)

    def backup(
        self, directory: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Raise StoreError: what is in RAM has no files. `export` writes it down."""
        raise StoreError("a store in RAM cannot be backed up; export it instead")

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _shelf(self, namespace: Namespace) -> _Shelf:
        with self._lock:
            if namespace not in self._shelves:
                self._shelves[namespace] = _Shelf(next(self._numbers))
            return self._shelves[namespace]


def _refuse_damage(shelf: _Shelf, ids: Sequence[str]) -> None:
    for id_ in ids:
        if id_ in shelf.kept and shelf.kept[id_].is_damaged:
            raise StoreCorruptError(f"record {id_!r} is damaged; memory.repair() moves it away")


def _stored(kept: _Kept) -> Stored:
    draft = kept.draft
    return Stored(
        key=kept.key,
        change=kept.change,
        id=draft.record.id,
        record=None if kept.is_damaged else draft.record,
        vector=None if draft.vector is None else draft.vector.tobytes(),
        terms=draft.terms.tobytes(),
        digest=draft.digest,
        traits=draft.traits,
    )


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


def _candidate(kept: _Kept) -> Candidate:
    record = kept.draft.record
    return Candidate(
        key=kept.key,
        id=record.id,
        kind=record.kind,
        at=microseconds(record.at),
        expires_at=None if record.expires_at is None else microseconds(record.expires_at),
        valid_to=None if record.valid_to is None else microseconds(record.valid_to),
        superseded_by=record.superseded_by,
        importance=record.importance,
        metadata=to_json(dict(record.metadata)) if record.metadata else None,
        bytes=pruning.size(kept.draft),
    )


def _is_over(one: Candidate, moment: datetime) -> bool:
    return one.expires_at is not None and one.expires_at <= microseconds(moment)


def _expired(record: Record, moment: datetime | None) -> bool:
    if record.expires_at is None or moment is None:
        return False
    return record.expires_at <= moment
