"""Whatever is passed in, what is refused is refused with a typed error, before anything is written.

Two rounds over every public method and parameter: the fixed values of `hostile.json`, each where
its like is expected, and values that hypothesis makes up, anywhere.
"""

from __future__ import annotations

import logging
import os
import re
import reprlib
import sqlite3
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from hybrid_memory import (
    HybridMemory,
    ItemChange,
    PrunePolicy,
    Quota,
    Weights,
    search_sources,
)
from hybrid_memory.errors import HybridMemoryError, StoreError, StorePathError
from hybrid_memory.testing import HashEmbedder, LineSplitter, ManualClock, ScriptedChat
from hybrid_memory.types import Budget, Gate
from tests.reliability.hostile_values import corpus, made
from tests.reliability.outcome import Outcome
from tests.reliability.surface import Call, surface

GENERATED = 5000
DIM = 64
MAX_MESSAGE = 600  # characters of an error: enough to list what would be accepted
SHORT = re.compile(r"[$A-Za-z_][\w.$-]{0,40}")  # what an error may repeat of a value

# What is called by the library: what it raises is the caller's own.
CALLED = frozenset({"clock", "count_tokens", "index", "on_progress", "on_token", "redact"})
# How many characters of a value may be repeated: ids and keys whole, and the names in a filter.
_SHOWN: Mapping[str, int] = {"id": 256, "key": 256, "where": 80}


class World:
    """A memory with a few records, in a folder of its own with files of many kinds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedder = HashEmbedder(DIM)
        self.memory = HybridMemory.open(
            folder / "memory",
            embedder=self.embedder,
            llm=ScriptedChat(["You drink tea."]),
            splitter=LineSplitter(),
            clock=ManualClock(),
            count_tokens=lambda text: len(text.split()),
            durability="normal",
        )
        # A connection of its own sees by this number whether another one has written.
        self._watch = sqlite3.connect(folder / "memory" / "memory.db")
        self._settled: object = None
        self.ana = self.memory.scope(user_id="ana", session_id="s1", read=[("bob",)])
        self.bob = self.memory.scope(user_id="bob")
        self.bob.add("Bob drinks coffee.", id="known")
        self.items = self.memory.items()
        self._own: Mapping[str, Callable[..., Any]] = {
            "HybridMemory.open": self._open,
            "ItemChange": lambda **fields: self.items.write([ItemChange(**fields)]),
            "PrunePolicy": lambda **bounds: self.ana.prune(PrunePolicy(**bounds)),
            "Quota": self._bounded,
            "search_sources": search_sources,
        }
        (folder / "folder").mkdir()
        (folder / "text.txt").write_text("The canteen serves lentils.")
        (folder / "empty.txt").touch()
        (folder / "unknown.xyz").write_text("?")
        (folder / "binary.bin").write_bytes(bytes(range(256)))
        (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)))
        (folder / "broken.jsonl").write_text('{"type": "header"\n')
        (folder / "deep.json").write_text("[" * 100_000)
        (folder / "garbage.md").write_bytes(b"# \xff\xfe\n")
        (folder / "memory.db").write_bytes(b"SQLite format 3\0" + bytes(100))
        (folder / "loop").symlink_to("loop")

    def settle(self) -> None:
        """Put back what a call may have removed, and keep the profile small."""
        if self.state() == self._settled:
            return
        if len(self.ana.profile) > 10:
            self.ana.profile.clear()
        for id, add in {
            "known": lambda: self.ana.add("I drink green tea.", id="known"),
            "proposal": lambda: self.ana.add_instruction(
                "Rhyme.", id="proposal", source="tool", propose=True
            ),
        }.items():
            with suppress(HybridMemoryError):
                if self.ana.get(id).version == 1:
                    continue
                self.ana.delete(id)
            add()
        self._settled = self.state()

    def state(self) -> object:
        """Return what changes whenever anything is written."""
        return self._watch.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Close the memory."""
        self._watch.close()
        self.memory.close()

    def function(self, name: str) -> Callable[..., Any]:
        """Return the function or method of a name of `surface`."""
        if name in self._own:
            return self._own[name]
        owner, method = name.split(".")
        found: Any = {
            "HybridMemory": self.memory,
            "Items": self.items,
            "Scope": self.ana,
            "Profile": self.ana.profile,
        }[owner]
        return getattr(found, method)  # type: ignore[no-any-return]

    def _bounded(self, **bounds: Any) -> None:
        """Write under a quota."""
        with HybridMemory.open(
            self.folder / "bounded", embedder=self.embedder, quota=Quota(**bounds)
        ) as memory:
            memory.scope(user_id="ana").add("I drink tea.")

    def _open(self, path: Any, **parts: Any) -> None:
        """Open another store and use it: what is wrong with a part may show only then."""
        if path == "there":
            path = self.folder / "another"
        with HybridMemory.open(path, **{"embedder": self.embedder, **parts}):
            pass


