"""The contract of RecordStore, as tests: all that holds of any store, in one class."""

from __future__ import annotations

from hybrid_memory.testing.record_stores.bounds import BoundsSuite
from hybrid_memory.testing.record_stores.reading import ReadingSuite
from hybrid_memory.testing.record_stores.threads import ThreadsSuite
from hybrid_memory.testing.record_stores.upkeep import UpkeepSuite
from hybrid_memory.testing.record_stores.writing import WritingSuite


class RecordStoreSuite(WritingSuite, ReadingSuite, UpkeepSuite, BoundsSuite, ThreadsSuite):
    """Override `store`, an empty one, and `damage`, without which what is of damage is skipped."""
