"""Random calls of every public method, by tenants of one store that know each other's words.

All tenants use the same ids, sessions, sources, speakers and sentences; what tells their texts
apart is a canary in each. A public method that has no generator here fails `test_isolation.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hybrid_memory import (
    Budget,
    Completion,
    Gate,
    HybridMemory,
    ItemChange,
    PrunePolicy,
    Scope,
    Source,
    search_sources,
)
from hybrid_memory.testing import HashEmbedder, ManualClock, WordRetriever
from tests.reliability.processes import opened

SHARED = ("shared",)  # which all may read
TOPICS = ("tea", "Lyon", "Rust", "the piano", "a bicycle", "chess", "the garden", "rain")
KINDS = ("message", "fact", "event", "document")


@dataclass(slots=True)
class Tenant:
    """One user: a name, a secret that is in all texts, and the ids that only this one has."""

    number: int
    scopes: list[Scope] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    @property
    def label(self) -> str:
        return f"label{self.number:04d}z"

    @property
    def canary(self) -> str:
        return f"canary{self.number:04d}z"


class RepeatingChat:
    """A ChatModel that answers with what it was given, as a model that can be talked into it."""

    def complete(self, messages: Sequence[Any], *, on_token: Any = None) -> Completion:
        return Completion("\n".join(str(message["content"]) for message in messages)[:2000])


class World:
    """A store with its tenants, and the randomness of the calls."""

    def __init__(self, directory: Path, *, tenants: int, seed: int = 0) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.memory = self.opened("memory")
        self.tenants = [Tenant(number) for number in range(tenants)]
        self.memory.scope(namespace=SHARED).add("All of us like tea.", id="r0")
        for tenant in self.tenants:
            tenant.scopes.append(self.memory.scope(user_id=tenant.label, session_id="s0"))
            ids = [*(f"r{number}" for number in range(4)), self.own_id(tenant)]
            tenant.scopes[0].add_many([self.item(tenant, id=id) for id in ids])
            tenant.scopes[0].profile["pet"] = tenant.canary

    def opened(self, name: str) -> HybridMemory:
        return opened(
            self.directory / name,
            durability="normal",
            clock=self.clock,
            llm=RepeatingChat(),
        )

    def close(self) -> None:
        self.memory.close()

    # -- what calls are made of --------------------------------------------------------------

    def text(self, tenant: Tenant) -> str:
        topic = self.random.choice(TOPICS)
        return f"My secret is {tenant.canary}, number {self.random.randrange(99)}, about {topic}."

    def question(self) -> str:
        topic = self.random.choice(TOPICS)
        return self.random.choice(
            (f"What is the secret about {topic}?", "my secret number", f"{topic} yesterday?")
        )

    def item(self, tenant: Tenant, *, id: str | None = None) -> dict[str, Any]:
        """Return arguments of `add`, under an id that only this tenant has, all have, or none."""
        ids = (self.own_id(tenant), f"r{self.random.randrange(20)}", None)
        return {
            "text": self.text(tenant),
            "id": id or self.random.choice(ids),
            "kind": self.random.choice(KINDS),
            "speaker": self.random.choice(("Ana", "Bo", None)),
            "source": self.random.choice(("user", "notes.md", "tool")),
            "metadata": {"secret": tenant.canary, "n": self.random.randrange(9)},
            "data": {"intent": "secret", "word": tenant.canary},
            "expires_at": self.random.choice((None, self.later())),
        }

    def own_id(self, tenant: Tenant) -> str:
        """Return an id that no other tenant has; it does not tell whose it is."""
        tenant.ids.append(f"only-{tenant.number * 7919 % 10007}-{next(tenant.names)}")
        return tenant.ids[-1]

    def later(self) -> datetime:
        return self.clock() + timedelta(minutes=self.random.randrange(1, 600))

    def id_of(self, tenant: Tenant) -> str:
        """Return an id of the tenant's own, one that all have, one of another, or a missing one."""
        other = self.random.choice(self.tenants)
        known = [ids for ids in (tenant.ids, other.ids) if ids]
        return self.random.choice(
            [*(self.random.choice(ids) for ids in known), f"r{self.random.randrange(20)}", "none"]
        )

    def bounds(self) -> dict[str, Any]:
        """Return bounds of a search."""
        wheres: list[Any] = [
            None,
            {"n": {"$gte": 3}},
            {"secret": {"$exists": True}},
            {"speaker": "Ana"},
            {"$not": {"source": "tool"}},
        ]
        return {
            "k": self.random.choice((1, 3, 10, 200)),
            "kinds": self.random.choice((None, "message", ("fact", "event"))),
            "where": self.random.choice(wheres),
            "min_score": self.random.choice((0.0, 0.0, 0.2)),
            "mmr_lambda": self.random.choice((None, 0.5)),
            "max_per_source": self.random.choice((None, 2)),
        }

    def file(self, tenant: Tenant, suffix: str) -> Path:
        return self.directory / f"{next(tenant.names)}{suffix}"


