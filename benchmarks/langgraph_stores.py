"""LangGraph's own SqliteStore, for comparisons."""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import sqlite_vec
from langgraph.store.sqlite import SqliteStore


class _Connection(sqlite3.Connection):
    """A connection that has the extension already."""

    def enable_load_extension(self, enable: bool, /) -> None:
        pass

    def load_extension(self, name: str, /, *, entrypoint: str | None = None) -> None:
        pass


def _connected(path: str) -> sqlite3.Connection:
    options: dict[str, Any] = {"check_same_thread": False, "isolation_level": None}
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        plain: sqlite3.Connection = sqlite3.connect(path, **options)
        return plain
    # A Python that was built without extensions: SQLite itself has them, for this connection only.
    sqlite = ctypes.CDLL(_sqlite3.__file__)
    vectors = ctypes.CDLL(f"{sqlite_vec.loadable_path()}.so")
    sqlite.sqlite3_auto_extension(vectors.sqlite3_vec_init)
    try:
        connection: sqlite3.Connection = sqlite3.connect(path, factory=_Connection, **options)
        return connection
    finally:
        sqlite.sqlite3_cancel_auto_extension(vectors.sqlite3_vec_init)


@contextmanager
def sqlite_store(path: str = ":memory:", *, index: Any = None, ttl: Any = None) -> Iterator[Any]:
    """Yield a SqliteStore that is ready, with an index also where Python loads no extensions."""
    if index is not None and "fields" in index:
        index = {**index, "text_fields": index["fields"]}  # the name that is read there
    with closing(_connected(path)) as connection:
        store = SqliteStore(connection, index=index, ttl=ttl)
        store.setup()
        yield store
