"""Whatever is done to a store, what it counts is what it holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, PrunePolicy, Quota
from hybrid_memory.backends.sql import schema
from hybrid_memory.errors import ConflictError, NotFoundError, QuotaExceededError, StoreCorruptError
from hybrid_memory.testing import HashEmbedder, ManualClock
from hybrid_memory.types import ItemChange

# As is right where a record was damaged, too.
REFUSED = (ConflictError, NotFoundError, QuotaExceededError, StoreCorruptError)
IDS = st.sampled_from(["a", "b"])
TEXTS = st.text("tea ä", min_size=1, max_size=30).filter(str.strip)
CONFLICTS = st.sampled_from(["error", "skip", "replace"])
ITEMS = st.fixed_dictionaries({"id": IDS, "text": TEXTS}).map(lambda item: {**item, "at": AT})
VALUES = st.none() | st.lists(TEXTS, max_size=3)
AT = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.lists(ITEMS, min_size=1, max_size=3), CONFLICTS),
    st.tuples(st.just("update"), IDS, TEXTS),
    st.tuples(st.just("item"), st.lists(st.tuples(IDS, VALUES), min_size=1, max_size=3)),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("expire"), st.lists(IDS, max_size=3)),
    st.tuples(st.just("forget"), st.sampled_from(["user", "item"])),
    st.tuples(st.just("prune"), st.integers(0, 6)),
    st.tuples(st.just("damage"), IDS),
    st.tuples(st.just("repair")),
    st.tuples(st.just("erase")),
    st.tuples(st.just("purge")),
    st.tuples(st.just("reembed"), st.sampled_from([16, 32])),
    st.tuples(st.just("switch"), st.sampled_from([16, 32])),
)


def step(memory: HybridMemory, path: Path, name: str, *given: Any) -> None:
    ana, items = memory.scope(user_id="ana"), memory.items()
    match name:
        case "put":
            ana.add_many(given[0], on_conflict=given[1])
        case "update":
            ana.update(given[0], text=given[1])
        case "item":
            items.write(
                ItemChange(
                    ("ana",),
                    f"item-{key}",
                    None if texts is None else {"n": len(texts)},
                    texts=texts,
                )
                for key, texts in given[0]
            )
        case "delete":
            ana.delete(given[0])
        case "expire":
            memory._store.expire(("ana",), given[0], AT + timedelta(days=1))
        case "forget":
            ana.forget(source=given[0])
        case "prune":
            ana.prune(PrunePolicy(max_records=given[0]), dry_run=False)
        case "damage":
            with closing(sqlite3.connect(path / "memory.db")) as database, database:
                database.execute("UPDATE records SET role = 'x' WHERE id = ?", given)
        case "repair":
            memory.repair()
        case "erase":
            ana.erase()
        case "purge":
            memory.purge()
        case "reembed":
            memory.reembed(HashEmbedder(given[0], name=str(given[0])))
        case "switch":  # and do not put the new vectors in their place yet, as if it was killed
            settle, memory._store.settle_space = memory._store.settle_space, lambda limit: 0
            try:
                memory.reembed(HashEmbedder(given[0], name=str(given[0])))
            finally:
                memory._store.settle_space = settle


def miscounted(path: Path, *, sizes: str = "r.size") -> list[Any]:
    """The counts of namespaces that are not the sum of their records."""
    with closing(sqlite3.connect(path / "memory.db")) as database:
        return database.execute(
            f"SELECT n.records, count(r.key), n.bytes, ifnull(sum({sizes}), 0) AS held "
            "FROM namespaces n LEFT JOIN records r ON r.namespace = n.number GROUP BY n.number "
            "HAVING n.records != count(r.key) OR n.bytes != held"
        ).fetchall()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lambda: tmp_path_factory.mktemp("counts")


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=12),
    quota=st.sampled_from([None, Quota(records=6), Quota(records=6, when_full="prune")]),
)
@example(steps=[("damage", "a"), ("reembed", 32), ("delete", "a")], quota=None)
@example(steps=[("switch", 32), ("expire", ["a"])], quota=None)
def test_what_is_counted_of_a_namespace_is_what_it_holds(
    places: Any, steps: list[tuple[Any, ...]], quota: Quota | None
) -> None:
    path = places()
    with HybridMemory.open(
        path,
        embedder=HashEmbedder(16, name="16"),
        clock=ManualClock(AT),
        durability="normal",
        quota=quota,
    ) as memory:
        memory.scope(user_id="ana").add_many([{"text": "Tea.", "id": id} for id in "ab"])
        for name, *given in steps:
            with suppress(*REFUSED):
                step(memory, path, name, *given)
            assert miscounted(path) == []
        while memory._store.settle_space():
            pass
    assert miscounted(path, sizes=schema.MEASURED) == []
