"""The suite of RecordStore on every implementation."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.limits import to_json
from hybrid_memory.protocols import RecordStore
from hybrid_memory.testing import DurableRecordStoreSuite, MemoryRecordStore, RecordStoreSuite
from hybrid_memory.testing.record_stores import Damage
from hybrid_memory.types import Namespace


class TestMemoryRecordStore(RecordStoreSuite):
    @pytest.fixture
    def store(self) -> RecordStore:
        return MemoryRecordStore()

    @pytest.fixture
    def damage(self, store: RecordStore) -> Damage:
        assert isinstance(store, MemoryRecordStore)
        return store.damage


class SQLRecordStoreSuite(DurableRecordStoreSuite):
    @pytest.fixture
    def open_copy(self) -> Callable[[Path], RecordStore]:
        return SQLRecordStore.open

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def damage(
            namespace: Namespace, *, id: str | None = None, profile_key: str | None = None
        ) -> None:
            labels = to_json(namespace)
            mine = "namespace = (SELECT number FROM namespaces WHERE labels = ?)"
            with closing(sqlite3.connect(tmp_path / "memory" / "memory.db")) as database, database:
                if id is not None:
                    database.execute(
                        f"UPDATE records SET text = text || ' ' WHERE {mine} AND id = ?",
                        (labels, id),
                    )
                if profile_key is not None:
                    database.execute(
                        f"UPDATE profiles SET value = value || ' ' WHERE {mine} AND key = ?",
                        (labels, profile_key),
                    )

        return damage


class TestSQLRecordStore(SQLRecordStoreSuite):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], RecordStore]]:
        opened: list[RecordStore] = []

        def reopen() -> RecordStore:
            opened.append(SQLRecordStore.open(tmp_path / "memory"))
            return opened[-1]

        yield reopen
        for store in opened:
            store.close()


class TestSQLRecordStoreWithNormalDurability(SQLRecordStoreSuite):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], RecordStore]]:
        opened: list[RecordStore] = []

        def reopen() -> RecordStore:
            opened.append(SQLRecordStore.open(tmp_path / "memory", durability="normal"))
            return opened[-1]

        yield reopen
        for store in opened:
            store.close()
