"""Reads what mem0 remembered: the JSON of `get_all()` and `history()`, and its history database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hybrid_memory.backends import tables
from hybrid_memory.errors import TransferError
from hybrid_memory.types import ROLES, Namespace

SOURCE = "mem0"
_HISTORY = ("memory_id", "new_memory", "event", "created_at", "updated_at", "is_deleted")
_OF_TURNS = ("actor_id", "role")  # since mem0 0.1.100
# What has a place of its own in a record; the rest is kept in metadata["mem0"].
_PLACED = frozenset({"id", "memory", "metadata", "created_at", "expiration_date", "role", "score"})


def items(path: Path | str) -> Iterator[tuple[Namespace | None, dict[str, Any]]]:
    """Yield memories as items of `add_many`, each with the namespace it belongs to.

    That is `(user_id,)`, else `("agent", agent_id)`, else `("run", run_id)`; None where the file
    does not say, as a history does not. A memory is a fact; one that was stored with a role is a
    message. Of a history the last state counts, and what was deleted is left out.

    Raises:
        TransferError: not a file of mem0, or an entry that lacks what every memory has.
    """
    path = Path(path)
    if tables.is_database(path):
        history = tables.rows(path, "history", _HISTORY, optional=_OF_TURNS)
        yield from _items(_last_states(history))
        return
    entries = _entries(path)
    is_history = bool(entries) and isinstance(entries[0], Mapping) and "memory_id" in entries[0]
    yield from _items(_last_states(entries) if is_history else entries)


def _entries(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise TransferError(f"{path} is neither JSON nor an SQLite database") from None
    if isinstance(found, Mapping):
        found = found.get("results", found.get("memories"))
    if not isinstance(found, list):
        raise TransferError(
            f'{path} is not JSON of mem0: it has no list, alone or as "results" or "memories"'
        )
    return found


def _last_states(history: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield each memory as its last event left it, in the order in which they were added."""
    last: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(history, 1):
        if not isinstance(row, Mapping) or not isinstance(row.get("memory_id"), str):
            raise TransferError(f"entry {number} of the history has no memory_id")
        known = last.setdefault(row["memory_id"], {"id": row["memory_id"]})
        is_gone = bool(row.get("is_deleted")) or row.get("event") == "DELETE"
        known["memory"] = None if is_gone else row.get("new_memory")
        known["is_deleted"] = is_gone
        known["created_at"] = known.get("created_at") or row.get("created_at")
        known |= {
            name: row[name] for name in ("updated_at", *_OF_TURNS) if row.get(name) is not None
        }
    yield from last.values()


def _items(entries: Iterable[Any]) -> Iterator[tuple[Namespace | None, dict[str, Any]]]:
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            raise TransferError(f"memory {number} is not a JSON object")
        if entry.get("is_deleted") or entry.get("event") == "DELETE":
            continue
        for name in ("id", "memory"):
            if not isinstance(entry.get(name), str):
                raise TransferError(f"memory {number} has no text as {name!r}")
        if entry["memory"].strip():
            yield _namespace(entry), _item(entry, f"memory {number}")


def _item(entry: Mapping[str, Any], place: str) -> dict[str, Any]:
    metadata = entry.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TransferError(f"{place}: metadata is not a JSON object")
    rest = {
        name: value
        for name, value in entry.items()
        if name not in _PLACED and value is not None and name != "is_deleted"
    }
    role = entry.get("role")
    item = {
        "id": entry["id"],
        "text": entry["memory"],
        "kind": "message" if role in ROLES else "fact",
        "source": SOURCE,
        "at": tables.moment(entry.get("created_at"), f"{place}: created_at"),
        "session_id": entry.get("run_id") or None,
        "metadata": {**(metadata or {}), **({"mem0": rest} if rest else {})},
        "expires_at": _end(entry.get("expiration_date"), place),
    }
    if role in ROLES:
        item |= {"role": role, "speaker": entry.get("actor_id") or None}
    return item


def _namespace(entry: Mapping[str, Any]) -> Namespace | None:
    for name, above in (("user_id", ()), ("agent_id", ("agent",)), ("run_id", ("run",))):
        if isinstance(entry.get(name), str) and entry[name].strip():
            return (*above, entry[name])
    return None


def _end(date: object, place: str) -> datetime | None:
    """Return the end of the last day on which a memory counts."""
    day = tables.moment(date, f"{place}: expiration_date")
    if day is None or not isinstance(date, str) or len(date) > len("2026-05-02"):
        return day
    return day.replace(tzinfo=UTC) + timedelta(days=1)
