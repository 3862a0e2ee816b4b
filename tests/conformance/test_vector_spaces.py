"""The suite of the vector spaces of RecordStore on every implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.protocols import RecordStore
from hybrid_memory.testing import MemoryRecordStore, VectorSpaceSuite


class TestMemoryRecordStore(VectorSpaceSuite):
    @pytest.fixture
    def store(self) -> RecordStore:
        return MemoryRecordStore()


class TestSQLRecordStore(VectorSpaceSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[RecordStore]:
        store = SQLRecordStore.open(tmp_path / "memory", durability="normal")
        yield store
        store.close()
