"""What a database is on the disk: its files, and whose they are."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from hybrid_memory.errors import StorePathError


def database_files(path: Path) -> list[Path]:
    """Return the file of a database, its log and the index of that, as far as they are there."""
    paths = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    return [one for one in paths if one.exists()]


def keep_private(path: Path) -> None:
    """Make the file of a database if it is missing, and what is there its owner's alone.

    SQLite gives its log and the index of that the mode which the database has when they are made.
    """
    try:
        path.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    except OSError as error:
        raise StorePathError(f"cannot make {path}: {error.strerror}") from error
    for one in database_files(path):
        with suppress(OSError):  # of another owner, whose choice it is; or just removed
            one.chmod(stat.S_IRUSR | stat.S_IWUSR)
