"""What is one tenant's is no other's, in a form that takes seconds; see each program."""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from pathlib import Path

import hybrid_memory
from hybrid_memory import HybridMemory, Items, Record
from hybrid_memory.errors import ConflictError, NotFoundError
from tests.reliability import isolation, small_tenant, statements
from tests.reliability.calls import (
    ITEM_CALLS,
    PROFILES,
    FunctionCalls,
    ItemCalls,
    MemoryCalls,
    ScopeCalls,
    World,
    public,
)
from tests.reliability.isolation import readable


def test_every_public_method_is_among_the_random_calls(tmp_path: Path) -> None:
    world = World(tmp_path, tenants=1)
    scope = world.tenants[0].scopes[0]
    world.close()
    of_mapping = set(dir(MutableMapping)) - set(dir(object))
    of_profile = {name for name in of_mapping if callable(getattr(MutableMapping, name))}

    assert public(ScopeCalls) == public(scope)
    assert public(MemoryCalls) == public(HybridMemory)
    assert of_profile - {"__class_getitem__"} <= PROFILES.keys()
    assert public(ItemCalls) == public(Items)
    assert set(ITEM_CALLS) == public(Items)
    names = hybrid_memory.__all__
    functions = {name for name in names if inspect.isroutine(getattr(hybrid_memory, name))}
    assert public(FunctionCalls) == functions


def test_no_tenant_is_shown_a_byte_of_another() -> None:
    outcome = isolation.run(scale=0.06)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 600
    assert int(outcome.details["foreign ids asked for"]) >= 100
    assert int(outcome.details["own canaries seen"]) >= 1000


def test_whatever_is_told_is_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, tenants=1)
    tenant = world.tenants[0]
    scope = tenant.scopes[0]
    told: list[object] = [
        scope.search("secret"),
        scope.context("secret"),
        scope.why("secret", "r0"),
        scope.profile,
        Record("r0", ("ana",), "message", "tea", world.clock(), world.clock(), speaker="canary"),
    ]
    caused = NotFoundError("no record")
    caused.__context__ = ConflictError(tenant.canary)

    found = [any(tenant.canary in text for text in readable(one)) for one in (*told, caused)]
    world.close()

    assert found == [True, True, True, True, False, True]


def test_a_tenant_with_a_thousandth_of_the_records_finds_what_it_would_find_alone() -> None:
    outcome = small_tenant.run(scale=0.4)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 400
    assert outcome.details["recall@10"] == 1.0


def test_every_statement_of_a_tenants_calls_names_the_namespace() -> None:
    outcome = statements.run(scale=0.2)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 1000


def test_a_statement_that_names_no_namespace_or_another_is_not_bound() -> None:
    def bound(statement: str) -> bool:
        return statements.is_bound(statement, numbers={7}, names={'["ana"]'})

    assert bound("SELECT id FROM records WHERE namespace = 7 AND id = 'r0'")
    assert bound("SELECT number FROM namespaces WHERE labels = '[\"ana\"]'")
    assert bound(f"SELECT id FROM records WHERE key IN ({7 << 32 | 1}, {7 << 32 | 2})")
    assert not bound("SELECT id FROM records WHERE id = 'r0'")
    assert not bound("SELECT count(*) FROM namespaces")
    assert not bound("DELETE FROM records WHERE namespace = 8 AND id = 'r0'")
    assert not bound(f"SELECT id FROM records WHERE key IN ({7 << 32 | 1}, {8 << 32 | 2})")
    assert not bound("INSERT INTO removals (namespace, change, key) VALUES (8, 1, 2)")
