"""Fifty tenants of one store make 10,000 random calls: nobody is shown a byte of another.

Looked at are results with all that can be read of them, errors with their causes, what is logged,
and files that are written. A foreign id answers as a missing one does. What is told to a tenant
who does nothing stays the same to the last bit, whatever the others write.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hybrid_memory.errors import HybridMemoryError
from hybrid_memory.testing import ManualClock
from tests.reliability.calls import BY_KIND, Tenant, World, public
from tests.reliability.outcome import Outcome

TENANTS = 50
STILL = 5  # tenants who only ask
CALLS = 10_000
# Calls that look at or rewrite the whole file, or everything of a tenant: a few in 1,000.
SELDOM = {
    "erase",
    "import_",
    "backup",
    "check",
    "repair",
    "purge",
    "verify_erased",
    "reembed",
    "beside",
    "open",
    "close",
}

BEGIN = ManualClock()()
_CANARIES = re.compile(r"(?:canary|label)(\d{4})z")


def run(scale: float = 1.0) -> Outcome:
    """Make 10,000 random calls."""
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, Heard() as heard:
        world = World(Path(directory), tenants=TENANTS)
        still = {tenant.number: _all_told(world, tenant) for tenant in world.tenants[:STILL]}
        for _ in range(int(CALLS * scale)):
            tenant = world.random.choice(world.tenants[STILL:])
            _call(world, tenant, heard, counts)
            if world.random.random() < 0.05:
                _ask_for_a_foreign_id(world, tenant, counts)
        for tenant in world.tenants[:STILL]:
            counts["still tenants"] += 1
            counts["told otherwise"] += _all_told(world, tenant) != still[tenant.number]
        counts["damage"] = len(world.memory.check().problems)
        world.close()
    failures = ("foreign bytes", "foreign ids told apart", "told otherwise", "untyped", "damage")
    return Outcome(
        f"random calls of {TENANTS} tenants",
        trials=counts["calls"],
        failures=sum(counts[name] for name in failures),
        seconds=time.monotonic() - started,
        details={
            **{name: counts[name] for name in failures},
            **{name: count for name, count in counts.items() if ": " in name},
            "methods": sum(name.startswith("call of ") for name in counts),
            "errors, all of them ours": counts["errors"],
            "foreign ids asked for": counts["foreign ids"],
            "bytes looked at": counts["bytes"],
            "own canaries seen": counts["own bytes"],
        },
    )


def methods() -> list[str]:
    """Return the public methods and attributes that there are calls of."""
    return sorted(f"{of}.{name}" for of, calls in BY_KIND.items() for name in public(calls))


_METHODS = methods()
_OFTEN = [name for name in _METHODS if name.partition(".")[2] not in SELDOM]


def _call(world: World, tenant: Tenant, heard: Heard, counts: Counter[str]) -> None:
    """Make one call as a tenant, and look at what comes of it."""
    world.clock.advance(seconds=world.random.randrange(60))
    name = world.random.choice(_METHODS if world.random.random() < 0.03 else _OFTEN)
    of, _, method = name.partition(".")
    calls = BY_KIND[of](world, tenant)
    heard.lines.clear()
    try:
        told: Any = getattr(calls, method)()
    except (HybridMemoryError, KeyError) as error:  # KeyError: as of any mapping
        counts["errors"] += 1
        told = error
    except Exception as error:
        counts["untyped"] += 1
        counts[f"{name}: {type(error).__name__}"] += 1
        told = error
    counts["calls"] += 1
    counts[f"call of {name}"] += 1
    for text in [*readable(told), *heard.lines]:
        counts["bytes"] += len(text)
        numbers = {int(number) for number in _CANARIES.findall(text)}
        counts["own bytes"] += tenant.number in numbers
        if numbers - {tenant.number}:
            counts["foreign bytes"] += 1
            counts[f"foreign bytes: {name}"] += 1


def _ask_for_a_foreign_id(world: World, tenant: Tenant, counts: Counter[str]) -> None:
    """Compare the answers to an id of another tenant with those to one that nobody has."""
    other = world.random.choice([one for one in world.tenants if one is not tenant])
    found = other.scopes[0].search("secret", k=200)
    theirs = [hit.record.id for hit in found if hit.record.id in other.ids]
    if not theirs:
        return
    foreign, missing = world.random.choice(theirs), "nobody-has-this"
    scope = tenant.scopes[0]
    asks: tuple[Callable[[str], Any], ...] = (
        scope.get,
        lambda id: scope.get_many([id]),
        scope.delete,
        lambda id: scope.delete_many([id]),
        scope.confirm,
        lambda id: scope.update(id, text="mine now"),
        lambda id: scope.update(id, expected_version=1, text="mine now"),
        lambda id: scope.why("secret", id),
    )
    for ask in asks:
        counts["foreign ids"] += 1
        if _answer(ask, foreign) != _answer(ask, missing):
            counts["foreign ids told apart"] += 1


def _answer(ask: Callable[[str], Any], id_: str) -> str:
    try:
        return repr(ask(id_))
    except Exception as error:
        return f"{type(error)} {error}".replace(id_, "...")


def _all_told(world: World, tenant: Tenant) -> list[Any]:
    """Return all that can be asked without writing, hits with scores and signals among it."""
    scope, now = tenant.scopes[0], BEGIN
    question = "What is the secret about tea?"
    hits = [
        (hit.record, hit.score, hit.rank, dict(hit.signals), hit.duplicates, hit.relevance)
        for query in (question, "my secret number", "Lyon", tenant.canary)
        for hit in scope.search(query, k=200, now=now)
    ]
    return [
        hits,
        scope.stats(),
        scope.messages(now=now),
        scope.facts(as_of=now),
        scope.context(question, now=now).as_json(),
        dict(scope.profile),
        scope.instructions(now=now),
    ]


# -- all that can be read --------------------------------------------------------------------


def readable(value: object, depth: int = 4) -> list[str]:
    """Return the texts of a value: what it shows of itself, of its parts, and of its methods."""
    if isinstance(value, bytes):
        return [value.decode("utf-8", "replace")]
    found = list(dict.fromkeys((repr(value), str(value))))
    if isinstance(value, BaseException):
        while value is not None:
            found += [*traceback.format_exception(value), repr(value.args)]
            value = value.__cause__ or value.__context__
        return found
    if depth == 0 or isinstance(value, str | int | float | None):
        return found
    if isinstance(value, Mapping):
        parts: Iterable[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, tuple | list):
        parts = value
    elif dataclasses.is_dataclass(value):
        parts = [_part(getattr(value, name)) for name in public(value)]
    else:
        return found
    return found + [text for part in parts for text in readable(part, depth - 1)]


def _part(part: Any) -> Any:
    """Return a part of a value; of a method what it returns, if it takes nothing."""
    if not callable(part):
        return part
    try:
        return part()
    except TypeError:
        return None


class Heard(logging.Handler):
    """All that is logged meanwhile, by anybody, as lines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")

    def __enter__(self) -> Heard:
        log = logging.getLogger()
        self._level = log.level
        log.setLevel(logging.DEBUG)
        log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        log = logging.getLogger()
        log.removeHandler(self)
        log.setLevel(self._level)
