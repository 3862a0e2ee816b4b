"""The hot copy of a namespace: caught up before each read, and never more than a cache."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_memory import HybridMemory, Record, Scope
from hybrid_memory.analyze import analyze
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.gather import gather
from hybrid_memory.indexing import drafts
from hybrid_memory.limits import microseconds
from hybrid_memory.partition import Partition, PartitionCache, View
from hybrid_memory.protocols import Changes, DocumentStore, IndexFactory, Vector
from hybrid_memory.testing import (
    ExactIndex,
    HashEmbedder,
    ManualClock,
    MemoryDocumentStore,
    MemoryRecordStore,
)
from hybrid_memory.types import Kind, Namespace
from hybrid_memory.words import terms

ANA: Namespace = ("ana",)
DIM = 16
EMBEDDER = HashEmbedder(DIM)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _record(text: str, id_: str, kind: Kind = "message", **others: Any) -> Record:
    values: dict[str, Any] = {"at": NOW, "created_at": NOW} | others
    return Record(id=id_, namespace=ANA, kind=kind, text=text, **values)


def _write(
    store: MemoryRecordStore, *texts: str, kind: Kind = "message", namespace: Namespace = ANA
) -> list[str]:
    """Store texts, each with itself as its id, and return the ids."""
    records = [_record(text, text, kind) for text in texts]
    store.insert(namespace, drafts(records, EMBEDDER, at_given=[True] * len(records)))
    return list(texts)


def _rewrite(store: MemoryRecordStore, id_: str, text: str, kind: Kind = "message") -> None:
    [draft] = drafts([_record(text, id_, kind)], EMBEDDER, at_given=[True])
    store.update(ANA, draft)


def _partition(
    store: MemoryRecordStore,
    *,
    documents: DocumentStore | None = None,
    index: IndexFactory = ExactIndex,
    index_above: int = 10**9,
    namespace: Namespace = ANA,
) -> Partition:
    return Partition(
        namespace,
        store=store,
        dim=DIM,
        index=index,
        index_above=index_above,
        documents=documents,
    )


def _held(store: MemoryRecordStore, view: View) -> list[str]:
    """Return the texts of the living rows of a view, in their order."""
    keys = view.columns["key"][view.alive].tolist()
    found = store.fetch(view.namespace, keys)
    return [found[key].text for key in keys]


def _state(view: View) -> tuple[Any, ...]:
    """Return all that a view says, as values that can be compared."""
    return (
        *(column.tobytes() for column in view.columns.values()),
        view.alive.tobytes(),
        None if view.vectors is None else view.vectors.tobytes(),
        list(view.metadata[: len(view.alive)]),
        view.words.scores([1, 2, 3], view.alive).tobytes(),
        len(view.words.lengths),
    )


# -- catching up -------------------------------------------------------------------------------


def test_an_empty_namespace_has_two_empty_shelves() -> None:
    memories, papers = _partition(MemoryRecordStore()).views()

    assert len(memories.alive) == len(papers.alive) == 0
    assert memories.vectors is not None
    assert memories.vectors.shape == (0, DIM)
    assert memories.speakers == frozenset()


def test_what_was_written_is_in_the_next_views() -> None:
    store = MemoryRecordStore()
    partition = _partition(store)
    _write(store, "one")
    assert _held(store, partition.views()[0]) == ["one"]

    _write(store, "two", "three")

    assert _held(store, partition.views()[0]) == ["one", "two", "three"]


def test_documents_have_a_shelf_of_their_own() -> None:
    store = MemoryRecordStore()
    _write(store, "said")
    _write(store, "read", kind="document")
    _write(store, "meant", kind="fact")

    memories, papers = _partition(store).views()

    assert _held(store, memories) == ["said", "meant"]
    assert _held(store, papers) == ["read"]


def test_what_is_not_ranked_is_on_no_shelf() -> None:
    store = MemoryRecordStore()
    records = [
        _record("Be concise.", "i", "instruction"),
        _record("You are a bot.", "s", role="system"),
    ]
    store.insert(ANA, drafts(records, EMBEDDER, at_given=[True] * 2))

    memories, papers = _partition(store).views()

    assert len(memories.alive) == len(papers.alive) == 0


def test_rows_hold_what_was_stored() -> None:
    store = MemoryRecordStore()
    record = _record(
        "I like Rust.",
        "a",
        speaker="Ana",
        session_id="s1",
        importance=0.75,
        metadata={"city": "Lyon"},
        expires_at=NOW + timedelta(days=1),
    )
    [draft] = drafts([record], EMBEDDER, at_given=[True])
    store.insert(ANA, [draft])

    view = _partition(store).views()[0]

    assert view.vectors is not None
    assert draft.vector is not None
    assert np.array_equal(view.vectors[0], draft.vector)
    assert view.columns["at"][0] == microseconds(NOW)
    assert view.columns["expires_at"][0] == microseconds(NOW + timedelta(days=1))
    assert view.columns["digest"][0] == draft.digest
    assert view.columns["session_id"][0] == view.code("s1")
    assert view.code("nobody") is None
    assert view.speakers == {"Ana"}
    assert view.words.scores(draft.terms.tolist(), view.alive)[0] > 0.2


def test_an_update_takes_the_place_of_what_was() -> None:
    store = MemoryRecordStore()
    _write(store, "one", "two")
    partition = _partition(store)
    partition.views()
    _rewrite(store, "one", "eleven")

    view = partition.views()[0]

    assert sorted(_held(store, view)) == ["eleven", "two"]
    old, new = (drafts([_record(t, "x")], EMBEDDER, at_given=[True])[0] for t in ("one", "eleven"))
    assert not view.words.scores(old.terms.tolist(), view.alive).any()
    assert view.words.scores(new.terms.tolist(), view.alive).any()


def test_a_deleted_record_is_dead_at_once() -> None:
    store = MemoryRecordStore()
    _write(store, "one", "two")
    partition = _partition(store)
    partition.views()
    store.delete(ANA, ["one"])

    assert _held(store, partition.views()[0]) == ["two"]


def test_what_was_written_and_deleted_between_two_reads_leaves_nothing() -> None:
    store = MemoryRecordStore()
    _write(store, "one")
    partition = _partition(store)
    partition.views()
    _write(store, "two")
    _rewrite(store, "two", "three")
    store.delete(ANA, ["two", "one"])
    _write(store, "one")

    assert _held(store, partition.views()[0]) == ["one"]


def test_a_record_that_becomes_a_document_changes_the_shelf() -> None:
    store = MemoryRecordStore()
    _write(store, "one", "two")
    partition = _partition(store)
    partition.views()
    _rewrite(store, "one", "one", "document")

    memories, papers = partition.views()

    assert _held(store, memories) == ["two"]
    assert _held(store, papers) == ["one"]


@pytest.mark.parametrize("slice_size", [1, 3, 1000])
def test_slices_of_any_size_make_the_same_partition(slice_size: int) -> None:
    store = MemoryRecordStore(slice_size=slice_size)
    partition = _partition(store)
    _write(store, *[f"text {i}" for i in range(10)])
    partition.views()
    store.delete(ANA, ["text 3"])
    _rewrite(store, "text 4", "text 44")
    _write(store, *[f"text {i}" for i in range(10, 17)])

    caught_up, fresh = partition.views()[0], _partition(store).views()[0]

    assert sorted(_held(store, caught_up)) == sorted(_held(store, fresh))
    words = caught_up.words.scores([5], caught_up.alive), fresh.words.scores([5], fresh.alive)
    assert sorted(words[0][caught_up.alive]) == sorted(words[1])


def test_without_a_change_the_views_are_the_same_objects() -> None:
    store = MemoryRecordStore()
    _write(store, "one")
    partition = _partition(store)

    assert partition.views()[0] is partition.views()[0]


def test_namespaces_do_not_meet() -> None:
    store = MemoryRecordStore()
    _write(store, "mine")
    _write(store, "yours", namespace=("bob",))

    assert _held(store, _partition(store).views()[0]) == ["mine"]


def test_a_store_that_went_back_in_time_is_read_afresh() -> None:
    class Restored(MemoryRecordStore):
        """A store whose directory was put back from a backup while it was open."""

        def restore(self, backup: MemoryRecordStore) -> None:
            self.__dict__.update(backup.__dict__)

    backup, store = MemoryRecordStore(), Restored()
    _write(backup, "one")
    _write(store, "one", "two", "three")
    partition = _partition(store)
    partition.views()
    store.restore(backup)

    assert _held(store, partition.views()[0]) == ["one"]


def test_a_reader_that_another_one_overtook_reads_nothing_again() -> None:
    class Overtaken(MemoryRecordStore):
        """A store in which more is written and read while one reader looks at the position."""

        partition: Partition | None = None
        loads = 0

        def position(self, namespace: Namespace) -> int:
            position = super().position(namespace)
            if (partition := self.partition) is not None:
                self.partition = None
                _write(self, "two")
                partition.views()
            return position

        def changes(
            self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
        ) -> Generator[Changes, None, None]:
            self.loads += since == 0
            return super().changes(
                namespace, since=since, with_document_vectors=with_document_vectors
            )

    store = Overtaken()
    _write(store, "one")
    partition = _partition(store)
    partition.views()
    store.partition = partition

    assert _held(store, partition.views()[0]) == ["one", "two"]
    assert store.loads == 1


class _Failing(MemoryRecordStore):
    """A store that fails to read, after its first slice, as often as told."""

    failures = 0

    def changes(
        self, namespace: Namespace, *, since: int = 0, with_document_vectors: bool = True
    ) -> Generator[Changes, None, None]:
        for number, changes in enumerate(
            super().changes(namespace, since=since, with_document_vectors=with_document_vectors)
        ):
            if number and self.failures:
                self.failures -= 1
                raise OSError("the disk is gone")
            yield changes


def test_a_failed_read_is_made_good_by_the_next_one() -> None:
    store = _Failing(slice_size=2)
    _write(store, *[f"text {i}" for i in range(6)])
    partition = _partition(store)
    store.failures = 2
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            partition.views()

    view = partition.views()[0]

    assert _held(store, view) == [f"text {i}" for i in range(6)]
    assert len(view.alive) == 6


# -- compaction --------------------------------------------------------------------------------


@pytest.mark.parametrize(("deleted", "rows"), [(299, 1500), (300, 1500), (301, 1199), (900, 600)])
def test_above_a_fifth_of_dead_rows_the_partition_is_loaded_afresh(deleted: int, rows: int) -> None:
    store = MemoryRecordStore()
    ids = _write(store, *[f"text {i}" for i in range(1500)])
    partition = _partition(store)
    partition.views()
    store.delete(ANA, ids[:deleted])

    view = partition.views()[0]

    assert len(view.alive) == rows
    assert _held(store, view) == ids[deleted:]
    assert view.vectors is not None
    assert len(view.vectors) == len(view.words.lengths) == len(view.metadata) == rows


def test_rewriting_again_and_again_does_not_grow_the_partition() -> None:
    store = MemoryRecordStore()
    _write(store, *[f"text {i}" for i in range(1200)])
    partition = _partition(store)
    partition.views()
    size = partition.nbytes
    for turn in range(5):
        for i in range(300):
            _rewrite(store, f"text {i}", f"text {i} {turn}")
        partition.views()

    assert len(partition.views()[0].alive) < 1.3 * 1200
    assert partition.nbytes < 3 * size


def test_a_view_taken_before_a_compaction_stays_as_it_was() -> None:
    store = MemoryRecordStore()
    ids = _write(store, *[f"text {i}" for i in range(1200)])
    partition = _partition(store)
    old = partition.views()[0]
    before = _state(old)
    store.delete(ANA, ids[:600])
    partition.views()

    assert _state(old) == before


# -- the cache of partitions -------------------------------------------------------------------


class _Shelf:
    """A cache over many namespaces that knows which partitions are still held."""

    def __init__(self, max_bytes: int, *, namespaces: int = 6, rows: int = 50) -> None:
        self.store = MemoryRecordStore()
        self.names: list[Namespace] = [(f"user{i}",) for i in range(namespaces)]
        for name in self.names:
            _write(self.store, *[f"text {i}" for i in range(rows)], namespace=name)
        self.made: list[Namespace] = []
        self._partitions: weakref.WeakSet[Partition] = weakref.WeakSet()
        self.cache = PartitionCache(self._make, max_bytes=max_bytes)

    def _make(self, namespace: Namespace) -> Partition:
        self.made.append(namespace)
        partition = _partition(self.store, namespace=namespace)
        self._partitions.add(partition)
        return partition

    def held(self) -> list[int]:
        """Return the bytes of each partition that something still holds."""
        return [partition.nbytes for partition in self._partitions]


def test_the_cache_keeps_within_its_bytes_and_reloads_what_it_dropped() -> None:
    one = _Shelf(10**9, namespaces=1)
    one.cache.views(("user0",))
    [size] = one.held()
    shelf = _Shelf(3 * size)

    for _ in range(2):
        for name in shelf.names:
            memories, _ = shelf.cache.views(name)
            assert len(_held(shelf.store, memories)) == 50
            assert sum(shelf.held()) <= 3 * size

    assert len(shelf.held()) == 3
    assert len(shelf.made) == 12


def test_the_one_used_longest_ago_goes_first() -> None:
    one = _Shelf(10**9, namespaces=1)
    one.cache.views(("user0",))
    shelf = _Shelf(3 * one.held()[0])
    for i in (0, 1, 2, 0, 3):  # 1 makes room for 3
        shelf.cache.views((f"user{i}",))
    made = len(shelf.made)

    for i in (0, 2, 3):
        shelf.cache.views((f"user{i}",))
    assert len(shelf.made) == made
    shelf.cache.views(("user1",))
    assert len(shelf.made) == made + 1


def test_a_partition_larger_than_the_cache_still_serves() -> None:
    shelf = _Shelf(1)

    for name in [*shelf.names, *shelf.names]:
        assert len(shelf.cache.views(name)[0].alive) == 50
        assert len(shelf.held()) == 1


def test_a_partition_that_grows_is_counted_as_it_is() -> None:
    one = _Shelf(10**9, namespaces=1)
    one.cache.views(("user0",))
    size = one.held()[0]
    shelf = _Shelf(4 * size, namespaces=3)
    for name in shelf.names:
        shelf.cache.views(name)
    assert len(shelf.held()) == 3

    _write(shelf.store, *[f"more {i}" for i in range(200)], namespace=("user0",))
    shelf.cache.views(("user0",))

    assert sum(shelf.held()) <= 4 * size or len(shelf.held()) == 1


def test_a_cleared_cache_holds_nothing_and_starts_again() -> None:
    shelf = _Shelf(10**9)
    for name in shelf.names:
        shelf.cache.views(name)
    shelf.cache.clear()

    assert shelf.held() == []
    assert len(shelf.cache.views(shelf.names[0])[0].alive) == 50


def test_looking_into_namespaces_that_are_empty_fills_no_memory() -> None:
    shelf = _Shelf(100_000, namespaces=0)
    for i in range(3000):
        shelf.cache.views((f"nobody{i}",))

    assert len(shelf.held()) < 3000


def test_threads_that_evict_one_another_still_see_everything() -> None:
    shelf = _Shelf(1, namespaces=4)

    def read(number: int) -> set[int]:
        return {
            len(shelf.cache.views(shelf.names[(number + step) % 4])[0].alive) for step in range(60)
        }

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(read, range(4))) == {50}
    shelf.cache.views(shelf.names[0])
    assert len(shelf.held()) == 1


# -- an index ----------------------------------------------------------------------------------


class _Watched(ExactIndex):
    """An index that counts what it is asked."""

    made = 0
    searches = 0
    rows = 0

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        type(self).made += 1

    def add(self, vectors: Any) -> None:
        type(self).rows += len(vectors)
        super().add(vectors)

    def search(self, vector: Vector, k: int) -> NDArray[np.int64]:
        type(self).searches += 1
        return super().search(vector, k)


@pytest.fixture
def watched() -> type[_Watched]:
    """Return a class of indexes with counts of its own."""
    return type("Watched", (_Watched,), {})


def _opened(store: MemoryRecordStore, clock: ManualClock, **parts: Any) -> HybridMemory:
    return HybridMemory(store, embedder=EMBEDDER, clock=clock, **parts)


def _numbered(ana: Scope, count: int, **others: Any) -> None:
    ana.add_many(
        {"text": f"note {i} of {i % 7}", "metadata": {"i": i, "seven": i % 7}, **others}
        for i in range(count)
    )


def test_up_to_the_bound_all_are_compared_and_above_it_an_index_is_asked(
    watched: type[_Watched], clock: ManualClock
) -> None:
    with _opened(MemoryRecordStore(), clock, index=watched, index_above=50) as memory:
        ana = memory.scope(user_id="ana")
        _numbered(ana, 50)
        ana.search("note 3")
        assert watched.made == 0

        ana.add("note 50 of 1")
        ana.search("note 3")
        ana.search("note 4")

    assert (watched.made, watched.searches, watched.rows) == (1, 2, 51)


def test_an_index_learns_only_what_is_new(watched: type[_Watched]) -> None:
    store = MemoryRecordStore()
    _write(store, *[f"text {i}" for i in range(60)])
    partition = _partition(store, index=watched, index_above=50)
    partition.views()
    _write(store, "more")
    partition.views()
    partition.views()

    assert (watched.made, watched.rows) == (1, 61)


def test_an_index_finds_what_a_full_comparison_finds(
    watched: type[_Watched], clock: ManualClock
) -> None:
    store = MemoryRecordStore()
    with _opened(store, clock, index=watched, index_above=10) as indexed:
        plain = _opened(store, clock)
        _numbered(indexed.scope(user_id="ana"), 400)
        for question in ("note 3", "note 399 of 0", "of", "nothing like it"):
            hits, expected = (
                [(hit.record.id, hit.score) for hit in one.scope(user_id="ana").search(question)]
                for one in (indexed, plain)
            )

            assert [score for _, score in hits] == pytest.approx([score for _, score in expected])

    assert watched.searches == 4


@pytest.mark.parametrize("k", [1, 10, 57, 200])
@pytest.mark.parametrize(
    ("where", "matching"),
    [
        (None, 400),
        ({"seven": 3}, 57),
        ({"i": {"$gte": 395}}, 5),
        ({"i": {"$in": [1, 399]}}, 2),
        ({"i": -1}, 0),
    ],
    ids=str,
)
def test_k_are_found_whenever_k_match_above_the_bound_too(
    clock: ManualClock, where: Any, matching: int, k: int
) -> None:
    with _opened(MemoryRecordStore(), clock, index=ExactIndex, index_above=50) as memory:
        ana = memory.scope(user_id="ana")
        _numbered(ana, 400)

        hits = ana.search("something else", k=k, where=where)

    assert len(hits) == min(k, matching)


@pytest.mark.parametrize("copies", [150, 600])
def test_copies_of_one_text_do_not_keep_k_others_out_above_the_bound(
    clock: ManualClock, copies: int
) -> None:
    with _opened(MemoryRecordStore(), clock, index=ExactIndex, index_above=50) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many(["the same words again"] * copies + [f"other{i}" for i in range(30)])

        hits = ana.search("the same words again", k=10)

    assert len(hits) == 10
    assert hits[0].duplicates == copies - 1


def test_dead_rows_do_not_keep_k_out_above_the_bound(clock: ManualClock) -> None:
    with _opened(MemoryRecordStore(), clock, index=ExactIndex, index_above=50) as memory:
        ana = memory.scope(user_id="ana")
        gone = ana.add_many([f"note {i}" for i in range(180)])
        ana.add_many([f"other {i}" for i in range(820)])
        ana.search("note 1")
        for record in gone:
            ana.delete(record.id)

        hits = ana.search("note 1", k=20)

    assert len(hits) == 20
    assert all(hit.record.text.startswith("other") for hit in hits)


class _Forgetful(ExactIndex):
    """An approximate index at its worst: it finds a few of the rows that there are."""

    def search(self, vector: Vector, k: int) -> NDArray[np.int64]:
        return super().search(vector, k)[:3]


def test_an_index_that_finds_too_few_is_not_relied_on(clock: ManualClock) -> None:
    with _opened(MemoryRecordStore(), clock, index=_Forgetful, index_above=50) as memory:
        ana = memory.scope(user_id="ana")
        _numbered(ana, 400)

        assert len(ana.search("nothing like it", k=50)) == 50


def test_the_newest_turns_of_the_session_are_candidates_above_the_bound() -> None:
    store = MemoryRecordStore()
    _write(store, *[f"note {i}" for i in range(300)])
    turns = [_record(f"unlike it all {i}", f"turn {i}", session_id="s9") for i in range(30)]
    store.insert(ANA, drafts(turns, EMBEDDER, at_given=[True] * 30))
    view = _partition(store, index_above=50).views()[0]
    query = analyze("note 3", now=NOW)
    vector = EMBEDDER.embed_query("note 3")

    alone = gather(query, vector, view, width=20)
    in_session = gather(query, vector, view, width=20, session_id="s9")

    assert set(range(310, 330)) <= set(in_session.rows.tolist())
    assert len(alone.rows) < len(in_session.rows) < 100
    assert len(gather(query, vector, view, width=20, session_id="unknown").rows) == len(alone.rows)


def test_an_index_that_refuses_is_not_hidden(clock: ManualClock) -> None:
    def refusing(dim: int) -> ExactIndex:
        raise InvalidInputError("cannot be made")

    with _opened(MemoryRecordStore(), clock, index=refusing, index_above=5) as memory:
        ana = memory.scope(user_id="ana")
        _numbered(ana, 10)

        for _ in range(2):
            with pytest.raises(InvalidInputError, match="cannot be made"):
                ana.search("note")


# -- a document store --------------------------------------------------------------------------


def _papers(store: MemoryRecordStore, papers: MemoryDocumentStore) -> set[int]:
    keys, _ = papers.search((store.id, *ANA), EMBEDDER.embed_query("text"), 10**6)
    return set(keys.tolist())


def test_a_document_store_is_filled_and_the_vectors_leave_the_partition() -> None:
    store, papers = MemoryRecordStore(slice_size=2), MemoryDocumentStore()
    _write(store, "said")
    _write(store, *[f"page {i}" for i in range(5)], kind="document")

    memories, view = _partition(store, documents=papers).views()

    assert memories.vectors is not None
    assert view.vectors is None
    assert _papers(store, papers) == set(view.columns["key"].tolist())
    assert papers.position((store.id, *ANA)) == store.position(ANA)


def test_a_document_store_is_caught_up_with_updates_and_deletions() -> None:
    store, papers = MemoryRecordStore(), MemoryDocumentStore()
    _write(store, "one", "two", "three", kind="document")
    partition = _partition(store, documents=papers)
    partition.views()
    store.delete(ANA, ["one"])
    _rewrite(store, "two", "twelve", "document")
    _write(store, "four", kind="document")

    view = partition.views()[1]

    assert sorted(_held(store, view)) == ["four", "three", "twelve"]
    assert _papers(store, papers) == set(view.columns["key"][view.alive].tolist())
    rows = np.flatnonzero(view.alive)
    best = rows[view.cosines(EMBEDDER.embed_query("twelve"), rows).argmax()]
    assert store.fetch(ANA, [int(view.columns["key"][best])]).popitem()[1].text == "twelve"
    assert papers.position((store.id, *ANA)) == store.position(ANA)


def test_another_process_goes_on_from_where_the_document_store_stands() -> None:
    class Counting(MemoryDocumentStore):
        added = 0

        def apply(self, namespace: Namespace, **others: Any) -> None:
            self.added += len(others["keys"])
            super().apply(namespace, **others)

    store, papers = MemoryRecordStore(), Counting()
    _write(store, "one", "two", kind="document")
    _partition(store, documents=papers).views()
    _write(store, "three", kind="document")
    store.delete(ANA, ["one"])

    view = _partition(store, documents=papers).views()[1]

    assert papers.added == 3
    assert _papers(store, papers) == set(view.columns["key"].tolist())


def test_documents_that_were_deleted_meanwhile_leave_the_document_store_too() -> None:
    store, papers = MemoryRecordStore(), MemoryDocumentStore()
    _write(store, "said")
    ids = _write(store, "one", "two", kind="document")
    _partition(store, documents=papers).views()
    store.delete(ANA, ids)

    _partition(store, documents=papers).views()

    assert _papers(store, papers) == set()


def test_a_document_store_ahead_of_the_records_is_dropped_and_filled_again() -> None:
    papers = MemoryDocumentStore()
    other = MemoryRecordStore()
    _write(other, *[f"old page {i}" for i in range(9)], kind="document")
    _partition(other, documents=papers).views()
    store = MemoryRecordStore()
    _write(store, "page", kind="document")

    view = _partition(store, documents=papers).views()[1]

    assert _papers(store, papers) == set(view.columns["key"].tolist())
    assert len(_papers(store, papers)) == 1
    assert papers.position((store.id, *ANA)) == store.position(ANA)
    assert view.cosines(EMBEDDER.embed_query("page"), np.array([0]))[0] == pytest.approx(1)


def test_without_documents_a_document_store_is_left_alone() -> None:
    class Untouched(MemoryDocumentStore):
        def apply(self, namespace: Namespace, **others: Any) -> None:
            raise AssertionError("nothing to store")

    store = MemoryRecordStore()
    partition = _partition(store, documents=Untouched())
    for i in range(3):
        _write(store, f"said {i}")
        assert len(partition.views()[0].alive) == i + 1


def test_messages_cost_a_document_store_nothing() -> None:
    class Counting(MemoryDocumentStore):
        calls = 0

        def apply(self, namespace: Namespace, **others: Any) -> None:
            self.calls += 1
            super().apply(namespace, **others)

    store, papers = MemoryRecordStore(), Counting()
    _write(store, "page", kind="document")
    partition = _partition(store, documents=papers)
    partition.views()
    calls = papers.calls
    for i in range(3):
        _write(store, f"said {i}")
        partition.views()

    assert papers.calls == calls
    _write(store, "second page", kind="document")
    view = partition.views()[1]
    assert _papers(store, papers) == set(view.columns["key"].tolist())


def test_a_document_store_that_fails_is_filled_when_it_is_back_and_leaves_no_rows_behind() -> None:
    class Flaky(MemoryDocumentStore):
        down = True

        def apply(self, namespace: Namespace, **others: Any) -> None:
            if self.down:
                raise OSError("no connection")
            super().apply(namespace, **others)

    store, papers = MemoryRecordStore(), Flaky()
    _write(store, "said")
    _write(store, "one", "two", kind="document")
    partition = _partition(store, documents=papers)
    for _ in range(5):
        with pytest.raises(OSError, match="connection"):
            partition.views()
    papers.down = False

    memories, view = partition.views()

    assert (len(memories.alive), len(view.alive)) == (1, 2)
    assert _papers(store, papers) == set(view.columns["key"][view.alive].tolist())


def test_documents_in_a_document_store_are_found_as_those_in_memory_are(
    clock: ManualClock,
) -> None:
    store = MemoryRecordStore()
    with _opened(store, clock, documents=MemoryDocumentStore()) as outside:
        inside = _opened(store, clock)
        ana = outside.scope(user_id="ana")
        ana.add_many(
            {"text": f"page {i} of {i % 3}", "kind": "document", "metadata": {"i": i}}
            for i in range(300)
        )
        for where in (None, {"i": {"$gte": 290}}):
            hits, expected = (
                [(hit.record.id, round(hit.score, 5)) for hit in one.scope(user_id="ana").search(
                    "page 7 of 1", k=20, kinds="document", where=where)]
                for one in (outside, inside)
            )  # fmt: skip
            assert [score for _, score in hits] == [score for _, score in expected]
            assert len(hits) == (20 if where is None else 10)


# -- threads -----------------------------------------------------------------------------------


def test_views_stay_as_they_are_while_others_write() -> None:
    store = MemoryRecordStore()
    _write(store, *[f"text {i}" for i in range(200)])
    partition = _partition(store, index_above=150)
    done = threading.Event()

    def write(number: int) -> None:
        for i in range(150):
            _write(store, f"new {number} {i}")
            if i % 3 == 0:
                store.delete(ANA, [f"text {100 * number + i // 3}"])
            if i % 5 == 0:
                _rewrite(store, f"new {number} {i}", f"newer {number} {i}")

    def read(_: int) -> int:
        seen = 0
        while not done.is_set() or not seen:
            view = partition.views()[0]
            before = _state(view)
            assert view.vectors is not None
            rows = len(view.columns["key"])
            assert len(view.alive) == len(view.vectors) == len(view.words.lengths) == rows
            assert len(view.metadata) >= rows
            near = view.nearest(EMBEDDER.embed_query("text 3"), 5)
            assert near is None or (near < rows).all()
            view.allowed(now=0, kinds=None, where=lambda fields: fields("role") == "user")
            assert _state(view) == before
            seen += 1
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, i) for i in range(2)]
        writers = [pool.submit(write, i) for i in range(2)]
        for writer in writers:
            writer.result()
        done.set()
        assert all(reader.result() for reader in readers)

    held = _held(store, partition.views()[0])
    assert len(held) == len(set(held)) == 200 + 300 - 100
    assert sorted(held) == sorted(_held(store, _partition(store).views()[0]))


def test_a_search_sees_every_write_that_returned_before_it(clock: ManualClock) -> None:
    with _opened(MemoryRecordStore(), clock, index=ExactIndex, index_above=100) as memory:

        def work(number: int) -> list[bool]:
            ana = memory.scope(user_id="ana", session_id=f"s{number}")
            seen = []
            for i in range(40):
                record = ana.add(f"word{number}x{i}")
                seen.append(ana.search(f"word{number}x{i}", k=1)[0].record.id == record.id)
                if i % 4 == 0:
                    ana.delete(record.id)
                    found = ana.search(f"word{number}x{i}", k=5)
                    seen.append(record.id not in {hit.record.id for hit in found})
            return seen

        with ThreadPoolExecutor(4) as pool:
            assert all(all(seen) for seen in pool.map(work, range(4)))


def test_two_partitions_of_one_store_agree(clock: ManualClock) -> None:
    store = MemoryRecordStore()
    one, other = _opened(store, clock), _opened(store, clock)
    record = one.scope(user_id="ana").add("I like Rust.")
    assert other.scope(user_id="ana").search("Rust")[0].record == record

    other.scope(user_id="ana").update(record.id, text="I like Zig.")

    assert one.scope(user_id="ana").search("Zig")[0].record.text == "I like Zig."


def test_equal_states_are_recognised_by_these_tests() -> None:
    store = MemoryRecordStore()
    _write(store, "one")
    view = _partition(store).views()[0]

    changed: Sequence[View] = [
        replace(view, alive=~view.alive),
        replace(view, metadata=["{}"]),
        replace(view, vectors=None),
    ]
    assert all(_state(one) != _state(view) for one in changed)


# -- questions and their answers ---------------------------------------------------------------

_STEP = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("update"), st.integers(0, 9), st.booleans()),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(_STEP, max_size=14))
def test_a_partition_that_grew_joins_the_same_turns_as_a_fresh_one(
    steps: list[tuple[str, int, bool]],
) -> None:
    store = MemoryRecordStore()
    grown = _partition(store)
    ids: list[str] = []
    for number, (step, place, asks) in enumerate(steps):
        text = f"word{number} what?" if asks else f"word{number} so."
        if step == "add":
            ids.append(f"r{number}")
            record = _record(text, ids[-1], session_id=f"s{place}")
            store.insert(ANA, drafts([record], EMBEDDER, at_given=[True]))
        elif ids and step == "delete":
            store.delete(ANA, [ids.pop(place % len(ids))])
        elif ids:
            old = store.get(ANA, [ids[place % len(ids)]])[0]
            store.update(ANA, drafts([replace(old, text=text)], EMBEDDER, at_given=[True])[0])
        grown.views()

    def shares(partition: Partition) -> dict[int, list[float]]:
        view = partition.views()[0]
        query = [terms(f"word{number}").tolist()[0] for number in range(len(steps))]
        scores = [view.words.scores([term], view.alive) for term in query]
        keys = view.columns["key"].tolist()
        return {
            key: [float(score[row]) for score in scores]
            for row, key in enumerate(keys)
            if view.alive[row]
        }

    fresh = shares(_partition(store))
    assert shares(grown).keys() == fresh.keys()
    for key, values in shares(grown).items():
        assert values == pytest.approx(fresh[key], abs=1e-6)
