"""One bit of the database is not as it was: whatever is read is true, and `check` tells the rest.

No message, and no report, quotes a text.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hybrid_memory import HybridMemory
from hybrid_memory.errors import EmbedderMismatchError, HybridMemoryError, StoreCorruptError
from hybrid_memory.testing import HashEmbedder, LineSplitter
from hybrid_memory.types import Record
from tests.reliability.outcome import Outcome
from tests.reliability.writers import opened

FLIPS = 600
CANARY = "hazelnuts"


def run(scale: float = 1.0) -> Outcome:
    """Flip so many times 600 bits, each in a copy of the same store."""
    began = time.monotonic()
    flips = max(1, round(FLIPS * scale))
    rng = random.Random(FLIPS)
    ends: Counter[str] = Counter()
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        true = _filled(path)
        whole = (path / "memory.db").read_bytes()
        used = [at for at, byte in enumerate(whole) if byte]  # most of a small file is empty
        for flip in range(flips):
            at, bit = rng.choice(used if flip % 4 else range(len(whole))), rng.randrange(8)
            content = bytearray(whole)
            content[at] ^= 1 << bit
            shutil.rmtree(path)
            path.mkdir()
            (path / "memory.db").write_bytes(content)
            try:
                end, wrong = _looked_at(path, true)
            except Exception as error:
                end, wrong = "failed", [f"{type(error).__name__} is not typed, or not expected"]
            ends[end] += 1
            for sentence in wrong:
                print(f"bit {bit} of byte {at}: {sentence}", file=sys.stderr)
            failures += bool(wrong)
    return Outcome(
        what="bit flipped in the database",
        trials=flips,
        failures=failures,
        seconds=time.monotonic() - began,
        details=dict(ends),
    )


def _filled(path: Path) -> dict[str, Any]:
    """Make a store with records of all kinds; return everything that can be read."""
    with opened(path, splitter=LineSplitter()) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        ana.add_many(
            {"id": f"r{i}", "text": f"Turn {i} about tea.", "metadata": {"n": i}} for i in range(6)
        )
        ana.add(f"I am allergic to {CANARY} and to nothing else.", id="nuts", speaker="Ana")
        ana.add_fact({"intent": "preference", "like": ["tea"]}, id="fact")
        ana.add_documents(["The canteen serves lentils on Mondays."], source="menu.md")
        ana.add_instruction("Answer in one line.", id="rule")
        ana.profile["city"] = "Lyon"
        ana.profile["food"] = {"likes": ["tea"]}
        memory.scope(user_id="bob", session_id="s1").add("I am Bob and I like rice.", id="bob")
        ana.add("This is forgotten.", id="gone")
        ana.delete("gone")
        return everything(memory)


def everything(memory: HybridMemory) -> dict[str, Any]:
    """Return all that can be read, by what it is called."""
    read: dict[str, Any] = {}
    for user in ("ana", "bob"):
        scope = memory.scope(user_id=user, session_id="s1")
        records: list[Record] = [*scope.messages(), *scope.facts(), *scope.instructions()]
        records += [hit.record for hit in scope.search("turn about tea and lentils", k=50)]
        records += [hit.record for hit in scope.search("allergic", k=50, where={"n": {"$gt": 2}})]
        read |= {f"{user} {record.id}": record for record in records}
        read |= {f"{user} profile {key}": value for key, value in scope.profile.items()}
    return read


def _looked_at(path: Path, true: dict[str, Any]) -> tuple[str, list[str]]:
    """Read, check and repair; return how it ended, and what is wrong with that."""
    try:
        memory = opened(path, splitter=LineSplitter())
    except HybridMemoryError as error:
        return "refused", ["a text is in a message"] if CANARY in str(error) else []
    wrong: list[str] = []
    with memory:
        said = ""
        try:
            read = everything(memory)
        except StoreCorruptError as error:
            said, read = str(error), {}
        except EmbedderMismatchError:
            # What the store knows its vector space by; the way out is to have it anew.
            memory.reembed(HashEmbedder())
            return "moved", [] if everything(memory) == true else ["moved, and not the same"]
        report = memory.check()
        if any(true.get(name) != value for name, value in read.items()):
            wrong.append("served what is damaged")
        if read != true and report.is_clean:
            wrong.append("passed over by check()")
        if CANARY in f"{said} {report}":
            wrong.append("a text is in a message")
        repaired = memory.repair()
        if repaired.is_clean:
            if not memory.check().is_clean:
                wrong.append("repaired, and not clean")
            if len(everything(memory)) < len(true) - repaired.quarantined:
                wrong.append("repaired, and something is missing")
    if report.is_clean:
        return "in unused bytes", wrong
    return "repaired" if repaired.is_clean else "reported", wrong


if __name__ == "__main__":
    print(run(*map(float, sys.argv[1:])))