class ScopeCalls:
    """A random call of each public method of a scope, as its tenant could make it."""

    def __init__(self, world: World, tenant: Tenant) -> None:
        self.world, self.tenant = world, tenant
        self.scope = world.random.choice(tenant.scopes)

    def add(self) -> Any:
        return self.scope.add(**self.world.item(self.tenant))

    def add_many(self) -> Any:
        count = self.world.random.randrange(1, 4)
        return self.scope.add_many(
            [self.world.item(self.tenant) for _ in range(count)],
            on_conflict=self.world.random.choice(("error", "skip", "replace")),
        )

    def add_messages(self) -> Any:
        return self.scope.add_messages(
            [
                {"role": "user", "content": self.world.text(self.tenant)},
                {"role": "assistant", "content": self.world.text(self.tenant)},
            ],
            strict=self.world.random.random() < 0.5,
        )

    def add_fact(self) -> Any:
        slot = self.world.random.choice(("like", "dislike"))
        return self.scope.add_fact({"intent": "taste", slot: [self.tenant.canary]})

    def add_event(self) -> Any:
        return self.scope.add_event(self.world.text(self.tenant), at=self.world.clock())

    def add_instruction(self) -> Any:
        rule = f"Always say {self.tenant.canary} {self.world.random.randrange(5)}."
        return self.scope.add_instruction(
            rule,
            propose=self.world.random.random() < 0.5,
            source=self.world.random.choice(("user", "developer", "tool")),
            expires_at=self.world.later(),
        )

    def proposals(self) -> Any:
        return self.scope.proposals()

    def confirm(self) -> Any:
        waiting = [one.id for one in self.scope.proposals()]
        return self.scope.confirm(self.world.random.choice([*waiting, self._id()]))

    def add_documents(self) -> Any:
        path = self.world.file(self.tenant, ".md")
        path.write_text(f"# {self.tenant.canary}\n\n{self.world.text(self.tenant)}\n")
        return self.scope.add_documents(
            [path] if self.world.random.random() < 0.5 else self.world.text(self.tenant),
            source=self.world.random.choice(("notes.md", f"{self.tenant.canary}.md")),
        )

    def update(self) -> Any:
        changes = self.world.random.choice(
            ({"text": self.world.text(self.tenant)}, {"importance": 0.9}, {"speaker": "Bo"})
        )
        return self.scope.update(
            self._id(), expected_version=self.world.random.choice((None, 1)), **changes
        )

    def delete(self) -> Any:
        return self.scope.delete(self._id())

    def delete_many(self) -> Any:
        return self.scope.delete_many([self._id(), self._id()])

    def prune(self) -> Any:
        policies = (
            PrunePolicy(max_records=12),
            PrunePolicy(max_bytes=20_000, kinds=("message", "event")),
            PrunePolicy(older_than=timedelta(hours=6)),
        )
        return self.scope.prune(
            self.world.random.choice(policies), dry_run=self.world.random.random() < 0.5
        )

    def forget(self) -> Any:
        bounds = ({"source": "tool"}, {"session_id": "s1"}, {"where": {"n": 8}})
        return self.scope.forget(**self.world.random.choice(bounds))

    def erase(self) -> Any:
        return self.scope.erase(timeout_s=1)

    def get(self) -> Any:
        return self.scope.get(self._id())

    def get_many(self) -> Any:
        return self.scope.get_many([self._id() for _ in range(3)])

    def messages(self) -> Any:
        return self.scope.messages(last=self.world.random.choice((None, 3)), max_tokens=500)

    def instructions(self) -> Any:
        return self.scope.instructions()

    def facts(self) -> Any:
        return self.scope.facts(slot=self.world.random.choice((None, "taste", "taste.like")))

    def stats(self) -> Any:
        return self.scope.stats()

    def export(self) -> Any:
        path = self.world.file(self.tenant, ".jsonl")
        return self.scope.export(path, vectors=self.world.random.random() < 0.5), path.read_bytes()

    def import_(self) -> Any:
        path = self.world.file(self.tenant, ".jsonl")
        self.scope.export(path)
        self.scope.delete(self._id())
        return self.scope.import_(
            path, on_conflict=self.world.random.choice(("error", "skip", "replace"))
        )

    def search(self) -> Any:
        return self.scope.search(self.world.question(), **self.world.bounds())

    def nearest(self) -> Any:
        bounds = self.world.bounds()
        names = ("k", "kinds", "where", "mmr_lambda")
        return self.scope.nearest(self.world.question(), **{name: bounds[name] for name in names})

    def why(self) -> Any:
        return self.scope.why(self.world.question(), self._id(), **self.world.bounds())

    def context(self) -> Any:
        return self.scope.context(
            self.world.question(),
            max_tokens=self.world.random.choice((30, 400)),
            gate=self.world.random.choice((None, Gate(memory_allowed=False))),
            budget=self.world.random.choice((None, Budget(session=0.5))),
            shown=self.world.random.choice(((), (self._id(), self._id()))),
        )

    def ask(self) -> Any:
        return self.scope.ask(self.world.question(), max_tokens=200)

    def profile(self) -> Any:
        """Call one of the methods of the profile, which is a mapping."""
        name = self.world.random.choice(PROFILE_CALLS)
        return name, PROFILES[name](self.scope.profile, self.tenant.canary, self.world.random)

    def namespace(self) -> Any:
        return self.scope.namespace

    def read(self) -> Any:
        return self.scope.read

    def session_id(self) -> Any:
        return self.scope.session_id

    def _id(self) -> str:
        return self.world.id_of(self.tenant)


