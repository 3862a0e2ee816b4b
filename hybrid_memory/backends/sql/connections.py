"""The connections of a process to the file, and what the faults of the file are called."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from hybrid_memory.backends.sql import disk
from hybrid_memory.backends.sql.gate import Gate, refused
from hybrid_memory.backends.sql.lenient import is_undecodable, lenient
from hybrid_memory.errors import (
    ClosedError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StorePathError,
    StoreReadOnlyError,
)
from hybrid_memory.types import Namespace

FILE_NAME = "memory.db"
BUSY_TIMEOUT_S = 30.0
IDLE_READERS = 8  # connections that are kept for the next reader

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Store = TypeVar("_Store", bound="Connections")


@dataclass(frozen=True, slots=True)
class _Links:
    """The connections of one process to the file; see `gate.py`."""

    pid: int
    lock: threading.Lock  # one writer a process: waiting here is fair and cheap
    writer: Engine
    reader: Engine
    idle: list[sqlite3.Connection]  # without an engine, for the two reads of every search

    def close(self) -> None:
        """Close what is idle; what is in use is left to who uses it."""
        self.trim(0)
        for engine in (self.reader, self.writer):
            engine.pool.dispose()  # the engine's own would begin another pool

    def trim(self, keep: int) -> None:
        with suppress(IndexError):  # other threads may be at it too
            while len(self.idle) > keep:
                self.idle.pop().close()


class Connections:
    """The file of a store: it is read, and written, within a transaction of these."""

    def __init__(
        self, path: Path, durability: Literal["full", "normal"], *, read_only: bool = False
    ) -> None:
        self._path = path.absolute()  # the process may change its directory
        self._durability = durability
        self._read_only = read_only
        self._numbers: dict[Namespace, int] = {}
        self._told: set[object] = set()  # what was logged as damaged
        self._opened: _Links | None = None
        self._gate = Gate(self._path, self._unlink)
        self._opening = threading.Lock()
        self._closed = False
        self._interrupted = False
        self._place: tuple[int, int] | None = None  # of the file: its device and number there

    def _engine(self, begin: str, pool_size: int, *, read_only: bool) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            creator=lambda: self._connected(read_only=read_only),
            poolclass=QueuePool,
            pool_size=pool_size,
            max_overflow=-1,
        )

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _connected(self, *, read_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            disk.reading_uri(self._path) if self._read_only else self._path.as_uri(),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # the driver must not open transactions by itself
            check_same_thread=False,
        )
        wanted = {
            "journal_mode": "wal",
            "synchronous": 2 if self._durability == "full" else 1,
            "secure_delete": 1,
            "query_only": int(read_only),
        }
        if self._read_only:
            wanted = {"query_only": 1}
        try:
            for name, value in wanted.items():
                _patiently(connection, f"PRAGMA {name} = {value}")
                found = connection.execute(f"PRAGMA {name}").fetchone()[0]
                if found != value:
                    raise StoreError(f"{self._path}: PRAGMA {name} is {found!r}, wanted {value!r}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _links(self) -> _Links:
        if self._closed:
            raise ClosedError(f"the store of {self._path.parent} was closed; open it again")
        if self._opened is None:
            with self._opening:
                if self._opened is None:
                    writer = self._engine("BEGIN IMMEDIATE", 1, read_only=False)
                    reader = self._engine("BEGIN", IDLE_READERS, read_only=True)
                    links = _Links(os.getpid(), threading.Lock(), writer, reader, [])
                    self._opened = links
        if self._opened.pid != os.getpid():
            raise refused(self._path)  # forked by what does not tell Python
        return self._opened

    def _unlink(self) -> None:
        """Close and forget the connections, none of which is in use."""
        links, self._opened = self._opened, None
        if links is not None:
            links.close()

    @contextmanager
    def _using(self) -> Iterator[_Links]:
        who = self._gate.enter()
        try:
            links = self._links()
            try:
                yield links
            finally:
                self._after_use(links)
        finally:
            self._gate.leave(who)

    @contextmanager
    def _using_to_write(self) -> Iterator[_Links]:
        if self._read_only:
            raise StoreReadOnlyError(
                f"{self._path} was opened for reading, as it or its directory cannot be written; "
                "check owner and mode and open it again"
            )
        with self._using() as links, links.lock:
            yield links

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._using_to_write() as links, self._faults(), links.writer.begin() as connection:
            self._refuse_moved()
            yield connection

    def _refuse_moved(self) -> None:
        """Raise unless the file that is open is the one that stands at the path."""
        try:
            found = self._path.stat()
        except OSError:
            found = None
        place = None if found is None else (found.st_dev, found.st_ino)
        self._place = self._place or place
        if place is None or place != self._place:
            # SQLite would go on to write to a file that nobody can open any more.
            raise StoreCorruptError(
                f"{self._path} was removed or replaced while it was open; close and open it again"
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._using() as links, self._faults(), links.reader.begin() as connection:
            yield connection

    def _after_use(self, links: _Links) -> None:
        links.trim(IDLE_READERS)
        if self._closed:  # meanwhile, by another thread
            links.close()

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """Return the rows of one statement, read by the driver in a fifth of the time."""
        with self._using() as links, self._faults():
            try:
                connection = links.idle.pop()
            except IndexError:  # none yet, or other threads are at work with them
                connection = self._connected(read_only=True)
            try:
                rows = connection.execute(statement, values).fetchall()
            except Exception as error:
                connection.close()
                if not is_undecodable(error):
                    raise
            else:
                links.idle.append(connection)
                return rows
        with self._reading() as again, lenient(again):
            return list(again.exec_driver_sql(statement, values))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:  # of a message of SQLite that quotes a damaged schema
            raise StoreCorruptError(f"{self._path} is damaged; restore a backup") from None
        except (DBAPIError, sqlite3.Error) as error:
            raise fault(error, self._path) from None  # its message would show bound texts

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """Yield the driver's writing connection, outside of a transaction."""
        with (
            self._using_to_write() as links,
            self._faults(),
            closing(links.writer.raw_connection()) as raw,
        ):
            connection = cast(sqlite3.Connection, raw.driver_connection)
            try:
                yield connection
            finally:
                wait_at_most(connection, BUSY_TIMEOUT_S)

    def _is_log_cut(self, deadline: float) -> bool:
        while True:
            # Only for a moment each, so that other threads can write.
            with self._alone() as connection:
                wait_at_most(connection, min(0.2, max(0.0, deadline - time.monotonic())))
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)

    def _try_to_cut_log(self) -> None:
        with suppress(StoreError):
            self._is_log_cut(time.monotonic())

    def close(self) -> None:
        """See `RecordStore.close`."""
        if self._closed:
            return
        self._closed = True
        if self._opened is not None and self._opened.pid == os.getpid():
            self._opened.close()


