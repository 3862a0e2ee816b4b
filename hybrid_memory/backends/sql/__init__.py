"""The record store on SQLite, through SQLAlchemy Core: the one truth of a memory."""

from hybrid_memory.backends.sql.store import SQLRecordStore

__all__ = ["SQLRecordStore"]
