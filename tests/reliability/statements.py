"""Every SQL statement that a tenant's call runs is bound to the tenant's namespace.

The driver shows the statements as they are run, with their values, on all connections: those of
SQLAlchemy and those without it. A statement on a table of tenants has to name the number of the
namespace, or keys that have it in their upper bits.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hybrid_memory import HybridMemory
from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.backends.sql.schema import COUNTER_BITS
from hybrid_memory.errors import HybridMemoryError
from hybrid_memory.testing import HashEmbedder, LineSplitter
from tests.reliability.calls import BY_KIND, SHARED, RepeatingChat, World
from tests.reliability.isolation import methods
from tests.reliability.outcome import Outcome
from tests.reliability.processes import count_words

TENANTS = 5
CALLS_OF_EACH = 60
# What is asked of the store as a whole, or of one beside: whoever keeps it up may, no scope can.
WHOLE_STORE = {
    "memory.beside",
    "memory.check",
    "memory.close",
    "memory.items",
    "memory.open",
    "memory.reembed",
    "memory.repair",
}

_TABLES = r"records|removals|profiles|quarantine|namespaces"
_STATEMENT = re.compile(rf"\b(?:FROM|INTO|UPDATE|JOIN)\s+({_TABLES})\b")
_INSERT = re.compile(rf"INSERT (?:OR \w+ )?INTO (?:{_TABLES}) \(([^)]*)\) VALUES \((.*)", re.DOTALL)
_NUMBER = re.compile(r"\b(?:namespace|namespace \+ 0) = (\d+)|\bnamespaces\.number = (\d+)")
_KEY = re.compile(r"\bkey\"? = (\d+)")
_KEYS = re.compile(r"\bkey\"? IN \(([\d, ]+)\)")
_SPAN = re.compile(r"\bkey\"? BETWEEN (\d+) AND (\d+)")
_LABELS = re.compile(r"\blabels = '((?:[^']|'')*)'")


def run(scale: float = 1.0) -> Outcome:
    """Make calls of every public method and look at the statements of each."""
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        world = _TracedWorld(Path(directory), tenants=TENANTS)
        for name in (name for name in methods() if name not in WHOLE_STORE):
            for _ in range(max(2, int(CALLS_OF_EACH * scale))):
                _look_at(world, name, counts)
        world.close()
    return Outcome(
        "SQL statements on tables of tenants",
        trials=counts["statements"],
        failures=counts["unbound"],
        seconds=time.monotonic() - started,
        details={
            "methods": len(methods()) - len(WHOLE_STORE),
            **{name: count for name, count in counts.items() if ": " in name},
        },
    )


class _TracedStore(SQLRecordStore):
    """A store that keeps the statements that are run, as SQLite expands them."""

    def _connected(self, *, read_only: bool) -> sqlite3.Connection:
        connection = super()._connected(read_only=read_only)
        connection.set_trace_callback(_seen.append)
        return connection


_seen: list[str] = []


class _TracedWorld(World):
    def opened(self, name: str) -> HybridMemory:
        return HybridMemory(
            _TracedStore.open(self.directory / name, durability="normal"),
            embedder=HashEmbedder(),
            splitter=LineSplitter(),
            count_tokens=count_words,
            clock=self.clock,
            llm=RepeatingChat(),
        )


def _look_at(world: World, name: str, counts: Counter[str]) -> None:
    tenant = world.random.choice(world.tenants)
    of, _, method = name.partition(".")
    calls = BY_KIND[of](world, tenant)
    before = _numbers(world)
    _seen.clear()
    with suppress(HybridMemoryError, KeyError):
        getattr(calls, method)()
    statements = [one for one in _seen if _STATEMENT.search(one)]
    after = _numbers(world)  # an erased namespace comes back under another number
    own, shared = json.dumps([tenant.label]), json.dumps(list(SHARED))
    for statement in statements:
        counts["statements"] += 1
        reads = statement.lstrip().startswith("SELECT")
        names = {own, shared} if reads else {own}
        numbers = {known[one] for known in (before, after) for one in names if one in known}
        if not is_bound(statement, numbers=numbers, names=names):
            counts["unbound"] += 1
            counts[f"{name}: {statement[:200]}"] += 1


def _numbers(world: World) -> dict[str, int]:
    with sqlite3.connect(world.directory / "memory" / "memory.db") as database:
        rows = database.execute("SELECT labels, number FROM namespaces").fetchall()
    database.close()
    return {json.dumps(json.loads(labels)): number for labels, number in rows}


def is_bound(statement: str, *, numbers: set[int], names: set[str]) -> bool:
    """Tell whether a statement says which namespaces it is about, and these are the ones."""
    if "namespace IS NULL" in statement:
        return True  # of a namespace that is not there nothing is read: no row is without one
    if inserted := _INSERT.search(statement):
        columns, values = (part.split(", ") for part in inserted.groups())
        if "labels" in columns:
            return json.dumps(json.loads(values[columns.index("labels")].strip("')"))) in names
        place = [column.strip('"') for column in columns].index("namespace")
        return int(values[place]) in numbers
    told = {int(one or other) for one, other in _NUMBER.findall(statement)}
    told |= {int(one) for one in re.findall(r"\bnumber = (\d+)", statement)}
    keys = [int(one) for one in _KEY.findall(statement)]
    keys += [int(one) for part in _KEYS.findall(statement) for one in part.split(",")]
    keys += [int(one) for span in _SPAN.findall(statement) for one in span]
    told |= {key >> COUNTER_BITS for key in keys}
    labels = {json.dumps(json.loads(one)) for one in _LABELS.findall(statement)}
    return bool(told or labels) and told <= numbers and labels <= names