def also_when_full(
    remove: Callable[Concatenate[_Store, _P], _T],
) -> Callable[Concatenate[_Store, _P], _T]:
    """Where the disk is full, remove with the space that is kept for it."""

    @wraps(remove)
    def removing(store: _Store, /, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return remove(store, *args, **options)
        except StoreFullError:
            disk.release_reserve(store._path.parent)
            store._try_to_cut_log()
        try:
            return remove(store, *args, **options)
        finally:
            store._try_to_cut_log()
            disk.keep_reserve(store._path.parent)

    return removing


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement, again and again while the database is locked.

    Of two processes that make a store at once SQLite refuses one without waiting: both have begun
    to read before the mode of the journal is changed.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 (not together with the other)


def wait_at_most(connection: sqlite3.Connection, seconds: float) -> None:
    """Let a connection wait for locks so long, and then give up."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def fault(error: Exception, path: Path) -> StoreError:
    """Return the typed error of a database error, without the statement and its values."""
    if is_undecodable(error):
        return StoreCorruptError(f"{path} holds a damaged text; run memory.repair()")
    original = error.orig if isinstance(error, DBAPIError) else error
    reason = str(original)
    if re.search("locked|busy", reason):
        return StoreBusyError(
            f"{path} is locked by another writer for over {BUSY_TIMEOUT_S:.0f} s; try again"
        )
    if "full" in reason:
        return StoreFullError(f"no space is left for {path}; free some and repeat")
    if "readonly" in reason or "unable to open" in reason:
        return StorePathError(f"{path} cannot be written ({reason}); check its owner and mode")
    if "I/O error" in reason:
        code = getattr(original, "sqlite_errorname", "SQLITE_IOERR")
        return StoreError(
            f"{path} could not be read or written ({code}); look after the disk, or its quota, and "
            "repeat: what was to be written is not known to be stored"
        )
    if re.search("malformed|not a database|corrupt|no such (table|column)", reason):
        return StoreCorruptError(
            f"{path} is damaged ({reason}); memory.repair() may mend it, else restore a backup"
        )
    return StoreError(f"{path}: {reason}")
