"""The tables of the record store, and a record as a row of them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    Label,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    func,
    literal_column,
    select,
)

from hybrid_memory import pruning
from hybrid_memory.limits import from_microseconds, microseconds, to_json
from hybrid_memory.protocols import Draft, Stored, Traits
from hybrid_memory.types import NOTHING, Namespace, Record

# 1 had neither checksums of vectors and profiles nor a quarantine, 2 no sizes of records, 3 one
# vector space for good, known by its name, 4 no checksums of the names of namespaces.
VERSION = 5
COUNTER_BITS = 32  # of a key; what stands above them is the number of its namespace

schema = MetaData()
namespaces = Table(
    "namespaces",
    schema,
    Column("number", Integer, primary_key=True),
    Column("labels", Text, nullable=False, unique=True),
    # Of the labels. A bit that flips in them must not give a tenant's records to another one.
    Column("checksum", LargeBinary),
    # Numbers both keys and changes; it only rises, so neither is ever used twice.
    Column("counter", Integer, nullable=False),
    # What its records are and hold, counted in the transactions of the writes: a quota is cheap.
    Column("records", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    # What the counter was when all vectors were last replaced.
    Column("switched", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
records = Table(
    "records",
    schema,
    # namespace << COUNTER_BITS | counter: the rows of a namespace lie side by side in the file.
    Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("namespace", Integer, nullable=False),
    Column("change", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("speaker", Text),
    Column("session_id", Text),
    Column("source", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("valid_from", BigInteger),
    Column("valid_to", BigInteger),
    Column("superseded_by", Text),
    Column("importance", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("metadata", Text),
    Column("data", Text),
    Column("text", Text, nullable=False),
    Column("digest", BigInteger, nullable=False),
    Column("question", Float, nullable=False),
    Column("tells_time", Boolean, nullable=False),
    Column("tells_number", Boolean, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("vector", LargeBinary),
    # A sign that flips changes no norm. None of rows that were written by schema 1.
    Column("vector_crc", BigInteger),
    Column("checksum", LargeBinary, nullable=False),
    # The bytes of what varies in length. None of rows that were written by schemas 1 and 2.
    Column("size", BigInteger),
    Index("records_id", "namespace", "id", unique=True),
    Index("records_change", "namespace", "change"),
    Index("records_session", "namespace", "session_id", "kind", "key"),
    Index("records_kind", "namespace", "kind", "key"),
)
removals = Table(
    "removals",
    schema,
    Column("namespace", Integer, primary_key=True),
    Column("change", Integer, primary_key=True),
    Column("key", BigInteger, nullable=False),
)
profiles = Table(
    "profiles",
    schema,
    Column("namespace", Integer, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("checksum", LargeBinary),
)
# Damaged rows, kept for whoever wants to look: nothing reads them back.
quarantine = Table(
    "quarantine",
    schema,
    Column("number", Integer, primary_key=True),
    Column("namespace", Integer, nullable=False),
    Column("origin", Text, nullable=False),  # the name of the table it stood in
    Column("id", Text),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("row", Text, nullable=False),
    Index("quarantine_id", "namespace", "origin", "id"),
)
# The vector spaces that the store has had and still has vectors of.
generations = Table(
    "generations",
    schema,
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("probes", LargeBinary),
    Column("state", String(16), nullable=False),  # "current", "next" or "former"
    sqlite_autoincrement=True,
)
# Vectors of records in a space that is not the current one.
aside = Table(
    "aside",
    schema,
    Column("generation", Integer, primary_key=True),
    Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("vector_crc", BigInteger),
    sqlite_with_rowid=False,
)
# So that no way of removing or replacing a record can forget them.
_FORGET_ASIDE = (
    "ON records BEGIN DELETE FROM aside "
    "WHERE generation IN (SELECT number FROM generations) AND key = old.key; END"
)
for _trigger in ("aside_changed AFTER UPDATE OF change", "aside_deleted AFTER DELETE"):
    _made: Any = DDL(f"CREATE TRIGGER IF NOT EXISTS {_trigger} {_FORGET_ASIDE}")  # type: ignore[no-untyped-call]
    event.listen(aside, "after_create", _made)
settings = Table(
    "settings",
    schema,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)


# As bytes, for the length of a text is counted in characters.
MEASURED = " + ".join(
    f"ifnull(length(CAST({name} AS BLOB)), 0)"
    for name in ("text", "data", "metadata", "vector", "terms")
)
SIZE = f"ifnull(size, {MEASURED})"
size = literal_column(SIZE, BigInteger).label("bytes")
CANDIDATE = ", ".join(SIZE if name == "bytes" else name for name in pruning.Candidate._fields)

SPACES = select(
    generations.c.name, generations.c.dim, generations.c.probes, generations.c.number
).order_by(generations.c.number)

# What a record is made of, and last the checksum of it all; the rest of a row is what it is
# found by.
_MADE_OF = (
    "key", "id", "kind", "role", "speaker", "session_id", "source", "at", "created_at",
    "expires_at", "valid_from", "valid_to", "superseded_by", "importance", "version", "metadata",
    "data", "text",
)  # fmt: skip
RECORD_COLUMNS = [records.c[name] for name in (*_MADE_OF, "checksum")]


def _in_force(name: str) -> Label[Any]:
    """Return a column of the vector that counts: see `spaces.py`."""
    current = select(generations.c.number).where(generations.c.state == "current")
    moved = select(aside.c[name]).where(
        aside.c.key == records.c.key, aside.c.generation == current.scalar_subquery()
    )
    return func.coalesce(moved.scalar_subquery(), records.c[name]).label(name)


vector = _in_force("vector")
vector_crc = _in_force("vector_crc")
# What becomes of a row whose vector in force is put in place.
IN_FORCE = {
    "vector": vector.element,
    "vector_crc": vector_crc.element,
    "size": records.c.size
    - func.ifnull(func.length(records.c.vector), 0)
    + func.ifnull(func.length(vector.element), 0),
}
STORED_COLUMNS = [
    *RECORD_COLUMNS,
    records.c.change,
    vector,
    vector_crc,
    records.c.terms,
    records.c.digest,
    *(records.c[name] for name in Traits._fields),
]


def row(
    draft: Draft, *, number: int, key: int, change: int, version: int | None = None
) -> dict[str, Any]:
    record = draft.record

    def stamp(name: str) -> int | None:
        moment = getattr(record, name)
        return None if moment is None else microseconds(moment)

    row = {
        "key": key,
        "namespace": number,
        "change": change,
        "id": record.id,
        "kind": record.kind,
        "role": record.role,
        "speaker": record.speaker,
        "session_id": record.session_id,
        "source": record.source,
        "at": microseconds(record.at),
        "created_at": microseconds(record.created_at),
        "expires_at": stamp("expires_at"),
        "valid_from": stamp("valid_from"),
        "valid_to": stamp("valid_to"),
        "superseded_by": record.superseded_by,
        "importance": record.importance,
        "version": record.version if version is None else version,
        "metadata": to_json(record.metadata) if record.metadata else None,
        "data": None if record.data is None else to_json(record.data),
        "text": record.text,
        **found_by(draft),
    }
    row["checksum"] = checksum([row[name] for name in _MADE_OF])
    return row


def expiring(row: Sequence[Any], moment: int | None) -> dict[str, Any] | None:
    """Return what changes in a row of `RECORD_COLUMNS` that expires then; None of a damaged one."""
    values = dict(zip(_MADE_OF, row, strict=False))
    if checksum(list(values.values())) != row[-1]:
        return None
    values["expires_at"] = moment
    return {
        "of_key": values["key"],
        "expires_at": moment,
        "checksum": checksum(list(values.values())),
    }


def found_by(draft: Draft) -> dict[str, Any]:
    """Return the columns that are derived from a record."""
    vector = None if draft.vector is None else draft.vector.tobytes()
    return {
        "digest": draft.digest,
        **draft.traits._asdict(),
        "terms": draft.terms.tobytes(),
        "vector": vector,
        "vector_crc": None if vector is None else zlib.crc32(vector),
        "size": pruning.size(draft),
    }


def checksum(values: Sequence[Any]) -> bytes:
    """Return 8 bytes over values, of a record in the order of `RECORD_COLUMNS`."""
    fields = repr(tuple(values)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(fields, digest_size=8).digest()


class Name(NamedTuple):
    """The labels of a namespace as they are written, and their checksum."""

    labels: str
    checksum: bytes


def named(namespace: Namespace) -> Name:
    """Return what a namespace is found by."""
    labels = to_json(namespace)
    return Name(labels, name_checksum(labels))


def name_checksum(labels: str) -> bytes:
    """Return 8 bytes over the labels of a namespace."""
    return hashlib.blake2b(labels.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def record(row: Sequence[Any], namespace: Namespace, number: int) -> Record | None:
    """Return the record of a row of `RECORD_COLUMNS`; None if it is damaged.

    So it is if its checksum says so, or if its key is of another namespace than the row.
    """
    values = tuple(row[:-1])
    if values[0] >> COUNTER_BITS != number or checksum(values) != row[-1]:
        return None
    (_, id, kind, role, speaker, session_id, source, at, created_at, expires_at, valid_from,
     valid_to, superseded_by, importance, version, metadata, data, text) = values  # fmt: skip
    return Record(
        id=id,
        namespace=namespace,
        kind=kind,
        text=text,
        at=from_microseconds(at),
        created_at=from_microseconds(created_at),
        role=role,
        speaker=speaker,
        session_id=session_id,
        source=source,
        importance=importance,
        metadata=NOTHING if metadata is None else json.loads(metadata),
        data=None if data is None else json.loads(data),
        version=version,
        valid_from=None if valid_from is None else from_microseconds(valid_from),
        valid_to=None if valid_to is None else from_microseconds(valid_to),
        superseded_by=superseded_by,
        expires_at=None if expires_at is None else from_microseconds(expires_at),
    )


def stored(row: Sequence[Any], namespace: Namespace, number: int) -> Stored:
    """Return a row of `STORED_COLUMNS` as upkeep sees it; the id of a damaged one is unknown."""
    parts = len(RECORD_COLUMNS)
    whole = record(row[:parts], namespace, number)
    change, vector, crc, terms, digest, *traits = row[parts:]
    return Stored(
        key=row[0],
        change=change,
        id=None if whole is None else whole.id,
        record=whole,
        vector=vector,
        terms=terms,
        digest=digest,
        traits=Traits(*traits),
        vector_is_intact=is_intact(vector, crc),
    )


def is_intact(vector: object, crc: object) -> bool | None:
    """Tell whether a vector is the one of its checksum; None where there is no checksum."""
    if vector is None or crc is None:
        return True if vector is crc else None
    return isinstance(vector, bytes) and zlib.crc32(vector) == crc


def profile_row(number: int, key: str, value: Any) -> dict[str, Any]:
    """Return a value of a profile as a row."""
    kept = to_json(value)
    return {
        "namespace": number,
        "key": key,
        "value": kept,
        "checksum": checksum([number, key, kept]),
    }


DAMAGED = object()


def value(row: Sequence[Any]) -> Any:
    """Return the value of a row of a profile, or DAMAGED."""
    number, key, kept, expected = row
    # Schema 1 had no checksum here.
    if expected is not None and checksum([number, key, kept]) != expected:
        return DAMAGED
    try:
        return json.loads(kept)
    except (TypeError, ValueError):
        return DAMAGED


def quarantined(row: Mapping[str, Any]) -> str:
    """Return a whole row as JSON: bytes as hexadecimal digits, bytes of no text as surrogates."""
    values = {
        name: {"bytes": value.hex()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }
    return json.dumps(values)
