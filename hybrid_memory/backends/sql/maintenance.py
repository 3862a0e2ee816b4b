"""Upkeep of the record store: one function a task, each on an open connection.

`number` is that of a namespace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from sqlite3 import OperationalError
from types import MappingProxyType
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError

from hybrid_memory.backends.sql import schema
from hybrid_memory.backends.sql.lenient import is_undecodable, lenient, read
from hybrid_memory.protocols import Depth, Draft, Stored
from hybrid_memory.pruning import Candidate, Size
from hybrid_memory.types import Erased, Namespace, Record

GLANCE_BYTES = 32 * 2**20  # of a database of which 30 ms see the structure
MAX_MESSAGES = 100
IN_LIST = 500  # values in one IN

_r = schema.records.c
_HIGHEST = 2**schema.COUNTER_BITS - 1
_UPGRADES = {
    ("records", "vector_crc"): "BIGINT",
    ("profiles", "checksum"): "BLOB",
    ("namespaces", "records"): "BIGINT NOT NULL DEFAULT 0",
    ("namespaces", "bytes"): "BIGINT NOT NULL DEFAULT 0",
    ("records", "size"): "BIGINT",
    ("namespaces", "switched"): "INTEGER NOT NULL DEFAULT 0",
    ("namespaces", "checksum"): "BLOB",
}
Names: TypeAlias = Mapping[int, Namespace | None]  # of namespaces; None of one that is damaged
# What SQLite does not know of our tables: the statements that find it, and those that mend it.
_OWN = f"key >> {schema.COUNTER_BITS}"
_ASTRAY = f"SELECT count(*) FROM records WHERE {_OWN} != namespace"  # noqa: S608
_MEND_ASTRAY = f"UPDATE OR IGNORE records SET namespace = {_OWN} WHERE {_OWN} != namespace"  # noqa: S608
_REACHED = (
    f"max(ifnull((SELECT max(max(change), max(key) & {_HIGHEST}) FROM records "  # noqa: S608
    "WHERE namespace = number), 0), "
    "ifnull((SELECT max(change) FROM removals WHERE namespace = number), 0))"
)
_BEHIND = f"SELECT number FROM namespaces WHERE counter < {_REACHED}"  # noqa: S608
_MEND_BEHIND = f"UPDATE namespaces SET counter = {_REACHED} WHERE counter < {_REACHED}"  # noqa: S608
_COUNTED = "SELECT count(*) FROM records r WHERE r.namespace = number"
_MEASURED = f"SELECT ifnull(sum({schema.SIZE}), 0) FROM records r WHERE r.namespace = number"  # noqa: S608
_MISCOUNTED = (
    "SELECT number FROM namespaces "  # noqa: S608
    f"WHERE records != ({_COUNTED}) OR bytes != ({_MEASURED})"
)
_COUNT = f"UPDATE namespaces SET records = ({_COUNTED}), bytes = ({_MEASURED})"  # noqa: S608
_MEASURE = f"UPDATE records SET size = {schema.MEASURED} WHERE size != {schema.MEASURED}"  # noqa: S608
# By key, which is the order of the file. What is damaged beyond comparing is for `repair`.
_CANDIDATES = (
    f"SELECT {schema.CANDIDATE} FROM records "  # noqa: S608
    "WHERE namespace + 0 = ? AND key BETWEEN ? AND ? AND typeof(importance) = 'real' "
    "AND typeof(id) = 'text' AND typeof(ifnull(metadata, '')) = 'text' AND "
    + " AND ".join(
        f"typeof(ifnull({name}, 0)) = 'integer'" for name in ("at", "expires_at", "valid_to")
    )
)
_GONE = (
    "SELECT namespace, id FROM records INDEXED BY records_id "  # noqa: S608
    f"WHERE key NOT IN (SELECT key FROM records NOT INDEXED) LIMIT {MAX_MESSAGES}"
)
_OF_NOTHING = (
    "SELECT key, generation FROM aside WHERE key NOT IN (SELECT key FROM records) "
    "OR generation NOT IN (SELECT number FROM generations)"
)
_NAMELESS_PROFILES = (
    "SELECT rowid FROM profiles NOT INDEXED WHERE namespace NOT IN (SELECT number FROM namespaces)"
)
_NAMELESS = "SELECT count(*) FROM records WHERE namespace NOT IN (SELECT number FROM namespaces)"


def upgrade(connection: Connection, found: int) -> None:
    """Bring the tables of an older schema up to this one; the caller's transaction holds it all."""
    for (table, column), definition in _UPGRADES.items():
        known = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
        if column not in known:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")
    for table_ in (schema.quarantine, schema.generations, schema.aside):
        table_.create(connection, checkfirst=True)
    with lenient(connection):
        named = connection.exec_driver_sql("SELECT number, labels FROM namespaces").all()
    for number, labels in named:
        if isinstance(labels, str):
            of_number = schema.namespaces.c.number == number
            known_as = schema.name_checksum(labels)
            connection.execute(update(schema.namespaces).where(of_number).values(checksum=known_as))
    connection.exec_driver_sql(_COUNT)
    if found < 2 and connection.execute(select(_r.key).limit(1)).first() is not None:
        # The rules came to be counted with schema 2.
        connection.execute(insert(schema.settings).values(name="rules", value="1"))
    is_space = schema.settings.c.name == "space"
    space = connection.execute(select(schema.settings.c.value).where(is_space)).scalar()
    if space is not None:
        name, dim = json.loads(space)
        first = {"name": name, "dim": dim, "state": "current"}
        connection.execute(insert(schema.generations), first)
        connection.execute(schema.settings.delete().where(is_space))


