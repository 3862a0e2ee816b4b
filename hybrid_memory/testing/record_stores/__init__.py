"""The contract of RecordStore, as tests: `suite.py` of any store, `durable.py` of one in files."""

from hybrid_memory.testing.record_stores.durable import DurableRecordStoreSuite
from hybrid_memory.testing.record_stores.given import Damage
from hybrid_memory.testing.record_stores.suite import RecordStoreSuite

__all__ = ["Damage", "DurableRecordStoreSuite", "RecordStoreSuite"]
