"""A power cut, as far as it can be played: the log ends anywhere, or is garbage from there on.

What is found then must be what some first of the commits made, and no commit by half. And: each
commit was flushed to the device before the call returned.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import sqlite_files
from tests.reliability.outcome import Outcome
from tests.reliability.sqlite_files import Step
from tests.reliability.writers import SHARED, State, found, opened

POINTS = 200
COMMITS = 40


def run(scale: float = 1.0) -> Outcome:
    """Cut or garble the log at so many times 200 points."""
    began = time.monotonic()
    points = max(2, round(POINTS * scale))
    rng = random.Random(POINTS)
    failures = 0
    reached: set[int] = set()
    with tempfile.TemporaryDirectory() as directory:
        store, again = Path(directory) / "store", Path(directory) / "again"
        states, unflushed = _written(store, rng)
        log = (store / "memory.db-wal").read_bytes()
        for point in range(points):
            at = rng.randrange(len(log))
            garbage = rng.randbytes(len(log) - at) if point % 2 else b""
            shutil.rmtree(again, ignore_errors=True)
            again.mkdir()
            shutil.copy(store / "memory.db", again)
            (again / "memory.db-wal").write_bytes(log[:at] + garbage)
            with opened(again) as memory:
                state = found(memory)
                is_clean = memory.check().is_clean
            if state in states and is_clean:
                reached.add(states.index(state))
            else:
                failures += 1
                print(f"cut at {at} of {len(log)}: not a first part of it", file=sys.stderr)
    return Outcome(
        what="log cut or garbled",
        trials=points,
        failures=failures + unflushed,
        seconds=time.monotonic() - began,
        details={"different ends": len(reached), "commits": COMMITS, "log bytes": len(log)},
    )


def _written(path: Path, rng: random.Random) -> tuple[list[State], int]:
    """Write to a new store, which is left as it is without being closed.

    Return the states that it has been in, and of how many calls the last write was not flushed.
    """
    steps: list[Step] = []
    with sqlite_files.watching(steps.append):
        memory = opened(path)
        memory.scope(user_id=SHARED).add("The first.", id="0")
        memory.purge()  # what comes now is in the log alone
        ana = memory.scope(user_id=SHARED)
        states, unflushed = [found(memory)], 0
        for number in range(1, COMMITS + 1):
            steps.clear()
            there = [key.split()[1] for key in states[-1]]
            call = rng.choice(["add", "add", "add", "update", "delete"]) if there else "add"
            if call == "add":
                texts = [f"Note {number} {rng.randbytes(4).hex()}." for _ in range(3)]
                ana.add_many({"id": f"{number}-{i}", "text": one} for i, one in enumerate(texts))
            elif call == "update":
                ana.update(rng.choice(there), text=f"Changed {number} {rng.randbytes(4).hex()}.")
            else:
                ana.delete(rng.choice(there))
            of_log = [step for step in steps if step.file == "log"]
            unflushed += of_log[-1:] != [Step("log", "flush")]
            states.append(found(memory))
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    memory.close()
    shutil.rmtree(path)
    copy.rename(path)
    return states, unflushed


if __name__ == "__main__":
    print(run(*map(float, sys.argv[1:])))
