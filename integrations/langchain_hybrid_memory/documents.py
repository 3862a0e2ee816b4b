"""LangChain's documents into items and texts of the core, and its hits into documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
from langchain_core.documents import Document

from hybrid_memory import Hit, Record
from langchain_hybrid_memory.texts import storable

_MAX_SOURCE_CHARS = 256
_MILLISECONDS = 1e11  # a number above is no time in seconds: it would be after the year 5000


def item(document: Document, id: str) -> dict[str, Any]:
    """Return a document as an item of `Scope.add_many`.

    The `source` of its metadata is the record's, if it can be one.
    """
    source = document.metadata.get("source")
    if not isinstance(source, str) or not source.isprintable() or not source.strip():
        source = ""
    return {
        "id": id,
        "text": storable(document.page_content),
        "kind": "document",
        "metadata": plain(document.metadata),
        "source": source if 0 < len(source) <= _MAX_SOURCE_CHARS else None,
    }


def document(record: Record) -> Document:
    """Return a record with its own metadata, as it was added."""
    return Document(id=record.id, page_content=record.text, metadata=dict(record.metadata))


def document_of_hit(hit: Hit, original: Document | None = None) -> Document:
    """Return a hit with all that is known of it in its metadata.

    `score` and `relevance`, in [0, 1], and the `signals` that add up to the score; of a record of
    the memory also what it is, unless its own metadata have something under that name.
    """
    ranked = {"score": hit.score, "relevance": hit.relevance, "signals": dict(hit.signals)}
    if original is not None:
        metadata = {**original.metadata, **ranked}
        return Document(id=original.id, page_content=original.page_content, metadata=metadata)
    record = hit.record
    known = {
        "kind": record.kind,
        "source": record.source,
        "at": record.at.isoformat(),
        "role": record.role,
        "speaker": record.speaker,
        "session_id": record.session_id,
    }
    told = {name: value for name, value in known.items() if value is not None}
    return Document(
        id=record.id, page_content=record.text, metadata={**told, **record.metadata, **ranked}
    )


def plain(value: Any) -> Any:
    """Return metadata as JSON has it: times as ISO 8601 in UTC, what is not a number as None.

    What has no form in JSON is returned as it is, and refused by the memory with its name.
    """
    match value:
        case Enum():
            return plain(value.value)
        case str():
            return storable(value)
        case float() if not math.isfinite(value):
            return None
        case datetime() if value.utcoffset() is not None:
            return value.astimezone(UTC).isoformat()
        case datetime() | date() | time():
            return value.isoformat()
        case UUID() | PurePath() | Decimal():
            return str(value)
        case np.generic() | np.ndarray():
            return plain(value.tolist())
        case Mapping():
            return {storable(str(key)): plain(part) for key, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case set() | frozenset():
            return sorted((plain(part) for part in value), key=str)
    return value


def moment(value: object) -> datetime | None:
    """Return a time of metadata as an aware one, None where it is none.

    It may be a datetime, ISO 8601, or seconds or milliseconds since 1970. One without a zone is
    local time, as LangChain's own are.
    """
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) > _MILLISECONDS else value
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
