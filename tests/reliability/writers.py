"""Writers that tell what they are about to do, and what is done, until they are killed; an audit.

A writer is a fork of this process, which has no store open then. Before each call it sends what
the call will change, and after it has returned, that it is done: so whoever reads the pipe knows
what was acknowledged, and of at most one call not how it ended.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import EmbedderMismatchError
from hybrid_memory.testing import HashEmbedder

# What is stored, by the user whose it is and its id: its text, or None of what is not there.
State: TypeAlias = dict[str, str | None]

SHARED = "ana"  # the namespace that all writers write to
PROFILE = "profile "  # begins the name of a key of the profile


OTHER_DIM = 96  # of the vector space that stores are moved to, and back from

MEMORY = Path("/dev/shm")


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield the path of a store to be, in RAM if possible: a kill leaves what the system holds."""
    fast = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="killed-", dir=fast) as directory:
        yield Path(directory) / "store"


def opened(path: Path, **parts: Any) -> HybridMemory:
    """Open a store in whichever of two vector spaces it is."""
    for embedder in cycle((HashEmbedder(), HashEmbedder(OTHER_DIM))):
        with suppress(EmbedderMismatchError):  # another process may move it meanwhile
            return HybridMemory.open(path, embedder=embedder, **parts)
    raise AssertionError


class Writer:
    """One that changes a store, call by call; the same seed gives the same calls."""

    def __init__(
        self,
        number: int,
        seed: int,
        state: Mapping[str, str | None],
        *,
        with_files: bool,
        with_moves: bool,
        send: Callable[[Any], None],
    ) -> None:
        self._name = f"w{number}-{seed}"
        self._random = random.Random(self._name)
        self._own = f"gone{number}"  # the namespace that this writer erases
        self._state = dict(state)
        self._send = send
        self._made = self._moves = 0
        self._calls = [self.add, self.add_many, self.update, self.delete, self.forget, self.tell]
        if with_files:  # these write the file anew, and take longer
            self._calls += [self.erase, self.purge, self.backup]
        if with_moves:  # the other writer has to open the store again
            self._calls += [self.reembed]

    def run(self, path: Path, *, rounds: int) -> None:
        """Open the store and make all calls so many times, each time in another order."""
        self._path = path
        self._open()
        for _ in range(rounds):
            for call in self._random.sample(self._calls, len(self._calls)):
                call()
        self._memory.close()

    def _open(self) -> None:
        self._memory = opened(self._path)
        self._ana = self._memory.scope(user_id=SHARED, session_id=self._name)

    def _does(self, changes: State, call: Callable[[], object]) -> None:
        self._send(changes)
        while True:
            try:
                call()
                break
            except EmbedderMismatchError:  # the store was moved, and nothing was written
                self._memory.close()
                self._open()
        self._send("done")
        self._state |= changes

    def _new(self, user: str = SHARED) -> tuple[str, str, str]:
        """Return a key of the state, the id and the text of a new record."""
        self._made += 1
        id_ = f"{self._name}-{self._made}"
        return f"{user} {id_}", id_, f"{id_} {self._random.randbytes(6).hex()}"

    def _there(self) -> list[str]:
        """Return the keys of the records of this writer in the shared namespace."""
        mine = f"{SHARED} {self._name.split('-')[0]}-"
        return [key for key, text in self._state.items() if text and key.startswith(mine)]

    def _items(self, user: str = SHARED) -> tuple[State, list[dict[str, Any]]]:
        made = [self._new(user) for _ in range(3)]
        batch = f"{self._name}-{self._made}"
        items = [{"id": id_, "text": text, "metadata": {"batch": batch}} for _, id_, text in made]
        return {key: text for key, _, text in made}, items

    def add(self) -> None:
        key, id_, text = self._new()
        self._does({key: text}, lambda: self._ana.add(text, id=id_))

    def add_many(self) -> None:
        changes, items = self._items()
        self._does(changes, lambda: self._ana.add_many(items))

    def update(self) -> None:
        if there := self._there():
            key = self._random.choice(there)
            text = f"{key.split()[1]} {self._random.randbytes(6).hex()}"
            self._does({key: text}, lambda: self._ana.update(key.split()[1], text=text))

    def delete(self) -> None:
        if there := self._there():
            key = self._random.choice(there)
            self._does({key: None}, lambda: self._ana.delete(key.split()[1]))

    def forget(self) -> None:
        changes, items = self._items()
        self._does(changes, lambda: self._ana.add_many(items))
        where = items[0]["metadata"]
        self._does(dict.fromkeys(changes), lambda: self._ana.forget(where=where))

    def tell(self) -> None:
        name, value = self._name.split("-")[0], self._random.randbytes(4).hex()
        changes: State = {f"{SHARED} {PROFILE}{name}": value}
        self._does(changes, lambda: self._ana.profile.update({name: value}))

    def erase(self) -> None:
        changes, items = self._items(self._own)
        self._does(changes, lambda: self._memory.scope(user_id=self._own).add_many(items))
        # With what an erasure that was killed has left.
        left = [key for key in self._state if key.startswith(f"{self._own} ")]
        self._does(
            dict.fromkeys(left),
            lambda: self._memory.scope(user_id=self._own).erase(timeout_s=0.05),
        )

    def purge(self) -> None:
        self._does({}, lambda: self._memory.purge(timeout_s=0.05))

    def reembed(self) -> None:
        """Move the store to the other of two vector spaces; what it holds stays what it is."""
        there = self._memory.embedder.dim == OTHER_DIM
        new = HashEmbedder() if there else HashEmbedder(OTHER_DIM)
        self._does({}, lambda: self._memory.reembed(new, batch_size=8))
        self._moves += 1
        if self._moves % 2 == 0:  # else the next move is the way back to vectors that are kept
            self.purge()

    def backup(self) -> None:
        self._made += 1
        copy = self._path.with_name(f"backup-{self._name}-{self._made}")
        self._send({"backup": str(copy)})
        self._memory.backup(copy)
        self._send("done")


