"""Filters of LangChain and LangGraph in the language of the memory, which checks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def on_metadata(filter: Any) -> Any:
    """Return a filter on metadata as one on records, whose own fields may have the same names."""
    if not isinstance(filter, Mapping):
        return filter
    return {_key(key): _operand(key, value) for key, value in filter.items()}


def _key(key: Any) -> Any:
    is_field = isinstance(key, str) and not key.startswith("$")
    return f"metadata.{key}" if is_field else key


def _operand(key: Any, value: Any) -> Any:
    if key in ("$and", "$or") and isinstance(value, list | tuple):
        return [on_metadata(one) for one in value]
    return on_metadata(value) if key == "$not" else value


def on_values(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter with `{"a": {"b": 1}}`, as LangGraph has it, by its path: `{"a.b": 1}`."""
    conditions = list(_paths(wanted))
    told = dict(conditions)
    if len(told) == len(conditions):
        return told
    return {"$and": [{key: condition} for key, condition in conditions]}  # one key said twice


def _paths(wanted: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, condition in wanted.items():
        if key in ("$and", "$or") and isinstance(condition, list | tuple):
            yield key, [on_values(one) if isinstance(one, Mapping) else one for one in condition]
        elif key == "$not" and isinstance(condition, Mapping):
            yield key, on_values(condition)
        elif isinstance(condition, Mapping) and _are_keys(condition):
            yield from _paths(condition, f"{above}{key}.")
        else:
            yield f"{above}{key}", condition


def _are_keys(condition: Mapping[str, Any]) -> bool:
    return bool(condition) and not any(str(key).startswith("$") for key in condition)
