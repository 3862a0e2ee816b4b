"""The contract of DocumentStore, as tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybrid_memory.errors import DimensionMismatchError
from hybrid_memory.protocols import DocumentStore, Keys, Vectors
from hybrid_memory.types import Namespace

DIM = 32
ANA: Namespace = ("ana",)
NONE = np.empty(0, dtype=np.int64)
NO_VECTORS = np.empty((0, DIM), dtype=np.float32)


def _units(count: int, *, seed: int = 0, dim: int = DIM) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def _keys(*keys: int) -> Keys:
    return np.array(keys, dtype=np.int64)


def _fill(
    store: DocumentStore, namespace: Namespace, keys: Keys, vectors: Vectors, position: int = 1
) -> None:
    store.apply(namespace, keys=keys, vectors=vectors, removed=NONE, position=position)


class DocumentStoreSuite:
    """Override `store`, an empty one. `recall` is the share of the true 10 nearest found."""

    recall = 0.95

    @pytest.fixture
    def store(self) -> DocumentStore:
        """Return an empty document store."""
        raise NotImplementedError("override the fixture store")

    def test_a_new_namespace_is_at_0_and_finds_nothing(self, store: DocumentStore) -> None:
        keys, cosines = store.search(ANA, _units(1)[0], 5)

        assert store.position(ANA) == 0
        assert len(keys) == len(cosines) == 0
        assert store.cosines(ANA, _units(1)[0], _keys(1, 2)).tolist() == [0, 0]

    def test_what_was_added_is_found_best_first_with_its_cosine(self, store: DocumentStore) -> None:
        vectors, query = _units(200), _units(1, seed=1)[0]
        numbers = np.arange(200, dtype=np.int64) * 3 + (7 << 32)
        _fill(store, ANA, numbers, vectors, position=12)

        keys, cosines = store.search(ANA, query, 10)
        true = dict(zip(numbers.tolist(), (vectors @ query).tolist(), strict=True))

        assert store.position(ANA) == 12
        assert keys.dtype == np.int64
        assert cosines.dtype == np.float32
        assert len(keys) == len(set(keys.tolist())) == 10
        assert np.all(np.diff(cosines) <= 1e-6)
        assert np.allclose(cosines, [true[key] for key in keys.tolist()], atol=1e-4)
        nearest = sorted(true, key=lambda key: -true[key])[:10]
        assert len(set(keys.tolist()) & set(nearest)) >= 10 * self.recall

    def test_most_of_the_nearest_are_found_among_many(self, store: DocumentStore) -> None:
        vectors, queries = _units(2000), _units(20, seed=1)
        _fill(store, ANA, np.arange(2000, dtype=np.int64), vectors)

        hits = [
            len(set(np.argsort(-(vectors @ q))[:10].tolist()) & set(store.search(ANA, q, 50)[0]))
            for q in queries
        ]

        assert sum(hits) / 200 >= self.recall

    def test_vectors_are_counted(self, store: DocumentStore) -> None:
        assert store.count(ANA) == 0
        _fill(store, ANA, _keys(1, 2, 3), _units(3))
        _fill(store, ("bob",), _keys(1), _units(1))
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=_keys(2), position=2)

        assert store.count(ANA) == 2
        store.drop(ANA)
        assert store.count(ANA) == 0

    def test_asking_for_more_than_there_is_gives_all(self, store: DocumentStore) -> None:
        _fill(store, ANA, _keys(1, 2, 3), _units(3))

        assert sorted(store.search(ANA, _units(1)[0], 50)[0].tolist()) == [1, 2, 3]
        assert len(store.search(ANA, _units(1)[0], 0)[0]) == 0

    def test_cosines_of_given_keys_come_in_their_order(self, store: DocumentStore) -> None:
        vectors, query = _units(4), _units(1, seed=1)[0]
        _fill(store, ANA, _keys(10, 20, 30, 40), vectors)

        found = store.cosines(ANA, query, _keys(40, 99, 10, 40))

        assert found.dtype == np.float32
        expected = [vectors[3] @ query, 0, vectors[0] @ query, vectors[3] @ query]
        assert np.allclose(found, expected, atol=1e-5)
        assert store.cosines(ANA, query, NONE).shape == (0,)

    def test_a_key_added_again_is_replaced(self, store: DocumentStore) -> None:
        vectors = _units(3)
        _fill(store, ANA, _keys(1, 2), vectors[:2])
        _fill(store, ANA, _keys(2), vectors[2:], position=2)

        assert store.cosines(ANA, vectors[2], _keys(2)) == pytest.approx([1], abs=1e-5)
        assert sorted(store.search(ANA, vectors[0], 9)[0].tolist()) == [1, 2]

    def test_a_removed_key_is_gone(self, store: DocumentStore) -> None:
        vectors = _units(3)
        _fill(store, ANA, _keys(1, 2, 3), vectors)
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=_keys(2), position=2)

        assert sorted(store.search(ANA, vectors[1], 9)[0].tolist()) == [1, 3]
        assert store.cosines(ANA, vectors[1], _keys(2)).tolist() == [0]
        assert store.position(ANA) == 2

    def test_adding_and_removing_go_in_one_call(self, store: DocumentStore) -> None:
        vectors = _units(4)
        _fill(store, ANA, _keys(1, 2), vectors[:2])
        store.apply(ANA, keys=_keys(3, 4), vectors=vectors[2:], removed=_keys(1), position=5)

        assert sorted(store.search(ANA, vectors[0], 9)[0].tolist()) == [2, 3, 4]

    def test_unknown_keys_may_be_removed(self, store: DocumentStore) -> None:
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=_keys(8, 9), position=3)
        _fill(store, ANA, _keys(1), _units(1), position=4)
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=_keys(8), position=5)

        assert store.position(ANA) == 5
        assert store.search(ANA, _units(1)[0], 9)[0].tolist() == [1]

    def test_a_repeated_call_changes_nothing(self, store: DocumentStore) -> None:
        vectors = _units(3)
        _fill(store, ANA, _keys(1, 2), vectors[:2])
        for _ in range(3):
            store.apply(ANA, keys=_keys(3), vectors=vectors[2:], removed=_keys(1), position=9)

        keys, cosines = store.search(ANA, vectors[2], 9)
        assert keys.tolist() == [3, 2]
        assert cosines[0] == pytest.approx(1, abs=1e-5)
        assert store.position(ANA) == 9

    def test_a_position_moves_without_data(self, store: DocumentStore) -> None:
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=NONE, position=1 << 40)

        assert store.position(ANA) == 1 << 40

    @pytest.mark.parametrize(
        "other",
        [
            ("bob",),
            ("ana", "x"),
            ("Ana",),
            ("ana ",),
            ("an", "a"),
            ('["ana"]',),
            ("\u00e4\u732b/..",),
        ],
    )
    def test_namespaces_do_not_see_each_other(self, store: DocumentStore, other: Namespace) -> None:
        vectors = _units(2)
        _fill(store, ANA, _keys(1), vectors[:1], position=7)
        assert store.position(other) == 0
        assert len(store.search(other, vectors[0], 5)[0]) == 0

        _fill(store, other, _keys(1, 2), vectors[[1, 1]], position=3)
        store.apply(other, keys=NONE, vectors=NO_VECTORS, removed=_keys(1), position=4)

        assert store.position(ANA) == 7
        assert store.cosines(ANA, vectors[0], _keys(1, 2)) == pytest.approx([1, 0], abs=1e-5)
        assert store.search(other, vectors[0], 5)[0].tolist() == [2]

    def test_a_dropped_namespace_is_new_again_and_alone(self, store: DocumentStore) -> None:
        _fill(store, ANA, _keys(1, 2), _units(2), position=7)
        _fill(store, ("bob",), _keys(1), _units(1), position=3)
        store.drop(ANA)
        store.drop(ANA)

        assert store.position(ANA) == 0
        assert len(store.search(ANA, _units(1)[0], 5)[0]) == 0
        assert store.position(("bob",)) == 3
        assert store.search(("bob",), _units(1)[0], 5)[0].tolist() == [1]

        _fill(store, ANA, _keys(5), _units(1, dim=2 * DIM), position=8)
        assert store.search(ANA, _units(1, dim=2 * DIM)[0], 5)[0].tolist() == [5]

    def test_another_dimension_is_refused_and_changes_nothing(self, store: DocumentStore) -> None:
        vectors = _units(2)
        _fill(store, ANA, _keys(1, 2), vectors, position=4)

        with pytest.raises(DimensionMismatchError):
            _fill(store, ANA, _keys(3), _units(1, dim=DIM + 1), position=5)
        with pytest.raises(DimensionMismatchError):
            store.search(ANA, _units(1, dim=DIM + 1)[0], 5)
        with pytest.raises(DimensionMismatchError):
            store.cosines(ANA, _units(1, dim=DIM + 1)[0], _keys(1))
        assert store.position(ANA) == 4
        assert sorted(store.search(ANA, vectors[0], 5)[0].tolist()) == [1, 2]

    def test_threads_may_search_while_another_fills(self, store: DocumentStore) -> None:
        vectors = _units(200)
        _fill(store, ANA, _keys(0), vectors[:1])

        def fill(start: int) -> None:
            keys = np.arange(start, start + 20, dtype=np.int64)
            _fill(store, ANA, keys, vectors[start : start + 20], position=start)

        def search(_: int) -> int:
            return int(store.search(ANA, vectors[0], 3)[0][0])

        with ThreadPoolExecutor(4) as pool:
            filling = [pool.submit(fill, start) for start in range(20, 200, 20)]
            found = list(pool.map(search, range(20)))
            for one in filling:
                one.result()

        assert set(found) == {0}
        assert len(store.search(ANA, vectors[0], 500)[0]) == 181

    def test_a_purge_leaves_what_there_is_as_it_is(self, store: DocumentStore) -> None:
        vectors, query = _units(300), _units(1, seed=1)[0]
        keys = np.arange(1, 301, dtype=np.int64)
        _fill(store, ANA, keys, vectors, position=7)
        store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=keys[:100], position=8)
        _fill(store, ("bob",), _keys(1), _units(1), position=3)
        before = store.cosines(ANA, query, keys)

        store.purge()

        assert (store.position(ANA), store.position(("bob",))) == (8, 3)
        assert (store.count(ANA), store.count(("bob",))) == (200, 1)
        assert np.allclose(store.cosines(ANA, query, keys), before, atol=1e-6)
        assert store.search(ANA, vectors[150], 1)[0].tolist() == [151]
        _fill(store, ANA, _keys(400), _units(1, seed=2), position=9)
        assert store.search(ANA, _units(1, seed=2)[0], 1)[0].tolist() == [400]
        with pytest.raises(DimensionMismatchError):
            _fill(store, ANA, _keys(3), _units(1, dim=DIM + 1), position=10)

    def test_threads_may_search_during_a_purge(self, store: DocumentStore) -> None:
        vectors = _units(50)
        _fill(store, ANA, np.arange(50, dtype=np.int64), vectors)

        with ThreadPoolExecutor(3) as pool:
            purging = pool.submit(store.purge)
            found = pool.map(lambda i: int(store.search(ANA, vectors[i], 1)[0][0]), range(50))
            assert list(found) == list(range(50))
            purging.result()

    def test_it_can_be_closed_twice(self, store: DocumentStore) -> None:
        store.close()
        store.close()
