"""The merger over outside sources alone."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hybrid_memory import Found, HybridMemory, Source, Weights, search_sources
from hybrid_memory.errors import InvalidInputError, SourcesUnavailableError

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)


class Giving:
    """A retriever that gives, or raises, always the same."""

    def __init__(self, *given: Any) -> None:
        self._given = given

    def search(self, query: str, k: int) -> Any:
        if isinstance(self._given[0], Exception):
            raise self._given[0]
        return list(self._given)


def sources(*retrievers: Any, **others: Any) -> list[Source]:
    return [Source(one, name=f"source {i}", **others) for i, one in enumerate(retrievers)]


def test_scores_are_in_0_and_1_and_signals_add_up_to_them() -> None:
    hits = search_sources(
        "tea",
        sources(Giving(("green tea", 1.0), ("ink", 0.1)), Giving(("green tea", 0.5))),
        now=NOW,
    )

    assert [(hit.record.text, hit.rank) for hit in hits] == [("green tea", 1), ("ink", 2)]
    assert [hit.score for hit in hits] == pytest.approx([0.75, 0.05])
    assert all(sum(hit.signals.values()) == pytest.approx(hit.score) for hit in hits)
    assert search_sources("tea", sources(Giving(("tea", 1.0))), now=NOW)[0].score == 1


def test_a_text_that_is_near_is_above_one_that_is_far_whoever_is_asked_first() -> None:
    far, near = Giving(("ink", 0.01)), Giving(("tea", 0.98))

    for order in ((far, near), (near, far)):
        hits = search_sources("tea", sources(*order), now=NOW)
        assert [hit.record.text for hit in hits] == ["tea", "ink"]


def test_one_text_of_two_ids_and_other_metadata_is_two_documents() -> None:
    by_ana = Found("yes", 0.9, id="1", metadata={"by": "ana"})
    by_ben = Found("yes", 0.8, id="2", metadata={"by": "ben"})

    hits = search_sources("yes?", sources(Giving(by_ana), Giving(by_ben)), now=NOW)

    assert [hit.record.metadata["by"] for hit in hits] == ["ana", "ben"]


@pytest.mark.parametrize(
    "other",
    [
        Found("tea", 0.8, id="1", metadata={"pk": 7}),
        Found("tea", 0.8, metadata={"pk": 7}),
        Found("tea", 0.8, id="2", metadata={"page": 1}),
    ],
)
def test_one_text_of_one_id_or_without_one_or_of_equal_metadata_is_one_document(
    other: Found,
) -> None:
    first = Found("tea", 0.9, id="1", metadata={"page": 1})

    for order in ((first, other), (other, first)):
        hits = search_sources("tea", sources(*map(Giving, order)), now=NOW)
        assert len(hits) == 1
        assert len(hits[0].signals.keys() - {"cosine", "bm25"}) == 2


def test_ids_of_two_stores_are_not_one_name_space() -> None:
    hits = search_sources(
        "x", sources(Giving(Found("tea", 0.9, id="1")), Giving(Found("ink", 0.8, id="1"))), now=NOW
    )

    assert len(hits) == 2


def test_a_key_of_the_metadata_can_name_the_document() -> None:
    chunks = [Found(f"chunk {i}", 0.9 - i / 10, metadata={"doc": "a"}) for i in range(3)]

    assert len(search_sources("x", sources(Giving(*chunks)), now=NOW)) == 3
    assert len(search_sources("x", sources(Giving(*chunks)), now=NOW, id_key="doc")) == 1


def test_what_is_of_a_known_time_ages_where_recency_is_on() -> None:
    old = Found("tea then", 0.8, at=NOW - timedelta(days=300))
    new = Found("tea now", 0.75, at=NOW - timedelta(days=1))
    unknown = Found("tea", 0.7)
    asked = sources(Giving(old, new, unknown))

    plain = search_sources("tea", asked, now=NOW)
    aged = search_sources("tea", asked, now=NOW, weights=Weights(recency=0.5, half_life_days=30))

    assert [hit.record.text for hit in plain] == ["tea then", "tea now", "tea"]
    assert [hit.record.text for hit in aged] == ["tea now", "tea", "tea then"]


def test_one_that_fails_costs_no_other_and_all_that_fail_are_an_error() -> None:
    bad, good = Giving(RuntimeError("secret")), Giving(("tea", 0.5))

    assert len(search_sources("tea", sources(bad, good), now=NOW)) == 1
    with pytest.raises(SourcesUnavailableError, match="source 'source 0' failed with RuntimeError"):
        search_sources("tea", sources(bad, bad), now=NOW)
    with pytest.raises(InvalidInputError, match="at least one"):
        search_sources("tea", [], now=NOW)


def test_they_are_asked_side_by_side() -> None:
    together = threading.Barrier(5, timeout=10)

    class Waiting:
        def search(self, query: str, k: int) -> list[str]:
            together.wait()  # until all are there
            return [f"tea {threading.get_ident()}"]

    hits = search_sources("tea", sources(*(Waiting() for _ in range(5)), timeout_s=15), now=NOW)

    assert len(hits) == 5


def test_filters_and_bounds_hold_for_them(memory: HybridMemory) -> None:
    asked = sources(Giving(*(Found(f"tea {i}", 1 - i / 10, metadata={"n": i}) for i in range(9))))

    assert len(search_sources("tea", asked, now=NOW, k=3)) == 3
    assert [
        hit.record.metadata["n"]
        for hit in search_sources("tea", asked, now=NOW, where={"n": {"$gte": 5}}, min_score=0.35)
    ] == [5, 6]
