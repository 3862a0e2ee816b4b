"""The k-th write, flush or cut of a file fails, for k = 1, 2, 3...: a typed error, nothing lost.

At every second k it fails from there on, as a broken or full disk does, until it is mended; at the
others only once. Then the same store, still open, takes writes again.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hybrid_memory import HybridMemory
from hybrid_memory.errors import HybridMemoryError, StoreError
from tests.reliability import sqlite_files
from tests.reliability.outcome import Outcome
from tests.reliability.sqlite_files import (
    SQLITE_FULL,
    SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
    Fault,
    Step,
)
from tests.reliability.writers import SHARED, State, found, opened

LAST = 200  # the highest k


class Broken:
    """A disk that fails at the k-th step, with what can fail there."""

    def __init__(self, k: int, *, stays: bool, rng: random.Random) -> None:
        self._left, self._stays, self._rng = k, stays, rng
        self.faults = 0

    def __call__(self, step: Step) -> Fault | None:
        self._left -= 1
        if self._left > 0 or (self._left < 0 and not self._stays):
            return None
        self.faults += 1
        if step.action == "flush":
            return Fault(SQLITE_IOERR_FSYNC)
        if step.action == "cut":
            return Fault(SQLITE_IOERR_TRUNCATE)
        code = SQLITE_FULL if self._rng.random() < 0.5 else SQLITE_IOERR_WRITE
        return Fault(code, share=self._rng.choice([0.0, 0.5]))


def run(scale: float = 1.0) -> Outcome:
    """Fail at k = 1 to so many times 200."""
    began = time.monotonic()
    last = max(1, round(LAST * scale))
    counts: Counter[str] = Counter()
    sqlite_files.watch(None)  # so that the files opened from here on are watched
    for k in range(1, last + 1):
        with tempfile.TemporaryDirectory() as directory:
            wrong = _failed_at(k, Path(directory) / "store", counts)
        for sentence in wrong:
            print(f"k = {k}: {sentence}", file=sys.stderr)
        counts["failures"] += bool(wrong)
    return Outcome(
        what="I/O error at the k-th write",
        trials=last,
        failures=counts["failures"],
        seconds=time.monotonic() - began,
        details={name: counts[name] for name in ("faults", "calls refused", "never reached")},
    )


def _failed_at(k: int, path: Path, counts: Counter[str]) -> list[str]:
    rng = random.Random(k)
    broken = Broken(k, stays=k % 2 == 0, rng=rng)
    wrong: list[str] = []
    state: State = {}
    unsure: State = {}  # what a call that failed may have done
    memory: HybridMemory | None = None
    with sqlite_files.watching(broken):
        for number in range(12):
            try:
                memory = memory or opened(path)
                call, changes = _next(memory, state, number, rng)
                call()
            except StoreError:
                counts["calls refused"] += 1
                if memory is not None:
                    unsure |= changes
            except HybridMemoryError as error:
                wrong.append(f"not an error of the store, but {type(error).__name__}")
            except Exception as error:
                wrong.append(f"{type(error).__name__} is not typed")
            else:
                state |= changes
                unsure = {key: text for key, text in unsure.items() if key not in changes}
            if memory is not None and state:
                wrong += _reads(memory, state, unsure)
    counts["faults"] += broken.faults
    counts["never reached"] += not broken.faults
    memory = memory or opened(path)
    with memory:
        memory.scope(user_id=SHARED).add("Mended.", id="mended")
        state[f"{SHARED} mended"] = "Mended."
        wrong += [f"check: {one}" for one in memory.check().problems]
        wrong += _reads(memory, state, unsure)
    with opened(path) as again:
        wrong += _reads(again, state, unsure)
        wrong += [f"check, opened again: {one}" for one in again.check().problems]
    return wrong


def _next(
    memory: HybridMemory, state: State, number: int, rng: random.Random
) -> tuple[Callable[[], object], State]:
    """Return the next call, and what it changes."""
    ana = memory.scope(user_id=SHARED)
    there = [key.split()[1] for key, text in state.items() if text]
    id_ = rng.choice(there) if there else ""
    text = f"Note {number} {rng.randbytes(200).hex()}."
    match number % 6:
        case 2 if there:
            return lambda: ana.update(id_, text=text), {f"{SHARED} {id_}": text}
        case 4 if there:
            return lambda: ana.delete(id_), {f"{SHARED} {id_}": None}
        case 5:
            return lambda: memory.purge(timeout_s=0.05), {}
    return lambda: ana.add(text, id=f"n{number}"), {f"{SHARED} n{number}": text}


def _reads(memory: HybridMemory, state: State, unsure: State) -> list[str]:
    """Return what is not as acknowledged, nor as a call that failed would have left it."""
    stored = found(memory)
    return [
        f"{key} is not as acknowledged"
        for key in stored.keys() | state.keys()
        if stored.get(key) != state.get(key)
        and not (key in unsure and stored.get(key) == unsure[key])
    ]


if __name__ == "__main__":
    print(run(*map(float, sys.argv[1:])))
