"""One ranking out of many signals: weights, repetitions, ties, cuts and variety."""

from __future__ import annotations

import hashlib
import math
import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Weights
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.merge import DAY, Cut, Ranked, Ranking, Scored, Signals, merge
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
    session: int = -1
    source: str = "user"
    importance: float = 0.5
    durable: bool = False
    more: Mapping[str, float] = field(default_factory=dict)  # further signals


@cache
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


def _scored(
    found: Sequence[Found], namespace: Namespace = ANA, **view_fields: Any
) -> tuple[Pool, Signals]:
    """Return candidates of one view; a signal that some have is 0 for the others."""
    empty = _view(namespace)
    columns = {name: np.zeros(len(found), column.dtype) for name, column in empty.columns.items()}
    columns["key"][:] = [one.key for one in found]
    columns["digest"][:] = [one.said for one in found]
    columns["session_id"][:] = [one.session for one in found]
    columns["source"][:] = [empty.names.code(one.source) for one in found]
    columns["speaker"][:] = -1
    for name in ("at", "importance", "durable"):
        columns[name][:] = [getattr(one, name) for one in found]
    view = replace(
        empty,
        columns=columns,
        alive=np.ones(len(found), bool),
        vectors=np.array([one.vector for one in found], np.float32).reshape(-1, DIM),
        **view_fields,
    )
    cosine = np.array([one.cosine for one in found], np.float32)
    bm25 = np.array([one.bm25 for one in found], np.float32)
    pool = Pool(view=view, rows=np.arange(len(found)), cosine=cosine, bm25=bm25, asked=cosine)
    names = dict.fromkeys(name for one in found for name in one.more)
    more = {name: np.array([one.more.get(name, 0) for one in found], np.float32) for name in names}
    return pool, {"cosine": cosine, "bm25": bm25, **more}


def _ranked(scored: Scored, *, weights: Weights | None = None, **others: Any) -> list[Ranked]:
    """Return all candidates of pools, ranked."""
    return merge(scored, weights=weights or Weights(), cut=Cut(200), **others)


def _merged(
    found: Sequence[Found], *, weights: Weights | None = None, k: int = 10, **others: Any
) -> list[Ranked]:
    return merge([_scored(found)], weights=weights or Weights(), cut=Cut(k, **others))


def _keys(ranked: Sequence[Ranked]) -> list[int]:
    return [one.key[1] for one in ranked]


# -- weights -----------------------------------------------------------------------------------


def test_the_score_is_the_weighted_mean_of_the_signals() -> None:
    [one] = _merged([Found(1, 1, cosine=0.5, bm25=0.4)], weights=Weights(cosine=0.9, bm25=0.3))

    assert one.score == pytest.approx((0.9 * 0.5 + 0.3 * 0.4) / 1.2)
    assert one.signals == pytest.approx({"cosine": 0.375, "bm25": 0.1})
    assert one.relevance == pytest.approx(one.score)


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


# -- what words, people and sessions change ----------------------------------------------------

PEOPLE = {"speakers": frozenset({"Ana", "Bob"})}
WITH_ASSISTANT = {"has_assistant": True}


def test_where_the_words_say_little_words_and_boosts_fade_and_priors_do_not() -> None:
    found = Found(1, 1, cosine=0.6, bm25=0.15, more={"date": 1, "role": 1, "answer": 1})

    [faint] = _ranked([_scored([found])])
    [clear] = _ranked([_scored([replace(found, bm25=0.3)])])
    [ungated] = _ranked([_scored([found])], weights=Weights(gate=0))

    assert faint.signals["bm25"] == pytest.approx(clear.signals["bm25"] / 4)  # half of the half
    assert faint.signals["date"] == pytest.approx(clear.signals["date"] / 2)
    for name in ("cosine", "role", "answer"):
        assert faint.signals[name] == pytest.approx(clear.signals[name])
    assert ungated.signals["date"] == pytest.approx(clear.signals["date"])


def test_each_pool_is_trusted_by_its_own_words() -> None:
    mute = _scored([Found(1, 1, cosine=0.5, more={"speaker": 1})])
    clear = _scored([Found(2, 2, cosine=0.5, bm25=0.5, more={"speaker": 1})], ("team",))

    signals = {one.key[1]: one.signals for one in _ranked([mute, clear])}

    assert "speaker" not in signals[1]
    assert signals[2]["speaker"] > 0


