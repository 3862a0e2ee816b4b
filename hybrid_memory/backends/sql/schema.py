"""The tables of the record store, and a record as a row of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from hybrid_memory.limits import from_microseconds, microseconds, to_json
from hybrid_memory.protocols import Draft, Traits
from hybrid_memory.types import NOTHING, Namespace, Record

VERSION = 1

schema = MetaData()
namespaces = Table(
    "namespaces",
    schema,
    Column("number", Integer, primary_key=True),
    Column("labels", Text, nullable=False, unique=True),
    # Numbers both keys and changes; it only rises, so neither is ever used twice.
    Column("counter", Integer, nullable=False),
    sqlite_autoincrement=True,
)
records = Table(
    "records",
    schema,
    # namespace << 32 | counter: the rows of a namespace lie side by side in the file.
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
    Column("checksum", LargeBinary, nullable=False),
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
)
settings = Table(
    "settings",
    schema,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)


# What a record is made of; the rest of a row is what it is found by.
RECORD_COLUMNS = [
    column
    for column in records.c
    if column.name not in ("terms", "vector", "digest", *Traits._fields)
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
        "digest": draft.digest,
        **draft.traits._asdict(),
        "terms": draft.terms.tobytes(),
        "vector": None if draft.vector is None else draft.vector.tobytes(),
    }
    row["checksum"] = checksum(row)
    return row


_CHECKED = [
    column.name
    for column in RECORD_COLUMNS
    if column.name not in ("namespace", "change", "checksum")
]


def checksum(row: Mapping[str, Any]) -> bytes:
    fields = repr([row[name] for name in _CHECKED])
    return hashlib.blake2b(fields.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def record(row: Mapping[str, Any], namespace: Namespace) -> Record:
    def moment(name: str) -> Any:
        value = row[name]
        return None if value is None else from_microseconds(value)

    return Record(
        id=row["id"],
        namespace=namespace,
        kind=row["kind"],
        text=row["text"],
        at=moment("at"),
        created_at=moment("created_at"),
        role=row["role"],
        speaker=row["speaker"],
        session_id=row["session_id"],
        source=row["source"],
        importance=row["importance"],
        metadata=NOTHING if row["metadata"] is None else json.loads(row["metadata"]),
        data=None if row["data"] is None else json.loads(row["data"]),
        version=row["version"],
        valid_from=moment("valid_from"),
        valid_to=moment("valid_to"),
        superseded_by=row["superseded_by"],
        expires_at=moment("expires_at"),
    )