def _taken(values: Iterator[Any] | Any) -> list[Any]:
    return list(values)


Profiles = MutableMapping[str, Any]
PROFILES: dict[str, Callable[[Profiles, str, random.Random], Any]] = {
    "__getitem__": lambda profile, word, of: profile[_key(of)],
    "__setitem__": lambda profile, word, of: profile.__setitem__(_key(of), {"word": word}),
    "__delitem__": lambda profile, word, of: profile.__delitem__(_key(of)),
    "__iter__": lambda profile, word, of: list(profile),
    "__len__": lambda profile, word, of: len(profile),
    "__contains__": lambda profile, word, of: _key(of) in profile,
    "__eq__": lambda profile, word, of: profile == {},
    "__repr__": lambda profile, word, of: repr(profile),
    "get": lambda profile, word, of: profile.get(_key(of)),
    "keys": lambda profile, word, of: _taken(profile.keys()),
    "values": lambda profile, word, of: _taken(profile.values()),
    "items": lambda profile, word, of: _taken(profile.items()),
    "pop": lambda profile, word, of: profile.pop(_key(of)),
    "popitem": lambda profile, word, of: profile.popitem(),
    "clear": lambda profile, word, of: profile.clear(),
    "update": lambda profile, word, of: profile.update({_key(of): word}),
    "setdefault": lambda profile, word, of: profile.setdefault(_key(of), [word]),
}
PROFILE_CALLS = tuple(PROFILES)


def _key(of: random.Random) -> str:
    return of.choice(("timezone", "language", "pet"))


