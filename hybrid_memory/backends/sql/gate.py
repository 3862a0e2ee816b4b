"""The gate before the connections to a SQLite file, which shuts while the process forks.

SQLite counts the locks on a file by process, not by connection. A child that inherits an open
connection takes the locks of its parent for its own, over new connections too: both write at once,
one cuts the log the other is writing to, and the database is damaged. So no connection may be open
when a process forks; afterwards parent and child each open their own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from hybrid_memory.errors import ForkError

WAIT_S = 5.0  # that a fork waits for threads that are at work with the file


class Gate:
    """Lets threads use the connections, and a fork wait until none does.

    `close` closes and forgets all of them; it is called when nobody is inside.
    """

    def __init__(self, path: Path, close: Callable[[], None]) -> None:
        self._path = os.path.realpath(path)
        self._close = close
        self._inside: dict[int, int] = {}  # how often a thread went in
        self._turns = threading.Condition()
        self._is_open = True
        with _one_at_a_time:
            _gates.add(self)

    def enter(self) -> int:
        """Go in, and return what `leave` takes; a generator may be ended by another thread.

        Raises:
            ForkError: the file was in use when this process was forked.
        """
        if self._path in _inherited:
            raise refused(self._path)
        who = threading.get_ident()
        with self._turns:
            # Who is inside already must not wait, or would never come out.
            while not self._is_open and who not in self._inside:
                self._turns.wait()
            self._inside[who] = self._inside.get(who, 0) + 1
        return who

    def leave(self, who: int) -> None:
        """Go out again."""
        with self._turns:
            if self._inside[who] > 1:
                self._inside[who] -= 1
                return
            del self._inside[who]
            if not self._is_open:
                self._turns.notify_all()

    def shut(self) -> None:
        """Let nobody in any more; close the connections as soon as everybody is out."""
        with self._turns:
            self._is_open = False
            waits = threading.get_ident() not in self._inside
            if waits and self._turns.wait_for(lambda: not self._inside, WAIT_S):
                self._close()

    def open(self) -> None:
        """Let everybody in again."""
        with self._turns:
            self._is_open = True
            self._turns.notify_all()

    def begin_in_child(self) -> None:
        """Open a gate that nobody is inside of: other threads are not there any more."""
        if self._inside:
            _inherited[self._path] = self
        self._inside, self._turns = {}, threading.Condition()
        self._is_open = True


def refused(path: Path | str) -> ForkError:
    """Return the error for a file that cannot be used in this process."""
    return ForkError(
        f"{path} was in use while this process was forked from another, and SQLite damages a file "
        "that is; fork when no call is going on, or start the process with 'spawn'"
    )


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
# What could not be closed in time; kept, for closing it here would damage the file as well.
_inherited: dict[str, Gate] = {}
_one_at_a_time = threading.Lock()


def _before_fork() -> None:
    _one_at_a_time.acquire()
    for gate in _gates:
        gate.shut()


def _after_fork() -> None:
    for gate in _gates:
        gate.open()
    _one_at_a_time.release()


def _begin_in_child() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    for gate in _gates:
        gate.begin_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_in_child
    )