@pytest.mark.parametrize(
    ("view_fields", "share"),
    [
        (PEOPLE, 0.5),
        (WITH_ASSISTANT, 0.25),
        (PEOPLE | WITH_ASSISTANT, 0.25),
        ({}, 0.0),
        ({"speakers": frozenset({"Ana"})}, 0.0),
    ],
    ids=["people", "assistant", "people and assistant", "notes", "one speaker"],
)
def test_the_best_of_a_session_lifts_its_turns_by_who_speaks(
    view_fields: dict[str, Any], share: float
) -> None:
    best = Found(1, 1, cosine=0.8, bm25=0.8, session=0)
    same = Found(2, 2, cosine=0.4, bm25=0.4, session=0)
    other = Found(3, 3, cosine=0.4, bm25=0.4, session=1)

    first, second, third = _ranked([_scored([best, same, other], **view_fields)])

    assert first.score == pytest.approx(0.8)
    assert second.score == pytest.approx((0.4 + share * 0.8) / (1 + share))
    assert third.score == pytest.approx(0.4)
    assert second.signals.get("session", 0) == pytest.approx(share * 0.8 / (1 + share))


def test_a_record_without_a_session_is_the_best_of_its_own() -> None:
    alone = Found(1, 1, cosine=0.6, bm25=0.6, session=7)
    without = Found(2, 2, cosine=0.6, bm25=0.6)

    one, other = _ranked([_scored([alone, without], **PEOPLE)])
    [only] = _ranked([_scored([without], **PEOPLE)])

    assert one.score == pytest.approx(other.score) == pytest.approx(only.score)
    assert {one.key[1]: "session" in one.signals for one in (one, other)} == {1: True, 2: False}


def test_a_session_is_one_of_its_own_namespace() -> None:
    mine = _scored([Found(1, 1, cosine=0.9, bm25=0.9, session=0)], **PEOPLE)
    theirs = _scored([Found(2, 2, cosine=0.1, bm25=0.4, session=0)], ("team",), **PEOPLE)

    _, other = _ranked([mine, theirs])

    assert other.signals["session"] == pytest.approx((0.06 + 0.2) / 1.1 * 0.5 / 1.5)


@pytest.mark.parametrize(
    ("view_fields", "penalty"),
    [(PEOPLE, 0.1), (WITH_ASSISTANT, 0), ({}, 0)],
    ids=["people", "an assistant", "nobody known"],
)
def test_a_question_is_worth_less_between_people_only(
    view_fields: dict[str, Any], penalty: float
) -> None:
    asks = Found(1, 1, cosine=0.5, bm25=0.5, more={"question": 1})

    weights = Weights(session=0, session_with_assistant=0)
    [one] = _ranked([_scored([asks], **view_fields)], weights=weights)

    assert one.score == pytest.approx((0.55 - penalty) / 1.1)
    assert one.signals.get("question", 0) == pytest.approx(-penalty / 1.1)


def test_a_question_that_is_worth_little_falls_to_0_and_not_below() -> None:
    asks = [
        Found(1, 1, cosine=0.01, more={"question": 1}),
        Found(2, 2, bm25=0.9, more={"question": 0}),
    ]

    last = _ranked([_scored(asks, **PEOPLE)])[-1]

    assert last.key[1] == 1
    assert last.score == pytest.approx(0)
    assert sum(last.signals.values()) == pytest.approx(0)


def test_a_boost_that_no_candidate_has_lowers_no_score() -> None:
    [plain] = _merged([Found(1, 1, cosine=0.5, bm25=0.5)])
    [unmet] = _merged([Found(1, 1, cosine=0.5, bm25=0.5, more={"date": 0})])
    [met, *_] = _merged([Found(1, 1, cosine=0.5, bm25=0.5), Found(2, 2, more={"date": 1})])

    assert unmet.score == plain.score > met.score


# -- the second stage --------------------------------------------------------------------------


def test_what_the_second_stage_saw_is_ranked_by_it_and_the_others_by_their_cosine() -> None:
    found = [
        Found(1, 1, cosine=0.5, more={"rerank": 0.2}),
        Found(2, 2, cosine=0.4, more={"rerank": 0.9}),
        Found(3, 3, cosine=0.3, more={"rerank": math.nan}),
    ]

    seen, other, unseen = _merged(found)

    assert (seen.key[1], other.key[1], unseen.key[1]) == (2, 1, 3)
    assert seen.signals["rerank"] == pytest.approx(0.5 * 0.9 / 1.3)
    assert seen.signals["cosine"] == pytest.approx(0.3 * 0.4 / 1.3)
    assert "rerank" not in unseen.signals
    assert unseen.signals["cosine"] == pytest.approx(0.6 * 0.3 / 1.3)


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


def _distinct(found: list[Found]) -> list[Found]:
    return [replace(one, said=one.key) for one in found]


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