class MemoryCalls:
    """A random call of each public method of a memory, for one tenant where it can be."""

    def __init__(self, world: World, tenant: Tenant) -> None:
        self.world, self.tenant = world, tenant

    def scope(self) -> Any:
        scope = self.world.memory.scope(
            user_id=self.tenant.label,
            session_id=self.world.random.choice((None, "s0", "s1")),
            read=self.world.random.choice(((), (SHARED,))),
            sources=self.world.random.choice(((), (source_of(self.world, self.tenant),))),
        )
        self.tenant.scopes = [*self.tenant.scopes[-3:], scope]
        return scope

    def items(self) -> Any:
        """Call one of the methods of what programs keep under keys."""
        name = self.world.random.choice(ITEM_CALLS)
        return name, getattr(ItemCalls(self.world, self.tenant), name)()

    def beside(self) -> Any:
        """Use a memory beside, in which the tenants have the same names again."""
        with self.world.opened("memory") as memory:
            beside = memory.beside("facts", embedder=HashEmbedder(32))
            scope = beside.scope(user_id=self.tenant.label)
            return scope.add(self.world.text(self.tenant)), scope.search(self.world.question())

    def reembed(self) -> Any:
        """Move to another space, be asked there, and move back: all are told what they were."""
        memory, former = self.world.memory, self.world.memory.embedder
        try:
            there = memory.reembed(HashEmbedder(96))
            told = memory.scope(user_id=self.tenant.label).search(self.world.question())
        finally:
            back = memory.reembed(former)
        return there, told, back

    def embedder(self) -> Any:
        return self.world.memory.embedder

    def weights(self) -> Any:
        return self.world.memory.weights

    def count_tokens(self) -> Any:
        return self.world.memory.count_tokens(self.world.text(self.tenant))

    def export(self) -> Any:
        path = self.world.file(self.tenant, ".jsonl")
        count = self.world.memory.export(path, namespaces=[(self.tenant.label,)])
        return count, path.read_bytes()

    def import_(self) -> Any:
        path = self.world.file(self.tenant, ".jsonl")
        self.world.memory.export(path, namespaces=[(self.tenant.label,)])
        return self.world.memory.import_(path, on_conflict="skip")

    def backup(self) -> Any:
        return self.world.memory.backup(self.world.file(self.tenant, ".backup"))

    def check(self) -> Any:
        return self.world.memory.check(quick=self.world.random.random() < 0.5)

    def repair(self) -> Any:
        return self.world.memory.repair()

    def purge(self) -> Any:
        return self.world.memory.purge(timeout_s=1)

    def verify_erased(self) -> Any:
        return self.world.memory.verify_erased([self.tenant.canary])

    def open(self) -> Any:
        with self.world.opened("memory") as again:
            return again.scope(user_id=self.tenant.label).search(self.world.question())

    def close(self) -> Any:
        return self.world.opened("memory").close()


class ItemCalls:
    """A random call of each public method of the items, for one tenant where it can be."""

    def __init__(self, world: World, tenant: Tenant) -> None:
        self.world, self.items = world, world.memory.items()
        self.canary, self.namespace = tenant.canary, (tenant.label,)

    def write(self) -> Any:
        value = self.world.random.choice((None, {"word": self.canary}))
        texts = self.world.random.choice((None, ["tea", f"{self.canary} in Lyon"]))
        ttl = self.world.random.choice((None, timedelta(minutes=9)))
        change = ItemChange(self.namespace, self._key(), value, texts, ttl)
        return self.items.write([change])

    def get(self) -> Any:
        return self.items.get(self.namespace, self._key(), refresh=self.world.random.random() < 0.5)

    def search(self) -> Any:
        return self.items.search(
            self.namespace,
            query=self.world.random.choice((None, "tea", "my secret in Lyon")),
            where=self.world.random.choice((None, {"word": {"$exists": True}})),
            with_expired=self.world.random.random() < 0.5,
        )

    def namespaces(self) -> Any:
        return self.items.namespaces(self.namespace)

    def delete_all(self) -> Any:
        return self.items.delete_all(self.namespace)

    def sweep(self) -> Any:
        return self.items.sweep()

    def _key(self) -> str:
        return self.world.random.choice(("likes", "city", "pet"))


ITEM_CALLS = ("write", "write", "write", "get", "search", "namespaces", "delete_all", "sweep")


class FunctionCalls:
    """A random call of each public function, which needs no memory."""

    def __init__(self, world: World, tenant: Tenant) -> None:
        self.world, self.tenant = world, tenant

    def search_sources(self) -> Any:
        sources = [source_of(self.world, self.tenant)]
        return search_sources(self.world.question(), sources, now=self.world.clock())


BY_KIND: dict[str, type[Any]] = {
    "function": FunctionCalls,
    "memory": MemoryCalls,
    "scope": ScopeCalls,
}


def source_of(world: World, tenant: Tenant) -> Source:
    """Return an outside source of a tenant's own."""
    texts = [world.text(tenant) for _ in range(3)]
    return Source(WordRetriever(texts), name="wiki", timeout_s=60)


def public(kind: type | object) -> set[str]:
    """Return the names of the public attributes of a class, or of an object too."""
    return {name for name in dir(kind) if not name.startswith("_")}
