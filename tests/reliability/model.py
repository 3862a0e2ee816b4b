"""A memory against a dictionary: whatever is called in whatever order, both say the same.

Hypothesis draws the calls: writes that are accepted and refused, reads, erasure, expiry, upkeep,
reopening, a memory that is dropped without being closed, and a process that is killed after its
last acknowledged call. At the end a memory that is opened afresh has to rank as the one in use.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hybrid_memory import HybridMemory, PrunePolicy, Record, Scope
from hybrid_memory.errors import ConflictError, NotFoundError
from hybrid_memory.testing import HashEmbedder, ManualClock
from tests.reliability.outcome import Outcome
from tests.reliability.processes import opened, side_by_side

RUNS = 300
PROCESSES = 2
STEPS = 40
NAMESPACES = (("ana",), ("bob",), ("ana", "work"))
IDS = tuple("abcdefghijkl")
TEXTS = (
    "I drink green tea in the morning.",
    "I drink black tea at night.",
    "Where do I live?",
    "In Lyon, near the river.",
    "The canteen serves lentils on Mondays.",
    "My bicycle has a flat tyre.",
)
SOURCES = ("user", "notes.md")
EMBEDDERS = (HashEmbedder(384), HashEmbedder(256))  # of two vector spaces
# A process that is killed takes nothing with it that the system has; only a power cut does.
IN_RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run(scale: float = 1.0) -> Outcome:
    """Let hypothesis draw 300 runs of up to 40 calls; in a short form the same ones each time."""
    runs = -(-int(RUNS * scale) // PROCESSES)
    first = random.SystemRandom().randrange(2**32) if scale >= 1 else 0
    started = time.monotonic()
    reports = side_by_side(_run, PROCESSES, runs, first)
    counts = sum((count for count, _ in reports), Counter[str]())
    failures = {f"failure {number}": told for number, (_, told) in enumerate(reports) if told}
    return Outcome(
        f"calls in {PROCESSES * runs} runs of a memory against a dictionary",
        trials=sum(counts.values()),
        failures=len(failures),
        seconds=time.monotonic() - started,
        details={"seed": first, **counts, **failures},
    )


def _run(number: int, runs: int, first: int) -> tuple[Counter[str], str]:
    """Return how often what was called, and a run that fails, if any does."""
    try:
        run_state_machine_as_test(
            seed(first + number)(Machine),
            settings=settings(
                max_examples=runs,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # to shrink a run that fails can take minutes
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:
        return _counts, "".join(traceback.format_exception(error))
    return _counts, ""


_counts: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Said:
    """What a record says, as far as a caller decides it."""

    text: str
    kind: str = "message"
    source: str = "user"
    importance: float = 0.5
    expires_at: datetime | None = None

    @classmethod
    def of(cls, record: Record) -> Said:
        return cls(record.text, record.kind, record.source, record.importance, record.expires_at)


@dataclass(slots=True)
class Model:
    """One namespace as it should be: what each record says and its version, oldest first."""

    records: dict[str, tuple[Said, int]] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)

    def apply(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Do a write and return what a memory should answer."""
        return str(getattr(self, name)(**arguments))

    def add_many(self, items: Sequence[tuple[str, Said]]) -> str:
        new = dict(self.records)
        for id_, said in items:
            if new.setdefault(id_, (said, 1))[0] != said:
                return "ConflictError"
        self.records = new
        return " ".join(f"{id_}@{new[id_][1]}" for id_, _ in items)

    def update(self, id_: str, changes: Mapping[str, Any], expected: int | None) -> str:
        if id_ not in self.records:
            return "NotFoundError"
        said, version = self.records[id_]
        if expected not in (None, version):
            return "ConflictError"
        self.records[id_] = (replace(said, **changes), version + 1)
        return f"{id_}@{version + 1}"

    def delete(self, id_: str) -> str:
        return str(self.records.pop(id_, None) is not None)

    def forget(self, source: str) -> str:
        gone = [id_ for id_, (said, _) in self.records.items() if said.source == source]
        for id_ in gone:
            del self.records[id_]
        return str(len(gone))

    def prune(self, policy: PrunePolicy, now: datetime) -> str:
        gone = [
            id_
            for id_, (said, _) in self.records.items()
            if policy.kinds is None or said.kind in policy.kinds
            if (said.expires_at is not None and said.expires_at <= now)
            or said.importance < (policy.importance_below or 0)
        ]
        for id_ in gone:
            del self.records[id_]
        return " ".join(sorted(gone))

    def erase(self) -> str:
        count = len(self.records)
        self.records, self.profile = {}, {}
        return str(count)

    def set_profile(self, key: str, value: Any) -> str:
        self.profile[key] = value
        return ""

    def delete_profile(self, key: str) -> str:
        return "" if self.profile.pop(key, None) is not None else "KeyError"

    def in_force(self, now: datetime) -> dict[str, tuple[Said, int]]:
        return {
            id_: (said, version)
            for id_, (said, version) in self.records.items()
            if said.expires_at is None or said.expires_at > now
        }