# -- what there is -------------------------------------------------------------------------


def namespaces(connection: Connection) -> dict[Namespace, int]:
    """Return the namespaces with their number of records, in the order they came."""
    statement = text(
        "SELECT labels, n.checksum, count(r.key) FROM namespaces n LEFT JOIN records r "
        "ON r.namespace = n.number GROUP BY n.number ORDER BY n.number"
    )
    with lenient(connection):
        rows = connection.execute(statement).all()
    counted = ((labels_of(labels, checksum), count) for labels, checksum, count in rows)
    return {namespace: count for namespace, count in counted if namespace is not None}


def labels_of(labels: Any, checksum: Any) -> Namespace | None:
    """Return the name of a namespace as it was written; None if it is damaged."""
    if not isinstance(labels, str) or schema.name_checksum(labels) != checksum:
        return None
    try:
        names = json.loads(labels)
    except ValueError:
        return None
    is_name = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_name else None


def page(
    connection: Connection, namespace: Namespace, number: int, *, after: int, limit: int
) -> list[Stored]:
    """Return the first rows whose keys are above `after`, by key."""
    first = number << schema.COUNTER_BITS
    statement = (
        select(*schema.STORED_COLUMNS)
        .where(_r.key.between(max(first, after + 1), first + _HIGHEST))
        .order_by(_r.key)
        .limit(limit)
    )
    return _stored(connection, statement, namespace, number)


def recent(
    connection: Connection, namespace: Namespace, number: int, *, limit: int
) -> list[Stored]:
    """Return the rows that were changed last, latest first."""
    statement = (
        select(*schema.STORED_COLUMNS)
        .where(_r.namespace == number)
        .order_by(_r.change.desc())
        .limit(limit)
    )
    return _stored(connection, statement, namespace, number)


def _stored(
    connection: Connection, statement: Any, namespace: Namespace, number: int
) -> list[Stored]:
    with lenient(connection):
        rows = connection.execute(statement).all()
        made = [schema.stored(row, namespace, number) for row in rows]
        return [
            one._replace(id=trusted_id(connection, number, one.key, row.id))
            if one.record is None
            else one
            for one, row in zip(made, rows, strict=True)
        ]


def trusted_id(connection: Connection, number: int, key: int, id_: object) -> str | None:
    """Return the id of a damaged row if the index, which has a copy, knows it under this key.

    Otherwise what stands there may be a piece of a text.
    """
    if not isinstance(id_, str):
        return None
    statement = select(_r.key).where(_r.namespace == number, _r.id == bindparam("id"))
    try:
        found = connection.execute(statement, {"id": id_}).scalar()
    except UnicodeEncodeError:
        return None
    return id_ if found == key else None


# -- what is changed -----------------------------------------------------------------------


def unchanged(
    connection: Connection, rows: Sequence[tuple[Stored, Draft]]
) -> list[tuple[Stored, Draft]]:
    """Return those of the rows that are as they were read."""
    now = changes_of(connection, [row.key for row, _ in rows])
    return [(row, draft) for row, draft in rows if now.get(row.key) == row.change]


def changes_of(connection: Connection, keys: Sequence[int]) -> dict[int, int]:
    """Return the numbers of the last changes of the records of these keys, by key."""
    statement = select(_r.key, _r.change).where(_r.key.in_(bindparam("keys", expanding=True)))
    return {row.key: row.change for row in connection.execute(statement, {"keys": keys})}


