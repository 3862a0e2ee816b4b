"""One ranking out of many signals: weights, repetitions, ties, cuts and variety."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Weights
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.merge import Ranked, Signals, merge
from hybrid_memory.partition import Partition, Pool, View
from hybrid_memory.protocols import Vector, Vectors
from hybrid_memory.testing import ExactIndex, MemoryRecordStore
from hybrid_memory.types import Namespace

ANA: Namespace = ("ana",)
DIM = 4
PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Found:
    """A candidate: its number in the store, what it says, when, and its signals."""

    key: int
    said: int
    at: int = 0
    cosine: float = 0.0
    bm25: float = 0.0
    vector: tuple[float, ...] = (1, 0, 0, 0)


def _view(namespace: Namespace) -> View:
    partition = Partition(
        namespace,
        store=MemoryRecordStore(),
        dim=DIM,
        index=ExactIndex,
        index_above=10**9,
        documents=None,
    )
    return partition.views()[0]


def _scored(found: Sequence[Found], namespace: Namespace = ANA) -> tuple[Pool, Signals]:
    empty = _view(namespace)
    columns = {name: np.zeros(len(found), column.dtype) for name, column in empty.columns.items()}
    columns["key"][:] = [one.key for one in found]
    columns["at"][:] = [one.at for one in found]
    columns["digest"][:] = [one.said for one in found]
    columns["session_id"][:] = columns["speaker"][:] = -1
    view = replace(
        empty,
        columns=columns,
        alive=np.ones(len(found), bool),
        vectors=np.array([one.vector for one in found], np.float32).reshape(-1, DIM),
    )
    cosine = np.array([one.cosine for one in found], np.float32)
    bm25 = np.array([one.bm25 for one in found], np.float32)
    pool = Pool(view, np.arange(len(found)), cosine, bm25)
    return pool, {"cosine": cosine, "bm25": bm25}


def _merged(
    found: Sequence[Found], *, weights: Weights | None = None, k: int = 10, **others: Any
) -> list[Ranked]:
    return merge([_scored(found)], weights=weights or Weights(), k=k, **others)


def _keys(ranked: Sequence[Ranked]) -> list[int]:
    return [one.key for one in ranked]


# -- weights -----------------------------------------------------------------------------------


def test_the_score_is_the_weighted_mean_of_the_signals() -> None:
    [one] = _merged([Found(1, 1, cosine=0.5, bm25=0.25)], weights=Weights(cosine=0.9, bm25=0.3))

    assert one.score == pytest.approx((0.9 * 0.5 + 0.3 * 0.25) / 1.2)
    assert one.signals == pytest.approx({"cosine": 0.375, "bm25": 0.0625})


def test_only_the_ratio_of_weights_matters() -> None:
    found = [Found(i, i, cosine=i / 9, bm25=(i * 7 % 10) / 9) for i in range(10)]

    small = _merged(found, weights=Weights(cosine=0.06, bm25=0.05))

    assert _keys(small) == _keys(_merged(found, weights=Weights(cosine=0.6, bm25=0.5)))


def test_a_weight_of_zero_leaves_a_signal_out() -> None:
    ranked = _merged(
        [Found(1, 1, cosine=1, bm25=0), Found(2, 2, cosine=0, bm25=0.1)],
        weights=Weights(cosine=0, bm25=1),
    )

    assert _keys(ranked) == [2, 1]
    assert ranked[0].signals["cosine"] == 0


@pytest.mark.parametrize("name", ["cosine", "bm25", "threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), 60])
def test_a_weight_outside_0_to_1_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be between 0 and 1: {value}"):
        Weights(**{name: value})


@pytest.mark.parametrize("value", ["0.5", None, [1]])
def test_a_weight_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="cosine"):
        Weights(cosine=value)


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="give one of them some"):
        Weights(cosine=0, bm25=0)


SIGNAL = st.floats(0, 1, width=32)
CANDIDATES = st.lists(
    st.builds(
        Found,
        key=st.just(0),
        said=st.integers(0, 5),
        at=st.integers(0, 3),
        cosine=SIGNAL,
        bm25=SIGNAL,
    ),
    max_size=30,
).map(lambda found: [replace(one, key=i) for i, one in enumerate(found)])


@PROPERTY
@given(CANDIDATES, st.integers(1, 12))
@example([Found(0, 0, cosine=1, bm25=1)], 1)
def test_scores_lie_in_0_to_1_fall_and_are_the_sum_of_their_contributions(
    found: list[Found], k: int
) -> None:
    ranked = _merged(found, k=k)

    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert [sum(one.signals.values()) for one in ranked] == pytest.approx(scores)


@PROPERTY
@given(CANDIDATES, st.integers(1, 12), st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_k_come_whenever_k_differ(found: list[Found], k: int, mmr_lambda: float | None) -> None:
    ranked = _merged(found, k=k, mmr_lambda=mmr_lambda)

    assert len(ranked) == min(k, len({one.said for one in found}))
    assert len(set(_keys(ranked))) == len(ranked)


# -- repetitions -------------------------------------------------------------------------------


def test_of_the_same_text_the_newest_stays_and_counts_the_others() -> None:
    found = [Found(key, 7, at=key % 3, cosine=0.5) for key in (1, 2, 3, 4)]

    [one] = _merged([*found, Found(9, 8, at=9, cosine=0.1)])[:1]

    assert (one.key, one.duplicates) == (2, 3)


def test_the_newest_stands_where_the_best_of_its_text_stood() -> None:
    found = [
        Found(1, 7, at=1, cosine=0.9),
        Found(2, 7, at=2, cosine=0.1),
        Found(3, 8, at=3, cosine=0.5),
    ]

    ranked = _merged(found)

    assert _keys(ranked) == [2, 3]
    assert ranked[0].score == pytest.approx(0.9 * 0.6 / (1.1 * 1.5))  # no words: no boost either


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("copies", [1, 30, 500])
def test_many_copies_take_no_place_from_others(copies: int, k: int) -> None:
    found = [Found(i, 7, at=i, cosine=0.9) for i in range(copies)]
    found += [Found(copies + i, 100 + i, cosine=0.8 - i / 100) for i in range(60)]

    ranked = _merged(found, k=k)

    assert len(ranked) == k
    assert (ranked[0].key, ranked[0].duplicates) == (copies - 1, copies - 1)
    assert _keys(ranked[1:]) == list(range(copies, copies + k - 1))


def test_copies_in_another_pool_are_counted_too() -> None:
    mine = _scored([Found(1, 7, at=1, cosine=0.5), Found(2, 8, cosine=0.4)])
    handbook = _scored([Found(1, 7, at=2, cosine=0.5), Found(2, 9, cosine=0.3)], ("handbook",))

    ranked = merge([mine, handbook], weights=Weights(), k=5)

    assert [(one.namespace, one.key, one.duplicates) for one in ranked] == [
        (("handbook",), 1, 1),
        (ANA, 2, 0),
        (("handbook",), 2, 0),
    ]


def test_a_copy_that_scores_less_in_another_pool_is_counted_however_few_are_asked_for() -> None:
    # The same text is rarer in one namespace than in the other, so its words weigh differently.
    mine = _scored([Found(1, 7, at=1, cosine=0.5, bm25=0.9)])
    others = [Found(10 + i, 100 + i, cosine=0.8) for i in range(20)]
    handbook = _scored([Found(1, 7, at=2, cosine=0.5, bm25=0.1), *others], ("handbook",))

    [best] = merge([mine, handbook], weights=Weights(), k=1)

    assert (best.namespace, best.key, best.duplicates) == (("handbook",), 1, 1)


def test_no_candidates_give_no_hits() -> None:
    assert merge([], weights=Weights(), k=5) == []
    assert _merged([]) == []
    assert merge([_scored([]), _scored([Found(4, 4)])], weights=Weights(), k=5)[0].key == 4


# -- ties --------------------------------------------------------------------------------------


def test_of_equal_scores_the_newer_comes_first() -> None:
    found = [Found(key, key, at=at, cosine=0.5) for key, at in [(1, 3), (2, 9), (3, 5)]]

    assert _keys(_merged(found)) == [2, 3, 1]


@PROPERTY
@given(CANDIDATES, st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_the_order_of_writing_is_no_rank(
    found: list[Found], random: Any, k: int, diverse: bool
) -> None:
    # Few distinct values, so that most scores tie; times differ within a text, as a clock's do.
    tied = [
        replace(one, cosine=round(one.cosine), bm25=round(one.bm25), at=i)
        for i, one in enumerate(found)
    ]
    shuffled = list(tied)
    random.shuffle(shuffled)
    mmr_lambda = 0.5 if diverse else None

    ranked = _merged(tied, k=k, mmr_lambda=mmr_lambda)

    assert _merged(shuffled, k=k, mmr_lambda=mmr_lambda) == ranked


@PROPERTY
@given(st.permutations(range(6)), st.integers(1, 6))
def test_of_equal_scores_at_equal_times_the_text_decides(order: list[int], k: int) -> None:
    found = [Found(said, said, at=1, cosine=0.5) for said in order]

    assert _keys(_merged(found, k=k)) == list(range(k))


class _DenseEmbedder:
    """An Embedder of a direction a text, in as many dimensions as real ones have."""

    name = "dense"
    dim = 384

    def embed(self, texts: Sequence[str]) -> Vectors:
        seeds = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        rows = [
            np.random.default_rng(int.from_bytes(seed)).standard_normal(self.dim) for seed in seeds
        ]
        vectors = np.array(rows, np.float32).reshape(-1, self.dim)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self.embed([text])[0]
        return vector


@pytest.mark.parametrize("others", range(8))
def test_equal_vectors_score_alike_wherever_they_lie_in_memory(others: int) -> None:
    # A matrix product sums the last rows in another order than the first.
    start = datetime(2026, 1, 1, tzinfo=UTC)
    roles = ["user", "assistant", "tool"]
    with HybridMemory(MemoryRecordStore(), embedder=_DenseEmbedder()) as memory:
        ana = memory.scope(user_id="ana")
        for i, role in enumerate(roles):
            ana.add("I like Rust.", role=role, at=start - timedelta(days=i))
            ana.add_many({"text": f"other {i} {j}", "at": start} for j in range(others))
        for question in ("Which language?", "What do I like?", "Rust or Zig?", "And now?"):
            hits = ana.search(question, k=50, now=start)
            alike = [hit for hit in hits if hit.record.text == "I like Rust."]

            assert [hit.record.role for hit in alike] == roles
            assert len({hit.signals["cosine"] for hit in alike}) == 1


# -- cuts --------------------------------------------------------------------------------------


def test_what_scores_below_the_bound_is_left_out() -> None:
    found = [Found(key, key, cosine=key / 10, bm25=key / 10) for key in range(11)]

    assert _keys(_merged(found, k=20, min_score=0.75)) == [10, 9, 8]
    assert _merged(found[:5], min_score=0.9) == []


def test_a_score_at_the_bound_stays() -> None:
    found = [Found(1, 1, cosine=0.5, bm25=0.5)]

    assert _keys(_merged(found, min_score=_merged(found)[0].score)) == [1]


@PROPERTY
@given(CANDIDATES, st.floats(0, 1))
def test_a_bound_cuts_the_end_of_the_same_ranking(found: list[Found], bound: float) -> None:
    distinct = [replace(one, said=one.key) for one in found]

    ranked = _merged(distinct, k=50)
    cut = _merged(distinct, k=50, min_score=bound)

    assert cut == [one for one in ranked if one.score >= bound]


def test_candidates_without_any_signal_still_rank_last() -> None:
    assert _keys(_merged([Found(1, 1), Found(2, 2, cosine=0.1)], k=2)) == [2, 1]


# -- variety -----------------------------------------------------------------------------------

NORTH, EAST, UP = (1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0)


@PROPERTY
@given(CANDIDATES, st.integers(1, 12))
def test_relevance_alone_is_the_plain_ranking(found: list[Found], k: int) -> None:
    assert _merged(found, k=k, mmr_lambda=1.0) == _merged(found, k=k)


def test_variety_alone_takes_the_best_and_then_what_is_unlike_it() -> None:
    found = [
        Found(1, 1, cosine=0.9, vector=NORTH),
        Found(2, 2, cosine=0.8, vector=NORTH),
        Found(3, 3, cosine=0.7, vector=NORTH),
        Found(4, 4, cosine=0.2, vector=EAST),
        Found(5, 5, cosine=0.1, vector=UP),
    ]

    assert _keys(_merged(found, k=3, mmr_lambda=0.0)) == [1, 4, 5]
    assert _keys(_merged(found, k=3)) == [1, 2, 3]


def test_between_the_two_a_good_copy_gives_way_to_a_fair_other() -> None:
    found = [
        Found(1, 1, cosine=0.9, vector=NORTH),
        Found(2, 2, cosine=0.8, vector=NORTH),
        Found(3, 3, cosine=0.6, vector=EAST),
        Found(4, 4, cosine=0.0, vector=UP),
    ]

    assert _keys(_merged(found, k=2, mmr_lambda=0.5)) == [1, 3]
    assert _keys(_merged(found, k=2, mmr_lambda=0.99)) == [1, 2]


def test_the_signals_still_add_up_where_variety_chose() -> None:
    found = [Found(i, i, cosine=i / 10, bm25=0.3, vector=NORTH) for i in range(8)]

    for one in _merged(found, k=5, mmr_lambda=0.3):
        assert sum(one.signals.values()) == pytest.approx(one.score)


def test_records_whose_vectors_lie_elsewhere_can_be_varied_too() -> None:
    pool, signals = _scored([Found(1, 1, cosine=0.9), Found(2, 2, cosine=0.8)])
    outside = replace(pool, view=replace(pool.view, vectors=None, namespace=("papers",)))

    ranked = merge([(outside, signals), (pool, signals)], weights=Weights(), k=2, mmr_lambda=0.5)

    assert len(ranked) == 2
    assert len(merge([(outside, signals)], weights=Weights(), k=2, mmr_lambda=0.0)) == 2


def test_variety_respects_the_bound() -> None:
    found = [Found(1, 1, cosine=0.9, bm25=0.9, vector=NORTH), Found(2, 2, cosine=0.1, vector=EAST)]

    assert _keys(_merged(found, k=2, min_score=0.5, mmr_lambda=0.0)) == [1]
