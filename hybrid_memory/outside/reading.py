"""What an outside retriever gave, checked: storable, and of the types that it promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np

from hybrid_memory import limits
from hybrid_memory.errors import InvalidInputError, MetadataError
from hybrid_memory.outside.source import Source, meaning_of
from hybrid_memory.types import Found, Hit, Record

_MAX_LEAF_CHARS = 1024  # of a value that JSON cannot hold, as text


class UnreadableError(Exception):
    """What a retriever gave cannot be used; says how, and no text."""


def read(given: object, source: Source) -> tuple[Found | Hit, ...]:
    """Return the first k items, without blank ones."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UnreadableError(f"gave {type(given).__name__} where a list is expected")
    items = [_item(item) for item in islice(given, source.k)]
    found = tuple(item for item in items if item is not None)
    if source.scores in ("similarity", "distance") and any(item.score is None for item in found):
        raise UnreadableError(f"gave a text without the score that is called a {source.scores}")
    if meaning_of(source, found) != "rank":
        for item in found:
            if item.score is not None and not math.isfinite(item.score):
                raise UnreadableError("gave a score that is no finite number")
    return found


def _item(item: Any) -> Found | Hit | None:
    match item:
        case Hit():
            record = _whole(item.record)
            return replace(item, record=record, score=_score(item.score)) if record else None
        case Found():
            return _found(item)
        case str():
            return _found(Found(item))
        case (text, score) if isinstance(item, tuple):
            return _found(Found(text, score))
    raise UnreadableError(
        f"gave {type(item).__name__} where a text, a (text, score), a Found or a Hit is expected"
    )


def _found(item: Found) -> Found | None:
    text = _storable(_typed(item.text, str, "text"))
    if not text.strip():
        return None
    return Found(
        text=text,
        score=None if item.score is None else _score(item.score),
        id=_label(item.id, "id"),
        source=_label(item.source, "source"),
        at=None if item.at is None else _when(item.at),
        metadata=_plain_object(
            _typed(item.metadata, Mapping, "metadata"),
            max_bytes=limits.MAX_METADATA_BYTES,
            max_depth=limits.MAX_METADATA_DEPTH,
        ),
        data=None
        if item.data is None
        else _plain_object(
            _typed(item.data, Mapping, "data"),
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        ),
    )


def _whole(record: object) -> Record | None:
    """Return a record of our own as it came, if it can be shown; None if it is blank."""
    if not isinstance(record, Record):
        raise UnreadableError(f"gave a hit with {type(record).__name__} as its record")
    if record.kind == "instruction":
        raise UnreadableError("gave an instruction, which only a user or developer may")
    try:
        limits.kind(record.kind)
        limits.role(record.role)
        for part in (record.id, *record.namespace):
            limits.label(part, "id")
        limits.label(record.source, "source")
        limits.optional_label(record.speaker, "speaker")
        limits.optional_label(record.session_id, "session_id")
        limits.fraction(record.importance, "importance")
        limits.json_object(record.metadata, "metadata")
        limits.json_object(
            record.data or {},
            "data",
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        )
        for moment in (record.at, record.created_at):
            limits.when(moment, "at")
        for bound in (record.valid_from, record.valid_to, record.expires_at):
            limits.optional_when(bound, "valid_to")
    except InvalidInputError as error:
        raise UnreadableError("gave a hit whose record is none that is stored") from error
    text = _storable(_typed(record.text, str, "text"))
    return replace(record, text=text) if text.strip() else None


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise UnreadableError(f"gave {type(value).__name__} as {name}")
    return value


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UnreadableError(f"gave {type(value).__name__} as score")
    return float(value)


def _when(value: object) -> datetime:
    try:
        return limits.when(value, "at")
    except InvalidInputError as error:
        raise UnreadableError("gave a time that is no datetime with a zone") from error


def _label(value: str | None, name: str) -> str | None:
    """Return an id or a source as one line of at most 256 characters, or None if it is blank."""
    if value is None:
        return None
    words = _storable(_typed(value, str, name)).split()
    line = "".join(one for one in " ".join(words) if one.isprintable())
    return line[: limits.MAX_LABEL_CHARS].strip() or None


def _storable(text: str) -> str:
    """Return a text without NULs and lone surrogates, cut at 64 KiB."""
    clean = text.replace("\0", "").encode("utf-8", "ignore")
    return clean[: limits.MAX_TEXT_BYTES].decode("utf-8", "ignore")


def _plain_object(values: Mapping[Any, Any], *, max_bytes: int, max_depth: int) -> dict[str, Any]:
    """Return a mapping as JSON: what JSON cannot hold as text, and no more than has room."""
    try:
        return limits.json_object(values, "it", max_bytes=max_bytes, max_depth=max_depth)
    except MetadataError:
        room = max_bytes - 2
    kept: dict[str, Any] = {}
    for key, value in values.items():
        part = {_storable(str(key)): _plain(value, max_depth - 1)}
        size = len(limits.to_json(part).encode())
        if size <= room:
            kept |= part
            room -= size
    return kept


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, Mapping) and depth:
        return {_storable(str(key)): _plain(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(part, depth - 1) for part in value]
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, np.generic):  # scores and counts of vector libraries
        value = value.item()
    try:
        return limits.json_value(value, "it", max_bytes=limits.MAX_DATA_BYTES, max_depth=0)
    except MetadataError:
        # Times in the form in which `where` compares them.
        if isinstance(value, datetime) and value.utcoffset() is not None:
            value = value.astimezone(UTC).isoformat()
        return _storable(str(value))[:_MAX_LEAF_CHARS]