def held(connection: Connection, number: int) -> Size:
    """Return what a namespace is counted to hold."""
    counts = schema.namespaces.c
    statement = select(counts.records, counts.bytes).where(counts.number == number)
    return Size(*connection.execute(statement).one())


def held_by(connection: Connection, keys: Sequence[int]) -> int:
    """Return the bytes of the rows of these keys."""
    statement = select(schema.size).where(_r.key.in_(bindparam("keys", expanding=True)))
    return sum(
        sum(connection.execute(statement, {"keys": keys[start : start + IN_LIST]}).scalars())
        for start in range(0, len(keys), IN_LIST)
    )


def candidates(
    connection: Connection, number: int, *, expired_by: int | None = None
) -> list[Candidate]:
    """Return what may have to go: all of a namespace, or what is expired by a time."""
    first = number << schema.COUNTER_BITS
    values: tuple[int, ...] = (number, first, first + _HIGHEST)
    statement = _CANDIDATES
    if expired_by is not None:
        statement, values = f"{statement} AND expires_at <= ?", (*values, expired_by)
    try:
        return _candidates(connection, statement, values)
    except OperationalError as error:
        if not is_undecodable(error):
            raise
    with lenient(connection):
        found = _candidates(connection, statement, values)
        return [one for one in found if _encodable(one.id) is not None]


def _candidates(connection: Connection, statement: str, values: tuple[int, ...]) -> list[Candidate]:
    # By the driver, as writers wait for it.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, values)
        return [Candidate._make(row) for row in cursor.fetchall()]
    finally:
        cursor.close()


def recount(connection: Connection, number: int | None = None) -> None:
    """Count anew what a namespace holds, or what each of them does."""
    if number is None:
        connection.exec_driver_sql(_COUNT)
    else:
        connection.exec_driver_sql(f"{_COUNT} WHERE number = ?", (number,))


def refresh(connection: Connection, rows: Sequence[tuple[Stored, Draft]], *, change: int) -> None:
    """Replace what these rows are found by; `change` is the number of the first of the changes."""
    columns = [
        {"of_key": row.key, "change": number, **schema.found_by(draft)}
        for number, (row, draft) in enumerate(rows, change)
    ]
    connection.execute(update(schema.records).where(_r.key == bindparam("of_key")), columns)


def keys_of(connection: Connection, number: int, ids: Sequence[str]) -> list[int]:
    """Return the keys of records that are there."""
    statement = select(_r.key).where(_r.namespace == number, _r.id == bindparam("of_id"))
    return [connection.execute(statement, {"of_id": id_}).scalar_one() for id_ in ids]


def replace(
    connection: Connection,
    number: int,
    drafts: Sequence[Draft],
    *,
    keys: Sequence[int],
    change: int,
) -> None:
    """Put records in the place of those of these keys, version and all.

    `change` is the number of the first of the changes.
    """
    rows = []
    for number_, (draft, key) in enumerate(zip(drafts, keys, strict=True), change):
        row = schema.row(draft, number=number, key=key, change=number_)
        rows.append({"of_key": row.pop("key"), **row})
    connection.execute(update(schema.records).where(_r.key == bindparam("of_key")), rows)


def quarantine_records(
    connection: Connection, namespace: Namespace, number: int, keys: Sequence[int], *, at: int
) -> list[int]:
    """Move the damaged rows of these keys away and return their keys."""
    moved = []
    with lenient(connection):
        for key in keys:
            if key >> schema.COUNTER_BITS != number:
                continue
            found = connection.exec_driver_sql("SELECT * FROM records WHERE key = ?", (key,))
            row = found.mappings().first()
            if row is None:
                continue  # somebody deleted it meanwhile
            values = [row[column.name] for column in schema.RECORD_COLUMNS]
            if schema.record(values, namespace, number) is not None:
                continue  # or replaced it
            id_ = trusted_id(connection, number, key, row["id"])
            _put_away(connection, number, "records", id_, row, at=at)
            delete(connection, _r.key == key)
            moved.append(key)
    return moved


