"""The record store on SQLite, through SQLAlchemy Core: the one truth of a memory.

A class in rooms, each standing on the one before: its connections, what it reads, what it writes,
its upkeep, its vector spaces, and here how it is opened and what it knows of itself. What is
particular to SQLite stands in `connections.py`, `lenient.py`, `maintenance.py`, `open` and in the
triggers of `schema.py`.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import insert, select

from hybrid_memory.backends.sql import backup, disk, maintenance, schema
from hybrid_memory.backends.sql.connections import FILE_NAME, fault
from hybrid_memory.backends.sql.spaces import Spaces
from hybrid_memory.errors import (
    SchemaVersionError,
    StoreCorruptError,
    StorePathError,
    StoreReadOnlyError,
)
from hybrid_memory.limits import shown

BESIDE = "beside"  # the directory that holds those of other vector spaces


class SQLRecordStore(Spaces):
    """A RecordStore in one SQLite file of a directory. Make it with `open`."""

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        durability: Literal["full", "normal"] = "full",
        allow_network: bool = False,
    ) -> SQLRecordStore:
        """Open the store of a directory, made (mode 0700) if it is missing.

        `durability="full"` flushes every commit to the device before a write returns.
        `"normal"` is about ten times faster a write and may lose the last commits in a power
        cut; a crash of the process loses nothing either way.

        A store that cannot be written, such as one on a medium that is mounted read-only, is
        opened for reading, and every write raises StoreReadOnlyError; others should not write to
        it meanwhile, as that may not be seen.

        A file system that is reached over a network is refused where that can be told, which is
        on Linux: SQLite's locks may not reach the other machines there, and its log needs memory
        that all who have it open share. `allow_network` is for a store that only one machine
        has open at a time, on a file system whose locks can be trusted.

        Raises:
            StorePathError: the path is a file, or cannot be made, or holds no store and cannot be
                written, or is on a network.
            StoreReadOnlyError: the store cannot be written and has to be before it can be read.
            SchemaVersionError: written by a newer version of this library.
            StoreCorruptError: the file is not a database, or is gone and its log is not.
        """
        if durability not in ("full", "normal"):
            raise StorePathError(f"durability must be 'full' or 'normal', not {shown(durability)}")
        directory = Path(directory)
        if directory.exists() and not directory.is_dir():
            raise StorePathError(f"{directory} is a file; a store is a directory")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorePathError(f"cannot make {directory}: {error.strerror}") from error
        network = None if allow_network else disk.network_file_system(directory)
        if network is not None:
            raise StorePathError(
                f"{directory} is on a network ({network}), where SQLite can lose writes; name a "
                "directory on a local disk or, if one machine alone has the store open, pass "
                "SQLRecordStore.open(..., allow_network=True) to HybridMemory"
            )
        path = directory / FILE_NAME
        read_only = False
        for target in [directory, path] if path.exists() else [directory]:
            if not os.access(target, os.R_OK | os.W_OK):
                read_only = os.access(path, os.R_OK)
                if not read_only:
                    raise StorePathError(f"{target} cannot be written; check its owner and mode")
        store = cls(path, durability, read_only=read_only)
        store._interrupted = disk.has_log(path)
        if read_only:
            store._look_whether_it_can_be_read()
            return store
        if store._interrupted and not path.exists():
            raise StoreCorruptError(
                f"{path} is gone, and its log is there: restore the file or a backup or, to begin "
                f"anew, remove {path.name}-wal"
            )
        disk.keep_private(path)
        store._prepare()
        disk.keep_reserve(directory)
        return store

    def _look_whether_it_can_be_read(self) -> None:
        try:
            with self._reading() as connection:
                found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        except StorePathError:
            raise StoreReadOnlyError(
                f"{self._path} was not closed, and can only be read where it can be written: open "
                "it there once, or check its owner and mode"
            ) from None
        self._refuse_newer(found)
        if found < schema.VERSION:
            raise StoreReadOnlyError(
                f"{self._path} has schema {found}, this version reads {schema.VERSION}; open it "
                "once where it can be written, or check its owner and mode"
            )

    def _refuse_newer(self, found: int) -> None:
        if found > schema.VERSION:
            raise SchemaVersionError(
                f"{self._path} has schema {found}, this version knows up to "
                f"{schema.VERSION}; upgrade hybrid-rag-memory"
            )

    def _prepare(self) -> None:
        with self._writing() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            self._refuse_newer(found)
            if found == 0:
                schema.schema.create_all(connection, checkfirst=True)
            elif found < schema.VERSION:
                maintenance.upgrade(connection, found)
            if found != schema.VERSION:
                connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")

    def beside(self, name: str) -> SQLRecordStore:
        """See `RecordStore.beside`. It is a directory of that name in one of their own.

        So a store that somebody else keeps in a directory of this one is not taken for one of ours.
        """
        # On this file system already: whoever opened this one has answered for a network.
        place = self._path.parent / BESIDE / name
        return self.open(place, durability=self._durability, allow_network=True)

    def besides(self) -> list[str]:
        """See `RecordStore.besides`. A log without its database counts: it may hold texts."""
        found = (self._path.parent / BESIDE).glob(f"*/{FILE_NAME}*")
        return sorted({path.parent.name for path in found})

    def backup(
        self, directory: Path, *, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """See `RecordStore.backup`. Meanwhile the logs of the databases cannot be cut."""
        with backup.made(Path(directory)) as made:
            self._copy(made, on_progress)

    def _copy(self, directory: Path, on_progress: Callable[[int, int], None] | None) -> int:
        """Copy this store and those beside it; return how many pages that was."""
        try:
            with self._using() as links, closing(links.reader.raw_connection()) as connection:
                source = cast(sqlite3.Connection, connection.driver_connection)
                pages = backup.copy(source, directory / FILE_NAME, on_progress=on_progress)
        except sqlite3.Error as error:
            raise fault(error, directory) from None
        for name in self.besides():
            place = directory / BESIDE / name
            place.mkdir(mode=0o700, parents=True)
            with closing(self.beside(name)) as store:
                pages += store._copy(place, backup.after(pages, on_progress))
        return pages

    @cached_property
    def id(self) -> str:
        """See `RecordStore.id`."""
        if (known := self._setting("id")) is not None:
            return known
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR IGNORE", dialect="sqlite"),
                {"name": "id", "value": uuid.uuid4().hex},
            )
            statement = select(schema.settings.c.value).where(schema.settings.c.name == "id")
            return str(connection.execute(statement).scalar_one())

    def set_rules(self, version: int) -> None:
        """See `RecordStore.set_rules`."""
        with self._writing() as connection:
            connection.execute(
                insert(schema.settings).prefix_with("OR REPLACE", dialect="sqlite"),
                {"name": "rules", "value": str(version)},
            )
