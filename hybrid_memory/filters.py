"""The one filter language, `where`: checked once, then asked of each record before ranking.

`{"city": "Lyon"}`, `{"n": {"$gte": 3}}`, `{"$or": [{...}, {...}]}`. Operators: `$eq $ne $gt $gte
$lt $lte $in $nin $exists $contains $icontains` on a field, `$and $or $not` on filters. Fields are
keys of the metadata, by dotted path (`address.city`), and the record's own `kind role speaker
session_id source at importance`; what metadata have under such a name is `metadata.kind`. A missing
field matches no comparison, also not `$ne` and `$nin`. Numbers compare with numbers, texts with
texts; an aware datetime compares with `at`, and with metadata as ISO 8601 text in UTC (store times
of metadata in that form).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from hybrid_memory.errors import FilterError, TimeError
from hybrid_memory.limits import microseconds, shown, when
from hybrid_memory.types import Record

RECORD_FIELDS = frozenset({"kind", "role", "speaker", "session_id", "source", "at", "importance"})
MISSING = object()
_METADATA = "metadata."
MAX_CONDITIONS = 100
MAX_DEPTH = 8
MAX_OPERANDS = 10_000  # of $in and $nin

Fields: TypeAlias = Callable[[str], Any]  # a field's value, or MISSING
Predicate: TypeAlias = Callable[[Fields], bool]

_SEGMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def compile_where(
    where: Mapping[str, Any] | None, *, named: frozenset[str] = RECORD_FIELDS
) -> Predicate | None:
    """Return a predicate on the fields of a record; None for no filter.

    `named` are the fields that are the record's own and not keys of its metadata.

    Raises:
        FilterError: an unknown operator, a malformed key, a value that does not fit its
            operator, more than 100 conditions, nesting deeper than 8, or lists of over 10,000.
    """
    if where is None:
        return None
    return _Compiler(named).filter(where, 0)


def of_record(record: Record) -> Fields:
    """Return the fields of a record, for a predicate."""

    def value(name: str) -> Any:
        if name not in RECORD_FIELDS:
            return metadata_value(record.metadata, name)
        if name == "at":
            return microseconds(record.at)
        found = getattr(record, name)
        return MISSING if found is None else found

    return value


def metadata_value(metadata: Any, path: str) -> Any:
    """Return what stands at a dotted path, or MISSING.

    A path that begins with `metadata.` is also looked up without it.
    """
    found = _at(metadata, path)
    if found is MISSING and path.startswith(_METADATA):
        return _at(metadata, path.removeprefix(_METADATA))
    return found


def _at(metadata: Any, path: str) -> Any:
    for segment in path.split("."):
        if not isinstance(metadata, Mapping) or segment not in metadata:
            return MISSING
        metadata = metadata[segment]
    return metadata


class _Compiler:
    def __init__(self, named: frozenset[str]) -> None:
        self._named = named
        self._conditions = 0

    def filter(self, where: object, depth: int) -> Predicate:
        if not isinstance(where, Mapping):
            raise FilterError(f"a filter must be a mapping, not {type(where).__name__}")
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter is nested deeper than {MAX_DEPTH}")
        parts = [self._entry(key, value, depth) for key, value in where.items()]
        return lambda fields: all(part(fields) for part in parts)

    def _entry(self, key: object, value: object, depth: int) -> Predicate:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise FilterError(f"a filter has more than {MAX_CONDITIONS} conditions")
        if key in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise FilterError(f"{key} takes a list of at least one filter")
            parts = [self.filter(part, depth + 1) for part in value]
            if key == "$and":
                return lambda fields: all(part(fields) for part in parts)
            return lambda fields: any(part(fields) for part in parts)
        if key == "$not":
            negated = self.filter(value, depth + 1)
            return lambda fields: not negated(fields)
        field = _field(key, self._named)
        is_named = field in self._named
        if not isinstance(value, Mapping):
            return _comparison(field, "$eq", value, is_named)
        if not value:
            raise FilterError(f"the condition on {field!r} is empty; use {{'$exists': true}}")
        self._conditions += len(value) - 1
        parts = [
            _comparison(field, operator, operand, is_named) for operator, operand in value.items()
        ]
        return lambda fields: all(part(fields) for part in parts)


def _field(key: object, named: frozenset[str]) -> str:
    if not isinstance(key, str):
        raise FilterError(f"a key of a filter must be a string, not {type(key).__name__}")
    if key.startswith("$"):
        raise FilterError(
            f"unknown operator {_named(key)}; filters combine with $and, $or and $not"
        )
    segments = key.split(".")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise FilterError(
            f"malformed key {_named(key)}; a key is letters, digits and _ in parts joined by dots"
        )
    if segments[0] in named and len(segments) > 1:
        raise FilterError(f"{segments[0]!r} is a field of the record and has no parts")
    return key


def _named(key: object) -> str:
    """Return a key or operator for a message: in a filter these are names, not texts."""
    return repr(key[:80]) if isinstance(key, str) else shown(key)


def _comparison(field: str, operator: object, operand: object, is_named: bool) -> Predicate:
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise FilterError(
            f"unknown operator {_named(operator)}; one of {', '.join(_OPERATORS)}. "
            f"For a key inside of {field!r} write {field}.key"
        )
    test, check, hint = _OPERATORS[operator]
    operand = _operand(field, operator, operand, is_named)
    if not check(operand):
        raise FilterError(
            f"{operator} on {field!r} does not take a {type(operand).__name__}; {hint}"
        )

    def predicate(fields: Fields) -> bool:
        value = fields(field)
        if operator == "$exists":
            return (value is not MISSING and value is not None) is operand
        return value is not MISSING and value is not None and test(value, operand)

    return predicate


def _operand(field: str, operator: str, operand: object, is_named: bool) -> Any:
    is_time = is_named and field == "at"
    if isinstance(operand, list | tuple):
        if len(operand) > MAX_OPERANDS:
            raise FilterError(f"{operator} on {field!r} has more than {MAX_OPERANDS} values")
        nested = any(isinstance(part, list | tuple) for part in operand)
        return None if nested else [_operand(field, operator, part, is_named) for part in operand]
    if isinstance(operand, datetime):
        try:
            moment = when(operand, f"{operator} on {field!r}")
        except TimeError as error:
            raise FilterError(str(error)) from None
        return microseconds(moment) if is_time else moment.isoformat()
    if is_time and operator != "$exists":
        if isinstance(operand, str):
            try:
                return _operand(field, operator, datetime.fromisoformat(operand), is_named)
            except ValueError as error:
                raise FilterError(f"{operator} on 'at': {error}") from error
        raise FilterError("'at' compares with an aware datetime or ISO 8601 text with a zone")
    if is_named and isinstance(operand, str):
        return unicodedata.normalize("NFC", operand)  # the form in which names are stored
    return operand


def _alike(left: object, right: object) -> bool:
    # In Python True == 1; in JSON it is not.
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers or isinstance(left, type(right)) or isinstance(right, type(left))


def _equal(value: object, operand: object) -> bool:
    return _alike(value, operand) and value == operand


def _contains(value: object, operand: object) -> bool:
    if isinstance(value, list):
        return any(_equal(part, operand) for part in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _icontains(value: object, operand: Any) -> bool:
    folded = operand.casefold()
    if isinstance(value, list):
        return any(isinstance(part, str) and part.casefold() == folded for part in value)
    return isinstance(value, str) and folded in value.casefold()


def _scalar(operand: object) -> bool:
    return isinstance(operand, str | int | float | bool)


def _ordered(operand: object) -> bool:
    return isinstance(operand, str | int | float) and not isinstance(operand, bool)


def _many(operand: object) -> bool:
    return isinstance(operand, list) and all(_scalar(part) for part in operand)


def _claim(operand: object) -> bool:
    return isinstance(operand, bool)


def _string(operand: object) -> bool:
    return isinstance(operand, str)


_TAKES_SCALAR = "it takes a text, a number or a boolean; to ask for null use {'$exists': false}"
_TAKES_ORDERED = "it takes a number, a text or an aware datetime"
_TAKES_MANY = "it takes a list of texts, numbers or booleans"
_TAKES_CLAIM = "it takes true or false"
_TAKES_STRING = "it takes a text"

_OPERATORS: dict[str, tuple[Callable[[Any, Any], bool], Callable[[object], bool], str]] = {
    "$eq": (_equal, _scalar, _TAKES_SCALAR),
    "$ne": (lambda value, operand: not _equal(value, operand), _scalar, _TAKES_SCALAR),
    "$gt": (
        lambda value, operand: _alike(value, operand) and value > operand,
        _ordered,
        _TAKES_ORDERED,
    ),
    "$gte": (
        lambda value, operand: _alike(value, operand) and value >= operand,
        _ordered,
        _TAKES_ORDERED,
    ),
    "$lt": (
        lambda value, operand: _alike(value, operand) and value < operand,
        _ordered,
        _TAKES_ORDERED,
    ),
    "$lte": (
        lambda value, operand: _alike(value, operand) and value <= operand,
        _ordered,
        _TAKES_ORDERED,
    ),
    "$in": (lambda value, operand: any(_equal(value, one) for one in operand), _many, _TAKES_MANY),
    "$nin": (
        lambda value, operand: not any(_equal(value, one) for one in operand),
        _many,
        _TAKES_MANY,
    ),
    "$exists": (lambda value, operand: True, _claim, _TAKES_CLAIM),
    "$contains": (_contains, _scalar, _TAKES_SCALAR),
    "$icontains": (_icontains, _string, _TAKES_STRING),
}
