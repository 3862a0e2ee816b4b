"""The record store on SQLite, through SQLAlchemy Core: the one truth of a memory.

What is particular to SQLite stands in `_engine`, `_connected`, `_rows`, `open`, `lenient.py` and
`maintenance.py`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import (
    URL,
    BindParameter,
    Connection,
    Engine,
    QueuePool,
    Row,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from hybrid_memory import pruning, restoring
from hybrid_memory.backends.sql import backup, maintenance, schema
from hybrid_memory.backends.sql.lenient import is_undecodable, lenient, read, slices
from hybrid_memory.errors import (
    ClosedError,
    ConflictError,
    NotFoundError,
    SchemaVersionError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StorePathError,
)
from hybrid_memory.limits import from_microseconds, microseconds, to_json
from hybrid_memory.protocols import Bound, Changes, Depth, Draft, IndexRow, OnConflict, Stored
from hybrid_memory.pruning import Size
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

FILE_NAME = "memory.db"
BUSY_TIMEOUT_S = 30.0
SLICE = 1000  # rows read at once into a partition
IDLE_READERS = 8  # connections that are kept for the next reader
IN_LIST = maintenance.IN_LIST

_NUMBER: BindParameter[int] = bindparam("of_namespace")
_r = schema.records.c
_NAMES = ", ".join(column.name for column in schema.RECORD_COLUMNS)
# The two reads of every search are written out, for the driver: see `_rows`.
_POSITION = "SELECT number, counter FROM namespaces WHERE labels = ?"
_NUMBER_OF = "SELECT number FROM namespaces WHERE labels = ?"
# The sum keeps SQLite from an index of the namespace, all of which it would read to find few keys.
_BY_KEY = f"SELECT {_NAMES} FROM records WHERE namespace + 0 = ? AND key IN "  # noqa: S608
_SELECT_ID = select(*schema.RECORD_COLUMNS).where(
    _r.namespace == _NUMBER, _r.id.in_(bindparam("ids", expanding=True))
)
_SELECT_NAMESPACE = select(schema.namespaces.c.number, schema.namespaces.c.counter).where(
    schema.namespaces.c.labels == bindparam("labels")
)
_RAISE_COUNTER = (
    update(schema.namespaces)
    .where(schema.namespaces.c.number == _NUMBER)
    .values(
        counter=schema.namespaces.c.counter + bindparam("steps"),
        records=schema.namespaces.c.records + bindparam("more_records"),
        bytes=schema.namespaces.c.bytes + bindparam("more_bytes"),
    )
    .returning(schema.namespaces.c.counter, schema.namespaces.c.records, schema.namespaces.c.bytes)
)
_NO_GROWTH = Size(0, 0)
_INDEX_COLUMNS = [schema.records.c[name] for name in IndexRow._fields]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Links:
    """The connections of one process to the file."""

    pid: int
    lock: threading.Lock  # one writer a process: waiting here is fair and cheap
    writer: Engine
    reader: Engine
    idle: list[sqlite3.Connection]  # without an engine, for the two reads of every search

    def close(self) -> None:
        """Close what is idle; what is in use is left to who uses it."""
        self.trim(0)
        for engine in (self.reader, self.writer):
            engine.pool.dispose()  # the engine's own would begin another pool

    def trim(self, keep: int) -> None:
        with suppress(IndexError):  # other threads may be at it too
            while len(self.idle) > keep:
                self.idle.pop().close()


class _Written(NamedTuple):
    """What a write has put there, by how much the namespace grew, and what it holds since."""

    keys: Sequence[int]
    grown: Size
    held: Size


class SQLRecordStore:
    """A RecordStore in one SQLite file of a directory. Make it with `open`."""

    def __init__(self, path: Path, durability: Literal["full", "normal"]) -> None:
        self._path = path.absolute()  # the process may change its directory
        self._durability = durability
        self._numbers: dict[Namespace, int] = {}
        self._told: set[object] = set()  # what was logged as damaged
        self._opened: list[_Links] = []  # those of this process, after those of its parents
        self._closed = False
        self._interrupted = False

    @classmethod
    def open(
        cls, directory: Path | str, *, durability: Literal["full", "normal"] = "full"
    ) -> SQLRecordStore:
        """Open the store of a directory, made (mode 0700) if it is missing.

        `durability="full"` flushes every commit to the device before a write returns.
        `"normal"` is about ten times faster a write and may lose the last commits in a power
        cut; a crash of the process loses nothing either way.

        Raises:
            StorePathError: the path is a file, or cannot be written.
            SchemaVersionError: written by a newer version of this library.
            StoreCorruptError: the file is not a database.
        """
        if durability not in ("full", "normal"):
            raise StorePathError(f"durability must be 'full' or 'normal', not {durability!r}")
        directory = Path(directory)
        if directory.exists() and not directory.is_dir():
            raise StorePathError(f"{directory} is a file; a store is a directory")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorePathError(f"cannot make {directory}: {error.strerror}") from error
        path = directory / FILE_NAME
        for target in [directory, path] if path.exists() else [directory]:
            if not os.access(target, os.R_OK | os.W_OK):
                raise StorePathError(f"{target} cannot be written; check its owner and mode")
        store = cls(path, durability)
        store._interrupted = _has_log(path)
        store._prepare()
        return store

    def _prepare(self) -> None:
        with self._writing() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > schema.VERSION:
                raise SchemaVersionError(
                    f"{self._path} has schema {found}, this version knows up to "
                    f"{schema.VERSION}; upgrade hybrid-rag-memory"
                )
            if found == 0:
                schema.schema.create_all(connection, checkfirst=True)
            elif found < schema.VERSION:
                maintenance.upgrade(connection, found)
            if found != schema.VERSION:
                connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")
        self._path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    # -- engines ---------------------------------------------------------------------------

    def _engine(self, begin: str, pool_size: int, *, read_only: bool) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            creator=lambda: self._connected(read_only=read_only),
            poolclass=QueuePool,
            pool_size=pool_size,
            max_overflow=-1,
        )

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _connected(self, *, read_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # the driver must not open transactions by itself
            check_same_thread=False,
        )
        wanted = {
            "journal_mode": "wal",
            "synchronous": 2 if self._durability == "full" else 1,
            "secure_delete": 1,
            "query_only": int(read_only),
        }
        try:
            for name, value in wanted.items():
                connection.execute(f"PRAGMA {name} = {value}")
                found = connection.execute(f"PRAGMA {name}").fetchone()[0]
                if found != value:
                    raise StoreError(f"{self._path}: PRAGMA {name} is {found!r}, wanted {value!r}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _links(self) -> _Links:
        if self._closed:
            raise ClosedError(f"the store of {self._path.parent} was closed; open it again")
        pid = os.getpid()
        if not self._opened or self._opened[-1].pid != pid:
            # A connection must not cross a fork, not even to be closed: a child keeps those of
            # its parent as they are, and opens its own.
            writer = self._engine("BEGIN IMMEDIATE", 1, read_only=False)
            reader = self._engine("BEGIN", IDLE_READERS, read_only=True)
            self._opened.append(_Links(pid, threading.Lock(), writer, reader, []))
        return self._opened[-1]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        links = self._links()
        try:
            with links.lock, self._faults(), links.writer.begin() as connection:
                yield connection
        finally:
            self._after_use(links)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        links = self._links()
        try:
            with self._faults(), links.reader.begin() as connection:
                yield connection
        finally:
            self._after_use(links)

    def _after_use(self, links: _Links) -> None:
        links.trim(IDLE_READERS)
        if self._closed:  # meanwhile, by another thread
            links.close()

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """Return the rows of one statement, read by the driver in a fifth of the time."""
        links = self._links()
        with self._faults():
            try:
                connection = links.idle.pop()
            except IndexError:  # none yet, or other threads are at work with them
                connection = self._connected(read_only=True)
            try:
                rows = connection.execute(statement, values).fetchall()
            except Exception as error:
                connection.close()
                if not is_undecodable(error):
                    raise
            else:
                links.idle.append(connection)
                self._after_use(links)
                return rows
        with self._reading() as again, lenient(again):
            return list(again.exec_driver_sql(statement, values))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:  # of a message of SQLite that quotes a damaged schema
            raise StoreCorruptError(f"{self._path} is damaged; restore a backup") from None
        except (DBAPIError, sqlite3.Error) as error:
            raise _fault(error, self._path) from None  # its message would show bound texts

    # -- writes ----------------------------------------------------------------------------

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
        for part in _parts(rows):
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
    ) -> Imported:
        """See `RecordStore.restore`."""
        with self._writing() as connection:
            number, _ = self._namespace(connection, namespace)
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
                grown = Size(
                    sum(one.grown.records for one in written),
                    sum(one.grown.bytes for one in written),
                )
                both = _Written(keys, grown, written[-1].held)
                self._make_room(connection, number, both, bound)
            self._set_profile(connection, number, plan.profile)
        return plan.counts

    def _replace(
        self, connection: Connection, number: int, drafts: Sequence[Draft]
    ) -> _Written | None:
        if not drafts:
            return None
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

    def delete(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """See `RecordStore.delete`."""
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            keys: list[int] = []
            size = 0
            for part in _parts(list(dict.fromkeys(ids))):
                of_ids = (_r.namespace == number, _r.id.in_(part))
                found = connection.execute(select(_r.key, schema.size).where(*of_ids)).all()
                keys += [row.key for row in found]
                size += sum(row.bytes for row in found)
                connection.execute(schema.records.delete().where(*of_ids))
                maintenance.forget(connection, number, "records", part)
            self._removed(connection, number, keys, size=size)
            return len(keys)

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
            for part in _parts(keys):
                maintenance.delete(connection, _r.key.in_(part))
            ids = [one.id for _, one in found if one is not None]
            for part in _parts(ids):
                maintenance.forget(connection, number, "records", part)
            if matches is None:
                maintenance.forget_within(connection, number, bounds)
            self._removed(connection, number, keys, size=size)
            return len(keys)

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

    def _namespace(self, connection: Connection, namespace: Namespace) -> tuple[int, int]:
        labels = to_json(namespace)
        found = connection.execute(_SELECT_NAMESPACE, {"labels": labels}).first()
        if found is not None:
            return found.number, found.counter
        made = connection.execute(insert(schema.namespaces).values(labels=labels, counter=0))
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

    # -- reads -----------------------------------------------------------------------------

    def _known(self, connection: Connection, namespace: Namespace) -> int | None:
        # Asked each time: another process may have erased the namespace, and made it anew.
        found = connection.exec_driver_sql(_NUMBER_OF, (to_json(namespace),)).scalar()
        if found is None:
            self._numbers.pop(namespace, None)
            return None
        self._numbers[namespace] = int(found)
        return self._numbers[namespace]

    def _by_id(
        self, connection: Connection, number: int, namespace: Namespace, ids: Sequence[str]
    ) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for part in _parts(ids):
            for row in read(connection, _SELECT_ID, {"of_namespace": number, "ids": part}):
                record = schema.record(row, namespace, number)
                if record is None:
                    id_ = maintenance.trusted_id(connection, number, row.key, row.id)
                    raise StoreCorruptError(
                        f"record {id_ or row.key!r} in {self._path} is damaged; restore a backup, "
                        "delete it, or move it away with memory.repair()"
                    )
                found[row.id] = record
        return found

    def _pass_over(self, namespace: Namespace, number: int, row: Sequence[Any]) -> None:
        """Log, once, that a damaged record is left out."""
        key, id_ = row[:2]
        if key not in self._told:
            self._told.add(key)
            with self._reading() as connection:
                known = maintenance.trusted_id(connection, number, key, id_)
            _log.warning(
                "record %r of %s in %s is damaged and left out; memory.repair(), or "
                "hybrid-memory repair, moves it away",
                known or key,
                namespace,
                self._path,
            )

    def get(self, namespace: Namespace, ids: Sequence[str]) -> list[Record]:
        """See `RecordStore.get`."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return []
            found = self._by_id(connection, number, namespace, ids)
        return [found[id_] for id_ in ids if id_ in found]

    def fetch(self, namespace: Namespace, keys: Sequence[int]) -> dict[int, Record]:
        """See `RecordStore.fetch`."""
        if not keys:
            return {}
        number = self._numbers.get(namespace)
        # Numbers are never reused: of one that is out of date there is nothing left to be read.
        if number is None or max(keys) >> schema.COUNTER_BITS != number:
            with self._reading() as connection:
                number = self._known(connection, namespace)
            if number is None:
                return {}
        found: dict[int, Record] = {}
        for part in _parts(keys):
            marks = ", ".join("?" * len(part))
            for row in self._rows(f"{_BY_KEY}({marks})", (number, *part)):
                record = schema.record(row, namespace, number)
                if record is None:
                    self._pass_over(namespace, number, row)
                else:
                    found[row[0]] = record
        return found

    def newest(
        self,
        namespace: Namespace,
        *,
        kinds: Sequence[Kind],
        session_id: str | None = None,
        limit: int | None = None,
        unexpired_at: datetime | None = None,
    ) -> Generator[Record, None, None]:
        """See `RecordStore.newest`. One statement, read as far as the caller goes."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return
            statement = (
                select(*schema.RECORD_COLUMNS)
                .where(_r.namespace == number, _r.kind.in_(list(kinds)))
                .order_by(_r.key.desc())
            )
            if session_id is not None:
                statement = statement.where(_r.session_id == session_id)
            if unexpired_at is not None:
                moment = microseconds(unexpired_at)
                statement = statement.where(or_(_r.expires_at.is_(None), _r.expires_at > moment))
            left = sys.maxsize if limit is None else limit
            if left < 1:
                return
            for part in slices(connection, statement, min(64, left), beyond=_r.key.__lt__):
                for row in part:
                    record = schema.record(row, namespace, number)
                    if record is None:
                        self._pass_over(namespace, number, row)
                        continue
                    yield record
                    left -= 1
                    if not left:
                        return

    def position(self, namespace: Namespace) -> int:
        """See `RecordStore.position`."""
        rows = self._rows(_POSITION, (to_json(namespace),))
        return _position(*rows[0]) if rows else 0

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        """See `RecordStore.changes`."""
        with self._reading() as connection:
            labels = {"labels": to_json(namespace)}
            found = connection.execute(_SELECT_NAMESPACE, labels).first()
            if found is None or _position(*found) <= since:
                return
            number, position = found.number, _position(*found)
            was_erased = since > 0 and since >> schema.COUNTER_BITS != number
            reached = 0 if was_erased else since & (2**schema.COUNTER_BITS - 1)
            columns: list[Any] = list(_INDEX_COLUMNS)
            if not with_document_vectors:
                vector = func.iif(_r.kind == "document", None, _r.vector).label("vector")
                columns[IndexRow._fields.index("vector")] = vector
            statement = select(*columns).order_by(_r.key)
            gone: Sequence[int] = ()
            if not reached:
                # By key, which is the order of the file; by an index all rows would be sorted.
                start = number << 32
                inside = _r.key.between(start, start + 2**32 - 1)
                statement = statement.where(inside, _r.namespace + 0 == number)
            else:
                statement = statement.where(_r.namespace == number, _r.change > reached)
                lost = select(schema.removals.c.key).where(
                    schema.removals.c.namespace == number, schema.removals.c.change > reached
                )
                gone = connection.execute(lost).scalars().all()
            yield Changes(position, (), gone, is_afresh=was_erased)
            for part in slices(connection, statement, SLICE, beyond=_r.key.__gt__):
                yield Changes(position, [IndexRow._make(row) for row in part])

    def stats(self, namespace: Namespace) -> Stats:
        """See `RecordStore.stats`."""
        with self._reading() as connection:
            number = self._known(connection, namespace)
            of_namespace = _r.namespace == number
            by_kind = select(_r.kind, func.count(), func.sum(schema.size)).where(of_namespace)
            counted = connection.execute(by_kind.group_by(_r.kind)).all()
            span = select(
                func.min(_r.at), func.max(_r.at), func.count(_r.session_id.distinct())
            ).where(of_namespace)
            first, last, sessions = connection.execute(span).one()
            keys = select(func.count()).where(schema.profiles.c.namespace == number)
            profile_keys = connection.execute(keys).scalar_one()
        records = {kind: count for kind, count, _ in counted}
        return Stats(
            namespace=namespace,
            records={kind: records.get(kind, 0) for kind in KINDS},
            profile_keys=profile_keys,
            sessions=sessions,
            bytes=sum(size for _, _, size in counted),
            first_at=None if first is None else from_microseconds(first),
            last_at=None if last is None else from_microseconds(last),
        )

    # -- profile and settings --------------------------------------------------------------

    def profile(self, namespace: Namespace) -> dict[str, Any]:
        """See `RecordStore.profile`."""
        with self._reading() as connection:
            number = self._known(connection, namespace)
            rows = self._profile_rows(connection, number)
        values = {row.key: schema.value(row) for row in rows}
        for key in [key for key, value in values.items() if value is schema.DAMAGED]:
            del values[key]
            if (number, key) not in self._told:
                self._told.add((number, key))
                _log.warning(
                    "a value in the profile of %s in %s is damaged and left out; memory.repair(), "
                    "or hybrid-memory repair, moves it away",
                    namespace,
                    self._path,
                )
        return values

    def _profile_rows(self, connection: Connection, number: int | None) -> Sequence[Row[Any]]:
        columns = schema.profiles.c
        mine = select(schema.profiles).where(columns.namespace == number).order_by(columns.key)
        return read(connection, mine)

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

    @cached_property
    def id(self) -> str:
        """See `RecordStore.id`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR IGNORE", dialect="sqlite"),
                {"name": "id", "value": uuid.uuid4().hex},
            )
            statement = select(schema.settings.c.value).where(schema.settings.c.name == "id")
            return str(connection.execute(statement).scalar_one())

    def space(self) -> tuple[str, int] | None:
        """See `RecordStore.space`."""
        found = self._setting("space")
        if found is None:
            return None
        name, dim = json.loads(found)
        return name, dim

    def _setting(self, name: str) -> str | None:
        with self._reading() as connection:
            statement = select(schema.settings.c.value).where(schema.settings.c.name == name)
            return connection.execute(statement).scalar()

    def set_space(self, name: str, dim: int) -> tuple[str, int]:
        """See `RecordStore.set_space`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR IGNORE", dialect="sqlite"),
                {"name": "space", "value": to_json([name, dim])},
            )
        return self.space() or (name, dim)

    # -- upkeep ----------------------------------------------------------------------------

    @property
    def was_interrupted(self) -> bool:
        """See `RecordStore.was_interrupted`.

        SQLite removes its log when the last connection to the file is closed, so one that is
        there was left by a process that died, or belongs to one that is at work: then a look at
        the store is not needed, and does no harm. A mark of our own would cost two commits for
        each time a store is opened, and would have to know which of several processes are alive.
        """
        return self._interrupted

    def rules(self) -> int | None:
        """See `RecordStore.rules`."""
        found = self._setting("rules")
        return None if found is None else int(found)

    def set_rules(self, version: int) -> None:
        """See `RecordStore.set_rules`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR REPLACE", dialect="sqlite"),
                {"name": "rules", "value": str(version)},
            )

    def namespaces(self) -> dict[Namespace, int]:
        """See `RecordStore.namespaces`."""
        with self._reading() as connection:
            return maintenance.namespaces(connection)

    def stored(self, namespace: Namespace, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """See `RecordStore.stored`."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return []
            return maintenance.page(connection, namespace, number, after=after, limit=limit)

    def recent(self, namespace: Namespace, *, limit: int) -> list[Stored]:
        """See `RecordStore.recent`."""
        with self._reading() as connection:
            if (number := self._known(connection, namespace)) is None:
                return []
            return maintenance.recent(connection, namespace, number, limit=limit)

    def refresh(self, namespace: Namespace, rows: Sequence[tuple[Stored, Draft]]) -> int:
        """See `RecordStore.refresh`."""
        with self._writing() as connection:
            number = self._known(connection, namespace)
            same = maintenance.unchanged(connection, rows)
            if number is not None and same:
                keys = [row.key for row, _ in same]
                before = maintenance.held_by(connection, keys)
                grown = Size(0, sum(pruning.size(draft) for _, draft in same) - before)
                last, _ = self._raise_counter(connection, number, len(same), grown)
                maintenance.refresh(connection, same, change=last - len(same) + 1)
            return len(same)

    def damaged_profile(self, namespace: Namespace) -> list[str]:
        """See `RecordStore.damaged_profile`."""
        with self._reading() as connection:
            rows = self._profile_rows(connection, self._known(connection, namespace))
        return [row.key for row in rows if schema.value(row) is schema.DAMAGED]

    def quarantine(
        self,
        namespace: Namespace,
        *,
        keys: Sequence[int] = (),
        profile_keys: Sequence[str] = (),
        at: datetime,
    ) -> int:
        """See `RecordStore.quarantine`."""
        moment = microseconds(at)
        with self._writing() as connection:
            if (number := self._known(connection, namespace)) is None:
                return 0
            moved = maintenance.quarantine_records(connection, namespace, number, keys, at=moment)
            self._removed(connection, number, moved, size=0)
            if moved:  # what a damaged row said of its size is not to be trusted
                maintenance.recount(connection, number)
            values = maintenance.quarantine_profile(connection, number, profile_keys, at=moment)
            return len(moved) + len(values)

    def quarantined(self) -> int:
        """See `RecordStore.quarantined`."""
        with self._reading() as connection:
            statement = select(func.count()).select_from(schema.quarantine)
            return int(connection.execute(statement).scalar_one())

    def integrity(self, depth: Depth) -> list[str]:
        """See `RecordStore.integrity`."""
        try:
            with self._reading() as connection:
                return maintenance.integrity(connection, depth)
        except StoreCorruptError as error:
            return [str(error)]

    def lost(self) -> list[tuple[Namespace, str]]:
        """See `RecordStore.lost`."""
        with self._reading() as connection:
            return maintenance.lost(connection)

    def mend(self, *, at: datetime) -> None:
        """See `RecordStore.mend`."""
        with suppress(StoreCorruptError), self._writing() as connection:
            maintenance.mend(connection, at=microseconds(at))
        if self.integrity("quick"):
            # What the indexes could not be made of in place, they are in a file written anew.
            links = self._links()
            with links.lock, self._faults(), closing(links.writer.raw_connection()) as raw:
                raw.cursor().execute("VACUUM")
            with self._writing() as connection:
                maintenance.mend(connection, at=microseconds(at))

    def purge(self, *, timeout_s: float) -> Erased:
        """See `RecordStore.purge`.

        `secure_delete` has overwritten what was deleted, but a row that was moved to another page
        may have left a copy behind, and the log has the old pages: so the file is written anew,
        and the log is cut.
        """
        deadline = time.monotonic() + timeout_s
        before = self._sizes()
        unfinished = []
        with self._alone() as connection:
            _wait_at_most(connection, timeout_s)
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                fault = _fault(error, self._path)
                if not isinstance(fault, StoreBusyError | StoreFullError):
                    raise
                unfinished.append(
                    f"{self._path} could not be written anew "
                    f"({'it is in use' if isinstance(fault, StoreBusyError) else 'disk is full'}); "
                    "what was deleted is overwritten, but copies may lie in it: purge again"
                )
        if not self._is_log_cut(deadline):
            unfinished.append(
                f"{self._path.name}-wal still has what was deleted: a reader, of this or another "
                f"process, has kept it for over {timeout_s:g} s; end it and purge again"
            )
        after = self._sizes()
        return Erased(
            files=tuple(str(path) for path in after if path.name.startswith(FILE_NAME)),
            bytes=sum(before.values()) - sum(after.values()),
            unfinished=tuple(unfinished),
        )

    def _is_log_cut(self, deadline: float) -> bool:
        while True:
            # Only for a moment each, so that other threads can write.
            with self._alone() as connection:
                _wait_at_most(connection, min(0.2, max(0.0, deadline - time.monotonic())))
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """Yield the driver's writing connection, outside of a transaction."""
        links = self._links()
        with links.lock, self._faults(), closing(links.writer.raw_connection()) as raw:
            connection = cast(sqlite3.Connection, raw.driver_connection)
            try:
                yield connection
            finally:
                _wait_at_most(connection, BUSY_TIMEOUT_S)

    def files(self) -> list[Path]:
        """See `RecordStore.files`."""
        return sorted(path for path in self._path.parent.rglob("*") if path.is_file())

    def _sizes(self) -> dict[Path, int]:
        paths = [self._path.with_name(FILE_NAME + end) for end in ("", "-wal", "-shm")]
        return {path: path.stat().st_size for path in paths if path.exists()}

    def backup(
        self, directory: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """See `RecordStore.backup`. Meanwhile the log of the database cannot be cut."""
        reader = self._links().reader
        try:
            with closing(reader.raw_connection()) as connection:
                source = cast(sqlite3.Connection, connection.driver_connection)
                backup.copy(source, Path(directory), FILE_NAME, on_progress=on_progress)
        except sqlite3.Error as error:
            raise _fault(error, Path(directory)) from None

    def close(self) -> None:
        """See `RecordStore.close`."""
        if self._closed:
            return
        self._closed = True
        for links in self._opened:
            if links.pid == os.getpid():
                links.close()


def _position(number: int, counter: int) -> int:
    """Return the position of a namespace: as numbers rise, it rises over an erasure too."""
    return number << schema.COUNTER_BITS | counter if counter else 0


def _wait_at_most(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def _has_log(path: Path) -> bool:
    """Tell whether SQLite has changes in its log that are not in the file of a database yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _parts(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), IN_LIST):
        yield list(values[start : start + IN_LIST])


def _fault(error: Exception, path: Path) -> StoreError:
    """Return the typed error of a database error, without the statement and its values."""
    if is_undecodable(error):
        return StoreCorruptError(f"{path} holds a damaged text; run memory.repair()")
    reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if re.search("locked|busy", reason):
        return StoreBusyError(
            f"{path} is locked by another writer for over {BUSY_TIMEOUT_S:.0f} s; try again"
        )
    if "full" in reason:
        return StoreFullError(f"no space is left for {path}; free some and repeat")
    if "readonly" in reason or "unable to open" in reason:
        return StorePathError(f"{path} cannot be written ({reason}); check its owner and mode")
    if re.search("malformed|not a database|corrupt|no such (table|column)", reason):
        return StoreCorruptError(
            f"{path} is damaged ({reason}); memory.repair() may mend it, else restore a backup"
        )
    return StoreError(f"{path}: {reason}")