@dataclass
class Tally:
    """What came of the calls."""

    trials: int = 0
    refused: int = 0
    slowest_ms: float = 0.0
    slowest: str = ""
    over_250_ms: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, world: World, call: Call, hostile: Mapping[str, Any], label: str) -> None:
        """Make a call with hostile arguments and judge what came of it."""
        world.settle()
        before = world.state()
        function = world.function(call.name)
        arguments = call.arguments() | hostile
        if call.name == "HybridMemory.scope" and "namespace" in hostile:
            arguments.pop("user_id", None)
        self.trials += 1
        started = time.perf_counter()
        error = None
        try:
            function(**arguments)
        except Exception as caught:  # whatever it is: to be judged
            error = caught
        spent = (time.perf_counter() - started) * 1000
        if error is None:
            return
        self.refused += 1
        self.over_250_ms += spent > 250
        if spent > self.slowest_ms:
            self.slowest_ms, self.slowest = spent, label
        if any(callable(hostile[name]) for name in CALLED & hostile.keys()):
            return  # what the caller's own function raised, if it was not refused
        fault = judged(error, hostile, call)
        if fault is None and world.state() != before and not _may_have_written(call):
            fault = "something was written before it was refused"
        if fault is not None:
            self.faults.append(f"{label}: {fault}")


def _may_have_written(call: Call) -> bool:
    # The question is kept whatever happens after.
    return call.name == "Scope.ask"


def judged(error: Exception, hostile: Mapping[str, Any], call: Call) -> str | None:
    """Return what is wrong with a refusal, if anything."""
    kind = type(error).__name__
    if call.name.startswith("Profile.") and type(error) is KeyError:
        return None  # what a mapping raises for a key that is not there
    if not isinstance(error, HybridMemoryError):
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{kind} from {Path(where.filename).name}:{where.lineno}: {str(error)[:120]!r}"
    if (
        isinstance(error, StoreError)
        and not isinstance(error, StorePathError)
        and call.name != "HybridMemory.open"  # where the path may be that of another file
    ):
        return f"{kind} for bad input"
    if not str(error).strip():
        return f"{kind} without a message"
    shown: BaseException | None = error
    texts = {
        (text, _SHOWN.get(name, 0))
        for name, value in hostile.items()
        for text in _told(value)
        if name != "path"
    }
    while shown is not None:
        message = "".join(traceback.format_exception_only(shown))
        if len(message) > MAX_MESSAGE and "path" not in hostile:
            return f"{kind} with a message of {len(message)} characters"
        for text, may in texts:
            if text in message and len(text) > may:
                return f"{kind} repeats a value of {len(text)} characters"
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return None


