"""What the programs share that work on one store from several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hybrid_memory import HybridMemory
from hybrid_memory.testing import HashEmbedder, LineSplitter


def opened(directory: Path | str, **parts: Any) -> HybridMemory:
    """Open a memory without a model; writes are flushed to the device, as by default."""
    # As many dimensions as the model has: words seldom fall together.
    given = {"embedder": HashEmbedder(384), "splitter": LineSplitter(), "count_tokens": count_words}
    return HybridMemory.open(directory, **{**given, **parts})


def count_words(text: str) -> int:
    return len(text.split())


def side_by_side(
    work: Callable[..., Any], processes: int, *arguments: Any, shared: tuple[Any, ...] = ()
) -> list[Any]:
    """Return what `work(number, *arguments)` gives in each of some new processes at once.

    `shared` is what only goes to a process as it starts, such as a barrier; see `given`.
    """
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_give, initargs=shared
    ) as pool:
        futures = [pool.submit(work, number, *arguments) for number in range(processes)]
        return [future.result() for future in futures]


_given: tuple[Any, ...] = ()


def _give(*shared: Any) -> None:
    global _given
    _given = shared


def given() -> tuple[Any, ...]:
    """Return what was shared with this process as it started."""
    return _given
