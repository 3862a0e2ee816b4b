"""What the C library hands out as memory, where a library writes of it more than it has filled."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_M_PERTURB = -6  # of mallopt(3)
_lock = threading.Lock()
_within = 0


@contextmanager
def no_remains() -> Iterator[None]:
    """Have what is allocated meanwhile, by any thread, hold nothing of what was freed before.

    Of the GNU C library, which else hands out memory as it was freed; macOS clears it by itself,
    and elsewhere nothing changes.
    """
    global _within
    with _lock:
        _within += 1
        if _within == 1:
            _perturb(0xFF)  # of which the library fills in the complement, zeros
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                _perturb(0)


def _perturb(byte: int) -> None:
    if (mallopt := _mallopt()) is not None:
        mallopt(_M_PERTURB, byte)


@cache
def _mallopt() -> Any:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return None
