"""Reads `hostile.json`: values by what they attack; those that JSON cannot hold are made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).with_name("hostile.json")
MARK = "!"  # the key of what is made here


@cache
def corpus() -> Mapping[str, list[Any]]:
    """Return the values as they stand in the file, by family; `made` turns one into its like."""
    read: Mapping[str, list[Any]] = json.loads(CORPUS.read_text())
    return read


def made(value: Any) -> Any:
    """Return a value with everything made that the file only describes; a new one each time."""
    if isinstance(value, list):
        return [made(part) for part in value]
    if not isinstance(value, dict):
        return value
    if MARK in value:
        return _MAKERS[value[MARK]](value)
    return {key: made(part) for key, part in value.items()}


class _Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None


class _Failing(tzinfo):
    """A zone whose offset is no offset."""

    def utcoffset(self, moment: datetime | None) -> Any:
        return timedelta(days=2)


@cache
def _repeated(text: str, times: int) -> str:
    return text * times


def _nested(make: Callable[[Any], Any], levels: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(levels):
        value = make(value)
    return value


def _cycle(_: Any) -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _filter_cycle(_: Any) -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["$and"] = [value]
    return value


def _failing(_: Any) -> Iterator[str]:
    yield "good"
    yield "\0"


def _hashable(value: Any) -> Any:
    value = made(value)
    return tuple(value) if isinstance(value, list) else value


def _array(value: Mapping[str, Any]) -> np.ndarray:
    array = np.zeros(value["shape"])
    array[...] = float(value.get("is", 1))
    kind = value.get("type", "float32")
    return array.astype(kind) if kind != "U1" else np.full(value["shape"], "a")


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "repeat": lambda v: _repeated(v["of"], v["times"]),
    "list": lambda v: [made(v["of"])] * v["times"],
    "tuple": lambda v: tuple(made(part) for part in v["of"]),
    "keys": lambda v: {_hashable(key): 1 for key in v["of"]},
    "many keys": lambda v: {f"k{number}": 1 for number in range(v["times"])},
    "nested": lambda v: _nested(lambda inner: {"a": inner}, v["levels"], 1),
    "nested lists": lambda v: _nested(lambda inner: [inner], v["levels"], 1),
    "nested filter": lambda v: _nested(lambda inner: {"$not": inner}, v["levels"], {"n": 1}),
    "cycle": _cycle,
    "cycle filter": _filter_cycle,
    "float": lambda v: float(v["is"]),
    "int": lambda v: 10 ** v["digits"],
    "complex": lambda _: 1j,
    "decimal": lambda _: Decimal("0.5"),
    "fraction": lambda _: Fraction(1, 2),
    "bytes": lambda v: bytes.fromhex(v["hex"]),
    "array": _array,
    "time": lambda v: datetime.fromisoformat(v["is"]),
    "time without offset": lambda _: datetime(2026, 5, 2, tzinfo=_Nowhere()),
    "time that fails": lambda _: datetime(2026, 5, 2, tzinfo=_Failing()),
    "date": lambda _: date(2026, 5, 2),
    "timedelta": lambda v: timedelta(days=v.get("days", 1), microseconds=v.get("us", 0)),
    "object": lambda _: object(),
    "set": lambda _: {"message"},
    "lambda": lambda _: lambda *_args, **_named: None,
    "type": lambda _: int,
    "exception": lambda _: ValueError("a secret of a user"),
    "generator": lambda _: (part for part in ("a", "b")),
    "failing generator": _failing,
}
