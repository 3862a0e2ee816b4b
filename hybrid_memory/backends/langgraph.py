"""Reads the long-term memory of LangGraph: the table of `SqliteStore`, without LangGraph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybrid_memory.backends import tables
from hybrid_memory.errors import TransferError
from hybrid_memory.types import Namespace

SOURCE = "langgraph"
_COLUMNS = ("prefix", "key", "value", "created_at", "updated_at")
_TEXTS = ("content", "text", "memory", "data")  # where agents keep the text of a memory


def items(path: Path | str) -> Iterator[tuple[Namespace, dict[str, Any]]]:
    """Yield the items of a store as items of `add_many`, each with its namespace.

    An item is a fact: its key is the id, its value the data. The text is the value's `content`,
    `text`, `memory` or `data`, or else all of the value in words.

    Raises:
        TransferError: not the database of a `SqliteStore`, or a value that is no JSON object.
    """
    rows = tables.rows(Path(path), "store", _COLUMNS, optional=("expires_at",))
    for number, row in enumerate(rows, 1):
        place = f"row {number}"
        try:
            value = json.loads(row["value"])
        except (TypeError, ValueError, RecursionError):
            raise TransferError(f"{place}: value is not JSON") from None
        if not isinstance(value, Mapping):
            raise TransferError(f"{place}: value is not a JSON object")
        namespace = tuple(str(row["prefix"]).split("."))
        origin = {"namespace": list(namespace), "updated_at": row["updated_at"]}
        yield (
            namespace,
            {
                "id": row["key"],
                "text": _text(value) or row["key"],
                "kind": "fact",
                "source": SOURCE,
                "data": value,
                "at": tables.moment(row["created_at"], f"{place}: created_at"),
                "expires_at": tables.moment(row.get("expires_at"), f"{place}: expires_at"),
                "metadata": {"langgraph": origin},
            },
        )


def _text(value: Mapping[str, Any]) -> str:
    for name in _TEXTS:
        found = value.get(name)
        if isinstance(found, Mapping):  # as LangMem has it: {"content": {"content": ...}}
            found = found.get(name)
        if isinstance(found, str) and found.strip():
            return found
    return "; ".join(_words(value))


def _words(value: object) -> list[str]:
    if isinstance(value, Mapping):
        parts = ((key.replace("_", " "), ", ".join(_words(part))) for key, part in value.items())
        return [f"{key}: {words}" for key, words in parts if words]
    if isinstance(value, list):
        return [words for part in value for words in _words(part)]
    return [] if value is None or value == "" else [str(value)]