@dataclass
class Told:
    """What is known of a writer's work: what was acknowledged, and what may have happened."""

    state: State = field(default_factory=dict)
    pending: State = field(default_factory=dict)
    backups: dict[str, State] = field(default_factory=dict)  # what each must hold
    acknowledged: int = 0

    def hear(self, messages: Iterator[Any]) -> None:
        for message in messages:
            if message == "done":
                self.state |= self.pending
                self.pending = {}
                self.acknowledged += 1
            elif "backup" in message:
                self.backups[message["backup"]] = dict(self.state)
            else:
                self.pending = message


class Child:
    """A writer at work in a process of its own."""

    def __init__(
        self,
        path: Path,
        number: int,
        seed: int,
        told: Told,
        *,
        rounds: int = 6,
        with_files: bool = True,
        with_moves: bool = False,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            code = 1
            try:
                prepare()
                writer = Writer(
                    number,
                    seed,
                    told.state,
                    with_files=with_files,
                    with_moves=with_moves,
                    send=lambda message: os.write(writing, json.dumps(message).encode() + b"\n"),
                )
                writer.run(path, rounds=rounds)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self._reading = reading
        self._told = told

    def until_it_writes(self, *, timeout_s: float) -> None:
        """Wait until the writer has opened the store and begins its first call."""
        select.select([self._reading], [], [], timeout_s)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Hear what the writer told, to its end, and return its exit code: -9 if it was killed."""
        with open(self._reading, "rb") as pipe:
            heard = pipe.read()
        # A last line that was cut was not sent before the call it announces.
        lines = heard.split(b"\n")[:-1]
        self._told.hear(json.loads(line) for line in lines)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def found(memory: HybridMemory) -> State:
    """Return all that is stored."""
    state: State = {}
    for namespace in memory._store.namespaces():
        [user] = namespace
        for row in memory._store.stored(namespace, limit=10**6):
            state[f"{user} {row.id}"] = row.record.text if row.record else "(damaged)"
        values = memory._store.profile(namespace)
        state |= {f"{user} {PROFILE}{key}": value for key, value in values.items()}
    return state


def audit(path: Path, writers: Sequence[Told], rng: random.Random) -> list[str]:
    """Open the store and return what is wrong, a sentence each; settle what was pending."""
    wrong: list[str] = []
    with opened(path) as memory:
        stored = found(memory)
        for writer in writers:
            keys = writer.state.keys() | writer.pending.keys()
            mine = {key: stored.pop(key, None) for key in keys}
            before = dict.fromkeys(keys) | writer.state
            if mine not in (before, before | writer.pending):
                wrong += _differences(mine, before, writer.pending)
            writer.state, writer.pending = mine, {}
        wrong += [f"{key} is there and nobody wrote it" for key in stored]
        for writer in writers:
            wrong += _search(memory, writer.state, rng)
        report = memory.check()
        wrong += [f"check: {problem}" for problem in report.problems]
    for writer in writers:
        # The last is the one that may have been cut short; it stands for those before.
        for place in [*writer.backups][:-1]:
            shutil.rmtree(place, ignore_errors=True)
        for place, state in [*writer.backups.items()][-1:]:
            wrong += _backup(Path(place), state)
        writer.backups.clear()
    return wrong


def _differences(mine: State, before: State, pending: State) -> list[str]:
    return [
        f"{key} is {'there again' if before[key] is None else 'lost or not as written'}"
        for key, text in mine.items()
        if text != before[key] and (key not in pending or text != pending[key])
    ] or ["a call was done by half"]


def _search(memory: HybridMemory, state: State, rng: random.Random) -> list[str]:
    """Search for some of what is there, and of what is not there any more."""
    scope: Scope = memory.scope(user_id=SHARED)
    records = [key for key in state if key.startswith(f"{SHARED} w")]
    wrong = []
    for key in rng.sample(records, min(6, len(records))):
        id_, text = key.split()[1], state[key]
        ids = [hit.record.id for hit in scope.search(text or id_, k=5)]
        if text and ids[:1] != [id_]:
            wrong.append(f"{key} is not found by its text")
        if not text and id_ in ids:
            wrong.append(f"{key} is found and was deleted")
    return wrong


def _backup(place: Path, state: State) -> list[str]:
    wrong = []
    if place.exists():  # else the copy was not finished
        with opened(place) as memory:
            stored = found(memory)
            wrong = [f"backup: {problem}" for problem in memory.check().problems]
        # What other writers wrote may be in it or not.
        if any(stored.get(key) != text for key, text in state.items()):
            wrong.append("a backup lacks what was acknowledged before it")
    for left in [place, *place.parent.glob(f".{place.name}*")]:
        shutil.rmtree(left, ignore_errors=True)
    return wrong
