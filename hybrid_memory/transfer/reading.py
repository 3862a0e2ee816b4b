"""The way in: files and items into lines, each checked; an error says where and not what."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from hybrid_memory import indexing, limits, records, spaces
from hybrid_memory.errors import InvalidInputError, TransferError
from hybrid_memory.protocols import Embedder, Space, Vector
from hybrid_memory.transfer.form import FIELDS, FORMAT, TIMES, VERSION
from hybrid_memory.types import KINDS, ROLES, Items, Namespace, Origin, Record

MAX_LINE_BYTES = 2**21  # the largest record, each byte of it escaped, has about half of that


_REQUIRED = ("id", "namespace", "kind", "text", "at", "created_at")
_OF_RECORD = frozenset({*FIELDS, "vector"})
_OF_PROFILE = frozenset({"namespace", "profile", "value"})


class Line(NamedTuple):
    """A record or a key of a profile to import, and where it was read.

    An item of another library (`is_item`) does not say when it was stored and in which version;
    `at_given` tells whether it says when it happened.
    """

    place: str
    namespace: Namespace
    record: Record | None = None
    profile: tuple[str, Any] | None = None
    vector: Vector | None = None
    is_item: bool = False
    at_given: bool = True


@contextmanager
def reader(
    origin: Origin, embedder: Embedder, namespace: Namespace | None, now: datetime, *, count: bool
) -> Iterator[tuple[int, Iterator[Line]]]:
    """Give the number of lines, if that can be known, and the lines."""
    if isinstance(origin, Path | str):
        path = limits.path(origin)
        try:
            total, file = _count(path) if count else 0, path.open("rb")
        except OSError as error:
            raise TransferError(f"cannot read {path}: {error.strerror or error}") from error
        with file:
            yield total, _parsed(file, embedder, namespace, now)
    elif hasattr(origin, "readline"):
        yield 0, _parsed(cast(IO[Any], origin), embedder, namespace, now)
    else:
        yield 0, _from_items(origin, namespace, now)


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return max(sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b"")) - 1, 0)


def _from_items(items: Items, namespace: Namespace | None, now: datetime) -> Iterator[Line]:
    for number, pair in enumerate(limits.several(items, "an import takes a path, file or items")):
        place = f"item {number + 1}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TransferError(f"{place} is not a namespace, or None, and a record's arguments")
        own, item = pair
        if namespace is None and own is None:
            raise TransferError(
                f"{place} does not say whose it is; pass a namespace to import into, or --user"
            )
        try:
            target = namespace or limits.namespace(own)
            record = records.record(item, namespace=target, session_id=None, now=now, number=number)
        except InvalidInputError as error:
            raise TransferError(f"{place}: {error}") from error
        yield Line(place, target, record, is_item=True, at_given=_says_when(item))


def _says_when(item: str | Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and item.get("at") is not None


def _parsed(
    file: IO[Any], embedder: Embedder, namespace: Namespace | None, now: datetime
) -> Iterator[Line]:
    lines = _objects(file)
    place, header = next(lines, ("line 1", {}))
    _check_header(place, header)
    dim = embedder.dim if _is_of(header.get("space"), embedder) else None
    rules = header.get("rules")
    if isinstance(rules, bool) or not isinstance(rules, int) or rules > indexing.RULES:
        dim, rules = None, 0
    for place, values in lines:
        try:
            if not isinstance(values.get("namespace", []), list):
                raise InvalidInputError("namespace is not a list of labels")
            if "profile" in values:
                yield _profile_line(place, values, namespace)
            else:
                line = _record_line(place, values, namespace, now)
                if dim is not None and line.record is not None and values.get("vector") is not None:
                    vector = _read_vector(values["vector"], dim)
                    line = line._replace(vector=_usable(vector, line.record, rules))
                yield line
        except InvalidInputError as error:
            raise TransferError(f"{place}: {error}") from error


def _is_of(space: object, embedder: Embedder) -> bool:
    """Tell whether the vectors of a file are what the embedder makes; if in doubt they are not."""
    if not isinstance(space, dict) or not isinstance(space.get("probes"), str):
        return False
    if (space.get("name"), space.get("dim")) != (embedder.name, embedder.dim):
        return False
    try:
        probes = base64.b64decode(space["probes"], validate=True)
    except (ValueError, binascii.Error):
        return False
    # Of four bytes a value, or they cannot be compared.
    there = Space(embedder.name, embedder.dim, probes[: len(probes) // 4 * 4])
    return spaces.is_same(there, spaces.space_of(embedder))


def _objects(file: IO[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(1, 2**63):
        raw = file.readline(MAX_LINE_BYTES + 1)
        if not raw:
            return
        place = f"line {number}"
        if len(raw) > MAX_LINE_BYTES:
            raise TransferError(f"{place} is longer than {MAX_LINE_BYTES} bytes")
        try:
            text = (
                raw if isinstance(raw, str) else raw.decode("utf-8-sig" if number == 1 else "utf-8")
            )
            if not text.strip():
                continue
            values = json.loads(text)
        except UnicodeDecodeError as error:
            raise TransferError(f"{place} is not UTF-8 at byte {error.start}") from None
        except json.JSONDecodeError as error:
            raise TransferError(
                f"{place} is not JSON at character {error.pos + 1}; was the file cut off?"
            ) from None
        except (ValueError, RecursionError):  # a number of too many digits, too many brackets
            raise TransferError(f"{place} is not JSON that can be read") from None
        if not isinstance(values, dict):
            raise TransferError(f"{place} is not a JSON object")
        yield place, values


def _check_header(place: str, header: Mapping[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise TransferError(
            f'{place} is not the header of an export: "format" is not {FORMAT!r}; '
            "for files of other libraries use their importers, or import --from"
        )
    version = header.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise TransferError(f'{place}: "version" is missing, or no number')
    if version > VERSION:
        raise TransferError(
            f"{place}: the export has format {version}, this version knows up to {VERSION}; "
            "upgrade hybrid-rag-memory"
        )


def _profile_line(place: str, values: Mapping[str, Any], namespace: Namespace | None) -> Line:
    _check_names(values, required=("namespace", "profile", "value"), known=_OF_PROFILE)
    key = limits.label(values["profile"], "profile")
    value = limits.json_value(values["value"], "value")
    return Line(place, namespace or limits.namespace(values["namespace"]), profile=(key, value))


def _record_line(
    place: str,
    values: Mapping[str, Any],
    namespace: Namespace | None,
    now: datetime,
) -> Line:
    _check_names(values, required=_REQUIRED, known=_OF_RECORD)
    # Not by the checks of limits.py, which show a value: here it may be a text in a wrong place.
    for name, allowed in (("kind", KINDS), ("role", ROLES)):
        if name in values and values[name] not in allowed:
            raise InvalidInputError(f"{name} is none of {', '.join(allowed)}")
    times = {name: _read_time(values.get(name), name) for name in TIMES}
    own = namespace or limits.namespace(values["namespace"])
    names = records.Item.__annotations__.keys() - TIMES
    item = {name: values[name] for name in names if name in values}
    record = replace(
        records.record(item, namespace=own, session_id=None, now=now, check_role=False),
        at=times["at"] or now,
        created_at=times["created_at"] or now,
        valid_from=times["valid_from"],
        valid_to=times["valid_to"],
        expires_at=times["expires_at"],
        version=limits.whole(values.get("version", 1), "version", low=1, high=2**31 - 1),
        superseded_by=limits.optional_label(values.get("superseded_by"), "superseded_by"),
    )
    return Line(place, own, record)


def _check_names(
    values: Mapping[str, Any], *, required: Sequence[str], known: frozenset[str]
) -> None:
    # A value of a profile may be null.
    there = {name for name, value in values.items() if value is not None or name == "value"}
    if missing := [repr(name) for name in required if name not in there]:
        raise InvalidInputError(f"{' and '.join(missing)} missing")
    if unknown := values.keys() - known:
        # Anything else may be a text in a wrong place.
        named = [repr(name) for name in sorted(unknown) if re.fullmatch("[a-z_]{1,32}", name)]
        raise InvalidInputError(f"it has fields that are not known: {', '.join(named) or '...'}")


def _read_time(value: object, name: str) -> datetime | None:
    if value is None:
        return None
    try:
        return limits.when(datetime.fromisoformat(value), name)  # type: ignore[arg-type]
    except InvalidInputError:
        raise
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} is not a time of ISO 8601 such as 2026-05-02T08:00:00Z"
        ) from None


def _read_vector(value: object, dim: int) -> Vector:
    try:
        raw = base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError, binascii.Error):
        raw = b""
    vector = np.frombuffer(raw, dtype="<f4").astype(np.float32) if len(raw) == 4 * dim else None
    if vector is None or not np.isfinite(vector).all():
        raise InvalidInputError(f"vector is not base64 of {dim} finite float32 numbers")
    return limits.unit_vector(vector, dim=dim)


def _usable(vector: Vector, record: Record, rules: int) -> Vector | None:
    """Return the vector if it is of what would be encoded today."""
    if not indexing.is_ranked(record):
        return None
    encoded = indexing.index_text(record, rules=rules)
    return vector if encoded == indexing.index_text(record) else None
