"""Reads the SQLite files of other libraries, and changes nothing in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybrid_memory.errors import TransferError


def is_database(path: Path) -> bool:
    """Tell whether a file is one of SQLite.

    Raises:
        TransferError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror or error}") from error


def rows(
    path: Path, table: str, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table in the order they came, with `optional` columns that are there.

    Raises:
        TransferError: no database, or the table or one of its columns is missing.
    """
    if not is_database(path):
        raise TransferError(f"{path} is not an SQLite database")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if missing := [name for name in columns if name not in found]:
                what = f"the columns {', '.join(missing)} in" if found else "the table"
                raise TransferError(f"{path} has not {what} {table!r}")
            names = [*columns, *(name for name in optional if name in found)]
            # Names of our own, and of no user.
            statement = f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid"  # noqa: S608
            for row in database.execute(statement):
                yield dict(zip(names, row, strict=True))
    except sqlite3.Error as error:
        raise TransferError(f"cannot read {path} ({type(error).__name__}: {error})") from None


def moment(value: object, name: str) -> datetime | None:
    """Return a time of ISO 8601 as an aware one; without a zone it is UTC, as SQLite's own are.

    Raises:
        TransferError: something else than a text or None, or no time.
    """
    if value is None or value == "":
        return None
    try:
        read = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TransferError(f"{name} is not a time of ISO 8601") from None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