def _told(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in a value that are no short names."""
    if isinstance(value, str):
        if len(value) > 12 and not SHORT.fullmatch(value):
            yield value
    elif isinstance(value, dict) and depth < 4:
        for key, part in list(value.items())[:50]:
            yield from _told(key, depth + 1)
            yield from _told(part, depth + 1)
    elif isinstance(value, list | tuple) and depth < 4:
        for part in value[:50]:
            yield from _told(part, depth + 1)


def run(scale: float = 1.0) -> Outcome:
    """Call everything with everything that should be refused, and count what goes wrong."""
    started = time.perf_counter()
    tally = Tally()
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells about broken files
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        closing(World(Path(folder))) as world,
    ):
        _fixed(world, tally, every=1 if scale > 1 else 2 if scale == 1 else 8)
        _embedded(world, tally)
        fixed = tally.trials
        _generated(world, tally, examples=max(100, round(GENERATED * scale)))
        if world.memory.check().problems:
            tally.faults.append("the store is damaged")
    return Outcome(
        "bad inputs that are not refused as they should be",
        tally.trials,
        len(tally.faults),
        time.perf_counter() - started,
        {
            "fixed": fixed,
            "generated": tally.trials - fixed,
            "refused": tally.refused,
            "slowest_refusal_ms": round(tally.slowest_ms, 1),
            "slowest": tally.slowest,
            "over_250_ms": tally.over_250_ms,
            **{f"fault {number}": fault for number, fault in enumerate(tally.faults[:20], 1)},
        },
    )


def _fixed(world: World, tally: Tally, *, every: int) -> None:
    """Put every value of the corpus where its like is expected; in one of `every` places for it."""
    turn = Counter[str]()
    for call in surface():
        for parameter in call.parameters:
            for family in call.families(parameter):
                values = corpus()[family]
                turn[family] += 1
                for number, value in enumerate(values):
                    # Each value is used somewhere, whatever `every` is.
                    if (number + turn[family]) % every == 0:
                        label = f"{call.name}({parameter}={family}[{number}])"
                        given = made(value)
                        if family == "paths" and parameter == "items" and isinstance(given, str):
                            given = Path(given)
                        tally.note(world, call, {parameter: given}, label)


class _Answering(HashEmbedder):
    """An embedder that answers with what it is told to."""

    answer: Any = None

    def embed(self, texts: Any) -> Any:
        return self.answer

    def embed_query(self, text: str) -> Any:
        return self.answer


def _embedded(world: World, tally: Tally) -> None:
    """What an embedder may answer that is no vector, on both paths."""
    embedder = _Answering(DIM)
    with HybridMemory.open(world.folder / "vectors", embedder=embedder) as memory:
        scope = memory.scope(user_id="ana")
        for number, value in enumerate(corpus()["vectors"]):
            for verb in (scope.add, scope.search):
                embedder.answer = made(value)
                tally.trials += 1
                before = scope.stats().total
                try:
                    verb("I drink tea.")
                except HybridMemoryError:
                    tally.refused += 1
                    if scope.stats().total != before:
                        tally.faults.append(f"vectors[{number}] was stored and refused")
                except Exception as error:
                    tally.faults.append(f"{verb.__name__}, vectors[{number}]: {error!r:.150}")


_TEXTS = st.text(max_size=40) | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Mn"]))
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXTS
    | st.binary(max_size=8)
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.sampled_from([object(), int, datetime.now, Gate(), Budget(), Weights(), 1j])
    | st.sampled_from(["user", "message", "$and", "$gt", "at", "kind", "text", "role", "content"])
)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(_TEXTS | st.sampled_from(["$and", "$not", "$in", "text", "a"]), inner)
        | st.dictionaries(st.integers() | st.none() | st.binary(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)
# With a name each: some of them cannot be shown.
_MADE_UP = _ANYTHING.map(lambda value: (value, reprlib.repr(value)))
_CORPUS = st.sampled_from(
    [(family, number) for family, values in corpus().items() for number in range(len(values))]
).map(lambda place: (made(corpus()[place[0]][place[1]]), f"{place[0]}[{place[1]}]"))


def _generated(world: World, tally: Tally, *, examples: int) -> None:
    """Calls with one to three hostile arguments: made up, or of the corpus in another place."""
    calls = surface()

    @seed(20260101)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(calls))
        names = data.draw(st.lists(st.sampled_from(call.parameters), min_size=1, max_size=3))
        hostile, labels = {}, []
        for name in names:
            value, label = data.draw(_MADE_UP | _CORPUS)
            hostile[name] = _confined(value) if name == "path" else value
            labels.append(f"{name}={label}")
        tally.note(world, call, hostile, f"{call.name}({', '.join(labels)})")

    attack()


def _confined(path: Any) -> Any:
    """Keep a made-up path within the folder, which is the current one."""
    if isinstance(path, str | bytes):
        return path.replace("/", "_") if isinstance(path, str) else path.replace(b"/", b"_")
    return path if not isinstance(path, os.PathLike) else "there"
