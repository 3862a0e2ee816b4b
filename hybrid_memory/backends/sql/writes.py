"""What is written to a store, each time all of it or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, bindparam, insert, select, update

from hybrid_memory import pruning, restoring
from hybrid_memory.backends.sql import maintenance, schema
from hybrid_memory.backends.sql.connections import also_when_full
from hybrid_memory.backends.sql.lenient import read
from hybrid_memory.backends.sql.reads import SELECT_ID, SELECT_NAMESPACE, Reads, parts
from hybrid_memory.errors import ConflictError, EmbedderMismatchError, NotFoundError
from hybrid_memory.limits import microseconds
from hybrid_memory.protocols import Bound, Draft, OnConflict
from hybrid_memory.pruning import Size
from hybrid_memory.types import NOTHING, Erased, Imported, Namespace, Pruned, PrunePolicy, Record

_r = schema.records.c
_RAISE_COUNTER = (
    update(schema.namespaces)
    .where(schema.namespaces.c.number == bindparam("of_namespace"))
    .values(
        counter=schema.namespaces.c.counter + bindparam("steps"),
        records=schema.namespaces.c.records + bindparam("more_records"),
        bytes=schema.namespaces.c.bytes + bindparam("more_bytes"),
    )
    .returning(schema.namespaces.c.counter, schema.namespaces.c.records, schema.namespaces.c.bytes)
)
_NO_GROWTH = Size(0, 0)

_log = logging.getLogger(__name__)


class _Written(NamedTuple):
    """What a write has put there, by how much the namespace grew, and what it holds since."""

    keys: Sequence[int]
    grown: Size
    held: Size


class Writes(Reads):
    """Each change of a namespace is counted, and so found by who reads the changes."""

    def insert(
        self, namespace: Namespace, drafts: Sequence[Draft], *, bound: Bound | None = None
    ) -> list[Record]:
        """See `RecordStore.insert`."""
        if not drafts:
            return []
        with self._writing() as connection:
            number, _ = self._namespace(connection, namespace)
            known = self._by_id(connection, number, namespace, [d.record.id for d in drafts])
            fresh: dict[str, Draft] = {}
            for draft in drafts:
                twin = known.get(draft.record.id)
                if twin is None:
                    fresh[draft.record.id] = draft
                    known[draft.record.id] = draft.record
                elif not draft.repeats(twin):
                    raise ConflictError(
                        f"id {draft.record.id!r} is taken by other content; "
                        "use update, or another id"
                    )
            written = self._add(connection, number, list(fresh.values()))
            self._make_room(connection, number, written, bound)
        return [known[draft.record.id] for draft in drafts]

    def _add(self, connection: Connection, number: int, drafts: Sequence[Draft]) -> _Written | None:
        if not drafts:
            return None
        self._keep_to_space(connection, drafts)
        grown = Size(len(drafts), sum(pruning.size(draft) for draft in drafts))
        last, held = self._raise_counter(connection, number, len(drafts), grown)
        rows = [
            schema.row(draft, number=number, key=(number << 32) | change, change=change)
            for change, draft in enumerate(drafts, last - len(drafts) + 1)
        ]
        connection.execute(insert(schema.records), rows)
        return _Written([row["key"] for row in rows], grown, held)

    def _make_room(
        self, connection: Connection, number: int, written: _Written | None, bound: Bound | None
    ) -> None:
        if written is None or bound is None:
            return

        def candidates(expired_by: datetime | None) -> list[pruning.Candidate]:
            moment = None if expired_by is None else microseconds(expired_by)
            return maintenance.candidates(connection, number, expired_by=moment)

        gone = pruning.make_room(
            candidates,
            bound,
            held=written.held,
            grown=written.grown,
            written=set(written.keys),
        )
        if gone:
            self._delete(connection, number, [one.candidate for one in gone])
            _log.info("%d records made room in namespace %d of %s", len(gone), number, self._path)

    @also_when_full
    def prune(
        self, namespace: Namespace, policy: PrunePolicy, *, now: datetime, dry_run: bool
    ) -> Pruned:
        """See `RecordStore.prune`."""
        with self._reading() if dry_run else self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return Pruned(namespace, (), 0, 0, dry_run)
            chosen = pruning.choose(maintenance.candidates(connection, number), policy, now=now)
            held = maintenance.held(connection, number)
            if not dry_run:
                self._delete(connection, number, [one.candidate for one in chosen])
        return pruning.report(namespace, chosen, held=held, dry_run=dry_run)

    def _delete(
        self, connection: Connection, number: int, rows: Sequence[pruning.Candidate]
    ) -> None:
        for part in parts(rows):
            keys = [row.key for row in part]
            connection.execute(schema.records.delete().where(_r.key.in_(keys)))
            maintenance.forget(connection, number, "records", [row.id for row in part])
        self._removed(
            connection, number, [row.key for row in rows], size=sum(row.bytes for row in rows)
        )

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
        with self._writing() as connection:
            number, _ = self._namespace(connection, namespace)
            before = maintenance.held(connection, number)
            self._delete_ids(connection, number, removed)
            known = self._by_id(connection, number, namespace, [d.record.id for d in drafts])
            rows = self._profile_rows(connection, number) if profile else ()
            values = {row.key: schema.value(row) for row in rows}
            intact = {key: value for key, value in values.items() if value is not schema.DAMAGED}
            plan = restoring.plan(known, drafts, intact, profile, on_conflict)
            replaced = self._replace(connection, number, plan.replaced)
            added = self._add(connection, number, plan.added)
            written = [one for one in (replaced, added) if one is not None]
            if written:
                keys = [key for one in written for key in one.keys]
                held = written[-1].held
                grown = Size(held.records - before.records, held.bytes - before.bytes)
                self._make_room(connection, number, _Written(keys, grown, held), bound)
            self._set_profile(connection, number, plan.profile)
        return plan.counts

    def _replace(
        self, connection: Connection, number: int, drafts: Sequence[Draft]
    ) -> _Written | None:
        if not drafts:
            return None
        self._keep_to_space(connection, drafts)
        keys = maintenance.keys_of(connection, number, [draft.record.id for draft in drafts])
        before = maintenance.held_by(connection, keys)
        grown = Size(0, sum(pruning.size(draft) for draft in drafts) - before)
        last, held = self._raise_counter(connection, number, len(drafts), grown)
        first = last - len(drafts) + 1
        maintenance.replace(connection, number, drafts, keys=keys, change=first)
        return _Written(keys, grown, held)

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
        with self._writing() as connection:
            number, _ = self._namespace(connection, namespace)
            statement = select(_r.key, _r.version, schema.size).where(
                _r.namespace == number, _r.id == id_
            )
            found = connection.execute(statement).first()
            if found is None:
                raise NotFoundError(f"no record {id_!r} in this scope")
            if expected_version is not None and found.version != expected_version:
                raise ConflictError(
                    f"record {id_!r} is at version {found.version}, not {expected_version}; "
                    "get it again and repeat the change"
                )
            self._keep_to_space(connection, [draft])
            grown = Size(0, pruning.size(draft) - found.bytes)
            change, held = self._raise_counter(connection, number, 1, grown)
            row = schema.row(
                draft, number=number, key=found.key, change=change, version=found.version + 1
            )
            connection.execute(
                update(schema.records)
                .where(_r.namespace == number, _r.key == found.key)
                .values(row)
            )
            self._make_room(connection, number, _Written([found.key], grown, held), bound)
            [stored] = self._by_id(connection, number, namespace, [id_]).values()
            return stored

    def expire(self, namespace: Namespace, ids: Sequence[str], at: datetime | None) -> int:
        """See `RecordStore.expire`."""
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            moment = None if at is None else microseconds(at)
            found: list[dict[str, Any]] = []
            for part in parts(list(dict.fromkeys(ids))):
                rows = read(connection, SELECT_ID, {"of_namespace": number, "ids": part})
                found += (row for one in rows if (row := schema.expiring(one, moment)))
            if found:
                last, _ = self._raise_counter(connection, number, len(found))
                for change, row in enumerate(found, last - len(found) + 1):
                    row["change"] = change
                # A change ends what lies aside of a record, so the vector in force is put in place.
                keys = [row["of_key"] for row in found]
                before = maintenance.held_by(connection, keys)
                changing = update(schema.records).where(_r.key == bindparam("of_key"))
                connection.execute(changing.values(schema.IN_FORCE), found)
                grown = Size(0, maintenance.held_by(connection, keys) - before)
                if grown != _NO_GROWTH:
                    self._raise_counter(connection, number, 0, grown)
            return len(found)

    @also_when_full
    def delete(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """See `RecordStore.delete`."""
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            return self._delete_ids(connection, number, ids)

    def _delete_ids(self, connection: Connection, number: int, ids: Sequence[str]) -> int:
        keys: list[int] = []
        size = 0
        for part in parts(list(dict.fromkeys(ids))):
            of_ids = (_r.namespace == number, _r.id.in_(part))
            found = connection.execute(select(_r.key, schema.size).where(*of_ids)).all()
            keys += [row.key for row in found]
            size += sum(row.bytes for row in found)
            connection.execute(schema.records.delete().where(*of_ids))
            maintenance.forget(connection, number, "records", part)
        self._removed(connection, number, keys, size=size)
        return len(keys)

    @also_when_full
    def forget(
        self,
        namespace: Namespace,
        *,
        source: str | None = None,
        session_id: str | None = None,
        matches: Callable[[Record], bool] | None = None,
    ) -> int:
        """See `RecordStore.forget`."""
        given = {"source": source, "session_id": session_id}
        bounds = {name: value for name, value in given.items() if value is not None}
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            found = maintenance.within(connection, namespace, number, bounds)
            if matches is not None:
                found = [(row, one) for row, one in found if one is not None and matches(one)]
            keys = [row.key for row, _ in found]
            size = maintenance.held_by(connection, keys)
            for part in parts(keys):
                maintenance.delete(connection, _r.key.in_(part))
            ids = [one.id for _, one in found if one is not None]
            for part in parts(ids):
                maintenance.forget(connection, number, "records", part)
            if matches is None:
                maintenance.forget_within(connection, number, bounds)
            self._removed(connection, number, keys, size=size)
            return len(keys)

    @also_when_full
    def erase(self, namespace: Namespace) -> Erased:
        """See `RecordStore.erase`."""
        with self._writing() as connection:
            number = self._known(connection, namespace)
            if number is None:
                return Erased(namespace)
            erased = maintenance.erase(connection, namespace, number)
        self._numbers.pop(namespace, None)
        self._told.clear()  # keys of profiles among them
        return erased

    def _removed(
        self, connection: Connection, number: int, keys: Sequence[int], *, size: int
    ) -> None:
        """Note that records are gone, for all who read the changes."""
        if keys:
            last, _ = self._raise_counter(connection, number, len(keys), Size(-len(keys), -size))
            rows = [
                {"namespace": number, "change": change, "key": key}
                for change, key in enumerate(keys, last - len(keys) + 1)
            ]
            connection.execute(insert(schema.removals), rows)

    def _keep_to_space(self, connection: Connection, drafts: Sequence[Draft]) -> None:
        """Refuse vectors of a space that is not in force: vectors of two cannot be compared."""
        said = {draft.generation for draft in drafts if draft.vector is not None}
        if not (said := said - {None}):
            return
        space = self._space(connection)
        if space is None or said != {space.generation}:
            raise EmbedderMismatchError(
                f"{self._path} was moved to another vector space meanwhile, that of "
                f"{space.name if space else 'no embedder'}; open it anew with its embedder, or "
                "move it again with memory.reembed(embedder)"
            )

    def _namespace(self, connection: Connection, namespace: Namespace) -> tuple[int, int]:
        name = schema.named(namespace)._asdict()
        found = connection.execute(SELECT_NAMESPACE, name).first()
        if found is not None:
            return found.number, found.counter
        made = connection.execute(insert(schema.namespaces).values(**name, counter=0))
        return cast(tuple[int], made.inserted_primary_key)[0], 0

    def _raise_counter(
        self, connection: Connection, number: int, steps: int, grown: Size = _NO_GROWTH
    ) -> tuple[int, Size]:
        """Count changes, and what they made the namespace grow by; return what is reached."""
        values = {
            "of_namespace": number,
            "steps": steps,
            "more_records": grown.records,
            "more_bytes": grown.bytes,
        }
        counter, records, size = connection.execute(_RAISE_COUNTER, values).one()
        return counter, Size(records, size)

    def set_profile(self, namespace: Namespace, values: Mapping[str, Any]) -> None:
        """See `RecordStore.set_profile`."""
        if not values:
            return
        with self._writing() as connection:
            number, _ = self._namespace(connection, namespace)
            self._set_profile(connection, number, values)

    def _set_profile(self, connection: Connection, number: int, values: Mapping[str, Any]) -> None:
        if values:
            connection.execute(
                insert(schema.profiles).prefix_with("OR REPLACE", dialect="sqlite"),
                [schema.profile_row(number, key, value) for key, value in values.items()],
            )

    @also_when_full
    def delete_profile(self, namespace: Namespace, key: str) -> bool:
        """See `RecordStore.delete_profile`."""
        with self._writing() as connection:
            number = self._known(connection, namespace)
            statement = schema.profiles.delete().where(
                schema.profiles.c.namespace == number, schema.profiles.c.key == key
            )
            if number is not None:
                maintenance.forget(connection, number, "profiles", [key])
            return connection.execute(statement).rowcount > 0
