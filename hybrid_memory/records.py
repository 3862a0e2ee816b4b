"""Write path: the arguments of a call into a record, each checked before anything is written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypedDict

from hybrid_memory import limits, turns
from hybrid_memory.errors import InvalidInputError, SourceError
from hybrid_memory.types import Namespace, Record

AUTHORITIES = ("user", "developer")  # who may give instructions: what is read elsewhere is data


class Item(TypedDict, total=False):
    """What an item of `Scope.add_many` may say; only `text` must be there."""

    text: str
    kind: str
    role: str
    speaker: str | None
    session_id: str | None
    at: datetime | None
    id: str | None
    metadata: Mapping[str, Any] | None
    data: Mapping[str, Any] | None
    importance: float
    source: str
    expires_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None


class Changes(TypedDict, total=False):
    """What `Scope.update` can change; None clears what a record can be without."""

    text: str
    metadata: Mapping[str, Any] | None
    data: Mapping[str, Any] | None
    importance: float
    speaker: str | None
    at: datetime
    expires_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None


def record(
    item: str | Mapping[str, Any],
    *,
    namespace: Namespace,
    session_id: str | None,
    now: datetime,
    number: int = 0,
) -> Record:
    """Return the record of an item, with an id of its own if the item has none.

    Without a time it happened `number` microseconds after `now`, so that a batch keeps its order.

    Raises:
        InvalidInputError: one of its kinds says which argument and why.
    """
    if not isinstance(item, str | Mapping):
        raise InvalidInputError(f"an item is a text or a mapping, not {type(item).__name__}")
    values = {"text": item} if isinstance(item, str) else dict(item)
    if unknown := values.keys() - Item.__annotations__.keys():
        raise InvalidInputError(
            f"unknown argument {min(map(str, unknown))!r}; "
            f"an item takes {', '.join(Item.__annotations__)}"
        )
    kind = limits.kind(values.get("kind", "message"))
    source = limits.label(values.get("source", "user"), "source")
    if kind == "instruction" and source not in AUTHORITIES:
        raise SourceError(
            f"source {source!r} may not give instructions; only {' and '.join(AUTHORITIES)} may"
        )
    at = limits.optional_when(values.get("at"), "at") or now + timedelta(microseconds=number)
    valid_from = limits.optional_when(values.get("valid_from"), "valid_from")
    valid_to = limits.optional_when(values.get("valid_to"), "valid_to")
    if kind == "fact" and valid_from is None:
        valid_from = at
    if valid_from and valid_to and valid_to <= valid_from:
        raise InvalidInputError(f"valid_to {valid_to} must be after valid_from {valid_from}")
    metadata, data = values.get("metadata"), values.get("data")
    if metadata is not None:
        metadata = limits.json_object(metadata, "metadata")
    if data is not None:
        data = limits.json_object(
            data, "data", max_bytes=limits.MAX_DATA_BYTES, max_depth=limits.MAX_DATA_DEPTH
        )
    return Record(
        id=limits.optional_label(values.get("id"), "id") or uuid.uuid4().hex,
        namespace=namespace,
        kind=kind,
        text=limits.text(values.get("text")),
        at=at,
        created_at=now,
        role=limits.role(values.get("role", "user")),
        speaker=limits.optional_label(values.get("speaker"), "speaker"),
        session_id=limits.optional_label(values.get("session_id", session_id), "session_id"),
        source=source,
        importance=limits.fraction(values.get("importance", 0.5), "importance"),
        metadata=metadata or {},
        data=data,
        valid_from=valid_from,
        valid_to=valid_to,
        expires_at=limits.optional_when(values.get("expires_at"), "expires_at"),
    )


def changed(old: Record, changes: Mapping[str, Any]) -> Record:
    """Return a record with some fields changed, checked as if it were new."""
    if unknown := changes.keys() - Changes.__annotations__.keys():
        raise InvalidInputError(
            f"{min(unknown)!r} cannot be changed; {', '.join(Changes.__annotations__)} can"
        )
    if changes.get("at", old.at) is None:
        raise InvalidInputError("at cannot be None: a record has a time")
    values = {name: getattr(old, name) for name in Item.__annotations__} | dict(changes)
    if "text" in changes and "data" not in changes:
        values["data"] = turns.without_content(old.data)
    new = record(values, namespace=old.namespace, session_id=old.session_id, now=old.created_at)
    return replace(new, superseded_by=old.superseded_by)
