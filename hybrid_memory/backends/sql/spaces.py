"""The vector spaces of a store: one in force, and at most one beside it.

Beside it lie the vectors of a space that is being filled, or of the one that was in force before;
and after a switch, for a while, those in force: what a record has aside in the current space goes
before what stands in it.
Triggers remove them with their record and with each change of it, so what is there is of the
record as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from hybrid_memory.backends.sql import maintenance, schema
from hybrid_memory.backends.sql.connections import also_when_full
from hybrid_memory.backends.sql.lenient import lenient, read
from hybrid_memory.backends.sql.upkeep import Upkeep
from hybrid_memory.errors import ConflictError
from hybrid_memory.protocols import Space, Stored, Vector, Vectors
from hybrid_memory.types import Record

_r = schema.records.c
_a = schema.aside.c
_g = schema.generations.c

# A damaged record is left without a vector: the one it has is of the former space.
_TAKE_AWAY = (
    "UPDATE records SET size = size - length(vector), vector = NULL, vector_crc = NULL "
    "WHERE vector IS NOT NULL AND NOT EXISTS "
    "(SELECT 1 FROM aside a WHERE a.key = records.key AND a.generation = ?)"
)
# Of some keys of `aside`: what was in force there changes places with what is.
_GROWN = (
    "SELECT r.namespace, sum(length(a.vector) - length(r.vector)) FROM aside a "
    "JOIN records r ON r.key = a.key WHERE a.generation = :now AND a.key BETWEEN :first AND :last "
    "GROUP BY r.namespace"
)
_GROW = "UPDATE namespaces SET bytes = bytes + ? WHERE number = ?"
_PUT_ASIDE = (
    "INSERT OR REPLACE INTO aside (key, generation, vector, vector_crc) "
    "SELECT r.key, :former, r.vector, r.vector_crc FROM aside a JOIN records r ON r.key = a.key "
    "WHERE a.generation = :now AND a.key BETWEEN :first AND :last"
)
_PUT_IN_PLACE = (
    "UPDATE records SET size = size - length(records.vector) + length(a.vector), "
    "vector = a.vector, vector_crc = a.vector_crc "
    "FROM aside a WHERE a.key = records.key AND a.generation = :now "
    "AND a.key BETWEEN :first AND :last"
)
# Whoever reads the changes from before it gets all there is, afresh.
_TELL_AFRESH = "UPDATE namespaces SET counter = counter + 1, switched = counter + 1 WHERE counter"


class Spaces(Upkeep):
    """Moves a store from one vector space to another, and back."""

    def set_space(self, space: Space) -> Space:
        """See `RecordStore.set_space`."""
        with self._writing() as connection:
            found = self._space(connection)
            if found is None:
                self._begin(connection, space, "current")
            elif found.probes is None and found[:2] == space[:2]:
                connection.execute(
                    update(schema.generations)
                    .where(_g.number == found.generation)
                    .values(probes=space.probes)
                )
            return self._space(connection) or space

    def _begin(self, connection: Connection, space: Space, state: str) -> None:
        values = {"name": space.name, "dim": space.dim, "probes": space.probes, "state": state}
        connection.execute(insert(schema.generations), values)

    def spaces_aside(self) -> list[Space]:
        """See `RecordStore.spaces_aside`."""
        with self._reading() as connection:
            found = connection.execute(schema.SPACES.where(_g.state != "current"))
            return [Space._make(row) for row in found]

    def open_space(self, space: Space) -> Space:
        """See `RecordStore.open_space`."""
        with self._writing() as connection:
            self._settle(connection)
            connection.execute(schema.aside.delete())
            connection.execute(schema.generations.delete().where(_g.state != "current"))
            self._begin(connection, space, "next")
            found = connection.execute(schema.SPACES.where(_g.state == "next")).one()
            return Space._make(found)

    def unmoved(self, generation: int, *, after: int = 0, limit: int = 1000) -> list[Stored]:
        """See `RecordStore.unmoved`."""
        with self._reading() as connection:
            return self._unmoved(connection, generation, after=after, limit=limit)

    def _unmoved(
        self, connection: Connection, generation: int, *, after: int, limit: int
    ) -> list[Stored]:
        there = exists().where(_a.key == _r.key, _a.generation == generation)
        statement = (
            select(*schema.STORED_COLUMNS)
            .where(_r.key > after, _r.vector.is_not(None), ~there)
            .order_by(_r.key)
            .limit(limit)
        )
        rows = read(connection, statement)
        names = maintenance.names(connection) if rows else {}
        with lenient(connection):
            return [self._as_stored(connection, row, names) for row in rows]

    def _as_stored(self, connection: Connection, row: Row[Any], names: maintenance.Names) -> Stored:
        number = row.key >> schema.COUNTER_BITS
        found = schema.stored(row, names.get(number) or (), number)
        if found.record is not None:
            return found
        return found._replace(id=maintenance.trusted_id(connection, number, found.key, row.id))

    def count_moved(self, generation: int) -> tuple[int, int]:
        """See `RecordStore.count_moved`."""
        with self._reading() as connection:
            moved = select(func.count()).where(_a.generation == generation)
            ranked = select(func.count()).where(_r.vector.is_not(None))
            return connection.execute(moved).scalar_one(), connection.execute(ranked).scalar_one()

    def move(self, generation: int, rows: Sequence[tuple[Stored, Vector]]) -> int:
        """See `RecordStore.move`."""
        with self._writing() as connection:
            self._check_aside(connection, generation)
            now = maintenance.changes_of(connection, [row.key for row, _ in rows])
            same = [(row, vector) for row, vector in rows if now.get(row.key) == row.change]
            _put(connection, generation, same)
            return len(same)

    def _check_aside(self, connection: Connection, generation: int) -> None:
        state = select(_g.state).where(_g.number == generation)
        if connection.execute(state).scalar() not in ("next", "former"):
            raise ConflictError(
                "somebody else moves this store to another vector space, or has done so meanwhile; "
                "open it anew, and repeat the move if it is still wanted"
            )

    def switch_space(
        self, generation: int, *, encode: Callable[[Sequence[Record]], Vectors], limit: int
    ) -> bool:
        """See `RecordStore.switch_space`."""
        with self._writing() as connection:
            self._check_aside(connection, generation)
            self._settle(connection)
            # Damaged ones, which cannot be encoded, do not count.
            rest, after = [], 0
            while page := self._unmoved(connection, generation, after=after, limit=limit + 1):
                rest += [(row, row.record) for row in page if row.record is not None]
                if len(rest) > limit:
                    return False
                after = page[-1].key
            if rest:
                vectors = encode([record for _, record in rest])
                _put(
                    connection,
                    generation,
                    [(row, vector) for (row, _), vector in zip(rest, vectors, strict=True)],
                )
            if connection.exec_driver_sql(_TAKE_AWAY, (generation,)).rowcount:
                maintenance.recount(connection)
            connection.exec_driver_sql(_TELL_AFRESH)
            for was, becomes in (("current", "former"), (generation, "current")):
                mine = _g.state == was if isinstance(was, str) else _g.number == was
                connection.execute(update(schema.generations).where(mine).values(state=becomes))
            return True

    def settle_space(self, *, limit: int = 1000) -> int:
        """See `RecordStore.settle_space`."""
        with self._writing() as connection:
            return self._settle(connection, limit)

    def _settle(self, connection: Connection, limit: int | None = None) -> int:
        """Move vectors that are in force from beside the records into them: the same to readers.

        So the switch itself is short, however much there is.
        """
        space = self._space(connection)
        former = connection.execute(select(_g.number).where(_g.state == "former")).scalar()
        if space is None:
            return 0
        wanted = select(_a.key).where(_a.generation == space.generation).order_by(_a.key)
        keys = connection.execute(wanted.limit(limit)).scalars().all()
        if not keys:
            return 0
        values = {"now": space.generation, "former": former, "first": keys[0], "last": keys[-1]}
        grown = connection.exec_driver_sql(_GROWN, values).all()
        for number, growth in grown:
            connection.exec_driver_sql(_GROW, (growth, number))
        if former is not None:
            connection.exec_driver_sql(_PUT_ASIDE, values)
        connection.exec_driver_sql(_PUT_IN_PLACE, values)
        settled = (_a.generation == space.generation, _a.key.between(keys[0], keys[-1]))
        connection.execute(schema.aside.delete().where(*settled))
        return len(keys)

    @also_when_full
    def drop_former_spaces(self) -> int:
        """See `RecordStore.drop_former_spaces`."""
        with self._writing() as connection:
            self._settle(connection)
            former = select(_g.number).where(_g.state == "former")
            connection.execute(schema.aside.delete().where(_a.generation.in_(former)))
            dropped = schema.generations.delete().where(_g.state == "former")
            return connection.execute(dropped).rowcount


def _put(connection: Connection, generation: int, rows: Sequence[tuple[Stored, Vector]]) -> None:
    values = []
    for row, vector in rows:
        content = vector.tobytes()
        crc = zlib.crc32(content)
        values.append(
            {"key": row.key, "generation": generation, "vector": content, "vector_crc": crc}
        )
    if values:
        # Two who move to one space at once find the same.
        replacing = insert(schema.aside).prefix_with("OR REPLACE", dialect="sqlite")
        connection.execute(replacing, values)
