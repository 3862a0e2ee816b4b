"""The suite of VectorIndex on every implementation, and what is particular to FAISS."""

from functools import partial

import faiss
import numpy as np
import pytest

from hybrid_memory.backends.faiss import FaissIndex
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.protocols import IndexFactory
from hybrid_memory.testing import ExactIndex, VectorIndexSuite


class TestExactIndex(VectorIndexSuite):
    recall = 1.0

    @pytest.fixture
    def make(self) -> IndexFactory:
        return ExactIndex


class TestFaissIndex(VectorIndexSuite):
    @pytest.fixture
    def make(self) -> IndexFactory:
        return FaissIndex


class TestFaissFlat(VectorIndexSuite):
    recall = 1.0

    @pytest.fixture
    def make(self) -> IndexFactory:
        return partial(FaissIndex, factory="Flat")


class TestFaissHNSW(VectorIndexSuite):
    @pytest.fixture
    def make(self) -> IndexFactory:
        return partial(FaissIndex, factory="HNSW32")


def units(count: int, dim: int = 32) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("factory", ["nonsense", "", "IVF,Flat", "Flat,"])
def test_a_factory_string_that_faiss_does_not_know_is_named(factory: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot make") as caught:
        FaissIndex(32, factory=factory)
    assert repr(factory) in str(caught.value)


def test_too_few_vectors_to_train_on_are_a_typed_error() -> None:
    index = FaissIndex(32, factory="IVF64,Flat")

    with pytest.raises(InvalidInputError, match=r"cannot train on 10 vectors .*'IVF64,Flat'"):
        index.add(units(10))
    assert len(index.search(units(1)[0], 5)) == 0


def test_an_index_that_cannot_take_vectors_in_order_is_a_typed_error() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot add to .*'IDMap,Flat'"):
        FaissIndex(32, factory="IDMap,Flat").add(units(10))


def test_an_ivf_index_trains_itself_and_takes_parameters() -> None:
    vectors = units(3000)
    narrow = FaissIndex(32, factory="IVF64,Flat")
    wide = FaissIndex(32, factory="IVF64,Flat", parameters="nprobe=64")
    for index in (narrow, wide):
        index.add(vectors)

    nearest = np.argsort(-(vectors @ vectors[5]))[:10].tolist()
    assert wide.search(vectors[5], 10).tolist() == nearest
    assert len(narrow.search(vectors[5], 3000)) < 3000
    assert len(wide) == 3000


@pytest.mark.parametrize("parameters", ["nprobe=", "sails=3"])
def test_a_parameter_that_faiss_does_not_know_is_a_typed_error(parameters: str) -> None:
    with pytest.raises(InvalidInputError, match="'Flat'"):
        FaissIndex(32, factory="Flat", parameters=parameters)


@pytest.mark.parametrize("dim", [0, -1, 2.5, True])
def test_a_dimension_is_a_positive_integer(dim: int) -> None:
    with pytest.raises(InvalidInputError, match="dim"):
        FaissIndex(dim)


def test_the_number_of_threads_of_others_is_left_alone() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(7)
    try:
        index = FaissIndex(32, threads=1)
        index.add(units(500))
        index.search(units(1)[0], 10)
        with pytest.raises(InvalidInputError):
            FaissIndex(32, factory="nonsense")

        assert faiss.omp_get_max_threads() == 7
    finally:
        faiss.omp_set_num_threads(before)


def test_a_row_of_zeros_does_no_harm() -> None:
    vectors = units(300)
    vectors[7] = 0
    index = FaissIndex(32)
    index.add(vectors)

    assert index.search(vectors[8], 1).tolist() == [8]
    assert len(index.search(np.zeros(32, dtype=np.float32), 10)) <= 10
