"""One writer and three readers for two minutes: nothing grows, nothing is left open.

The number of records stays the same: what is added is deleted later.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from hybrid_memory import Scope
from tests.reliability.outcome import Outcome
from tests.reliability.processes import given, opened, side_by_side

PROCESSES = 4
SECONDS = 120.0
RECORDS = 1000  # that are there at any time
SAMPLE_S = 0.2
MAX_WAL_BYTES = 64 * 2**20
MAX_GROWTH_BYTES_PER_MINUTE = 2**20
ROOM_BYTES = 4 * 2**20  # for what an allocator keeps, whatever the time
WARM = 1 / 3  # share of the time after which nothing new is loaded


def run(scale: float = 1.0) -> Outcome:
    """Write and read for two minutes, and look at the processes and files from outside."""
    seconds = SECONDS * scale
    context = multiprocessing.get_context("spawn")
    pids = context.RawArray("l", PROCESSES)
    together = context.Barrier(PROCESSES + 1)
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(1) as pool:
        with opened(directory) as memory:
            scope = memory.scope(user_id="ana", session_id="s")
            scope.add_many([_item(number) for number in range(RECORDS)])
        shared = (pids, together)
        working = pool.submit(side_by_side, _work, PROCESSES, directory, seconds, shared=shared)
        together.wait()
        started = time.monotonic()
        samples = _watch(list(pids), Path(directory), started + seconds, working)
        counts: Counter[str] = sum(working.result(), Counter())
        took = time.monotonic() - started
        with opened(directory) as memory:
            damage = len(memory.check().problems)
            left = memory.scope(user_id="ana").stats().total
    warm = samples[int(len(samples) * WARM) :]
    memory_use = np.array([sample.rss for sample in warm], np.float64)
    files = np.array([sample.files for sample in warm])
    wal = max(sample.wal for sample in samples)
    # The median of the last third against that of the first: one sample says little.
    third = max(1, len(warm) // 3)
    growth = np.median(memory_use[-third:], axis=0) - np.median(memory_use[:third], axis=0)
    minutes = seconds * (1 - WARM) / 60
    failures = {
        "processes that grow": int(
            (growth > ROOM_BYTES + MAX_GROWTH_BYTES_PER_MINUTE * minutes).sum()
        ),
        "log too large": int(wal > MAX_WAL_BYTES),
        "processes that leave files open": int(
            (np.median(files[-third:], axis=0) > np.median(files[:third], axis=0)).sum()
        ),
        "errors": counts["errors"],
        "damage": damage,
        "records too many or too few": abs(left - RECORDS),
    }
    return Outcome(
        "calls of one writer and three readers",
        trials=counts["calls"],
        failures=sum(failures.values()),
        seconds=took,
        details={
            **failures,
            **{name: count for name, count in counts.items() if name.startswith("error ")},
            "writes": counts["writes"],
            "samples": len(samples),
            "growth of the writer, MiB": round(growth[0] / 2**20, 2),
            "growth of a reader, MiB, at most": round(growth[1:].max() / 2**20, 2),
            "memory of a process, MiB, at most": round(memory_use.max() / 2**20, 1),
            "log, MiB, at most": round(wal / 2**20, 2),
            "open files of a process, at most": int(files.max()),
        },
    )


class _Sample:
    """What the processes hold at a moment."""

    def __init__(self, processes: list[psutil.Process], directory: Path) -> None:
        self.rss = [process.memory_info().rss for process in processes]
        self.files = [process.num_fds() for process in processes]
        log = directory / "memory.db-wal"
        self.wal = log.stat().st_size if log.exists() else 0


def _watch(
    pids: list[int], directory: Path, until: float, working: Future[object]
) -> list[_Sample]:
    processes = [psutil.Process(pid) for pid in pids]
    samples = []
    while time.monotonic() < until - SAMPLE_S and not working.done():
        samples.append(_Sample(processes, directory))
        time.sleep(SAMPLE_S)
    return samples


def _work(number: int, directory: str, seconds: float) -> Counter[str]:
    pids, together = given()
    pids[number] = os.getpid()
    counts: Counter[str] = Counter()
    with opened(directory) as memory:
        scope = memory.scope(user_id="ana", session_id="s")
        together.wait()
        until = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < until:
            try:
                if number == 0:
                    _write(scope, turn)
                    counts["writes"] += 1
                else:
                    _read(scope, turn)
            except Exception as error:  # whatever it is, it is a failure that is reported
                counts["errors"] += 1
                counts[f"error {type(error).__name__}: {error}"] += 1
            counts["calls"] += 1
            turn += 1
    return counts


def _item(number: int) -> dict[str, object]:
    return {
        "text": f"I drink tea number {number} in room {number % 17}, and my word is w{number}.",
        "id": f"r{number}",
        "metadata": {"number": number},
    }


def _write(scope: Scope, turn: int) -> None:
    scope.add_many([_item(RECORDS + turn)])
    scope.update(f"r{RECORDS // 2 + turn}", importance=(turn % 10) / 10)
    scope.delete(f"r{turn}")
    scope.profile["turn"] = turn


def _read(scope: Scope, turn: int) -> None:
    """Ask in one of the ways there are."""
    reads = (
        lambda: scope.search(f"tea in room {turn % 17}", k=10),
        lambda: scope.search("tea", k=10, where={"number": {"$gte": turn}}),
        lambda: scope.context(f"Which tea is in room {turn % 17}?", max_tokens=300),
        lambda: scope.messages(last=20),
        lambda: scope.facts(as_of=datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: scope.stats(),
        lambda: dict(scope.profile),
    )
    reads[turn % len(reads)]()