class Writes:
    """The same writes on a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def apply(self, name: str, arguments: Mapping[str, Any]) -> str:
        try:
            return str(getattr(self, name)(**arguments))
        except (ConflictError, KeyError) as error:  # NotFoundError is a KeyError
            return type(error).__name__

    def add_many(self, items: Sequence[tuple[str, Said]]) -> str:
        stored = self._scope.add_many([{"id": id_, **asdict(said)} for id_, said in items])
        return " ".join(f"{one.id}@{one.version}" for one in stored)

    def update(self, id_: str, changes: Mapping[str, Any], expected: int | None) -> str:
        stored = self._scope.update(id_, expected_version=expected, **changes)
        return f"{stored.id}@{stored.version}"

    def delete(self, id_: str) -> str:
        return str(self._scope.delete(id_))

    def forget(self, source: str) -> str:
        return str(self._scope.forget(source=source))

    def prune(self, policy: PrunePolicy, now: datetime) -> str:
        told = self._scope.prune(policy, now=now)
        done = self._scope.prune(policy, now=now, dry_run=False)
        assert done.victims == told.victims
        return " ".join(sorted(victim.id for victim in done.victims))

    def erase(self) -> str:
        return str(self._scope.erase().total)

    def set_profile(self, key: str, value: Any) -> str:
        self._scope.profile[key] = value
        return ""

    def delete_profile(self, key: str) -> str:
        del self._scope.profile[key]
        return ""


namespaces = st.sampled_from(NAMESPACES)
ids = st.sampled_from(IDS)
texts = st.sampled_from(TEXTS)
said = st.builds(
    Said,
    texts,
    kind=st.sampled_from(("message", "event", "document")),
    source=st.sampled_from(SOURCES),
    # On the hour of a clock that rises by minutes, so that a call can be repeated.
    expires_at=st.sampled_from(
        (None, None, *(ManualClock()() + timedelta(hours=n) for n in (1, 3)))
    ),
)
additions = st.builds(
    lambda items: ("add_many", {"items": items}),
    st.lists(st.tuples(ids, said), min_size=1, max_size=4),
)
changes = st.one_of(
    st.builds(
        lambda id_, changes, expected: (
            "update",
            {"id_": id_, "changes": changes, "expected": expected},
        ),
        ids,
        st.one_of(
            st.builds(lambda text: {"text": text}, texts),
            st.builds(lambda importance: {"importance": importance}, st.sampled_from((0.1, 0.9))),
        ),
        st.sampled_from((None, None, 1, 2)),
    ),
    st.builds(lambda id_: ("delete", {"id_": id_}), ids),
)
of_profile = st.one_of(
    st.builds(
        lambda key, value: ("set_profile", {"key": key, "value": value}),
        st.sampled_from(("pet", "city")),
        st.sampled_from(("cat", ["Lyon"], {"n": 1})),
    ),
    st.builds(lambda key: ("delete_profile", {"key": key}), st.sampled_from(("pet", "city"))),
)
writes = st.one_of(additions, changes, of_profile)
forgetting = st.builds(lambda source: ("forget", {"source": source}), st.sampled_from(SOURCES))
pruning = st.builds(
    lambda policy, hours: (
        "prune",
        {"policy": policy, "now": ManualClock()() + timedelta(hours=hours)},
    ),
    st.sampled_from(
        (
            PrunePolicy(importance_below=0.3),
            PrunePolicy(importance_below=0.6, kinds="event"),
            PrunePolicy(kinds=("message", "document")),
        )
    ),
    st.sampled_from((0, 2)),
)
# Seldom: after it there is little to be wrong about.
seldom = st.integers(0, 5).flatmap(lambda n: forgetting if n else st.just(("erase", {})))
beginnings = st.lists(st.tuples(ids, said), min_size=5, unique_by=lambda item: item[0])
Write = tuple[str, dict[str, Any]]


class Machine(RuleBasedStateMachine):
    """Three namespaces of one store, each beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(dir=IN_RAM))
        self._clock = ManualClock()
        self._models = {namespace: Model() for namespace in NAMESPACES}
        self._kills = 0
        self._dropped: list[HybridMemory] = []  # kept, so that nothing closes them
        self._embedder = EMBEDDERS[0]
        self._memory = self._opened()

    def _opened(self) -> HybridMemory:
        return opened(
            self._directory, durability="normal", clock=self._clock, embedder=self._embedder
        )

    def _scope(self, namespace: tuple[str, ...]) -> Scope:
        return self._memory.scope(namespace=namespace, session_id="s")

    def teardown(self) -> None:
        try:
            self._compare_with_one_opened_afresh()
            assert self._memory.check().problems == ()
        finally:
            for memory in (self._memory, *self._dropped):
                memory.close()
            shutil.rmtree(self._directory)

    @initialize(many=st.tuples(*[beginnings for _ in NAMESPACES]))
    def begin(self, many: Sequence[Sequence[tuple[str, Said]]]) -> None:
        for namespace, items in zip(NAMESPACES, many, strict=True):
            self._write(namespace, ("add_many", {"items": items}))

    # -- writes --------------------------------------------------------------------------------

    @rule(namespace=namespaces, write=additions)
    def add(self, namespace: tuple[str, ...], write: Write) -> None:
        self._write(namespace, write)

    @rule(namespace=namespaces, write=changes)
    def change(self, namespace: tuple[str, ...], write: Write) -> None:
        self._write(namespace, write)

    @rule(namespace=namespaces, write=st.one_of(of_profile, of_profile, pruning, seldom))
    def write(self, namespace: tuple[str, ...], write: Write) -> None:
        self._write(namespace, write)

    def _write(self, namespace: tuple[str, ...], write: Write) -> None:
        _counts[write[0]] += 1
        expected = self._models[namespace].apply(*write)
        assert Writes(self._scope(namespace)).apply(*write) == expected

    @rule(minutes=st.sampled_from((1, 20, 60)))
    def let_time_pass(self, minutes: int) -> None:
        _counts["time passed"] += 1
        self._clock.advance(minutes=minutes)

    # -- reads ---------------------------------------------------------------------------------

    @rule(namespace=namespaces)
    def read_all(self, namespace: tuple[str, ...]) -> None:
        _counts["read all"] += 1
        scope, model = self._scope(namespace), self._models[namespace]
        turns = [(one.id, (Said.of(one), one.version)) for one in scope.messages()]
        in_force = model.in_force(self._clock()).items()
        assert turns == [(id_, one) for id_, one in in_force if one[0].kind == "message"]
        assert dict(scope.profile) == model.profile
        assert scope.stats().total == len(model.records)
        for id_ in IDS:
            try:
                record = scope.get(id_)
            except NotFoundError:
                assert id_ not in model.records
            else:
                assert (Said.of(record), record.version) == model.records[id_]
                assert record.namespace == namespace

    @rule(
        namespace=namespaces,
        query=texts,
        kinds=st.sampled_from((None, "message", ("event", "document"))),
    )
    def search(self, namespace: tuple[str, ...], query: str, kinds: Any) -> None:
        _counts["search"] += 1
        hits = self._scope(namespace).search(query, k=200, kinds=kinds)
        wanted = {
            id_: one
            for id_, one in self._models[namespace].in_force(self._clock()).items()
            if kinds is None or one[0].kind in kinds
        }
        for hit in hits:
            assert wanted[hit.record.id] == (Said.of(hit.record), hit.record.version)
        # Of records with the same text one is shown, and the others are counted.
        assert {hit.record.text for hit in hits} == {one.text for one, _ in wanted.values()}
        assert sum(1 + hit.duplicates for hit in hits) == len(wanted)

    # -- what must change nothing ----------------------------------------------------------------

    @rule(how=st.sampled_from(("purge", "rank", "repair", "drop", "reopen", "reembed")))
    def disturb(self, how: str) -> None:
        _counts[how] += 1
        if how == "repair":
            assert self._memory.repair().problems == ()
        elif how == "purge":
            self._memory.purge()
        elif how == "reembed":
            self._embedder = EMBEDDERS[self._embedder is EMBEDDERS[0]]
            self._memory.reembed(self._embedder)
        elif how == "rank":
            self._compare_with_one_opened_afresh()
        else:
            if how == "reopen" or len(self._dropped) == 3:
                self._memory.close()
            else:
                self._dropped.append(self._memory)
            self._memory = self._opened()

    def _compare_with_one_opened_afresh(self) -> None:
        with self._opened() as afresh:
            for namespace in NAMESPACES:
                for query in TEXTS[:2]:
                    there, here = (
                        [
                            (hit.record, hit.score, dict(hit.signals), hit.duplicates)
                            for hit in memory.scope(namespace=namespace).search(query, k=200)
                        ]
                        for memory in (afresh, self._memory)
                    )
                    assert here == there

    @rule(namespace=namespaces, many=st.lists(writes, min_size=1, max_size=4))
    @precondition(lambda self: self._kills < 2 and hasattr(os, "fork"))
    def kill(self, namespace: tuple[str, ...], many: list[Write]) -> None:
        """Write in a process that is killed after the last answer; all of it is there."""
        _counts["kill"] += 1
        self._kills += 1
        for memory in (self._memory, *self._dropped):
            memory.close()
        self._dropped.clear()
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self._memory = self._opened()
                for write in many:
                    answer = Writes(self._scope(namespace)).apply(*write)
                    os.write(told, json.dumps(answer).encode() + b"\n")
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(told)
        with open(heard) as lines:
            answers = [json.loads(line) for line in lines]
        _, status = os.waitpid(child, 0)
        self._memory = self._opened()
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert answers == [self._models[namespace].apply(*write) for write in many]
