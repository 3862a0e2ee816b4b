"""The contract of VectorIndex, as tests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybrid_memory.errors import DimensionMismatchError, VectorError
from hybrid_memory.protocols import IndexFactory, Vectors

DIM = 64


def _units(count: int, *, seed: int = 0, dim: int = DIM) -> Vectors:
    """Return vectors around 20 topics, as those of texts are."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(20).standard_normal((20, dim))
    vectors = topics[rng.integers(20, size=count)] + rng.standard_normal((count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


class VectorIndexSuite:
    """Override `make`. `recall` is the share of the true 10 nearest among the 100 found."""

    recall = 0.9

    @pytest.fixture
    def make(self) -> IndexFactory:
        """Return what makes an empty index of a dimension."""
        raise NotImplementedError("override the fixture make")

    def test_an_empty_index_finds_nothing(self, make: IndexFactory) -> None:
        assert len(make(DIM).search(_units(1)[0], 10)) == 0

    def test_rows_are_int64_numbers_in_the_order_added(self, make: IndexFactory) -> None:
        vectors = _units(500)
        index = make(DIM)
        for start in (0, 100, 350):
            index.add(vectors[start : {0: 100, 100: 350, 350: 500}[start]])

        for row in (0, 99, 100, 349, 350, 499):
            found = index.search(vectors[row], 5)
            assert found.dtype == np.int64
            assert found[0] == row

    def test_most_of_the_nearest_are_found(self, make: IndexFactory) -> None:
        vectors, queries = _units(5000), _units(50, seed=1)
        index = make(DIM)
        index.add(vectors)

        nearest = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
        hits = [
            len(set(row.tolist()) & set(index.search(query, 100).tolist()))
            for row, query in zip(nearest, queries, strict=True)
        ]

        assert sum(hits) / nearest.size >= self.recall

    @pytest.mark.parametrize("count", [1, 2, 33, 300])
    def test_asking_for_more_than_there_is_gives_each_row_at_most_once(
        self, make: IndexFactory, count: int
    ) -> None:
        vectors = _units(count)
        index = make(DIM)
        index.add(vectors)

        for k in (count, count + 1, 10 * count + 7):
            rows = index.search(vectors[0], k).tolist()
            assert 0 in rows
            assert len(set(rows)) == len(rows)
            assert set(rows) <= set(range(count))

    def test_no_more_than_k_rows_are_found(self, make: IndexFactory) -> None:
        index = make(DIM)
        index.add(_units(300))

        for k in (0, 1, 7, 100):
            assert len(index.search(_units(1, seed=2)[0], k)) <= k

    def test_equal_vectors_are_all_found(self, make: IndexFactory) -> None:
        index = make(DIM)
        index.add(np.repeat(_units(1), 50, axis=0))

        assert set(index.search(_units(1)[0], 50).tolist()) == set(range(50))

    def test_adding_no_vectors_changes_nothing(self, make: IndexFactory) -> None:
        vectors = _units(100)
        index = make(DIM)
        index.add(vectors[:0])
        index.add(vectors)
        index.add(vectors[:0])

        assert index.search(vectors[7], 1).tolist() == [7]

    def test_the_layout_in_memory_does_not_matter(self, make: IndexFactory) -> None:
        vectors = _units(200)
        index = make(DIM)
        index.add(np.asfortranarray(vectors))

        wide = np.zeros((DIM, 2), dtype=np.float32)
        wide[:, 0] = vectors[42]
        assert index.search(wide[:, 0], 1).tolist() == [42]

    def test_what_was_added_may_be_changed_afterwards(self, make: IndexFactory) -> None:
        vectors = _units(200)
        given = vectors.copy()
        index = make(DIM)
        index.add(given)
        given[...] = 0

        assert index.search(vectors[3], 1).tolist() == [3]

    def test_another_dimension_is_refused(self, make: IndexFactory) -> None:
        index = make(DIM)
        index.add(_units(100))

        with pytest.raises(DimensionMismatchError):
            index.add(_units(3, dim=DIM + 1))
        with pytest.raises(DimensionMismatchError):
            index.search(_units(1, dim=DIM - 1)[0], 3)
        assert index.search(_units(100)[5], 1).tolist() == [5]

    def test_another_shape_is_refused(self, make: IndexFactory) -> None:
        index = make(DIM)

        with pytest.raises(VectorError):
            index.add(_units(1)[0])
        with pytest.raises(VectorError):
            index.search(_units(2), 3)

    def test_searches_go_on_while_another_thread_adds(self, make: IndexFactory) -> None:
        vectors = _units(4000)
        index = make(DIM)
        index.add(vectors[:1000])
        added = threading.Event()

        def add() -> None:
            for start in range(1000, 4000, 50):
                index.add(vectors[start : start + 50])
            added.set()

        def search(row: int) -> int:
            wrong = 0
            while True:
                last = added.is_set()
                rows = index.search(vectors[row], 10)
                wrong += rows[0] != row or len(set(rows.tolist())) != len(rows)
                if last:
                    return wrong

        with ThreadPoolExecutor(4) as pool:
            adding = pool.submit(add)
            wrong = sum(pool.map(search, [3, 500, 999]))
            adding.result()

        assert wrong == 0
        assert index.search(vectors[3999], 1).tolist() == [3999]
