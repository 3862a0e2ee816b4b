"""The files of SQLite under watch: every write, flush and cut can be seen, refused or be the last.

The driver's own copy of SQLite is asked for its file methods, and those are wrapped: no line of
the library under test knows of it. It needs a driver that is linked to a shared SQLite, as those
of Linux distributions are.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

SQLITE_FULL = 13
SQLITE_IOERR_WRITE = 10 | 3 << 8
SQLITE_IOERR_FSYNC = 10 | 4 << 8
SQLITE_IOERR_TRUNCATE = 10 | 6 << 8

Action: TypeAlias = Literal["write", "flush", "cut"]
FileKind: TypeAlias = Literal["database", "log", "journal", "temporary", "backup"]


class Step(NamedTuple):
    """What SQLite is about to do to a file; a flush is told when it is done."""

    file: FileKind
    action: Action


@dataclass(frozen=True)
class Fault:
    """What happens instead: an error of SQLite or, with no `code`, the end of this process.

    Of a write, this share is written first.
    """

    code: int | None
    share: float = 0.0


Watcher: TypeAlias = Callable[[Step], Fault | None]

_OPEN_KINDS: dict[int, FileKind] = {  # SQLITE_OPEN_...
    0x100: "database",
    0x800: "journal",
    0x80000: "log",
}


class _Methods(Structure):
    """sqlite3_io_methods: its version, and 18 functions of which these are the first."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    ]


class _File(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(Structure):
    """sqlite3_vfs, as far as the function that opens files."""

    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("max_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
    ]


# The name as an address: SQLite reads on behind its end.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class _Watched:
    """The file methods of SQLite, wrapped once for this process."""

    def __init__(self) -> None:
        import _sqlite3

        self.watcher: Watcher | None = None
        self._kept: list[object] = []  # what C holds pointers to
        self._wrapped: dict[tuple[int, FileKind], _Methods] = {}
        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
        find.restype = POINTER(_Vfs)
        vfs = find(None).contents
        open_file = _Open(vfs.open)

        def opened(
            of: int, name: int | None, file: ctypes._Pointer[_File], flags: int, out: int
        ) -> int:
            code = open_file(of, name, file, flags, out)
            if code == 0 and file.contents.methods:
                own = file.contents.methods
                file.contents.methods = ctypes.pointer(self._wrap(own, _kind(name, flags)))
            return code

        wrapped = _Open(opened)
        self._kept += [wrapped, open_file]
        vfs.open = ctypes.cast(wrapped, c_void_p)

    def _wrap(self, own: ctypes._Pointer[_Methods], kind: FileKind) -> _Methods:
        address = ctypes.addressof(own.contents)
        if (address, kind) in self._wrapped:
            return self._wrapped[address, kind]
        write = _Write(own.contents.write)
        truncate = _Truncate(own.contents.truncate)
        sync = _Sync(own.contents.sync)

        def watched_write(file: int, content: int, size: int, offset: int) -> int:
            fault = self._tell(Step(kind, "write"))
            if fault is None:
                return write(file, content, size, offset)
            if part := int(size * fault.share):
                write(file, content, part, offset)
            return _end(fault)

        def watched_truncate(file: int, size: int) -> int:
            fault = self._tell(Step(kind, "cut"))
            return truncate(file, size) if fault is None else _end(fault)

        def watched_sync(file: int, flags: int) -> int:
            code = sync(file, flags)
            fault = self._tell(Step(kind, "flush"))
            return code if fault is None else _end(fault)

        methods = _Methods()
        ctypes.pointer(methods)[0] = own.contents
        for name, function in {
            "write": _Write(watched_write),
            "truncate": _Truncate(watched_truncate),
            "sync": _Sync(watched_sync),
        }.items():
            self._kept.append(function)
            setattr(methods, name, ctypes.cast(function, c_void_p))
        self._kept += [write, truncate, sync]
        self._wrapped[address, kind] = methods
        return methods

    def _tell(self, step: Step) -> Fault | None:
        return None if self.watcher is None else self.watcher(step)


def _kind(name: int | None, flags: int) -> FileKind:
    kind = next((kind for bit, kind in _OPEN_KINDS.items() if flags & bit), "temporary")
    if kind == "database" and name:
        directory = Path(os.fsdecode(ctypes.string_at(name))).parent
        # A backup is made in a hidden directory beside its place.
        return "backup" if directory.name.startswith(".") else kind
    return kind


def _end(fault: Fault) -> int:
    if fault.code is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return fault.code or 0


_watched: _Watched | None = None


def can_be_watched() -> bool:
    """Tell whether the driver lets its SQLite be reached."""
    try:
        import _sqlite3

        return hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_vfs_find")
    except (AttributeError, OSError):
        return False


def watch(watcher: Watcher | None) -> None:
    """Ask `watcher` from now on at each step; of files opened from the first call on."""
    global _watched
    _watched = _watched or _Watched()
    _watched.watcher = watcher


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Ask `watcher` at each step within this block."""
    watch(watcher)
    try:
        yield
    finally:
        watch(None)
