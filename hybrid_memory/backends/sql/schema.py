"""The tables of the record store, and a record as a row of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
from hybrid_memory.protocols import Draft
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


# What a record is made of, and last the checksum of it all; the rest of a row is what it is
# found by.
_MADE_OF = (
    "key", "id", "kind", "role", "speaker", "session_id", "source", "at", "created_at",
    "expires_at", "valid_from", "valid_to", "superseded_by", "importance", "version", "metadata",
    "data", "text",
)  # fmt: skip
RECORD_COLUMNS = [records.c[name] for name in (*_MADE_OF, "checksum")]


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
    row["checksum"] = checksum([row[name] for name in _MADE_OF])
    return row


def checksum(values: Sequence[Any]) -> bytes:
    """Return 8 bytes over what a record is made of, in the order of `RECORD_COLUMNS`."""
    fields = repr(tuple(values)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(fields, digest_size=8).digest()


def record(row: Sequence[Any], namespace: Namespace) -> Record | None:
    """Return the record of a row of `RECORD_COLUMNS`; None if its checksum says it is damaged."""
    *values, expected = row
    if checksum(values) != expected:
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
