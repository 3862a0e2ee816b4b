"""Items: values under keys, in records that everything else holds for as well."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory import HybridMemory, Item, ItemChange, Items, Scope
from hybrid_memory.errors import (
    ConflictError,
    EmbedderMismatchError,
    FilterError,
    InvalidInputError,
    MetadataError,
)
from hybrid_memory.memory import shelf
from hybrid_memory.protocols import Vectors
from hybrid_memory.spaces import PROBES
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore
from hybrid_memory.types import Namespace

ANA: Namespace = ("ana",)


class CountingEmbedder(HashEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def embed(self, texts: Any) -> Vectors:
        self.seen += texts
        return super().embed(texts)


@pytest.fixture
def items(memory: HybridMemory) -> Items:
    return memory.items()


def put(items: Items, key: str, value: dict[str, Any] | None, **others: Any) -> None:
    items.write([ItemChange(others.pop("namespace", ANA), key, value, **others)])


def found(items: Items, query: str, **bounds: Any) -> list[str]:
    return [item.key for item in items.search(ANA, query=query, **bounds)]


def best(items: Items, query: str) -> Item:
    return items.search(ANA, query=query, limit=1)[0]


def test_an_item_is_read_back_with_its_times(items: Items, clock: ManualClock) -> None:
    made = clock()
    put(items, "k", {"likes": ["tea"], "age": {"years": 31}})
    clock.advance(hours=1)
    put(items, "k", {"likes": ["cocoa"]})

    assert items.get(ANA, "k") == Item(ANA, "k", {"likes": ["cocoa"]}, made, clock())
    assert items.get(ANA, "other") is None
    assert items.get(("ben",), "k") is None


def test_each_text_of_an_item_finds_it_and_the_best_one_counts(items: Items) -> None:
    put(items, "pets", {"n": 1}, texts=["cats purr", "dogs bark", "birds sing"])
    put(items, "cars", {"n": 2}, texts=["engines roar"])

    for query in ("purr", "bark", "sing"):
        hits = items.search(ANA, query=query)
        assert [hit.key for hit in hits] == ["pets", "cars"]
        assert (hits[0].score or 0) > 0.5 > (hits[1].score or 0)


def test_what_an_update_dropped_finds_nothing_any_more(items: Items, memory: HybridMemory) -> None:
    put(items, "k", {"n": 1}, texts=["cats purr", "dogs bark", "birds sing"])
    put(items, "k", {"n": 2}, texts=["cats purr", "fish swim"])

    assert best(items, "bark").score == 0
    assert best(items, "sing").score == 0
    assert (best(items, "swim").score or 0) > 0.3
    assert memory.scope(namespace=ANA).stats().total == 2
    put(items, "k", None)
    assert memory.scope(namespace=ANA).stats().total == 0


def test_an_item_and_its_texts_that_are_not_of_one_writing_do_not_belong_together(
    items: Items, memory: HybridMemory
) -> None:
    put(items, "k", {"n": 1}, texts=["cats purr", "dogs bark"])
    put(items, "k", {"n": 2}, texts=["cows moo", "fish swim"])
    now = memory._shelves["item"].get(ANA)
    [key] = [key for key, one in now.records.items() if one.text == "fish swim"]
    stale = replace(now.records[key], metadata={"item": {"part": 1, "revision": 7}})
    torn = shelf.Shelf(ANA, now.position, {**now.records, key: stale})

    item = now.item(key)
    assert item is not None
    assert item.id == "k"
    assert torn.item(key) is None


def test_an_item_without_a_text_comes_last_and_without_a_score(items: Items) -> None:
    put(items, "hidden", {"content": "cats purr"}, texts=[])
    put(items, "other", {"content": "dogs bark"})

    assert [(hit.key, hit.score) for hit in items.search(ANA, query="cats")] == [
        ("other", 0.0),
        ("hidden", None),
    ]
    assert found(items, "cats", limit=1, offset=1) == ["hidden"]
    put(items, "hidden", {"content": "cats purr"})
    assert (best(items, "cats").score or 0) > 0.3


def test_what_is_not_to_be_found_stays_so_over_check_repair_export_and_import(
    items: Items, memory: HybridMemory, ana: Scope, tmp_path: Path
) -> None:
    put(items, "hidden", {"content": "cats purr"}, texts=[])
    put(items, "pets", {"n": 1}, texts=["cats purr", "dogs bark"])

    assert memory.check(vectors=True).problems == ()
    memory.repair()
    assert {hit.record.text for hit in ana.search("cats dogs")} == {"cats purr", "dogs bark"}
    assert ana.why("cats", "hidden").reason == "it is not ranked: its metadata say so"
    file = io.StringIO()
    memory.export(file)
    file.seek(0)
    with HybridMemory.open(tmp_path / "copy", embedder=HashEmbedder()) as other:
        other.import_(file)
        copied = other.items()
        assert copied.search(ANA, query="dogs") == items.search(ANA, query="dogs")
        assert copied.get(ANA, "hidden") == items.get(ANA, "hidden")


def test_equal_texts_are_items_of_their_own_and_are_encoded_once(clock: ManualClock) -> None:
    embedder = CountingEmbedder()
    with HybridMemory(MemoryRecordStore(), embedder=embedder, clock=clock) as memory:
        items = memory.items()
        items.write(ItemChange((user,), "k", {"content": "I like tea"}) for user in "abc")
        items.write(ItemChange(ANA, str(n), {"content": "I like tea"}) for n in range(3))

        assert [text for text in embedder.seen if text not in PROBES] == [
            "I like tea",
            "I like tea",
        ]
        assert found(items, "tea") == ["0", "1", "2"]
        assert len({hit.score for hit in items.search(ANA, query="tea")}) == 1


def test_pages_hold_each_item_once_whatever_the_number_of_its_texts(items: Items) -> None:
    items.write(
        ItemChange(ANA, f"{n:02}", {"n": n}, [f"tea {n} {part}" for part in range(n % 4)])
        for n in range(30)
    )

    pages = [found(items, "tea", limit=7, offset=start) for start in range(0, 42, 7)]
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2, 0]
    assert sorted(key for page in pages for key in page) == [f"{n:02}" for n in range(30)]


def test_a_filter_looks_at_the_value_alone_and_before_anything_is_counted(items: Items) -> None:
    items.write(
        ItemChange(
            ANA, str(n), {"kind": "even" if n % 2 == 0 else "odd", "at": n, "deep": {"n": n}}
        )
        for n in range(40)
    )

    assert len(items.search(ANA, where={"kind": "even"}, limit=40)) == 20
    assert len(found(items, "odd", where={"kind": "even"}, limit=15)) == 15
    assert found(items, "even", where={"deep.n": {"$lt": 1}}) == ["0"]
    assert found(items, "even", where={"$or": [{"at": 3}, {"$not": {"at": {"$lt": 39}}}]})
    assert items.search(ANA, where={"missing": {"$ne": 1}}) == []
    for broken in ({"at": {"$near": 1}}, {"$xor": [{"at": 1}]}, {"deep": {"n": 1}}, "at", {1: 2}):
        with pytest.raises(FilterError):
            items.search(ANA, where=broken)  # type: ignore[arg-type]


def test_without_a_query_the_last_written_come_first(items: Items, clock: ManualClock) -> None:
    for key in "abc":
        put(items, key, {"n": 1}, namespace=("ana", key))
        clock.advance(seconds=1)
    put(items, "a", {"n": 2}, namespace=("ana", "a"))

    assert [item.key for item in items.search(ANA)] == ["a", "c", "b"]
    assert [item.key for item in items.search(ANA, limit=1, offset=1)] == ["c"]
    assert items.search(ANA, limit=0) == []


def test_a_search_reaches_what_is_below_its_labels_and_nothing_else(items: Items) -> None:
    for namespace in (("a",), ("a", "b"), ("ab",), ("b", "a")):
        put(items, "k", {"content": "tea"}, namespace=namespace)

    def reached(*under: str) -> set[Namespace]:
        listed = {item.namespace for item in items.search(under)}
        assert {item.namespace for item in items.search(under, query="tea")} == listed
        assert set(items.namespaces(under)) == listed
        return listed

    assert reached("a") == {("a",), ("a", "b")}
    assert reached("a", "b") == {("a", "b")}
    assert reached("x") == set()
    assert len(reached()) == 4


def test_an_item_is_a_record_of_its_scope_and_other_records_are_no_items(
    items: Items, ana: Scope
) -> None:
    message = ana.add("I like tea", id="m")
    put(items, "k", {"content": "Tea is served at five."})

    assert {hit.record.id for hit in ana.search("tea")} == {"m", "k"}
    assert found(items, "tea") == ["k"]
    assert items.get(ANA, "m") is None
    put(items, "m", None)
    assert ana.get("m") == message
    with pytest.raises(ConflictError, match="no item here"):
        put(items, "m", {"n": 1})
    assert items.delete_all(ANA) == 1
    assert [hit.record.id for hit in ana.search("tea")] == ["m"]


def test_a_conflict_in_one_namespace_leaves_the_others_as_they_were(
    items: Items, ana: Scope
) -> None:
    ana.add("I like tea", id="m")

    with pytest.raises(ConflictError):
        items.write([ItemChange(("ben",), "k", {"n": 1}), ItemChange(ANA, "m", {"n": 1})])
    assert items.search() == []


def test_items_of_another_source_are_others(memory: HybridMemory, items: Items) -> None:
    other = memory.items(source="shop")
    put(items, "k", {"n": 1})

    assert other.get(ANA, "k") is None
    assert other.search() == []
    assert other.namespaces() == []
    assert other.delete_all(ANA) == 0
    with pytest.raises(ConflictError):
        put(other, "k", {"n": 2})


def test_what_is_refused_leaves_everything_as_it_was(items: Items) -> None:
    broken: list[tuple[str, Any]] = [
        ("k", {"n": float("nan")}),
        ("k", {"n": {1, 2}}),
        ("k", ["no", "object"]),
        ("k", {"text": "x" * 70_000}),
        ("", {"n": 1}),
        ("k" * 300, {"n": 1}),
    ]
    for key, value in broken:
        with pytest.raises(InvalidInputError):
            items.write([ItemChange(ANA, "fine", {"n": 1}), ItemChange(ANA, key, value)])
    with pytest.raises(MetadataError, match="value has 70011 bytes"):
        put(items, "k", {"text": "x" * 70_000})
    for bounds in ({"limit": -1}, {"offset": -1}):
        with pytest.raises(InvalidInputError):
            items.search(**bounds)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="ttl must be longer than nothing"):
        put(items, "k", {"n": 1}, ttl=timedelta(0))

    assert items.search() == []


def test_odd_values_are_kept_as_they_are(items: Items) -> None:
    values: dict[str, dict[str, Any]] = {
        "empty": {},
        "blank": {"text": "  "},
        "long": {"text": "tea \N{GRINNING FACE}" * 7000},
        "lists": {"n": list(range(10_000))},
        "none": {"a": None, "b": [None, True, 1.5]},
    }
    for key, value in values.items():
        put(items, key, value)

    assert {item.key: item.value for item in items.search()} == values
    assert set(found(items, "tea")) == set(values)


def test_a_value_that_was_read_can_be_changed_without_harm(items: Items) -> None:
    given = {"likes": ["tea"]}
    put(items, "k", given)
    given["likes"].append("mud")
    for read in (items.get(ANA, "k"), *items.search(), *items.search(query="tea")):
        assert read is not None
        read.value["likes"].append("mud")

    assert [item.value for item in items.search()] == [{"likes": ["tea"]}]


def test_an_item_lives_as_long_as_it_was_told_from_its_last_use(
    items: Items, clock: ManualClock
) -> None:
    put(items, "k", {"n": 1}, texts=["cats purr", "dogs bark"], ttl=timedelta(hours=1))
    put(items, "ever", {"n": 2})
    clock.advance(minutes=50)
    kept = items.get(ANA, "k", refresh=True)
    assert kept is not None
    assert kept.expires_at == clock() + timedelta(hours=1)
    clock.advance(minutes=50)
    assert items.sweep() == 0
    assert len(items.search(ANA, query="bark", refresh=True)) == 2
    assert kept.updated_at == items.search(ANA, where={"n": 1})[0].updated_at

    clock.advance(minutes=61)
    assert items.get(ANA, "k") is None
    assert found(items, "bark") == ["ever"]
    assert found(items, "bark", with_expired=True) == ["k", "ever"]
    assert items.sweep() == 1
    assert items.get(ANA, "k", with_expired=True) is None
    assert items.namespaces() == [ANA]


def test_reading_an_item_without_a_time_to_live_writes_nothing(
    items: Items, memory: HybridMemory
) -> None:
    put(items, "k", {"n": 1})
    before = memory._store.position(ANA)
    items.get(ANA, "k", refresh=True)
    items.search(ANA, refresh=True)

    assert memory._store.position(ANA) == before


def test_what_another_process_writes_is_seen(tmp_path: Path) -> None:
    def opened() -> HybridMemory:
        return HybridMemory.open(tmp_path, embedder=HashEmbedder(), durability="normal")

    with opened() as one, opened() as two:
        mine, yours = one.items(), two.items()
        put(mine, "k", {"content": "tea"})
        assert found(yours, "tea") == ["k"]
        put(yours, "k", {"content": "cocoa"})
        put(yours, "l", {"content": "cocoa"})
        assert {item.key for item in mine.search(ANA, where={"content": "cocoa"})} == {"k", "l"}
        yours.delete_all(ANA)
        assert mine.search(ANA) == []
        put(mine, "k", {"content": "rum"})
        two.scope(namespace=ANA).erase()
        put(yours, "m", {"content": "milk"})
        assert found(mine, "milk") == ["m"]


def test_shelves_that_are_not_used_leave_the_ram(
    items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "MAX_HELD", 25)
    for user in range(5):
        items.write(ItemChange((f"u{user}",), str(n), {"n": n}) for n in range(10))
    shelves = items._shelves

    for _ in range(2):
        assert len(items.search(limit=100)) == 50
        assert sum(len(one.records) for one in shelves._held.values()) == shelves._size <= 25


@pytest.mark.parametrize("how", ["erase", "purge", "delete_all"])
def test_what_is_removed_for_good_leaves_the_ram_too(
    items: Items, memory: HybridMemory, how: str
) -> None:
    put(items, "k", {"content": "tea"})
    assert found(items, "tea") == ["k"]
    if how == "erase":
        memory.scope(namespace=ANA).erase()
    elif how == "delete_all":
        items.delete_all(ANA)
    else:
        put(items, "k", None)
        memory.purge()

    assert memory._shelves["item"]._held == {}


def test_redaction_goes_over_values_and_texts(tmp_path: Path) -> None:
    with HybridMemory.open(
        tmp_path, embedder=HashEmbedder(), redact=lambda text: text.replace("4711", "[pin]")
    ) as memory:
        items = memory.items()
        put(items, "k", {"pin": "4711"}, texts=["my pin is 4711", "4711 it is"])

        assert items.search()[0].value == {"pin": "[pin]"}
        memory.purge()
        assert memory.verify_erased(texts=["4711"]).is_clean


def test_a_damaged_item_costs_no_other(clock: ManualClock) -> None:
    store = MemoryRecordStore()
    with HybridMemory(store, embedder=HashEmbedder(), clock=clock) as memory:
        items = memory.items()
        for key in "ab":
            put(items, key, {"content": "tea"})
        store.damage(ANA, id="a")

        assert found(items, "tea") == ["b"]
        assert [item.key for item in items.search()] == ["b"]


def test_a_memory_beside_has_vectors_of_its_own_and_goes_with_the_other(tmp_path: Path) -> None:
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(64)) as memory:
        memory.scope(namespace=ANA).add("canary-2917 in the first")
        beside = memory.beside("own", embedder=HashEmbedder(5, name="five"))
        beside.items().write([ItemChange(ANA, "k", {"content": "canary-2917 in the other"})])

        assert beside.items().search(query="canary")[0].key == "k"
        assert memory.items().search() == []
        assert len({one.file for one in memory.verify_erased(texts=["canary-2917"]).found}) > 1
        assert beside.check().problems == memory.check().problems == ()
        again = memory.beside("own", embedder=HashEmbedder(5, name="five"))
        assert again.items().get(ANA, "k") is not None
        with pytest.raises(EmbedderMismatchError):
            memory.beside("own", embedder=HashEmbedder(6, name="six"))
        with pytest.raises(InvalidInputError, match="letters"):
            memory.beside("../own", embedder=HashEmbedder(5, name="five"))
    with pytest.raises(Exception, match="was closed"):
        beside.items().search()


TEXTS = ("green tea", "black coffee", "cold water")


def test_deleting_an_item_through_a_scope_takes_its_further_texts_along(
    memory: HybridMemory, items: Items
) -> None:
    ana = memory.scope(namespace=ANA)
    for key in "abc":
        put(items, key, {"key": key}, texts=[f"{text} {key}" for text in TEXTS])
    ana.add("A message.", id="m")
    assert ana.stats().total == 10

    assert ana.delete("a")
    assert ana.stats().total == 7
    assert ana.delete_many(["b", "m", "nobody"]) == 2
    assert ana.stats().total == 3
    assert [item.key for item in items.search(ANA, query="black coffee")] == ["c"]
    assert not ana.delete("a")


def test_forgetting_an_item_through_a_scope_takes_its_further_texts_along(
    memory: HybridMemory, items: Items
) -> None:
    ana = memory.scope(namespace=ANA)
    other = memory.items(source="other")
    for store, key in ((items, "a"), (items, "b"), (other, "c")):
        put(store, key, {"key": key}, texts=[f"{text} {key}" for text in TEXTS])

    ana.update("a", importance=0.9)  # of the item alone

    assert ana.forget(where={"importance": {"$gt": 0.8}}) == 1
    assert ana.stats().total == 6
    assert ana.forget(source="other") == 3
    assert ana.stats().total == 3
    assert [item.key for item in items.search(ANA, query="black coffee")] == ["b"]


def test_a_damaged_item_does_not_keep_the_others_from_being_deleted(clock: ManualClock) -> None:
    store = MemoryRecordStore()
    with HybridMemory(store, embedder=HashEmbedder(), clock=clock) as memory:
        items = memory.items()
        put(items, "a", {"key": "a"}, texts=["damaged"])
        put(items, "b", {"key": "b"}, texts=TEXTS)
        store.damage(ANA, id="a")

        assert memory.scope(namespace=ANA).delete_many(["a", "b"]) == 2
        assert memory.scope(namespace=ANA).stats().total == 0
