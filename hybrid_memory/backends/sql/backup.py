"""A consistent copy of the database while others write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hybrid_memory.errors import StorePathError

PAGES = 1024  # copied in one step; between steps the thread can be interrupted


def refuse_occupied(directory: Path) -> None:
    """Raise StorePathError unless the directory is missing or empty."""
    if directory.exists() and not directory.is_dir():
        raise StorePathError(f"{directory} is a file; a backup is a directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise StorePathError(f"{directory} is not empty; name a new directory for the backup")


def copy(
    source: sqlite3.Connection,
    directory: Path,
    name: str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Copy a database into a new directory, which gets its name when all of it is on disk.

    Raises:
        StorePathError: the directory is not empty, or cannot be made.
    """
    directory = directory.absolute()
    refuse_occupied(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Made with mode 0700.
        made = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
        try:
            path = made / name
            path.touch(mode=0o600)
            _copy(source, path, on_progress)
            for written in (path, made):
                _sync(written)
            made.rename(directory)  # refused by the system if somebody filled it meanwhile
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        _sync(directory.parent)
    except OSError as error:
        raise StorePathError(f"cannot make {directory}: {error.strerror or error}") from error


def _copy(
    source: sqlite3.Connection, path: Path, on_progress: Callable[[int, int], None] | None
) -> None:
    def progress(status: int, remaining: int, total: int) -> None:
        if on_progress is not None:
            on_progress(total - remaining, total)

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


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
