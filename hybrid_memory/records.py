"""Write path: the arguments of a call into a record, each checked before anything is written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypedDict

from hybrid_memory import limits, pruning, turns
from hybrid_memory.errors import InvalidInputError, SourceError
from hybrid_memory.types import Kind, Namespace, Record, Role, check_span

AUTHORITIES = ("user", "developer")  # who may give instructions: what is read elsewhere is data
PROPOSED = "proposed"  # in the data of an instruction that waits to be confirmed
# Who speaks in a role, where nobody says where a text comes from.
_SOURCES = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "developer"}


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
    source: str | None
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
    check_role: bool = True,
) -> Record:
    """Return the record of an item, with an id of its own if the item has none.

    Without a time it happened `number` microseconds after `now`, so that a batch keeps its order.
    What was stored once is restored without `check_role`: whether its role goes with its source.

    Raises:
        InvalidInputError: one of its kinds says which argument and why.
    """
    if not isinstance(item, str | Mapping):
        raise InvalidInputError(f"an item is a text or a mapping, not {type(item).__name__}")
    values = {"text": item} if isinstance(item, str) else dict(item)
    if unknown := values.keys() - Item.__annotations__.keys():
        raise InvalidInputError(
            f"unknown argument {limits.shown(min(map(str, unknown)))}; "
            f"an item takes {', '.join(Item.__annotations__)}"
        )
    kind = limits.kind(values.get("kind", "message"))
    role = limits.role(values.get("role", "user"))
    source = _source(values.get("source"), kind, role)
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
    _check_authority(kind, role if check_role else "user", source, data)
    return Record(
        id=limits.optional_label(values.get("id"), "id") or uuid.uuid4().hex,
        namespace=namespace,
        kind=kind,
        text=limits.text(values.get("text")),
        at=at,
        created_at=now,
        role=role,
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


def retention(spans: Mapping[Kind, timedelta]) -> dict[Kind, timedelta]:
    """Return how long records are kept, by kind, or raise InvalidInputError."""
    if not isinstance(spans, Mapping):
        raise InvalidInputError(f"retention is a mapping of kinds, not {type(spans).__name__}")
    for kind, span in spans.items():
        check_span(span, f"the retention of {limits.kind(kind)}")
    return dict(spans)


def expiring(record: Record, retention: Mapping[Kind, timedelta]) -> Record:
    """Return the record as it expires by its kind, unless it says so itself or is pinned."""
    span = retention.get(record.kind)
    if span is None or record.expires_at is not None or pruning.is_pinned(record):
        return record
    try:
        return replace(record, expires_at=record.at + span)
    except OverflowError:
        return record  # kept beyond the end of the calendar


def changed(old: Record, changes: Mapping[str, Any]) -> Record:
    """Return a record with some fields changed, checked as if it were new."""
    if unknown := changes.keys() - Changes.__annotations__.keys():
        raise InvalidInputError(
            f"{limits.shown(min(unknown))} cannot be changed; "
            f"{', '.join(Changes.__annotations__)} can"
        )
    if changes.get("at", old.at) is None:
        raise InvalidInputError("at cannot be None: a record has a time")
    values = {name: getattr(old, name) for name in Item.__annotations__} | dict(changes)
    if "text" in changes and "data" not in changes:
        values["data"] = turns.without_content(old.data)
    if is_proposed(old):
        # Only a confirmation puts it in force.
        values["data"] = {**(values["data"] or {}), PROPOSED: True}
    new = record(
        values,
        namespace=old.namespace,
        session_id=old.session_id,
        now=old.created_at,
        check_role=False,
    )
    return replace(new, superseded_by=old.superseded_by)


def is_proposed(instruction: Record) -> bool:
    """Tell whether an instruction waits to be confirmed, and is not in force."""
    return (instruction.data or {}).get(PROPOSED) is True


def confirmed(proposal: Record, source: str) -> Record:
    """Return a proposed instruction as one that its new source gives; the old one is noted.

    Raises:
        SourceError: the source may not give instructions.
    """
    source = limits.label(source, "source")
    data = {key: value for key, value in (proposal.data or {}).items() if key != PROPOSED}
    data["proposed_by"] = proposal.source
    _check_authority(proposal.kind, "user", source, data)
    return replace(proposal, source=source, role="user", data=data)


def redacted(record: Record, redact: Callable[[str], str]) -> Record:
    """Return a record whose text, metadata and data went through `redact`, checked again."""
    from hybrid_memory.redaction import redact_json  # loaded where it is asked for

    changes: dict[str, Any] = {"text": limits.text(_checked(redact)(record.text))}
    if record.metadata:
        metadata = redact_json(record.metadata, _checked(redact))
        changes["metadata"] = limits.json_object(metadata, "metadata")
    if record.data:
        changes["data"] = limits.json_object(
            redact_json(record.data, _checked(redact)),
            "data",
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        )
    return replace(record, **changes)


def redacted_value(value: Any, redact: Callable[[str], str], name: str) -> Any:
    """Return a value of a profile whose strings went through `redact`, checked again."""
    from hybrid_memory.redaction import redact_json

    return limits.json_value(redact_json(value, _checked(redact)), name)


def _checked(redact: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        told = redact(text)
        if not isinstance(told, str):
            raise InvalidInputError(f"redact must return a string, not {type(told).__name__}")
        return told

    return checked


def _source(given: object, kind: Kind, role: Role) -> str:
    if given is not None:
        return limits.label(given, "source")
    return "document" if kind == "document" else _SOURCES[role]


def _check_authority(kind: Kind, role: Role, source: str, data: Mapping[str, Any] | None) -> None:
    """Refuse what would be an order by somebody who may not give one."""
    is_order = kind == "instruction" and (data or {}).get(PROPOSED) is not True
    may = source in AUTHORITIES and role not in ("assistant", "tool")
    if is_order and not may:
        raise SourceError(
            f"source {limits.shown(source)} in the role {role!r} may not give instructions; only "
            f"{' and '.join(AUTHORITIES)} may: propose it, and let one of them confirm"
        )
    if role == "system" and source not in AUTHORITIES:
        raise SourceError(
            f"source {limits.shown(source)} may not speak in the role 'system'; "
            f"only {' and '.join(AUTHORITIES)} may"
        )
