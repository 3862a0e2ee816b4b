"""kill -9 at each named step of writing, deleting, erasing, moving, opening, copying; two writers.

One of them dies at the step, by its own hand, the other a moment later, wherever it is. Then the
store is opened and everything that was acknowledged is compared.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Pool, event

from hybrid_memory.testing import HashEmbedder
from tests.reliability import sqlite_files
from tests.reliability.outcome import Outcome
from tests.reliability.sqlite_files import Fault, Step
from tests.reliability.writers import Child, Told, audit, scratch

KILLS = 20  # of each step

# Statements, each a step once it has been executed.
STATEMENTS = {
    "store opening": r"PRAGMA user_version",
    "transaction begun": r"BEGIN IMMEDIATE",
    "namespace made": r"INSERT INTO namespaces",
    "counter raised": r"UPDATE namespaces",
    "record inserted": r"INSERT INTO records",
    "record updated": r"UPDATE records",
    "record deleted": r"DELETE FROM records",
    "removal noted": r"INSERT INTO removals",
    "quarantine cleared": r"DELETE FROM quarantine",
    "namespace erased": r"DELETE FROM namespaces",
    "profile set": r"INSERT OR REPLACE INTO profiles",
    "new space begun": r"INSERT INTO generations",
    "new vectors put aside": r"INSERT OR REPLACE INTO aside .*VALUES",
    "new space in force": r"UPDATE generations SET state",
    "new vectors put in place": r"UPDATE records SET size = size - length\(records\.vector\)",
    "former vectors left": r"DELETE FROM aside",
}
# What SQLite does to its files: a write is done by half.
FILES = {
    "log written": Step("log", "write"),
    "log flushed": Step("log", "flush"),
    "log cut": Step("log", "cut"),
    "database written": Step("database", "write"),
    "database flushed": Step("database", "flush"),
    "backup written": Step("backup", "write"),
    "backup flushed": Step("backup", "flush"),
}
OTHERS = ("texts encoded", "commit begun", "commit done", "backup about to be named")
# Only writing the file anew, erasing or copying gets there; it takes most of a writer's time.
OF_WHOLE_FILES = {
    "namespace made",
    "namespace erased",
    "log cut",
    "database written",
    "database flushed",
    "backup written",
    "backup flushed",
    "backup about to be named",
}
# Only a move to another vector space gets there.
OF_MOVES = {
    "new space begun",
    "new vectors put aside",
    "new space in force",
    "new vectors put in place",
    "former vectors left",
}
STEPS = (*STATEMENTS, *FILES, *OTHERS)


class Trap:
    """Ends this process when it gets to a step for the n-th time."""

    def __init__(self, step: str, *, at: int) -> None:
        self._step, self._left = step, at
        self._writes = False

    def reached(self, step: str) -> bool:
        """Tell whether this is the end."""
        if step != self._step:
            return False
        self._left -= 1
        return self._left == 0

    def spring(self, step: str) -> None:
        if self.reached(step):
            os.kill(os.getpid(), signal.SIGKILL)

    def set(self) -> None:
        """Lay the trap in this process, which is a writer's."""
        event.listen(Engine, "after_cursor_execute", self._executed)
        event.listen(Engine, "commit", self._commits)
        event.listen(Pool, "checkin", self._given_back)
        sys.addaudithook(self._audited)
        sqlite_files.watch(self._watched)
        embed = HashEmbedder.embed

        def encode(embedder: HashEmbedder, texts: Any) -> Any:
            vectors = embed(embedder, texts)
            self.spring("texts encoded")
            return vectors

        HashEmbedder.embed = encode  # type: ignore[method-assign]

    def _executed(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        for step, pattern in STATEMENTS.items():
            if re.match(pattern, statement):
                self.spring(step)

        self._writes = self._writes or statement == "BEGIN IMMEDIATE"

    def _commits(self, _: object) -> None:
        if self._writes:
            self.spring("commit begun")

    def _given_back(self, *_: object) -> None:
        if self._writes:
            self._writes = False
            self.spring("commit done")

    def _audited(self, name: str, _: object) -> None:
        if name == "os.rename":
            self.spring("backup about to be named")

    def _watched(self, done: Step) -> Fault | None:
        for step, one in FILES.items():
            if one == done and self.reached(step):
                return Fault(None, share=0.5)
        return None


def run(scale: float = 1.0) -> Outcome:
    """Kill so many times 20 at each step; two writers, one store a step."""
    began = time.monotonic()
    kills = max(1, round(KILLS * scale))
    counts: Counter[str] = Counter()
    for step in STEPS:
        with scratch() as path:
            wrong = _killed_at(step, path, kills, counts)
        for sentence in wrong:
            print(f"{step}: {sentence}", file=sys.stderr)
        counts["failures"] += len(wrong)
    return Outcome(
        what="kill -9 at named steps",
        trials=counts["kills"],
        failures=counts["failures"],
        seconds=time.monotonic() - began,
        details={"steps": len(STEPS), "acknowledged": counts["acknowledged"]},
    )


def _killed_at(step: str, path: Path, kills: int, counts: Counter[str]) -> list[str]:
    rng = random.Random(step)
    writers = [Told(), Told()]
    wrong: list[str] = []
    for kill in range(kills):
        trap = Trap(step, at=1 if step == "store opening" else rng.randint(1, 2))
        first = Child(
            path,
            0,
            kill,
            writers[0],
            prepare=trap.set,
            with_files=step in OF_WHOLE_FILES,
            with_moves=step in OF_MOVES,
        )
        second = Child(path, 1, kill, writers[1], with_files=kill % 4 == 0)
        code = first.wait()
        second.kill()
        if (other := second.wait()) not in (0, -signal.SIGKILL):
            wrong.append(f"the other writer ended with {other}")
        if code != -signal.SIGKILL:
            wrong.append(f"the writer was to be killed, and ended with {code}")
        counts["kills"] += 1
        wrong += audit(path, writers, rng)
    counts["acknowledged"] += sum(writer.acknowledged for writer in writers)
    return wrong


if __name__ == "__main__":
    print(run(*map(float, sys.argv[1:])))
