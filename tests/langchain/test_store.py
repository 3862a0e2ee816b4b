"""HybridStore, side by side with the stores that LangGraph has: where those fail, it must not.

`stores(memory=..., sqlite=...)` runs a test on all three; a reason says what that store does
instead, and the test must fail there.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings
from langchain_hybrid_memory import HybridStore, decode_label, encode_label
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

from benchmarks.langgraph_stores import sqlite_store
from hybrid_memory import HybridMemory
from hybrid_memory.backends import langgraph as importer
from hybrid_memory.errors import EmbedderMismatchError, HybridMemoryError, InvalidInputError
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore

DIMS = 96
NS = ("users", "ana")


def embed(texts: Sequence[str]) -> list[list[float]]:
    return HashEmbedder(DIMS).embed(texts).tolist()


INDEX: Any = {"dims": DIMS, "embed": embed, "fields": ["text"]}
Make = Callable[..., BaseStore]


@pytest.fixture
def make(request: pytest.FixtureRequest, memory: HybridMemory) -> Iterator[Make]:
    """Return what makes an empty store of the kind that the test is parametrised with."""
    with ExitStack() as stack:

        def made(index: Any = INDEX, ttl: Any = None) -> BaseStore:
            if request.param == "memory":
                return InMemoryStore(index=index)
            if request.param == "sqlite":
                return stack.enter_context(sqlite_store(index=index, ttl=ttl))
            return HybridStore(memory, index=index, ttl=ttl)

        yield made


def stores(*, memory: str = "", sqlite: str = "") -> pytest.MarkDecorator:
    """Run on all three stores; a reason says how that one fails."""
    stock = {"memory": memory, "sqlite": sqlite}
    marked = [
        pytest.param(name, marks=[pytest.mark.xfail(reason=reason, strict=True)] if reason else [])
        for name, reason in stock.items()
    ]
    return pytest.mark.parametrize("make", ["hybrid", *marked], indirect=True)


@pytest.fixture
def store(memory: HybridMemory) -> HybridStore:
    return HybridStore(memory)


def keys(found: Sequence[Any]) -> list[str]:
    return [item.key for item in found]


def puts(*texts: str, **others: Any) -> list[PutOp]:
    return [PutOp(NS, str(n), {"text": text}, **others) for n, text in enumerate(texts)]


# -- what is found -----------------------------------------------------------------------------


@stores(memory="ValueError (langgraph#8822)")
def test_two_items_of_equal_text_in_one_batch_are_both_found(make: Make) -> None:
    store = make()
    store.batch(puts("green tea", "green tea", "rum"))

    hits = store.search(NS, query="green tea", limit=2)
    assert sorted(keys(hits)) == ["0", "1"]
    assert hits[0].score == pytest.approx(hits[1].score)


@stores(memory="finds the old text, score 1.0 (#8214)", sqlite="finds the old text")
def test_an_item_put_with_index_false_is_found_by_its_old_text_no_more(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "green tea"})
    store.put(NS, "a", {"text": "secret"}, index=False)

    assert all(not hit.score for hit in store.search(NS, query="green tea"))


@stores(memory="the old field's vector stays", sqlite="the old field's vector stays")
def test_an_update_drops_the_vectors_of_fields_that_are_gone(make: Make) -> None:
    store = make({**INDEX, "fields": ["text", "note"]})
    store.put(NS, "a", {"text": "green tea", "note": "purple elephants"})
    store.put(NS, "a", {"text": "green tea"})
    store.put(NS, "b", {"text": "purple curtains"})

    assert keys(store.search(NS, query="purple elephants", limit=1)) == ["b"]


@stores(sqlite="pages 5, 5, 0, 0, 0, 0 (#8977)")
def test_pages_hold_all_hits_each_once(make: Make) -> None:
    store = make()
    store.batch(puts(*(f"tea number {n}" for n in range(30))))

    pages = [store.search(NS, query="tea", limit=5, offset=start) for start in range(0, 30, 5)]
    assert [len(page) for page in pages] == [5] * 6
    assert len({hit.key for page in pages for hit in page}) == 30


@stores(sqlite="returns 1: the vectors of one item fill the page")
def test_an_item_with_many_texts_takes_one_place(make: Make) -> None:
    store = make({**INDEX, "fields": ["parts[*].text"]})
    store.put(NS, "long", {"parts": [{"text": f"green tea {n}"} for n in range(12)]})
    for n in range(9):
        store.put(NS, str(n), {"parts": [{"text": f"rum {n}"}]})

    hits = store.search(NS, query="green tea", limit=4)
    assert len(hits) == 4
    assert hits[0].key == "long"
    assert keys(hits).count("long") == 1


@stores(sqlite="leaves them out")
def test_items_without_a_text_come_after_those_with_one(make: Make) -> None:
    store = make()
    store.put(NS, "hidden", {"text": "green tea"}, index=False)
    store.put(NS, "seen", {"text": "rum"})

    hits = store.search(NS, query="green tea")
    assert keys(hits) == ["seen", "hidden"]
    assert hits[1].score is None


@stores()
def test_an_item_is_found_by_the_fields_that_its_put_names(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "rum", "deep": {"note": "green tea"}}, index=["deep.note"])
    store.put(NS, "b", {"text": "rum", "deep": {"note": "green tea"}})

    [first, second] = store.search(NS, query="green tea")
    assert first.key == "a"
    assert first.score is not None
    assert second.score is not None
    assert first.score > second.score


@stores()
def test_without_a_query_there_is_no_score(make: Make) -> None:
    store = make()
    store.batch(puts("tea", "rum"))

    assert [hit.score for hit in store.search(NS)] == [None, None]


def test_scores_lie_between_0_and_1_and_fall(store: HybridStore) -> None:
    store.batch(puts("green tea", "black tea", "tea time", "rum", index=None))

    scores = [hit.score for hit in store.search(NS, query="green tea", limit=10)]
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, key=lambda score: -(score or 0))


@pytest.mark.slow
def test_the_bundled_model_finds_by_meaning(tmp_path: Path) -> None:
    with HybridMemory.open(tmp_path) as memory:
        store = HybridStore(memory)
        store.put(NS, "a", {"content": "She plays the violin in an orchestra."})
        store.put(NS, "b", {"content": "The train to Lyon leaves at nine."})

        assert store.search(NS, query="Who makes music?", limit=1)[0].key == "a"
        assert store.search(NS, query="railway", limit=1)[0].key == "b"


# -- times and copies --------------------------------------------------------------------------


@stores(memory="a new one (#8340, #7411)", sqlite="a new one")
def test_an_update_keeps_when_an_item_was_made(make: Make, clock: ManualClock) -> None:
    store = make()
    store.put(NS, "a", {"text": "tea"})
    made = store.get(NS, "a")
    threading.Event().wait(1.1 if isinstance(store, SqliteStore) else 0.001)
    clock.advance(seconds=1)
    store.put(NS, "a", {"text": "rum"})
    kept = store.get(NS, "a")

    assert made is not None
    assert kept is not None
    assert kept.created_at == made.created_at
    assert kept.updated_at > made.updated_at
    assert kept.created_at.tzinfo == UTC


@stores(sqlite="seconds")
def test_times_are_told_to_the_microsecond(make: Make, clock: ManualClock) -> None:
    clock.advance(microseconds=123)
    store = make()
    store.put(NS, "a", {"text": "tea"})

    item = store.get(NS, "a")
    assert item is not None
    assert item.updated_at.microsecond != 0


@stores(memory="the store's own object is handed out")
def test_what_was_read_can_be_changed_without_harm(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "tea", "list": [1]})
    for item in (store.get(NS, "a"), *store.search(NS), *store.search(NS, query="tea")):
        assert item is not None
        item.value["list"].append(2)
        item.value["text"] = "mud"

    assert [item.value for item in store.search(NS)] == [{"text": "tea", "list": [1]}]


# -- filters -----------------------------------------------------------------------------------

PEOPLE = {"a": {"n": 1}, "b": {"n": 10}, "c": {"other": 5}}


def filtered(store: BaseStore, wanted: dict[str, Any], query: str | None = None) -> set[str]:
    for key, value in PEOPLE.items():
        store.put(NS, key, {"text": "tea", **value})
    return {hit.key for hit in store.search(NS, filter=wanted, query=query)}


@stores(memory="TypeError (#8365, #7880)")
def test_a_missing_field_matches_no_comparison(make: Make) -> None:
    assert filtered(make(), {"n": {"$gt": 0}}) == {"a", "b"}


@stores(memory="the missing one is included (#8366)")
def test_a_missing_field_is_not_unequal_either(make: Make) -> None:
    assert filtered(make(), {"n": {"$ne": 1}}) == {"b"}


@stores(memory="nothing, in silence (#8829)", sqlite="ValueError")
def test_filters_combine_with_or(make: Make) -> None:
    assert filtered(make(), {"$or": [{"n": 1}, {"other": {"$gte": 5}}]}) == {"a", "c"}


@stores()
def test_numbers_compare_as_numbers(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "tea", "n": 9})
    store.put(NS, "b", {"text": "tea", "n": 10})

    assert keys(store.search(NS, filter={"n": {"$gt": 9.5}})) == ["b"]
    assert keys(store.search(NS, filter={"n": {"$eq": 9.0}})) == ["a"]


@stores()
def test_an_unknown_operator_is_a_value_error(make: Make) -> None:
    with pytest.raises(ValueError, match="nearly"):
        filtered(make(), {"n": {"$nearly": 1}})


@stores(sqlite="ValueError")
def test_a_nested_mapping_filters_by_its_path(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "tea", "at": {"city": "Lyon", "n": {"x": 1}}})
    store.put(NS, "b", {"text": "tea", "at": {"city": "Turin", "n": {"x": 1}}})

    assert keys(store.search(NS, filter={"at": {"city": "Lyon", "n": {"x": 1}}})) == ["a"]


def test_filters_know_all_that_the_memory_knows(store: HybridStore) -> None:
    assert filtered(store, {"$not": {"n": {"$exists": True}}}) == {"c"}
    assert filtered(store, {"n": {"$in": [1, 2]}}, "tea") == {"a"}
    assert filtered(store, {"text": {"$contains": "ea"}, "n": 10}, "tea") == {"b"}
    assert filtered(store, {"$and": [{"$not": {"at": {"city": 1}}}, {"n": 1}]}) == {"a"}
    assert filtered(store, {"at": {"city": 1}, "at.city": {"$exists": False}}) == set()
    for broken in ({"$or": {}}, {"$or": [1]}, {"$nor": [{"n": 1}]}, {"n": {"$gt": None}}):
        with pytest.raises(ValueError, match=r"."):
            filtered(store, broken)


@stores()
def test_k_are_found_whenever_k_match(make: Make) -> None:
    store = make()
    store.batch(PutOp(NS, str(n), {"text": f"tea {n}", "mine": n % 50 == 0}) for n in range(300))

    assert len(store.search(NS, query="tea", filter={"mine": True}, limit=6)) == 6


# -- batches -----------------------------------------------------------------------------------


@stores()
def test_reads_of_a_batch_see_what_was_there_before_its_puts(make: Make) -> None:
    store = make()
    store.put(NS, "a", {"text": "old"})

    results = store.batch(
        [
            GetOp(NS, "a"),
            PutOp(NS, "a", {"text": "new"}),
            SearchOp(NS, query="old"),
            PutOp(NS, "a", {"text": "newest"}),
            GetOp(NS, "a"),
            PutOp(("users", "ben"), "b", {"text": "hi"}),
            ListNamespacesOp(),
        ]
    )
    values = [one.value["text"] for one in (results[0], results[2][0], results[4])]  # type: ignore[index, union-attr]
    assert values == ["old"] * 3
    assert results[6] == [NS]
    assert [results[n] for n in (1, 3, 5)] == [None] * 3
    newest = store.get(NS, "a")
    assert newest is not None
    assert newest.value == {"text": "newest"}


@stores()
def test_a_put_and_a_delete_of_one_key_in_a_batch_leave_what_came_last(make: Make) -> None:
    store = make()
    store.put(NS, "b", {"text": "old"})
    store.batch(
        [
            PutOp(NS, "a", {"text": "tea"}),
            PutOp(NS, "a", None),
            PutOp(NS, "b", None),
            PutOp(NS, "b", {"text": "new"}),
        ]
    )

    assert [(one.key, one.value) for one in store.search(NS)] == [("b", {"text": "new"})]


def test_a_batch_that_is_refused_writes_nothing(store: HybridStore) -> None:
    bad: list[Any] = [
        PutOp(("a.b",), "k", {"n": 1}),
        PutOp((), "k", {"n": 1}),
        PutOp(NS, "k", {"n": object()}),
        PutOp(NS, "k", {"n": 1}, ttl=-1),
        PutOp(NS, "k", {"n": 1}, ttl=1e300),
        PutOp(NS, "k", {"n": 1}, ttl=1e10),
        PutOp(NS, "k", {"n": 1}, ttl=float("nan")),
        SearchOp(("",)),
        SearchOp(NS, limit=-1),
        GetOp(("a\0",), "k"),
        ListNamespacesOp((MatchCondition("prefix", ("a.b",)),)),
        ListNamespacesOp((MatchCondition("middle", ("a",)),)),  # type: ignore[arg-type]
        ListNamespacesOp(limit=-1),
        "no operation",
    ]
    store.put(("others",), "k", {"n": 1})
    for op in bad:
        with pytest.raises(ValueError, match=r"."):
            store.batch([PutOp(NS, "fine", {"n": 1}), op])

    assert store.search(NS) == []
    assert issubclass(InvalidNamespaceError, ValueError)


@stores()
def test_getting_and_deleting_what_is_not_there_is_no_error(make: Make) -> None:
    store = make()
    store.delete(NS, "nobody")

    assert store.get(NS, "nobody") is None
    assert store.search(NS, query="nobody") == []
    assert store.batch([]) == []


# -- namespaces --------------------------------------------------------------------------------

SPACES = [("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("b", "x", "c"), ("b", "y", "d"), ("c",)]


@stores()
def test_namespaces_are_listed_by_prefix_suffix_wildcard_and_depth(make: Make) -> None:
    store = make()
    for space in SPACES:
        store.put(space, "k", {"text": "tea"})
    store.put(("gone",), "k", {"text": "tea"})
    store.delete(("gone",), "k")

    listed = store.list_namespaces
    assert [one for one in listed() if one != ("gone",)] == SPACES
    assert listed(prefix=("a",)) == [("a",), ("a", "b"), ("a", "b", "c")]
    assert listed(suffix=("c",)) == [("a", "b", "c"), ("b", "x", "c"), ("c",)]
    assert listed(prefix=("b", "*", "d")) == [("b", "y", "d")]
    assert listed(suffix=("*", "c")) == [("a", "b", "c"), ("b", "x", "c")]
    assert listed(prefix=("a",), suffix=("c",)) == [("a", "b", "c")]
    assert listed(prefix=("b",), max_depth=2) == [("b", "x"), ("b", "y")]
    assert listed(prefix=("a",), max_depth=1) == [("a",)]
    assert listed(prefix=("a",), limit=1, offset=1) == [("a", "b")]


@stores(memory="lists it still")
def test_a_namespace_without_items_is_not_listed(make: Make) -> None:
    store = make()
    store.put(NS, "k", {"text": "tea"})
    store.delete(NS, "k")

    assert store.list_namespaces() == []


@stores()
def test_a_search_matches_whole_labels(make: Make) -> None:
    store = make()
    for space in SPACES:
        store.put(space, "k", {"text": "tea"})

    for query in (None, "tea"):
        found = {hit.namespace for hit in store.search(("a",), query=query)}
        assert found == {("a",), ("a", "b"), ("a", "b", "c")}
        assert len(store.search((), query=query)) == len(SPACES)


@pytest.mark.parametrize(
    "user", ["ann@example.com", "100%", "%2E", "a.b.c", "langgraph", 42, "zoë", "a/b c", "..", "\0"]
)
def test_any_id_makes_a_label_and_comes_back(store: HybridStore, user: object) -> None:
    label = encode_label(user)
    store.put((label, "memories"), "k", {"text": "tea"})

    assert decode_label(label) == str(user)
    assert store.list_namespaces(suffix=("memories",)) == [(label, "memories")]
    assert keys(store.search((label,), query="tea")) == ["k"]


def test_ids_that_differ_have_labels_that_differ() -> None:
    ids = ["a.b", "a%2Eb", "a%252Eb", "langgraph", "%6Canggraph", "LangGraph"]

    assert len(set(map(encode_label, ids))) == len(ids)
    assert encode_label("ann") == "ann"
    with pytest.raises(InvalidInputError):
        encode_label("")


def test_a_namespace_is_deleted_with_all_below_it_and_nothing_beside_it(
    store: HybridStore, memory: HybridMemory
) -> None:
    for space in SPACES:
        store.put(space, "k", {"text": "tea"}, index=["text", "$"])
    message = memory.scope(namespace=("a", "b")).add("I like tea")

    assert store.delete_namespace(("a",)) == 3
    assert store.list_namespaces() == SPACES[3:]
    assert memory.scope(namespace=("a", "b")).get(message.id) == message
    with pytest.raises(InvalidInputError):
        store.delete_namespace(())


# -- time to live ------------------------------------------------------------------------------


def test_an_item_expires_after_its_minutes_unless_it_is_read(
    memory: HybridMemory, clock: ManualClock
) -> None:
    store = HybridStore(memory, ttl={"default_ttl": 10, "omit_expired": True})
    store.put(NS, "short", {"text": "tea"})
    store.put(NS, "long", {"text": "tea"}, ttl=60)
    store.put(NS, "ever", {"text": "tea"}, ttl=None)
    clock.advance(minutes=9)
    assert len(store.search(NS, query="tea")) == 3
    clock.advance(minutes=9)
    assert store.get(NS, "short", refresh_ttl=False) is not None
    clock.advance(minutes=2)

    assert store.get(NS, "short") is None
    assert sorted(keys(store.search(NS))) == ["ever", "long"]
    assert sorted(keys(store.search(NS, query="tea"))) == ["ever", "long"]
    assert store.sweep_ttl() == 1


def test_reading_renews_nothing_if_it_was_told_not_to(
    memory: HybridMemory, clock: ManualClock
) -> None:
    store = HybridStore(memory, ttl={"refresh_on_read": False, "omit_expired": True})
    store.put(NS, "a", {"text": "tea"}, ttl=10)
    clock.advance(minutes=9)
    assert store.get(NS, "a") is not None
    assert len(store.search(NS)) == 1
    clock.advance(minutes=2)

    assert store.get(NS, "a") is None
    assert store.list_namespaces() == []


def test_what_has_expired_is_there_until_it_is_swept_unless_it_is_to_be_omitted(
    store: HybridStore, clock: ManualClock
) -> None:
    store.put(NS, "a", {"text": "tea"}, ttl=1)
    clock.advance(minutes=2)
    assert keys(store.search(NS, query="tea", refresh_ttl=False)) == ["a"]
    assert store.list_namespaces() == [NS]

    assert store.sweep_ttl() == 1
    assert store.search(NS) == []
    assert store.list_namespaces() == []


@pytest.mark.parametrize("make", ["sqlite", "hybrid"], indirect=True)
def test_expired_items_are_omitted(
    make: Make, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    store = make(ttl={"omit_expired": True})
    if isinstance(store, SqliteStore):
        request.applymarker(pytest.mark.xfail(reason="ignored (#8902)", strict=True))
    store.put(NS, "a", {"text": "tea"}, ttl=0.001)
    threading.Event().wait(2 if isinstance(store, SqliteStore) else 0)
    clock.advance(seconds=1)

    assert store.search(NS, refresh_ttl=False) == []


def test_a_sweeper_sweeps_until_it_is_stopped(store: HybridStore, clock: ManualClock) -> None:
    store.put(NS, "a", {"text": "tea"}, ttl=1)
    clock.advance(minutes=2)
    swept = threading.Event()
    sweep = store.sweep_ttl
    store.sweep_ttl = lambda: (sweep(), swept.set())[0]  # type: ignore[method-assign, func-returns-value]

    running = store.start_ttl_sweeper(0.0001)
    assert store.start_ttl_sweeper() is running
    assert swept.wait(30)
    assert store.stop_ttl_sweeper(timeout=30)
    assert running.done()
    assert store.search(NS) == []


def test_a_sweeper_that_fails_tells_its_future(store: HybridStore, memory: HybridMemory) -> None:
    memory.close()

    assert isinstance(store.start_ttl_sweeper(0.0001).exception(30), HybridMemoryError)
    assert store.stop_ttl_sweeper()


# -- other embeddings --------------------------------------------------------------------------


class Model(Embeddings):
    """Embeddings of LangChain, with a name."""

    def __init__(self, model: str = "tiny") -> None:
        self.model = model
        self.seen: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.seen += texts
        return embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return embed([text])[0]


async def embed_later(texts: Sequence[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return embed(texts)


@pytest.mark.parametrize("wanted", [embed, embed_later, Model()], ids=["sync", "async", "class"])
def test_an_embedding_of_another_dimension_works_beside_the_memory(
    memory: HybridMemory, wanted: Any
) -> None:
    store = HybridStore(memory, index={"dims": DIMS, "embed": wanted, "fields": ["text"]})
    store.batch(puts("green tea", "rum"))

    hits = store.search(NS, query="green tea")
    assert keys(hits) == ["0", "1"]
    assert store.memory is not memory
    assert HybridStore(memory).search(()) == []


def test_equal_texts_are_embedded_once(memory: HybridMemory) -> None:
    model = Model()
    store = HybridStore(memory, index={"dims": DIMS, "embed": model, "fields": ["text"]})
    store.batch([*puts("cocoa", "cocoa", "rum"), PutOp(("users", "ben"), "k", {"text": "cocoa"})])

    # Beside them are the sentences by which a store knows its embedder.
    assert [text for text in model.seen if text in ("cocoa", "rum")] == ["cocoa", "rum"]


def test_another_embedding_on_old_items_is_refused(memory: HybridMemory) -> None:
    index: Any = {"dims": DIMS, "embed": Model("one")}
    HybridStore(memory, index=index).put(NS, "a", {"text": "tea"})

    with pytest.raises(EmbedderMismatchError):
        HybridStore(memory, index={**index, "embed": Model("two")})
    assert HybridStore(memory, index=index).get(NS, "a") is not None


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"embed": embed}, "needs dims"),
        ({"dims": DIMS}, "no embed"),
        ({"dims": 0, "embed": embed}, "needs dims"),
    ],
)
def test_an_index_that_is_half_said_is_refused(memory: HybridMemory, index: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        HybridStore(memory, index=index)


def test_an_embedding_of_a_wrong_dimension_writes_nothing(memory: HybridMemory) -> None:
    store = HybridStore(memory, index={"dims": DIMS + 1, "embed": embed})
    with pytest.raises(ValueError, match=f"{DIMS} dimensions"):
        store.put(NS, "a", {"text": "tea"})

    assert store.search(NS) == []


# -- threads and loops -------------------------------------------------------------------------


async def test_all_operations_work_on_a_loop(store: HybridStore) -> None:
    await store.aput(NS, "a", {"text": "green tea"})
    await store.aput(NS, "b", {"text": "rum"}, ttl=5)

    item = await store.aget(NS, "a")
    assert item is not None
    assert item.value == {"text": "green tea"}
    assert keys(await store.asearch(NS, query="tea", limit=1)) == ["a"]
    assert await store.alist_namespaces(prefix=("users",)) == [NS]
    await store.adelete(NS, "a")
    assert keys(await store.asearch(NS)) == ["b"]


async def test_the_loop_runs_on_while_texts_are_embedded(memory: HybridMemory) -> None:
    loop_ran = threading.Event()

    def patient(texts: Sequence[str]) -> list[list[float]]:
        assert loop_ran.wait(30), "the loop stood still"
        return embed(texts)

    store = HybridStore(memory, index={"dims": DIMS, "embed": patient})
    putting = asyncio.create_task(store.aput(NS, "a", {"text": "tea"}))
    await asyncio.sleep(0.01)
    loop_ran.set()
    await putting

    assert keys(await store.asearch(NS, query="tea")) == ["a"]


async def test_an_asynchronous_embedding_runs_on_the_loop_of_its_caller(
    memory: HybridMemory,
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def noted(texts: Sequence[str]) -> list[list[float]]:
        loops.append(asyncio.get_running_loop())
        return await embed_later(texts)

    store = HybridStore(memory, index={"dims": DIMS, "embed": noted})
    await store.aput(NS, "a", {"text": "tea"})
    await store.asearch(NS, query="tea")
    assert len(loops) >= 2
    assert set(loops) == {asyncio.get_running_loop()}

    # A synchronous call blocks this loop, and must not wait for it.
    loops.clear()
    store.put(NS, "b", {"text": "tea"})
    assert len(store.search(NS, query="tea")) == 2
    assert len(loops) == 2
    assert loops[0] is loops[1] is not asyncio.get_running_loop()


def test_a_loop_that_is_closed_meanwhile_leaves_no_thread_waiting(memory: HybridMemory) -> None:
    began = threading.Event()

    async def endless(texts: Sequence[str]) -> list[list[float]]:
        began.set()
        await asyncio.Event().wait()
        return []

    store = HybridStore(memory, index={"dims": DIMS, "embed": endless})

    async def start() -> None:
        task = asyncio.create_task(store.aput(NS, "a", {"text": "tea"}))
        while not began.is_set():
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(start())
    store.close()  # waits for the thread

    assert HybridStore(memory).search(()) == []


async def test_many_calls_at_once_take_few_threads(memory: HybridMemory) -> None:
    threads: set[str] = set()

    def noted(texts: Sequence[str]) -> list[list[float]]:
        threads.add(threading.current_thread().name)
        return embed(texts)

    store = HybridStore(memory, index={"dims": DIMS, "embed": noted})
    await asyncio.gather(*(store.aput(NS, str(n), {"text": f"tea {n}"}) for n in range(60)))
    store.close()

    assert 1 <= len(threads) <= 8
    assert len(store.search(NS, limit=100)) == 60


def test_threads_that_write_and_read_lose_nothing(store: HybridStore) -> None:
    def work(worker: int) -> None:
        for n in range(15):
            store.put(
                NS, f"{worker}-{n}", {"text": f"tea {worker} {n}", "n": n}, index=["text", "n"]
            )
            store.put(NS, "shared", {"text": f"rum {worker}", "n": n})
            hits = store.search(NS, query="tea", filter={"n": n}, limit=50)
            assert f"{worker}-{n}" in keys(hits)
            assert len(set(keys(hits))) == len(hits)
            if n % 3 == 0:
                store.delete(NS, f"{worker}-{n}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))

    expected = {f"{worker}-{n}" for worker in range(6) for n in range(15) if n % 3}
    assert set(keys(store.search(NS, limit=200))) == expected | {"shared"}


# -- persistence -------------------------------------------------------------------------------


def test_what_was_put_is_there_after_the_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from hybrid_memory import HybridMemory\n"
        "from hybrid_memory.testing import HashEmbedder\n"
        "from langchain_hybrid_memory import HybridStore\n"
        "memory = HybridMemory.open(sys.argv[1], embedder=HashEmbedder())\n"
        "HybridStore(memory).put(('a',), 'k', {'text': 'green tea'}, index=['text', '$'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert done.returncode == -9
    with HybridMemory.open(tmp_path, embedder=HashEmbedder()) as memory:
        [hit] = HybridStore(memory).search((), query="tea")
        assert hit.value == {"text": "green tea"}
        assert (hit.score or 0) > 0.3
        assert memory.check().problems == ()


def test_items_of_langgraphs_own_store_can_be_imported(
    memory: HybridMemory, tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "store.db"
    with sqlite_store(str(file)) as old:
        old.put(NS, "a", {"text": "green tea", "n": 1})
        old.put(NS, "b", {"text": "rum"})
        made = old.get(NS, "a")
    clock.advance(days=3650)  # the other store has a clock of its own
    memory.import_(importer.items(file))
    store = HybridStore(memory)

    item = store.get(NS, "a")
    assert item is not None
    assert made is not None
    assert item.value == {"text": "green tea", "n": 1}
    assert abs(item.created_at - made.created_at.replace(tzinfo=UTC)) < timedelta(seconds=2)
    assert keys(store.search(NS, query="green tea", limit=1)) == ["a"]
    store.put(NS, "a", {"text": "milk"})
    assert keys(store.search(("users",), filter={"text": "milk"})) == ["a"]


def test_a_scope_and_the_store_see_the_same(store: HybridStore, memory: HybridMemory) -> None:
    ana = memory.scope(namespace=NS)
    store.put(NS, "k", {"content": "Ana likes green tea.", "city": "Lyon"})

    [hit] = ana.search("green tea")
    assert hit.record.text == "Ana likes green tea.; city: Lyon"
    assert hit.record.data == {"content": "Ana likes green tea.", "city": "Lyon"}
    assert ana.erase().total == 1
    assert store.search(()) == []


# -- compared with InMemoryStore, where both mean the same ---------------------------------------

_SPACES = st.sampled_from([("a",), ("a", "b"), ("ab",), ("b",)])
_KEYS = st.sampled_from("xyz")
_VALUES = st.none() | st.fixed_dictionaries(
    {"n": st.integers(0, 3), "text": st.sampled_from(["tea", "rum", "milk"])},
    optional={"deep": st.fixed_dictionaries({"b": st.booleans()})},
)
_FILTERS: Any = st.sampled_from(
    [None, {"n": 1}, {"n": {"$gte": 2}}, {"n": {"$lt": 2}, "text": "tea"}, {"text": {"$ne": "rum"}},
     {"deep": {"b": True}}, {}]
)  # fmt: skip
_OPS = st.one_of(
    st.builds(PutOp, _SPACES, _KEYS, _VALUES, st.sampled_from([None, False, ["text"]]), st.none()),
    st.builds(GetOp, _SPACES, _KEYS, st.booleans()),
    st.builds(
        SearchOp,
        st.sampled_from([(), ("a",), ("b",)]),
        _FILTERS,
        st.just(99),
        st.just(0),
        st.sampled_from([None, "tea", "milk"]),
        st.booleans(),
    ),
)


def told(result: Any) -> Any:
    """Return a result without what differs on purpose: order, times, scores."""
    if isinstance(result, list):
        return sorted((one.namespace, one.key, str(one.value)) for one in result)
    return result if result is None else (result.namespace, result.key, result.value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(_OPS, max_size=6), max_size=6))
def test_it_holds_and_finds_what_the_store_in_ram_does(batches: list[list[Any]]) -> None:
    stock = InMemoryStore()
    with HybridMemory(MemoryRecordStore(), embedder=HashEmbedder()) as memory:
        store = HybridStore(memory)
        for ops in batches:
            ours, theirs = store.batch(ops), stock.batch(ops)
            assert [told(one) for one in ours] == [told(one) for one in theirs]
        assert told(store.search((), limit=99)) == told(stock.search((), limit=99))
