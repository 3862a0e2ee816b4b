"""A memory that threads are using while its process forks, and that both sides use after.

Each child goes on with the memory it inherits, and so do the threads of its parent. Then the
parent closes the memory and opens it again, while children are still at work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from hybrid_memory import HybridMemory
from hybrid_memory.errors import ForkError
from tests.reliability.outcome import Outcome
from tests.reliability.processes import opened

FORKS = 60
AT_ONCE = 3  # children of one memory
THREADS = 3
WRITES = 5  # of a child
PATIENCE_S = 60  # after which a child is taken to hang


def run(scale: float = 1.0) -> Outcome:
    """Fork 60 times while three threads write and search."""
    turns = max(1, round(FORKS * scale / AT_ONCE))
    done = _Done()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(turns):
            _fork(directory, turn, done)
        with opened(directory) as memory:
            there = {one.id for one in memory.scope(user_id="ana").messages()}
            done.counts["damage"] = len(memory.check().problems)
    done.counts["lost"] = len(done.acknowledged - there)
    failures = ("lost", "damage", "not read", "hung or died", "errors")
    return Outcome(
        f"forks of a memory that {THREADS} threads are using",
        trials=turns * AT_ONCE,
        failures=sum(done.counts[name] for name in failures),
        seconds=time.monotonic() - started,
        details={
            "acknowledged": len(done.acknowledged),
            **{name: done.counts[name] for name in failures},
            **{name: count for name, count in done.counts.items() if name.startswith("error ")},
            "refused": done.counts["refused"],
        },
    )


@dataclass(slots=True)
class _Done:
    """What was acknowledged to a writer, and how often which promise was not kept."""

    acknowledged: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Done) -> None:
        self.acknowledged |= other.acknowledged
        self.counts += other.counts


def _fork(directory: str, turn: int, done: _Done) -> None:
    context = multiprocessing.get_context("fork")
    ended = threading.Event()
    children = []
    with opened(directory) as memory, ThreadPoolExecutor(THREADS) as pool:
        writing = [
            pool.submit(_write, memory, f"turn{turn}thread{number}", ended)
            for number in range(THREADS)
        ]
        time.sleep(0.05)  # until they are at work
        for number in range(AT_ONCE):
            heard, told = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(memory, f"turn{turn}child{number}", told))
            child.start()
            told.close()
            children.append((child, heard))
        ended.set()
        for one in writing:
            done.add(one.result())
    # The memory is closed now, and some of the children may be at work.
    with opened(directory) as again:
        done.add(_write(again, f"turn{turn}again", None))
        for child, heard in children:
            try:
                done.add(heard.recv())
            except EOFError:
                done.counts["hung or died"] += 1
            child.join()


def _child(memory: HybridMemory, name: str, told: Connection) -> None:
    signal.alarm(PATIENCE_S)
    told.send(_write(memory, name, None))
    told.close()
    os._exit(0)


def _write(memory: HybridMemory, name: str, ended: threading.Event | None) -> _Done:
    """Write and search until told to end, or five times."""
    scope = memory.scope(user_id="ana")
    done = _Done()
    number = 0
    while not ended.is_set() if ended is not None else number < WRITES:
        id_ = f"{name}number{number}"
        number += 1
        try:
            scope.add(f"the word {id_}", id=id_)
            done.acknowledged.add(id_)
            if all(hit.record.id != id_ for hit in scope.search(id_, k=10)):
                done.counts["not read"] += 1
        except ForkError:
            done.counts["refused"] += 1
        except Exception as error:  # whatever it is, it is a failure that is reported
            done.counts["errors"] += 1
            done.counts[f"error {type(error).__name__}: {error}"] += 1
    return done
