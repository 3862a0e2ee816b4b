"""One id, many writers at once: exactly one creates the record, in each namespace on its own.

The same holds for a version: of many updates that expect it, exactly one is done.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hybrid_memory import Record, Scope
from hybrid_memory.errors import ConflictError
from tests.reliability.outcome import Outcome
from tests.reliability.processes import opened

THREADS = 8
TRIALS = 500


def run(scale: float = 1.0) -> Outcome:
    """Let eight threads, half on a second handle of the store, write one id at once."""
    trials = -(-int(TRIALS * scale) // 1)
    failures = 0
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as directory,
        opened(directory, durability="normal") as one,
        opened(directory, durability="normal") as other,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        scopes = [memory.scope(user_id="ana") for memory in (one, other)] * (THREADS // 2)
        bob = one.scope(user_id="bob")
        for trial in range(trials):
            id_ = f"id{trial}"
            failures += not _one_creates(pool, scopes, id_)
            failures += not _a_retry_changes_nothing(pool, scopes, id_)
            failures += not _one_updates(pool, scopes, id_)
            failures += bob.add("bob's own", id=id_).version != 1
        failures += scopes[0].stats().total != trials
        failures += bob.stats().total != trials
        failures += len(one.check().problems)
    return Outcome(
        f"races of {THREADS} threads for an id, a retry and a version",
        trials=3 * trials,
        failures=failures,
        seconds=time.monotonic() - started,
    )


def _one_creates(pool: ThreadPoolExecutor, scopes: list[Scope], id_: str) -> bool:
    done = _at_once(
        pool, [lambda s=s, n=n: s.add(f"by thread {n}", id=id_) for n, s in enumerate(scopes)]
    )
    won = [one for one in done if isinstance(one, Record)]
    lost = [one for one in done if isinstance(one, ConflictError)]
    return len(won) == 1 and len(lost) == THREADS - 1 and scopes[0].get(id_).text == won[0].text


def _a_retry_changes_nothing(pool: ThreadPoolExecutor, scopes: list[Scope], id_: str) -> bool:
    stored = scopes[0].get(id_)
    done = _at_once(pool, [lambda s=s: s.add(stored.text, id=id_) for s in scopes])
    return done == [stored] * THREADS


def _one_updates(pool: ThreadPoolExecutor, scopes: list[Scope], id_: str) -> bool:
    done = _at_once(
        pool,
        [
            lambda s=s, n=n: s.update(id_, expected_version=1, text=f"changed by {n}")
            for n, s in enumerate(scopes)
        ],
    )
    won = [one for one in done if isinstance(one, Record)]
    lost = [one for one in done if isinstance(one, ConflictError)]
    return len(won) == 1 and len(lost) == THREADS - 1 and scopes[0].get(id_) == won[0]


def _at_once(
    pool: ThreadPoolExecutor, calls: list[Callable[[], Record]]
) -> list[Record | Exception]:
    together = threading.Barrier(len(calls))

    def do(call: Callable[[], Record]) -> Record | Exception:
        together.wait()
        try:
            return call()
        except Exception as error:
            return error

    return list(pool.map(do, calls))
