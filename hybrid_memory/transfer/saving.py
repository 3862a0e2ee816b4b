"""The way out: a store as JSON Lines."""

from __future__ import annotations

import base64
import errno
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from hybrid_memory import indexing, limits
from hybrid_memory.errors import (
    HybridMemoryError,
    StoreCorruptError,
    StoreFullError,
    TransferError,
)
from hybrid_memory.protocols import RecordStore, Space, Stored
from hybrid_memory.transfer.form import FIELDS, FORMAT, TIMES, VERSION, OnProgress
from hybrid_memory.types import Namespace, Target

PAGE = 1000  # records read from the store at once


def save(
    store: RecordStore,
    target: Target,
    *,
    namespaces: Iterable[Namespace] | None = None,
    vectors: bool = False,
    on_progress: OnProgress | None = None,
) -> int:
    """Write namespaces (all, if None) as JSON Lines and return the number of records.

    A file of the path is replaced once all is written and on disk, and is its owner's alone. What
    others write meanwhile may be in it or not; a record is never half of it.

    Raises:
        StoreCorruptError: a record is damaged; nothing is left out in silence.
        TransferError: the path cannot be written.
    """
    if namespaces is None:
        counts = dict(sorted(store.namespaces().items()))
    else:  # of the others nothing is read, not even how many there are
        counts = {namespace: store.stats(namespace).total for namespace in namespaces}
    total, done = sum(counts.values()), 0
    with _writer(target) as write:
        space = store.space()
        named = None if space is None else _named(space, vectors=vectors)
        rules = store.rules() or indexing.RULES
        write({"format": FORMAT, "version": VERSION, "space": named, "rules": rules})
        for namespace in counts:
            for key, value in _profile(store, namespace).items():
                write({"namespace": namespace, "profile": key, "value": value})
            for page in _pages(store, namespace):
                for row in page:
                    write(_values(row, namespace, vectors=vectors))
                done += len(page)
                if on_progress is not None:
                    on_progress(done, max(total, done))
    return done


def _named(space: Space, *, vectors: bool) -> dict[str, Any]:
    """Return what a space is known by; its probes only where there are vectors to be judged."""
    named: dict[str, Any] = {"name": space.name, "dim": space.dim}
    if vectors and space.probes is not None:
        named["probes"] = base64.b64encode(space.probes).decode()
    return named


def _profile(store: RecordStore, namespace: Namespace) -> dict[str, Any]:
    if damaged := store.damaged_profile(namespace):
        raise StoreCorruptError(
            f"{len(damaged)} values in the profile of {namespace} are damaged; "
            "memory.repair() moves them away, then export again"
        )
    return store.profile(namespace)


def _pages(store: RecordStore, namespace: Namespace) -> Iterator[list[Stored]]:
    after = 0
    while page := store.stored(namespace, after=after, limit=PAGE):
        yield page
        after = page[-1].key


def _values(row: Stored, namespace: Namespace, *, vectors: bool) -> dict[str, Any]:
    record = row.record
    if record is None:
        raise StoreCorruptError(
            f"record {row.id or row.key!r} of {namespace} is damaged; "
            "memory.repair() moves it away, then export again"
        )
    values = {name: getattr(record, name) for name in FIELDS}
    values |= {name: _written(values[name]) for name in TIMES}
    values["metadata"] = dict(record.metadata)
    if vectors and row.vector is not None and row.vector_is_intact:
        values["vector"] = base64.b64encode(row.vector).decode()
    return values


def _written(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextmanager
def _writer(target: Target) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give what writes an object as a line, to an open file or to a new one in its place."""
    if not isinstance(target, Path | str):
        limits.part(target, "the target of an export", "write")
    opened = _replacing(limits.path(target)) if isinstance(target, Path | str) else None
    with opened or nullcontext(cast(IO[Any], target)) as out:
        is_text = isinstance(out, io.TextIOBase)

        def write(values: Mapping[str, Any]) -> None:
            line = limits.to_json(values) + "\n"
            out.write(line if is_text else line.encode())  # type: ignore[arg-type]

        yield write


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    try:
        if path.exists() and not path.is_file():  # a pipe or a terminal; a folder is refused here
            with path.open("wb") as file:
                yield file
            return
        path = Path(os.path.realpath(path))  # a link stays a link
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except HybridMemoryError:
        raise  # some of ours are an OSError too
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFullError(f"no space is left for {path}; free some and repeat") from error
        raise TransferError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_directory(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)  # else a power cut may undo the new name
    finally:
        os.close(opened)
