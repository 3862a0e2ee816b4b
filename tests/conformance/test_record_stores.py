"""The suite of RecordStore on every implementation."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.protocols import RecordStore
from hybrid_memory.testing import DurableRecordStoreSuite, MemoryRecordStore, RecordStoreSuite


class TestMemoryRecordStore(RecordStoreSuite):
    @pytest.fixture
    def store(self) -> RecordStore:
        return MemoryRecordStore()


class TestSQLRecordStore(DurableRecordStoreSuite):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], RecordStore]]:
        opened: list[RecordStore] = []

        def reopen() -> RecordStore:
            opened.append(SQLRecordStore.open(tmp_path / "memory"))
            return opened[-1]

        yield reopen
        for store in opened:
            store.close()


class TestSQLRecordStoreWithNormalDurability(DurableRecordStoreSuite):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], RecordStore]]:
        opened: list[RecordStore] = []

        def reopen() -> RecordStore:
            opened.append(SQLRecordStore.open(tmp_path / "memory", durability="normal"))
            return opened[-1]

        yield reopen
        for store in opened:
            store.close()
