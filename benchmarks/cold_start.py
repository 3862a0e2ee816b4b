"""A new process that opens a store of 10,000 memories and answers its first question.

Wall time counts from before the interpreter starts until it has ended.

Run: python -m benchmarks.cold_start [--json PATH]
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import options, report
from hybrid_memory.backends.sql import schema

MEMORIES = 10_000
RUNS = 5

# Each runs in a process of its own, also the first: on Linux a child starts with its parent's
# peak of resident memory, so this process loads neither numpy nor the model.
BUILD = f"""
import sys
from benchmarks.common import sentences
from hybrid_memory import HybridMemory
with HybridMemory.open(sys.argv[1], durability="normal") as memory:
    memory.scope(user_id="ana").add_many(sentences({MEMORIES}, seed=4))
"""
FIRST_SEARCH = """
import json, resource, sys, time
times = [time.perf_counter()]
from hybrid_memory import HybridMemory
times.append(time.perf_counter())
with HybridMemory.open(sys.argv[1]) as memory:
    scope = memory.scope(user_id="ana")
    times.append(time.perf_counter())
    hits = scope.search("Who repaired the old bicycle from Lisbon?")
    times.append(time.perf_counter())
assert len(hits) == 10
usage = resource.getrusage(resource.RUSAGE_SELF)
peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
names = ("import", "open", "search")
steps = {name: end - start for name, start, end in zip(names, times, times[1:])}
print(json.dumps(steps | {"cpu": usage.ru_utime + usage.ru_stime, "peak": peak}))
"""
IMPORT = """
import json, sys, time
before = set(sys.modules)
started = time.perf_counter()
from hybrid_memory import HybridMemory
took = time.perf_counter() - started
new = {name.partition(".")[0] for name in set(sys.modules) - before}
others = sorted(new - sys.stdlib_module_names - {"hybrid_memory"})
count = len(set(sys.modules) - before)
print(json.dumps({"ms": 1000 * took, "modules": count, "others": ", ".join(others) or "none"}))
"""


def run(script: str, *arguments: Path) -> dict[str, Any]:
    """Run a script in a new process; return what it prints, and the wall seconds it took."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - started
    return {"wall": wall, **json.loads(done.stdout or "{}")}


def median(rows: list[dict[str, Any]], name: str) -> float:
    return round(float(statistics.median(row[name] for row in rows)), 3)


def main() -> None:
    arguments = options(__doc__)
    # Built once for each form of the tables.
    tables = hashlib.sha256(Path(schema.__file__).read_bytes()).hexdigest()[:8]
    path = Path(tempfile.gettempdir()) / f"hybrid-memory-cold-start-{MEMORIES}-{tables}"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        run(BUILD, unfinished)
        unfinished.rename(path)
    # The first run does not count: it brings the files into the page cache.
    searches = [run(FIRST_SEARCH, path) for _ in range(RUNS + 1)][1:]
    imports = [run(IMPORT) for _ in range(RUNS + 1)][1:]
    wall = {"p50": median(searches, "wall"), "cpu p50": median(searches, "cpu")}
    report(
        {
            "memories": MEMORIES,
            "process to first answer, s": wall | {"goal": 0.8},
            "of which, s": {step: median(searches, step) for step in ("import", "open", "search")},
            "peak resident memory, MB": {"p50": median(searches, "peak"), "goal": 300},
            "from hybrid_memory import HybridMemory": {
                "ms": median(imports, "ms"),
                "modules": imports[0]["modules"],
                "not of the standard library": imports[0]["others"],
            },
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
