"""The record store on SQLite, through SQLAlchemy Core: the one truth of a memory.

A class in rooms, each standing on the one before: its connections, what it reads, what it writes,
its upkeep, and here how it is opened and what it knows of itself. What is particular to SQLite
stands in `connections.py`, `lenient.py`, `maintenance.py` and `open`.
"""

from __future__ import annotations

import os
import uuid
from functools import cached_property
from pathlib import Path
from typing import Literal

from sqlalchemy import insert, select

from hybrid_memory.backends.sql import disk, maintenance, schema
from hybrid_memory.backends.sql.connections import FILE_NAME
from hybrid_memory.backends.sql.upkeep import Upkeep
from hybrid_memory.errors import SchemaVersionError, StorePathError
from hybrid_memory.limits import to_json


class SQLRecordStore(Upkeep):
    """A RecordStore in one SQLite file of a directory. Make it with `open`."""

    @classmethod
    def open(
        cls, directory: Path | str, *, durability: Literal["full", "normal"] = "full"
    ) -> SQLRecordStore:
        """Open the store of a directory, made (mode 0700) if it is missing.

        `durability="full"` flushes every commit to the device before a write returns.
        `"normal"` is about ten times faster a write and may lose the last commits in a power
        cut; a crash of the process loses nothing either way.

        Raises:
            StorePathError: the path is a file, or cannot be written.
            SchemaVersionError: written by a newer version of this library.
            StoreCorruptError: the file is not a database.
        """
        if durability not in ("full", "normal"):
            raise StorePathError(f"durability must be 'full' or 'normal', not {durability!r}")
        directory = Path(directory)
        if directory.exists() and not directory.is_dir():
            raise StorePathError(f"{directory} is a file; a store is a directory")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorePathError(f"cannot make {directory}: {error.strerror}") from error
        path = directory / FILE_NAME
        for target in [directory, path] if path.exists() else [directory]:
            if not os.access(target, os.R_OK | os.W_OK):
                raise StorePathError(f"{target} cannot be written; check its owner and mode")
        store = cls(path, durability)
        store._interrupted = _has_log(path)
        disk.keep_private(path)
        store._prepare()
        disk.keep_reserve(directory)
        return store

    def _prepare(self) -> None:
        with self._writing() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > schema.VERSION:
                raise SchemaVersionError(
                    f"{self._path} has schema {found}, this version knows up to "
                    f"{schema.VERSION}; upgrade hybrid-rag-memory"
                )
            if found == 0:
                schema.schema.create_all(connection, checkfirst=True)
            elif found < schema.VERSION:
                maintenance.upgrade(connection, found)
            if found != schema.VERSION:
                connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")

    @cached_property
    def id(self) -> str:
        """See `RecordStore.id`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR IGNORE", dialect="sqlite"),
                {"name": "id", "value": uuid.uuid4().hex},
            )
            statement = select(schema.settings.c.value).where(schema.settings.c.name == "id")
            return str(connection.execute(statement).scalar_one())

    def set_space(self, name: str, dim: int) -> tuple[str, int]:
        """See `RecordStore.set_space`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR IGNORE", dialect="sqlite"),
                {"name": "space", "value": to_json([name, dim])},
            )
        return self.space() or (name, dim)

    def set_rules(self, version: int) -> None:
        """See `RecordStore.set_rules`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR REPLACE", dialect="sqlite"),
                {"name": "rules", "value": str(version)},
            )


def _has_log(path: Path) -> bool:
    """Tell whether SQLite has changes in its log that are not in the file of a database yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0
