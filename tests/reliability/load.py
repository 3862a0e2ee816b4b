"""Four processes of four threads each add, search, update and delete in one store.

A round is one write and what a reader may then rely on: what was acknowledged is found, what was
deleted is not, and nothing of others is. Four threads, one of each process, share a namespace.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_memory import HybridMemory
from hybrid_memory.errors import ConflictError, NotFoundError
from tests.reliability.outcome import Outcome
from tests.reliability.processes import given, opened, side_by_side

PROCESSES = 4
THREADS = 4
ROUNDS = 10_000
SECONDS = 60.0
RECORDS = 20_000  # that a thread can announce to the others
KEPT = 25  # records of a thread that stay

# What is known by all of a record: nothing, that it is there, that it may be gone, that it is.
_ABSENT, _THERE, _GOING, _GONE = range(4)


def run(scale: float = 1.0) -> Outcome:
    """Work for a minute and 10,000 rounds, whichever is later."""
    context = multiprocessing.get_context("spawn")
    announced = context.RawArray("b", PROCESSES * THREADS * RECORDS)
    together = context.Barrier(PROCESSES)
    rounds = -(-int(ROUNDS * scale) // (PROCESSES * THREADS))
    with tempfile.TemporaryDirectory() as directory:
        with opened(directory) as memory:
            for thread in range(THREADS):
                scope = memory.scope(user_id=_user(thread))
                scope.add(f"mark{thread} count", id="count", data={"count": 0})
        shared = (announced, together)
        reports = side_by_side(_work, PROCESSES, directory, rounds, SECONDS * scale, shared=shared)
        seconds = max(report[2] for report in reports)
        counts: Counter[str] = sum((report[0] for report in reports), Counter())
        with opened(directory) as memory:
            counted = 0
            for thread in range(THREADS):
                data = memory.scope(user_id=_user(thread)).get("count").data or {}
                counted += data["count"]
            counts["lost updates"] = abs(counts["increments"] - counted)
            report = memory.check()
            counts["damage"] = len(report.problems)
    names = (
        "own write not read",
        "write of another not read",
        "deleted seen",
        "foreign rows",
        "lost updates",
        "errors",
        "damage",
    )
    took = np.array([one for report in reports for one in report[1]]) * 1000
    return Outcome(
        f"rounds of {PROCESSES} processes x {THREADS} threads on one store",
        trials=counts["rounds"],
        failures=sum(counts[name] for name in names),
        seconds=seconds,
        details={
            **{name: counts[name] for name in names},
            **{name: count for name, count in counts.items() if name.startswith("error ")},
            "increments": counts["increments"],
            "conflicts, tried again": counts["conflicts"],
            "rounds per second": round(counts["rounds"] / seconds, 1),
            "write p50 ms": round(float(np.percentile(took, 50)), 2),
            "write p99 ms": round(float(np.percentile(took, 99)), 1),
            "write max ms": round(float(took.max()), 1),
        },
    )


def _user(thread: int) -> str:
    return f"user{thread}"


def _work(
    process: int, directory: str, rounds: int, seconds: float
) -> tuple[Any, list[float], float]:
    announced, together = given()
    with opened(Path(directory)) as memory, ThreadPoolExecutor(THREADS) as pool:
        together.wait()
        started = time.monotonic()
        until = started + seconds
        workers = [_Worker(memory, process, thread, announced) for thread in range(THREADS)]
        done = [pool.submit(worker.work, rounds, until) for worker in workers]
        for one in done:
            one.result()
        seconds = time.monotonic() - started
    counts: Counter[str] = sum((worker.counts for worker in workers), Counter())
    return counts, [one for worker in workers for one in worker.took], seconds


class _Worker:
    """One thread: writes in the namespace of its number, and looks at what the others wrote."""

    def __init__(self, memory: HybridMemory, process: int, thread: int, announced: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.took: list[float] = []
        self._scope = memory.scope(user_id=_user(thread))
        self._mark = f"mark{thread}"  # in all texts of the namespace
        self._process, self._thread = process, thread
        self._announced = announced
        self._random = random.Random(process * THREADS + thread)
        self._mine: deque[int] = deque()
        self._next = 0

    def work(self, rounds: int, until: float) -> None:
        kinds = (self._add, self._update, self._delete, self._count)
        while self.counts["rounds"] < rounds or time.monotonic() < until:
            do = self._random.choices(kinds, (4, 3, 3, 1))[0]
            if do == self._delete and len(self._mine) < KEPT:
                do = self._add
            if not self._mine or (do == self._add and self._next == RECORDS):
                do = self._add if self._next < RECORDS else self._count
            try:
                do()
                self._look_at_others()
            except Exception as error:  # whatever it is, it is a failure that is reported
                self.counts["errors"] += 1
                self.counts[f"error {type(error).__name__}: {error}"] += 1
            self.counts["rounds"] += 1

    # -- rounds ------------------------------------------------------------------------------

    def _add(self) -> None:
        number, self._next = self._next, self._next + 1
        place = self._place(self._process, number)
        self._timed(self._scope.add, self._text(place, 1), id=f"r{place}")
        self._mine.append(number)
        self._announced[place] = _THERE
        self._expect(place, 1)

    def _update(self) -> None:
        place = self._place(self._process, self._random.choice(self._mine))
        version = self._scope.get(f"r{place}").version
        text = self._text(place, version + 1)
        self._timed(self._scope.update, f"r{place}", expected_version=version, text=text)
        self._expect(place, version + 1)

    def _delete(self) -> None:
        place = self._place(self._process, self._mine.popleft())
        self._announced[place] = _GOING
        was_there = self._timed(self._scope.delete, f"r{place}")
        self._announced[place] = _GONE
        hits = self._scope.search(f"word{place}", k=5)
        if not was_there:
            self.counts["own write not read"] += 1
        if any(hit.record.id == f"r{place}" for hit in hits):
            self.counts["deleted seen"] += 1

    def _count(self) -> None:
        """Raise a number that four processes raise."""
        while True:
            old = self._scope.get("count")
            count = (old.data or {})["count"] + 1
            try:
                self._timed(
                    self._scope.update,
                    "count",
                    expected_version=old.version,
                    data={"count": count},
                )
            except ConflictError:
                self.counts["conflicts"] += 1
                continue
            self.counts["increments"] += 1
            return

    # -- what must hold ------------------------------------------------------------------------

    def _expect(self, place: int, version: int) -> None:
        """Search for a text that was just written, one word of which it alone has."""
        gone = self._gone()
        text = self._text(place, version)
        hits = self._scope.search(text, k=5)
        if [hit.record.text for hit in hits if hit.record.id == f"r{place}"] != [text]:
            self.counts["own write not read"] += 1
        for hit in hits:
            if hit.record.namespace != self._scope.namespace or self._mark not in hit.record.text:
                self.counts["foreign rows"] += 1
            if hit.record.id in gone:
                self.counts["deleted seen"] += 1

    def _look_at_others(self) -> None:
        """Read what a thread of another process has acknowledged."""
        process = self._random.randrange(PROCESSES)
        first = self._place(process, 0)
        states = bytes(self._announced[first : first + RECORDS])
        number = states.rfind(_THERE)
        if number < 0:
            return
        place = first + number
        try:
            text = self._scope.get(f"r{place}").text
            found = any(hit.record.id == f"r{place}" for hit in self._scope.search(text, k=5))
        except NotFoundError:
            found = False
        if not found and self._announced[place] == _THERE:
            self.counts["write of another not read"] += 1

    def _gone(self) -> set[str]:
        """Return the ids of all that was acknowledged as deleted in this namespace by now."""
        gone = set()
        for process in range(PROCESSES):
            first = self._place(process, 0)
            states = np.frombuffer(self._announced, np.int8, RECORDS, first)
            gone |= {f"r{first + number}" for number in np.flatnonzero(states == _GONE)}
        return gone

    def _place(self, process: int, number: int) -> int:
        return (process * THREADS + self._thread) * RECORDS + number

    def _text(self, place: int, version: int) -> str:
        return f"{self._mark} word{place} version{version} of process{self._process}"

    def _timed(self, write: Any, *arguments: Any, **others: Any) -> Any:
        started = time.perf_counter()
        result = write(*arguments, **others)
        self.took.append(time.perf_counter() - started)
        return result