def delete(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Delete records, also those that an index does not know as they are."""
    statement = schema.records.delete().where(condition)
    try:
        connection.execute(statement)
    except DatabaseError:
        # An index does not have the row as it is now.
        connection.exec_driver_sql("REINDEX")
        connection.execute(statement)


def quarantine_profile(
    connection: Connection, number: int, keys: Sequence[str], *, at: int
) -> list[str]:
    """Move the damaged values of these keys of a profile away and return their keys."""
    moved = []
    with lenient(connection):
        statement = "SELECT rowid, * FROM profiles WHERE namespace = ?"
        for row in connection.exec_driver_sql(statement, (number,)).mappings().all():
            if row["key"] in keys and schema.value(list(row.values())[1:]) is schema.DAMAGED:
                _put_away(connection, number, "profiles", _encodable(row["key"]), row, at=at)
                connection.exec_driver_sql("DELETE FROM profiles WHERE rowid = ?", (row["rowid"],))
                moved.append(row["key"])
    return moved


def _put_away(
    connection: Connection,
    number: int,
    origin: str,
    id_: str | None,
    row: Any,
    *,
    at: int,
    reason: str = "checksum",
) -> None:
    values = {
        "namespace": number,
        "origin": origin,
        "id": id_,
        "reason": reason,
        "at": at,
        "row": schema.quarantined(row),
    }
    connection.execute(insert(schema.quarantine), values)


def _encodable(text: str) -> str | None:
    return None if any("\ud800" <= character <= "\udfff" for character in text) else text


def forget(connection: Connection, number: int, origin: str, ids: Sequence[str]) -> None:
    """Delete what stands in quarantine under these ids: what is deleted is gone."""
    kept = schema.quarantine.c
    mine = (kept.namespace == number, kept.origin == origin, kept.id.in_(ids))
    connection.execute(schema.quarantine.delete().where(*mine))


def forget_within(connection: Connection, number: int, bounds: Mapping[str, str]) -> None:
    """Delete the records in quarantine whose columns have these values."""
    kept = schema.quarantine.c
    mine = select(kept.number, kept.row).where(kept.namespace == number, kept.origin == "records")
    gone = []
    for place, row in connection.execute(mine).all():
        columns = json.loads(row)
        if all(columns.get(name) == value for name, value in bounds.items()):
            gone.append(place)
    for place in gone:
        connection.execute(schema.quarantine.delete().where(kept.number == place))


def within(
    connection: Connection, namespace: Namespace, number: int, bounds: Mapping[str, str]
) -> list[tuple[Row[Any], Record | None]]:
    """Return the rows whose columns have these values, and their records; None of damaged ones."""
    statement = select(*schema.RECORD_COLUMNS).where(
        _r.namespace == number, *(_r[name] == value for name, value in bounds.items())
    )
    return [(row, schema.record(row, namespace, number)) for row in read(connection, statement)]


def erase(connection: Connection, namespace: Namespace, number: int) -> Erased:
    """Delete all rows of a namespace, its own too, and return what there was."""
    first = number << schema.COUNTER_BITS
    # By the key as well, which is right where the column is damaged.
    mine = or_(_r.namespace == number, _r.key.between(first, first + _HIGHEST))
    counted = select(_r.kind, func.count()).where(mine).group_by(_r.kind)
    kinds: Sequence[Any] = read(connection, counted)
    records = {str(kind): count for kind, count in kinds}
    delete(connection, mine)

    def emptied(table: Table) -> int:
        return connection.execute(table.delete().where(table.c.namespace == number)).rowcount

    erased = Erased(
        namespace,
        records=MappingProxyType(records),
        removals=emptied(schema.removals),
        profile_keys=emptied(schema.profiles),
        quarantined=emptied(schema.quarantine),
    )
    connection.execute(schema.namespaces.delete().where(schema.namespaces.c.number == number))
    return erased


# -- the store as a whole ------------------------------------------------------------------


def integrity(connection: Connection, depth: Depth) -> list[str]:
    """Return what is wrong with the database, a sentence each, without any text."""
    pages, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "page_size")
    )
    if depth == "glance" and pages * size > GLANCE_BYTES:
        return []
    pragma = "integrity_check" if depth == "full" else "quick_check"
    found = connection.exec_driver_sql(f"PRAGMA {pragma}({MAX_MESSAGES})").scalars().all()
    lines = [line for message in found if message != "ok" for line in message.splitlines()]
    messages = [line for line in lines if not line.startswith("***")]
    if count := connection.exec_driver_sql(_ASTRAY).scalar_one():
        messages.append(f"{count} records stand under another namespace than their key says")
    if count := connection.exec_driver_sql(_NAMELESS).scalar_one():
        messages.append(f"{count} records are of a namespace that is not known")
    if count := len(connection.exec_driver_sql(_NAMELESS_PROFILES).all()):
        messages.append(f"{count} values of profiles are of a namespace that is not known")
    behind = connection.exec_driver_sql(_BEHIND).scalars().all()
    messages += [f"the counter of namespace {number} is behind its records" for number in behind]
    nameless = [number for number, name in names(connection).items() if name is None]
    if count := len(_bad_aside(connection, depth)):
        messages.append(f"{count} vectors of another vector space are damaged, or of no record")
    if not messages:  # they would be wrong for the same reason
        wrong = connection.exec_driver_sql(_MISCOUNTED).scalars().all()
        messages += [f"the counts of namespace {number} are not its records'" for number in wrong]
    return messages + [f"the name of namespace {number} cannot be read" for number in nameless]


def names(connection: Connection) -> Names:
    """Return the names of the namespaces by their numbers."""
    with lenient(connection):
        found = connection.exec_driver_sql(
            "SELECT number, labels, checksum FROM namespaces NOT INDEXED"
        ).all()
    return {number: labels_of(labels, checksum) for number, labels, checksum in found}


def _bad_aside(connection: Connection, depth: Depth) -> list[tuple[int, int]]:
    """Return the keys and generations of vectors that lie aside and are good for nothing."""
    bad = [(key, number) for key, number in connection.exec_driver_sql(_OF_NOTHING)]
    if depth == "full":
        # Those in force are looked at with their records.
        every = connection.exec_driver_sql(
            "SELECT key, generation, vector, vector_crc FROM aside WHERE generation NOT IN "
            "(SELECT number FROM generations WHERE state = 'current')"
        )
        bad += [
            (key, number)
            for key, number, vector, crc in every
            if schema.is_intact(vector, crc) is False
        ]
    return bad


def lost(connection: Connection) -> list[tuple[Namespace, str]]:
    """Return the names of records that an index knows and the table does not, by key or by id."""
    with lenient(connection):
        gone = connection.exec_driver_sql(_GONE).all()
        known = names(connection)
        there = "SELECT 1 FROM records NOT INDEXED WHERE namespace = ? AND id = ?"
        return [
            (namespace, id_)
            for number, id_ in gone
            if (namespace := known.get(number)) is not None
            and isinstance(id_, str)
            and _encodable(id_)
            and connection.exec_driver_sql(there, (number, id_)).first() is None
        ]


def mend(connection: Connection, *, at: int) -> None:
    """Set right what can be told from the keys of the records, and rebuild the indexes."""
    true_names = _names_in_index(connection)
    with suppress(IntegrityError):  # two rows of one id, one of which cannot be read
        connection.exec_driver_sql("REINDEX")
    for number, labels in true_names.items():
        connection.exec_driver_sql(
            "UPDATE namespaces SET labels = ? WHERE number = ?", (labels, number)
        )
    connection.exec_driver_sql(_MEND_ASTRAY)
    with lenient(connection):
        for (row_id,) in connection.exec_driver_sql(_NAMELESS_PROFILES).all():
            found = connection.exec_driver_sql(
                "SELECT rowid, * FROM profiles NOT INDEXED WHERE rowid = ?", (row_id,)
            )
            row = found.mappings().first()
            if row is None:  # out of its place in the file, which is written anew after this
                continue
            _put_away(connection, 0, "profiles", None, row, reason="namespace", at=at)
            connection.exec_driver_sql("DELETE FROM profiles WHERE rowid = ?", (row_id,))
    for bad in _bad_aside(connection, "full"):  # they can be made again
        connection.exec_driver_sql("DELETE FROM aside WHERE key = ? AND generation = ?", bad)
    connection.exec_driver_sql(_MEND_BEHIND)
    connection.exec_driver_sql(_MEASURE)
    connection.exec_driver_sql(_COUNT)


def _names_in_index(connection: Connection) -> dict[int, str]:
    """Return the labels of damaged namespaces whose other copy, in the index, is as written."""
    with lenient(connection):
        rows = connection.exec_driver_sql(
            "SELECT number, labels, checksum FROM namespaces NOT INDEXED"
        ).all()
        copies = connection.exec_driver_sql(
            "SELECT labels, number FROM namespaces INDEXED BY sqlite_autoindex_namespaces_1 "
            "WHERE labels > ''"
        ).all()
    damaged = {
        number: checksum
        for number, labels, checksum in rows
        if not isinstance(labels, str) or schema.name_checksum(labels) != checksum
    }
    return {
        number: labels
        for labels, number in copies
        if isinstance(labels, str) and damaged.get(number) == schema.name_checksum(labels)
    }