def test_a_record_that_has_everything_scores_1() -> None:
    signals = ("answer", "speaker", "date", "time", "number", "role", "rerank", "wiki")
    best = Found(1, 1, cosine=1, bm25=1, session=0, importance=1, more=dict.fromkeys(signals, 1.0))
    weights = Weights(recency=0.5, importance=0.5)

    [one] = _ranked([_scored([best], **PEOPLE)], weights=weights, outside={"wiki": 0.7})

    assert one.score == pytest.approx(1)
    assert one.signals.keys() == {
        "cosine", "bm25", *signals, "session", "recency", "importance"
    }  # fmt: skip


def _numbered(found: list[Found], first: int = 0) -> list[Found]:
    return [replace(one, key=number) for number, one in enumerate(found, first)]


EVERYTHING = st.lists(
    st.builds(
        Found,
        key=st.just(0),
        said=st.integers(0, 12),
        at=st.integers(-3, 400).map(lambda days: days * DAY),
        cosine=SIGNAL,
        bm25=SIGNAL,
        session=st.integers(-1, 2),
        source=st.sampled_from(["user", "assistant", "a.md", "b.md"]),
        importance=st.floats(0, 1),
        durable=st.booleans(),
        more=st.fixed_dictionaries(
            {},
            optional={
                "answer": SIGNAL,
                "question": SIGNAL,
                "rerank": SIGNAL | st.just(math.nan),
                "speaker": st.sampled_from([0, 1]),
                "date": st.sampled_from([0, 1]),
                "time": st.sampled_from([0, 1]),
                "number": st.sampled_from([0, 1]),
                "role": st.sampled_from([0, 1]),
            },
        ),
    ),
    max_size=12,
).map(_numbered)
PAPERS = st.lists(
    st.builds(
        Found,
        key=st.just(0),
        said=st.integers(0, 12),
        at=st.integers(0, 400).map(lambda days: days * DAY),
        cosine=SIGNAL,
        bm25=SIGNAL,
        source=st.just("a.md"),
        durable=st.just(True),
    ),
    max_size=5,
).map(lambda found: _numbered(found, 100))
TOLD = st.lists(
    st.builds(
        Found,
        key=st.just(0),
        said=st.integers(0, 12),
        at=st.integers(0, 400).map(lambda days: days * DAY),
        source=st.just("wiki"),
        more=st.fixed_dictionaries({"wiki": SIGNAL}),
    ),
    max_size=4,
    unique_by=lambda one: one.said,
).map(_numbered)
SHARE = st.sampled_from([0.0, 0.3, 1.0])
ANY_WEIGHTS = st.builds(
    Weights,
    cosine=st.sampled_from([0.3, 1.0]),
    bm25=st.sampled_from([0.0, 0.5]),
    gate=SHARE,
    session=SHARE,
    session_with_assistant=SHARE,
    question=SHARE,
    newest=SHARE,
    oldest=SHARE,
    near_best=SHARE,
    recency=SHARE,
    recency_by=st.sampled_from(["age", "rank"]),
    recency_floor=SHARE,
    half_life_days=st.sampled_from([0.5, 30.0]),
    importance=SHARE,
)
VIEWS = st.sampled_from([{}, PEOPLE, WITH_ASSISTANT])
CUTS = st.builds(
    Cut,
    k=st.integers(1, 20),
    min_score=SHARE,
    min_share=SHARE,
    mmr_lambda=st.sampled_from([None, 0.0, 0.5, 1.0]),
    max_per_source=st.sampled_from([None, 1, 2]),
)


@PROPERTY
@given(
    EVERYTHING,
    PAPERS,
    TOLD,
    ANY_WEIGHTS,
    VIEWS,
    CUTS,
    st.sampled_from([None, "newest", "oldest"]),
    st.integers(0, 500),
)
def test_whatever_is_switched_on_scores_are_in_0_to_1_and_the_sum_of_their_signals(
    found: list[Found],
    papers: list[Found],
    told: list[Found],
    weights: Weights,
    view_fields: dict[str, Any],
    cut: Cut,
    version: Any,
    day: int,
) -> None:
    scored = [
        _scored(found, **view_fields),
        _scored(papers, are_documents=True),
        _scored(told, (), are_documents=True),
    ]

    ranked = merge(
        scored, weights=weights, cut=cut, now=day * DAY, version=version, outside={"wiki": 0.5}
    )

    for one in ranked:
        assert 0 <= one.score <= 1
        assert sum(one.signals.values()) == pytest.approx(one.score, abs=1e-9)
        assert 0 <= one.relevance <= 1
        assert one.score >= cut.min_score
        assert all(value >= 0 for name, value in one.signals.items() if name != "question")
    if cut.mmr_lambda is None:
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert len({one.key for one in ranked}) == len(ranked) <= cut.k


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

    assert (one.key, len(one.copies)) == ((ANA, 2), 4)


