"""Reading rows whose texts may be damaged: the driver refuses bytes that are no UTF-8.

Reading every text by a function of our own would find them too, and takes a quarter longer. So a
read that fails is repeated, and only that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Row, Select
from sqlalchemy.exc import OperationalError


@contextmanager
def lenient(connection: Connection) -> Iterator[None]:
    """Read bytes that are no UTF-8 as lone surrogates, which no checksum takes for the text."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.text_factory = as_stored
    try:
        yield
    finally:
        driver.text_factory = str


def as_stored(text: bytes) -> str:
    """Return the bytes of a text as a string from which they can be made again."""
    return text.decode("utf-8", "surrogateescape")


def is_undecodable(error: Exception) -> bool:
    """Tell whether the driver refused bytes that are no UTF-8. Its message shows them."""
    reason = error.orig if isinstance(error, OperationalError) else error
    return "decode to UTF-8" in str(reason)


def read(
    connection: Connection, statement: Executable, values: Mapping[str, Any] | None = None
) -> Sequence[Row[Any]]:
    """Return all rows of a statement."""
    try:
        return connection.execute(statement, values).all()
    except OperationalError as error:
        if not is_undecodable(error):
            raise
    with lenient(connection):
        return connection.execute(statement, values).all()


def slices(
    connection: Connection,
    statement: Select[Any],
    size: int,
    *,
    beyond: Callable[[Any], ColumnElement[bool]],
) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows of an ordered statement in slices.

    `beyond` makes, of the first value of a row, the condition for those after it: there the
    reading goes on once it has failed.
    """
    rest, last = statement, None
    try:
        for last in connection.execute(rest.execution_options(yield_per=size)).partitions(size):
            yield last
        return
    except OperationalError as error:
        if not is_undecodable(error):
            raise
    if last is not None:
        rest = statement.where(beyond(last[-1][0]))
    with lenient(connection):
        yield from connection.execute(rest.execution_options(yield_per=size)).partitions(size)
