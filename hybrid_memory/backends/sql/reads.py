"""What is read of a store, each time as of one moment."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, or_, select

from hybrid_memory.backends.sql import maintenance, schema
from hybrid_memory.backends.sql.connections import Connections
from hybrid_memory.backends.sql.lenient import read, slices
from hybrid_memory.errors import StoreCorruptError
from hybrid_memory.limits import from_microseconds, microseconds
from hybrid_memory.protocols import Changes, IndexRow, Space
from hybrid_memory.types import KINDS, Kind, Namespace, Record, Stats

SLICE = 1000  # rows read at once into a partition

_NUMBER: BindParameter[int] = bindparam("of_namespace")
_r = schema.records.c
_NAMES = ", ".join(column.name for column in schema.RECORD_COLUMNS)
# The reads that are made most are written out, for the driver: see `_rows`.
_POSITION = "SELECT number, counter FROM namespaces WHERE labels = ? AND checksum = ?"
_NUMBER_OF = "SELECT number FROM namespaces WHERE labels = ? AND checksum = ?"
# The sum keeps SQLite from an index of the namespace, all of which it would read to find few keys.
_BY_KEY = f"SELECT {_NAMES} FROM records WHERE namespace + 0 = ? AND key IN "  # noqa: S608
_BY_ID = f"SELECT {_NAMES} FROM records WHERE namespace = ? AND id IN "  # noqa: S608
SELECT_ID = select(*schema.RECORD_COLUMNS).where(
    _r.namespace == _NUMBER, _r.id.in_(bindparam("ids", expanding=True))
)
SELECT_NAMESPACE = select(
    schema.namespaces.c.number, schema.namespaces.c.counter, schema.namespaces.c.switched
).where(
    schema.namespaces.c.labels == bindparam("labels"),
    schema.namespaces.c.checksum == bindparam("checksum"),
)
_SPACE_IN_FORCE = schema.SPACES.where(schema.generations.c.state == "current")
_INDEX_COLUMNS = [
    schema.vector if name == "vector" else schema.records.c[name] for name in IndexRow._fields
]

_log = logging.getLogger(__name__)


class Reads(Connections):
    """The records, profiles and settings of a file, as they are."""

    def _known(self, connection: Connection, namespace: Namespace) -> int | None:
        # Asked each time: another process may have erased the namespace, and made it anew.
        found = connection.exec_driver_sql(_NUMBER_OF, schema.named(namespace)).scalar()
        if found is None:
            self._numbers.pop(namespace, None)
            return None
        self._numbers[namespace] = int(found)
        return self._numbers[namespace]

    def _by_id(
        self, connection: Connection, number: int, namespace: Namespace, ids: Sequence[str]
    ) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for part in parts(ids):
            for row in read(connection, SELECT_ID, {"of_namespace": number, "ids": part}):
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
        numbered = self._rows(_NUMBER_OF, schema.named(namespace))
        if not numbered:
            return []
        number = numbered[0][0]
        found: dict[str, Record] = {}
        for part in parts(ids):
            marks = ", ".join("?" * len(part))
            for row in self._rows(f"{_BY_ID}({marks})", (number, *part)):
                record = schema.record(row, namespace, number)
                if record is None:
                    with self._reading() as connection:
                        self._by_id(connection, number, namespace, part)  # raises, and says why
                else:
                    found[record.id] = record
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
        for part in parts(keys):
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
        rows = self._rows(_POSITION, schema.named(namespace))
        return _position(*rows[0]) if rows else 0

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        """See `RecordStore.changes`."""
        with self._reading() as connection:
            found = connection.execute(SELECT_NAMESPACE, schema.named(namespace)._asdict()).first()
            if found is None or _position(*found[:2]) <= since:
                return
            number, position = found.number, _position(*found[:2])
            space = self._space(connection)
            generation = 0 if space is None else space.generation
            reached = since & (2**schema.COUNTER_BITS - 1)
            was_erased = since >> schema.COUNTER_BITS != number
            is_afresh = since > 0 and (was_erased or reached < found.switched)
            if is_afresh:
                reached = 0
            columns: list[Any] = list(_INDEX_COLUMNS)
            if not with_document_vectors:
                vector = func.iif(_r.kind == "document", None, schema.vector).label("vector")
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
            yield Changes(position, (), gone, is_afresh=is_afresh, generation=generation)
            for part in slices(connection, statement, SLICE, beyond=_r.key.__gt__):
                made = [IndexRow._make(row) for row in part]
                yield Changes(position, made, generation=generation)

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

    def space(self) -> Space | None:
        """See `RecordStore.space`."""
        with self._reading() as connection:
            return self._space(connection)

    def _space(self, connection: Connection) -> Space | None:
        found = connection.execute(_SPACE_IN_FORCE).first()
        return None if found is None else Space._make(found)

    def _setting(self, name: str) -> str | None:
        with self._reading() as connection:
            statement = select(schema.settings.c.value).where(schema.settings.c.name == name)
            return connection.execute(statement).scalar()

    def rules(self) -> int | None:
        """See `RecordStore.rules`."""
        found = self._setting("rules")
        return None if found is None else int(found)


def _position(number: int, counter: int) -> int:
    """Return the position of a namespace: as numbers rise, it rises over an erasure too."""
    return number << schema.COUNTER_BITS | counter if counter else 0


def parts(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield values in lists that fit into one IN."""
    for start in range(0, len(values), maintenance.IN_LIST):
        yield list(values[start : start + maintenance.IN_LIST])