def test_the_newest_stands_where_the_best_of_its_text_stood() -> None:
    found = [
        Found(1, 7, at=1, cosine=0.9),
        Found(2, 7, at=2, cosine=0.1),
        Found(3, 8, at=3, cosine=0.5),
    ]

    ranked = _merged(found)

    assert _keys(ranked) == [2, 3]
    assert ranked[0].score == pytest.approx(0.9 * 0.6 / 1.1)


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("copies", [1, 30, 500])
def test_many_copies_take_no_place_from_others(copies: int, k: int) -> None:
    found = [Found(i, 7, at=i, cosine=0.9) for i in range(copies)]
    found += [Found(copies + i, 100 + i, cosine=0.8 - i / 100) for i in range(60)]

    ranked = _merged(found, k=k)

    assert len(ranked) == k
    assert ranked[0].key == (ANA, copies - 1)
    assert len(ranked[0].copies) == (copies if copies > 1 else 0)
    assert _keys(ranked[1:]) == list(range(copies, copies + k - 1))


def test_copies_in_another_pool_are_counted_too() -> None:
    mine = _scored([Found(1, 7, at=1, cosine=0.5), Found(2, 8, cosine=0.4)])
    handbook = _scored([Found(1, 7, at=2, cosine=0.5), Found(2, 9, cosine=0.3)], ("handbook",))

    ranked = merge([mine, handbook], weights=Weights(), cut=Cut(5))

    assert [(*one.key, len(one.copies)) for one in ranked] == [
        (("handbook",), 1, 2),
        (ANA, 2, 0),
        (("handbook",), 2, 0),
    ]


def test_a_copy_that_scores_less_in_another_pool_is_counted_however_few_are_asked_for() -> None:
    # The same text is rarer in one namespace than in the other, so its words weigh differently.
    mine = _scored([Found(1, 7, at=1, cosine=0.5, bm25=0.9)])
    others = [Found(10 + i, 100 + i, cosine=0.8) for i in range(20)]
    handbook = _scored([Found(1, 7, at=2, cosine=0.5, bm25=0.1), *others], ("handbook",))

    [best] = merge([mine, handbook], weights=Weights(), cut=Cut(1))

    assert (best.key, len(best.copies)) == ((("handbook",), 1), 2)


def test_no_candidates_give_no_hits() -> None:
    assert merge([], weights=Weights(), cut=Cut(5)) == []
    assert _merged([]) == []
    assert merge([_scored([]), _scored([Found(4, 4)])], weights=Weights(), cut=Cut(5))[0].key == (
        ANA,
        4,
    )


@pytest.mark.parametrize("k", [1, 2, 50])
def test_the_newest_stays_however_few_are_asked_for(k: int) -> None:
    found = [Found(i, i, cosine=0.8 - i / 100) for i in range(1, 40)]
    found += [Found(100, 7000, at=1, cosine=0.9), Found(101, 7000, at=2, cosine=0.1)]

    best = _merged(found, k=k)[0]

    assert (best.key, best.copies) == ((ANA, 101), {(ANA, 100), (ANA, 101)})


@PROPERTY
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2**16, 2**32, 2**48, 2**63 - 1, -1, -(2**63)]),
            st.integers(-(2**63), 2**63 - 1) | st.just(0),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 8),
)
def test_only_equal_digests_are_one_text(drawn: list[tuple[int, int, int]], k: int) -> None:
    # Some share a part of their bits, as digests of many texts do.
    found = [
        Found(i, near if i % 2 else any_, at=at, cosine=0.9 - i / 100)
        for i, (near, any_, at) in enumerate(drawn)
    ]
    texts: dict[int, list[Found]] = {}
    for one in found:
        texts.setdefault(one.said, []).append(one)

    ranked = _merged(found, k=k)

    assert len(ranked) == min(k, len(texts))
    for one, same in zip(ranked, texts.values(), strict=False):
        keys = {(ANA, each.key) for each in same}
        assert one.copies == (keys if len(same) > 1 else frozenset())
        assert one.key in keys
        assert found[one.key[1]].at == max(each.at for each in same)


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
    ranked = _merged(_distinct(found), k=50)
    cut = _merged(_distinct(found), k=50, min_score=bound)

    assert cut == [one for one in ranked if one.score >= bound]


def test_candidates_without_any_signal_still_rank_last() -> None:
    assert _keys(_merged([Found(1, 1), Found(2, 2, cosine=0.1)], k=2)) == [2, 1]


