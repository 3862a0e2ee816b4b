"""A consistent copy of the database while others write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hybrid_memory.errors import HybridMemoryError, StorePathError

PAGES = 1024  # copied in one step; between steps the thread can be interrupted


def refuse_occupied(directory: Path) -> None:
    """Raise StorePathError unless the directory is missing or empty."""
    if directory.exists() and not directory.is_dir():
        raise StorePathError(f"{directory} is a file; a backup is a directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise StorePathError(f"{directory} is not empty; name a new directory for the backup")


@contextmanager
def made(directory: Path) -> Iterator[Path]:
    """Yield a new directory, which gets its name when all that was put into it is on disk.

    Raises:
        StorePathError: the directory is not empty, or cannot be made.
    """
    directory = directory.absolute()
    refuse_occupied(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Made with mode 0700.
        new = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
        try:
            yield new
            for written in (*new.rglob("*"), new):
                _sync(written)
            new.rename(directory)  # refused by the system if somebody filled it meanwhile
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        _sync(directory.parent)
    except HybridMemoryError:
        raise
    except OSError as error:
        raise StorePathError(f"cannot make {directory}: {error.strerror or error}") from error


def copy(
    source: sqlite3.Connection,
    path: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Copy a database into a new file and return how many pages it has."""
    pages = 0

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal pages
        pages = total
        if on_progress is not None:
            on_progress(total - remaining, total)

    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        # Within a transaction all steps see one state; without, each write of another connection
        # would start the copy over.
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(target, pages=PAGES, progress=progress, sleep=0.01)
        finally:
            source.execute("ROLLBACK")
        # What is derived of a store is kept under its id, and the copy goes ways of its own.
        target.execute("DELETE FROM settings WHERE name = 'id'")
    return pages


def after(
    done: int, on_progress: Callable[[int, int], None] | None
) -> Callable[[int, int], None] | None:
    """Return what tells of the progress of a next database, after so many pages of others."""
    if on_progress is None:
        return None
    return lambda pages, total: on_progress(done + pages, done + total)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
