"""The hot copy of the items of a namespace: their values in RAM, caught up before each read.

A cache of the record store, as a partition is, which has their vectors and words.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hybrid_memory.protocols import RecordStore
from hybrid_memory.types import NOTHING, Kind, Namespace, Record

KIND: Kind = "fact"
MAX_HELD = 500_000  # records in RAM, of all namespaces


def about(record: Record) -> Mapping[str, Any]:
    """Return what an item's record says of itself: how it is found, and how long it lives."""
    said = record.metadata.get("item")
    return said if isinstance(said, Mapping) else NOTHING


def is_item(record: Record, source: str) -> bool:
    """Tell whether a record is an item of this source, and not a further text of one."""
    return record.kind == KIND and record.source == source and "part" not in about(record)


def part_ids(record: Record) -> list[str]:
    """Return the ids of the records of an item's further texts."""
    parts = about(record).get("parts", 0)
    return [part_id(record.id, number) for number in range(1, parts + 1)]


def part_id(key: str, number: int) -> str:
    """Return the id of the record of a further text."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{number}\0{key}").hex


@dataclass(frozen=True)
class Shelf:
    """What stands in a namespace as of a position: records by key. Replaced, never changed."""

    namespace: Namespace
    position: int = 0
    records: Mapping[int, Record] = field(default_factory=dict)

    def item(self, key: int) -> Record | None:
        """Return the item that a record is found for: itself, or that of which it is a text.

        Not where the item was written anew since: a text of the former value finds nothing.
        """
        record = self.records.get(key)
        if record is None or "part" not in about(record):
            return record
        item = self._items.get(record.id)
        same = item is not None and about(item).get("revision") == about(record).get("revision")
        return item if same else None

    @cached_property
    def latest(self) -> list[Record]:
        """All items, the last written first."""
        items = [one for one in self.records.values() if "part" not in about(one)]
        return sorted(items, key=lambda item: (item.at, item.id), reverse=True)

    @cached_property
    def _items(self) -> dict[str, Record]:
        """Items by the ids of the records of their further texts."""
        return {id: item for item in self.latest for id in part_ids(item)}


class Shelves:
    """The namespaces in use, least recently used out first. Thread-safe.

    `writing` is held by whoever changes items by what is there.
    """

    def __init__(self, store: RecordStore, source: str) -> None:
        self._store = store
        self._source = source
        self.writing = threading.Lock()
        self._lock = threading.Lock()
        self._held: OrderedDict[Namespace, Shelf] = OrderedDict()
        self._size = 0

    def get(self, namespace: Namespace) -> Shelf:
        """Return a namespace as of the last acknowledged write."""
        with self._lock:
            old = self._held.pop(namespace, Shelf(namespace))
            self._size -= len(old.records)
            shelf = self._caught_up(old)
            if shelf.records:
                self._held[namespace] = shelf
                self._size += len(shelf.records)
            while self._size > MAX_HELD and len(self._held) > 1:
                _, oldest = self._held.popitem(last=False)
                self._size -= len(oldest.records)
        return shelf

    def drop(self, namespace: Namespace) -> None:
        """Forget what is held of a namespace."""
        with self._lock:
            self._size -= len(self._held.pop(namespace, Shelf(namespace)).records)

    def clear(self) -> None:
        """Forget all that is held."""
        with self._lock:
            self._held.clear()
            self._size = 0

    def _caught_up(self, shelf: Shelf) -> Shelf:
        namespace, position = shelf.namespace, self._store.position(shelf.namespace)
        if position == shelf.position:
            return shelf
        if position < shelf.position:  # erased, or the directory is back from a backup
            shelf = Shelf(namespace)
        records = dict(shelf.records)
        position = shelf.position
        for changes in self._store.changes(namespace, since=shelf.position):
            position = changes.position
            if changes.is_afresh:
                records.clear()
            for key in (*changes.removed, *(row.key for row in changes.rows)):
                records.pop(key, None)
            mine = [
                row.key for row in changes.rows if row.kind == KIND and row.source == self._source
            ]
            records.update(self._store.fetch(namespace, mine))
        return Shelf(namespace, position, records)


def latest(shelves: list[Shelf]) -> Iterator[Record]:
    """Yield the items of all shelves, the last written first."""
    if len(shelves) == 1:
        return iter(shelves[0].latest)
    items = [item for shelf in shelves for item in shelf.latest]
    return iter(sorted(items, key=lambda item: item.at, reverse=True))