def test_a_share_of_the_best_score_bounds_the_others() -> None:
    found = [Found(key, key, cosine=key / 10, bm25=key / 10) for key in range(11)]

    assert _keys(_merged(found, k=20, min_share=0.75)) == [10, 9, 8]
    assert _keys(_merged(found[:5], k=20, min_share=0.75)) == [4, 3]
    assert _keys(_merged(found, k=20, min_share=1)) == [10]
    assert _keys(_merged(found, k=20, min_share=0.75, min_score=0.85)) == [10, 9]


@PROPERTY
@given(CANDIDATES, st.floats(0, 1))
def test_a_share_cuts_the_end_of_the_same_ranking(found: list[Found], share: float) -> None:
    ranked = _merged(_distinct(found), k=50)
    cut = _merged(_distinct(found), k=50, min_share=share)

    assert cut == [one for one in ranked if one.score >= share * ranked[0].score]


@pytest.mark.parametrize("mmr_lambda", [None, 0.0, 0.5, 1.0])
def test_no_more_than_so_many_come_from_one_source(mmr_lambda: float | None) -> None:
    found = [Found(i, i, cosine=1 - i / 100, source="menu.md") for i in range(20)]
    found += [Found(20 + i, 20 + i, cosine=0.5 - i / 100, source=f"{i}.md") for i in range(5)]

    ranked = _merged(found, k=6, max_per_source=2, mmr_lambda=mmr_lambda)

    assert len(ranked) == 6
    assert sum(key < 20 for key in _keys(ranked)) == 2
    if mmr_lambda in (None, 1.0):
        assert _keys(ranked) == [0, 1, 20, 21, 22, 23]


@pytest.mark.parametrize("source", ["user", "assistant"])
def test_no_source_is_what_somebody_said_here(source: str) -> None:
    found = [Found(i, i, cosine=1 - i / 100, source=source) for i in range(5)]

    assert _keys(_merged(found, max_per_source=1)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("source", ["tool", "developer", "search_flights", "menu.md"])
def test_what_a_tool_or_a_program_gave_is_of_a_source(source: str) -> None:
    found = [Found(i, i, cosine=1 - i / 100, source=source) for i in range(5)]

    assert _keys(_merged(found, max_per_source=1)) == [0]


def test_documents_of_one_name_in_two_namespaces_are_two_sources() -> None:
    mine = _scored([Found(i, i, cosine=0.9 - i / 100, source="menu.md") for i in range(3)])
    theirs = _scored(
        [Found(i, 10 + i, cosine=0.8 - i / 100, source="menu.md") for i in range(3)], ("team",)
    )

    ranked = merge([mine, theirs], weights=Weights(), cut=Cut(9, max_per_source=1))

    assert [one.key for one in ranked] == [(ANA, 0), (("team",), 0)]


def test_a_copy_is_no_second_of_its_source() -> None:
    found = [
        Found(1, 1, at=1, cosine=0.9, source="menu.md"),
        Found(2, 1, at=2, cosine=0.8, source="menu.md"),
        Found(3, 3, cosine=0.7, source="menu.md"),
        Found(4, 4, cosine=0.6, source="menu.md"),
    ]

    ranked = _merged(found, max_per_source=2)

    assert [(one.key[1], len(one.copies)) for one in ranked] == [(2, 2), (3, 0)]


@PROPERTY
@given(
    CANDIDATES,
    st.lists(st.sampled_from(["user", "assistant", "tool", "a.md", "b.md"]), min_size=30),
    st.integers(1, 12),
    st.integers(1, 3),
)
def test_a_cap_takes_the_best_that_it_allows(
    found: list[Found], sources: list[str], k: int, most: int
) -> None:
    distinct = [
        replace(one, source=source) for one, source in zip(_distinct(found), sources, strict=False)
    ]
    seen: Counter[str] = Counter()
    expected = []
    for key in _keys(_merged(distinct, k=50)):
        seen[distinct[key].source] += 1
        if distinct[key].source in ("user", "assistant") or seen[distinct[key].source] <= most:
            expected.append(key)

    assert _keys(_merged(distinct, k=k, max_per_source=most)) == expected[:k]


def test_a_cap_takes_no_room_for_each_pair_of_texts() -> None:
    found = [Found(i, i, cosine=i / 2000, source=f"{i}.md") for i in range(2000)]
    scored = [_scored(found)]
    tracemalloc.start()
    try:
        merge(scored, weights=Weights(), cut=Cut(10, max_per_source=2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10 * 2**20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be between 1 and 200: 0"),
        ({"k": 201}, "k must be between 1 and 200: 201"),
        ({"k": 2.0}, "k must be an integer, not float"),
        ({"k": 1, "min_score": -0.1}, "min_score must be between 0 and 1"),
        ({"k": 1, "min_score": "0.1"}, "min_score must be a number"),
        ({"k": 1, "min_share": 1.1}, "min_share must be between 0 and 1"),
        ({"k": 1, "min_share": float("nan")}, "min_share must be between 0 and 1"),
        ({"k": 1, "mmr_lambda": 2}, "mmr_lambda must be between 0 and 1"),
        ({"k": 1, "mmr_lambda": True}, "mmr_lambda must be a number"),
        ({"k": 1, "max_per_source": 0}, "max_per_source must be at least 1: 0"),
        ({"k": 1, "max_per_source": 1.0}, "max_per_source must be an integer"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Cut(**options)


@PROPERTY
@given(CANDIDATES, st.integers(1, 12), st.integers(1, 12))
def test_a_shorter_list_is_the_beginning_of_a_longer_one(
    found: list[Found], one: int, other: int
) -> None:
    k, more = sorted((one, other))

    assert _merged(found, k=k) == _merged(found, k=more)[:k]


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

    ranked = merge(
        [(outside, signals), (pool, signals)], weights=Weights(), cut=Cut(2, mmr_lambda=0.5)
    )

    assert len(ranked) == 2
    assert len(merge([(outside, signals)], weights=Weights(), cut=Cut(2, mmr_lambda=0.0))) == 2


def test_variety_respects_the_bound() -> None:
    found = [Found(1, 1, cosine=0.9, bm25=0.9, vector=NORTH), Found(2, 2, cosine=0.1, vector=EAST)]

    assert _keys(_merged(found, k=2, min_score=0.5, mmr_lambda=0.0)) == [1]


def test_variety_respects_the_share() -> None:
    found = [Found(1, 1, cosine=0.9, bm25=0.9, vector=NORTH), Found(2, 2, cosine=0.1, vector=EAST)]

    assert _keys(_merged(found, k=2, min_share=0.5, mmr_lambda=0.0)) == [1]
    assert _keys(_merged(found, k=2, min_share=0.05, mmr_lambda=0.0)) == [1, 2]


# -- age and importance, always on ---------------------------------------------------------------

NOW = 1000 * DAY
AGED = Weights(recency=0.5)


def _recency(age_days: float, **fields: Any) -> float:
    """Return what recency adds to a record of score 1, as a share of its own sum."""
    weights = fields.pop("weights", AGED)
    one = Found(1, 1, at=NOW - round(age_days * DAY), cosine=1, bm25=1, **fields)
    [ranked] = merge([_scored([one])], weights=weights, cut=Cut(1), now=NOW)
    own = ranked.signals["cosine"] + ranked.signals["bm25"]
    return ranked.signals.get("recency", 0) / own


@pytest.mark.parametrize(
    ("age_days", "freshness"),
    [(0, 1), (30, 0.55), (60, 0.325), (90, 0.2125), (30_000, 0.1), (-400, 1)],
)
def test_recency_halves_by_half_lives_down_to_its_floor(age_days: float, freshness: float) -> None:
    assert _recency(age_days) == pytest.approx(0.5 * freshness)


def test_floor_and_half_life_are_to_be_set() -> None:
    flat = Weights(recency=0.5, recency_floor=1)
    bottomless = Weights(recency=0.5, recency_floor=0)
    fast = Weights(recency=0.5, recency_floor=0, half_life_days=0.5)

    assert _recency(5000, weights=flat) == pytest.approx(0.5)
    assert _recency(5000, weights=bottomless) == pytest.approx(0, abs=1e-12)
    assert _recency(1, weights=fast) == pytest.approx(0.125)


def test_what_is_durable_does_not_age() -> None:
    assert _recency(30_000, durable=True) == pytest.approx(0.5)
    assert _recency(30_000, durable=True, weights=replace(AGED, recency_by="rank")) == (
        pytest.approx(0.5)
    )


def test_by_rank_the_place_in_time_counts_and_not_the_time() -> None:
    weights = Weights(recency=0.5, recency_by="rank")
    times = [0, 1, 900 * DAY, 2000 * DAY, 2000 * DAY]
    found = [Found(i, i, at=at, cosine=0.5, bm25=0.5) for i, at in enumerate(times)]

    ranked = merge([_scored(found)], weights=weights, cut=Cut(9), now=NOW)

    shares = {one.key[1]: one.signals["recency"] / (0.5 / 1.5) for one in ranked}
    thirds = [0.1, 0.1 + 0.9 / 3, 0.1 + 0.9 * 2 / 3, 1, 1]
    assert [shares[i] for i in range(5)] == pytest.approx([0.5 * share for share in thirds])


def test_by_rank_a_single_time_is_the_newest() -> None:
    assert _recency(900, weights=replace(AGED, recency_by="rank")) == pytest.approx(0.5)


def test_importance_adds_its_share() -> None:
    found = [
        Found(i, i, cosine=0.5, bm25=0.5, importance=importance)
        for i, importance in enumerate([0, 0.5, 1])
    ]

    ranked = _merged(found, weights=Weights(importance=0.4))

    assert _keys(ranked) == [2, 1, 0]
    assert [one.signals.get("importance", 0) for one in ranked] == pytest.approx(
        [0.5 * 0.4 / 1.4, 0.5 * 0.2 / 1.4, 0]
    )


def test_what_says_nothing_gains_nothing_by_being_new_and_important() -> None:
    found = [
        Found(1, 1, at=0, cosine=0.05, importance=0),
        Found(2, 2, at=NOW, importance=1, durable=True),
    ]

    ranked = _ranked([_scored(found)], weights=Weights(recency=1, importance=1), now=NOW)

    assert [(one.key[1], one.score) for one in ranked][1] == (2, 0)
    assert ranked[1].signals == {"cosine": 0, "bm25": 0}


@PROPERTY
@given(EVERYTHING, VIEWS, ANY_WEIGHTS, st.integers(-10, 500))
def test_age_and_importance_add_at_most_their_shares_of_a_records_own_sum(
    found: list[Found], view_fields: dict[str, Any], weights: Weights, day: int
) -> None:
    ranked = merge(
        [_scored(_distinct(found), **view_fields)], weights=weights, cut=Cut(50), now=day * DAY
    )

    for one in ranked:
        gained = [one.signals.get(name, 0) for name in ("recency", "importance")]
        own = one.score - sum(gained)
        assert 0 <= gained[0] <= weights.recency * own + 1e-9
        assert 0 <= gained[1] <= weights.importance * own + 1e-9


@PROPERTY
@given(EVERYTHING, SHARE, SHARE, st.integers(-10, 500))
def test_what_is_better_by_more_than_both_shares_stays_above(
    found: list[Found], recency: float, importance: float, day: int
) -> None:
    distinct = _distinct(found)
    plain = {one.key: one.score for one in _ranked([_scored(distinct)])}
    switched_on = Weights(recency=recency, importance=importance)

    ranked = _ranked([_scored(distinct)], weights=switched_on, now=day * DAY)

    most = 1 + recency + importance
    for place, one in enumerate(ranked):
        assert all(plain[other.key] <= plain[one.key] * most + 1e-9 for other in ranked[place:])


@PROPERTY
@given(EVERYTHING, PAPERS, VIEWS, st.integers(-10, 10**6))
def test_by_default_neither_the_time_nor_importance_changes_anything(
    found: list[Found], papers: list[Found], view_fields: dict[str, Any], day: int
) -> None:
    level = [replace(one, importance=0.5, durable=False) for one in found]

    one, other = (
        merge(
            [_scored(candidates, **view_fields), _scored(papers, are_documents=True)],
            weights=Weights(),
            cut=Cut(9),
            now=now,
        )
        for candidates, now in ((found, 0), (level, day * DAY))
    )

    assert one == other


# -- the newest and the oldest, where they are asked for -----------------------------------------


def _versions(
    found: Sequence[Found], version: Any, *, k: int = 50, **view_fields: Any
) -> list[int]:
    scored = [_scored(found, **view_fields)]
    return _keys(merge(scored, weights=Weights(), cut=Cut(k), version=version))


def test_time_decides_among_the_first_three() -> None:
    found = [Found(i, i, at=i, cosine=0.9 - i / 10, bm25=0.9 - i / 10) for i in range(5)]

    assert _versions(found, None) == [0, 1, 2, 3, 4]
    assert _versions(found, "newest") == [2, 1, 0, 3, 4]
    assert _versions(found, "oldest") == [0, 1, 2, 3, 4]
    assert _versions([replace(one, at=-one.at) for one in found], "oldest") == [2, 1, 0, 3, 4]


def test_what_is_far_behind_the_best_is_none_of_the_three() -> None:
    best, near, far = (Found(i, i, at=i, cosine=c, bm25=c) for i, c in enumerate([0.8, 0.17, 0.15]))

    assert _versions([best, near], "newest") == [1, 0]
    assert _versions([best, far], "newest") == [0, 2]


def test_the_oldest_has_to_be_half_as_good_where_the_newest_has_not() -> None:
    newer = Found(1, 1, at=2, cosine=0.8, bm25=0.8)
    fair, poor = (Found(2, 2, at=1, cosine=c, bm25=c) for c in (0.45, 0.35))

    assert _versions([newer, fair], "oldest") == [2, 1]
    assert _versions([newer, poor], "oldest") == [1, 2]


@PROPERTY
@given(EVERYTHING, VIEWS, st.sampled_from(["newest", "oldest"]), ANY_WEIGHTS)
def test_who_the_first_three_are_and_the_order_of_the_others_is_not_of_time(
    found: list[Found], view_fields: dict[str, Any], version: Any, weights: Weights
) -> None:
    distinct = _distinct(found)

    plain, asked = (
        _keys(_ranked([_scored(distinct, **view_fields)], weights=weights, version=wanted))
        for wanted in (None, version)
    )

    assert set(asked[:3]) == set(plain[:3])
    assert asked[3:] == plain[3:]


def test_a_document_has_no_version() -> None:
    found = [Found(i, i, at=i, cosine=0.9 - i / 10, bm25=0.9 - i / 10) for i in range(5)]

    assert _versions(found, "newest", are_documents=True) == [0, 1, 2, 3, 4]


def test_a_text_of_an_outside_retriever_has_no_version_either() -> None:
    told = _scored([Found(0, 0, at=9, more={"wiki": 1})], (), are_documents=True)
    mine = _scored([Found(1, 1, at=1, cosine=0.9, bm25=0.9), Found(2, 2, at=2, cosine=0.8)])

    ranked = _ranked([told, mine], version="newest", outside={"wiki": 0.5})

    assert {one.key for one in ranked if "version" in one.signals} == {(ANA, 2)}


def test_the_three_may_be_of_several_namespaces() -> None:
    mine = _scored([Found(1, 1, at=1, cosine=0.9, bm25=0.9)])
    team = _scored([Found(1, 2, at=2, cosine=0.8, bm25=0.8)], ("team",))

    best, other = _ranked([mine, team], version="newest")

    assert (best.key, other.key) == ((("team",), 1), (ANA, 1))


@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_a_version_of_one_or_of_none_is_no_trouble(version: Any) -> None:
    assert _versions([], version) == []
    assert _versions([Found(1, 1, cosine=0.5)], version) == [1]
    assert _versions([Found(1, 1), Found(2, 2, at=1)], version) == [2, 1]  # nothing but zeros


@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_of_equals_at_equal_times_the_order_of_writing_makes_none_the_oldest(version: Any) -> None:
    found = [Found(i, i, at=1, cosine=0.5, bm25=0.5) for i in range(6)]
    later = Found(9, 9, at=2 if version == "oldest" else 0, cosine=0.6, bm25=0.6)

    assert _versions([*found, later], version) == _versions([later, *found[::-1]], version)


def test_a_statement_that_was_repeated_gives_way_to_the_newer_one_too() -> None:
    old = [Found(i, 1, at=i, cosine=0.8, bm25=0.8) for i in range(3)]
    new = Found(9, 2, at=9, cosine=0.7, bm25=0.7)

    assert _versions([old[0], new], "newest") == [9, 0]
    assert _versions([*old, new], "newest") == [9, 2]


def test_a_text_was_last_said_when_its_newest_copy_was() -> None:
    # The old text scores best where it was said first, and was said again after the other.
    said_again = [Found(0, 1, at=0, cosine=0.8, bm25=0.8), Found(1, 1, at=9, cosine=0.6, bm25=0.6)]
    between = Found(2, 2, at=5, cosine=0.75, bm25=0.75)

    assert _versions([*said_again, between], "newest") == [1, 2]
    assert _versions([said_again[0], between], "newest") == [2, 0]
    assert _versions([*said_again, between], "oldest") == [2, 1]


# -- one candidate by its key --------------------------------------------------------------------


@PROPERTY
@given(EVERYTHING, PAPERS, VIEWS)
def test_every_candidate_can_be_looked_up(
    found: list[Found], papers: list[Found], view_fields: dict[str, Any]
) -> None:
    scored = [_scored(_distinct(found), **view_fields), _scored(papers, are_documents=True)]
    ranking = Ranking(scored, weights=Weights())
    scores = sorted(
        (
            one.score
            for one in (ranking.find((ANA, each.key)) for each in (*found, *papers))
            if one is not None
        ),
        reverse=True,
    )

    assert len(scores) == ranking.size == len(found) + len(papers)
    for each in (*found, *papers):
        place, one = ranking.place((ANA, each.key)), ranking.find((ANA, each.key))
        assert place is not None
        assert one is not None
        assert one.key == (ANA, each.key)
        assert scores[place - 1] == one.score
        assert sum(one.signals.values()) == pytest.approx(one.score, abs=1e-9)


def test_what_is_no_candidate_has_no_place() -> None:
    ranking = Ranking([_scored([Found(1, 1, cosine=0.5)])], weights=Weights())

    for key in ((ANA, 2), (("bob",), 1), ((), 1)):
        assert ranking.find(key) is ranking.place(key) is None
    assert Ranking([], weights=Weights()).find((ANA, 1)) is None
