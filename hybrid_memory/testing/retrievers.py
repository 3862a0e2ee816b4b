"""The contract of Retriever, as tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid_memory.protocols import Retriever
from hybrid_memory.types import Found, Hit

TEXTS = (
    "The canteen serves lentils on Mondays.",
    "The library opens at nine.",
    "Bicycles are kept in the yard.",
    "Visitors sign in at the gate.",
    "The lease of the office ends in May.",
)


class RetrieverSuite:
    """Override `retriever`, one that holds TEXTS; set `scores` as its `Source` will."""

    scores: str | None = None

    @pytest.fixture
    def retriever(self) -> Retriever:
        """Return the retriever under test."""
        raise NotImplementedError("override the fixture retriever")

    @pytest.mark.parametrize("text", TEXTS)
    def test_a_text_is_found_by_its_own_words(self, retriever: Retriever, text: str) -> None:
        assert _texts(retriever.search(text, k=3))[0] == text

    @pytest.mark.parametrize("k", [1, 2, 200])
    def test_no_more_than_k_are_found(self, retriever: Retriever, k: int) -> None:
        assert 1 <= len(retriever.search(TEXTS[0], k=k)) <= k

    def test_what_is_found_is_a_list_of_texts_that_can_be_stored(
        self, retriever: Retriever
    ) -> None:
        found = retriever.search(TEXTS[1], k=5)

        assert isinstance(found, Sequence)
        for text in _texts(found):
            assert text.strip()
            assert "\0" not in text
            assert text.encode().decode() == text

    def test_the_best_comes_first(self, retriever: Retriever) -> None:
        scores = [_score(item) for item in retriever.search(TEXTS[2], k=5)]

        known = [score for score in scores if score is not None]
        assert all(math.isfinite(score) for score in known)
        if self.scores in ("similarity", "distance"):
            assert len(known) == len(scores)
        if self.scores != "rank":
            assert known == sorted(known, reverse=self.scores != "distance")

    def test_the_same_question_finds_the_same(self, retriever: Retriever) -> None:
        first, second = (retriever.search(TEXTS[3], k=5) for _ in range(2))

        assert _texts(first) == _texts(second)
        assert [_score(item) for item in first] == [_score(item) for item in second]

    @pytest.mark.parametrize(
        "query",
        [
            "?",
            "zyzzyva",
            'O\'Brien "AND" NOT (lentils*',
            "Was gibt's? 茶を飲みます。 👩‍👩‍👧",
            "why " * 500,
        ],
        ids=["no word", "unknown word", "operators", "unicode", "long"],
    )
    def test_an_odd_question_has_an_answer_too(self, retriever: Retriever, query: str) -> None:
        assert len(retriever.search(query, k=2)) <= 2

    def test_threads_are_answered_each_with_their_own(self, retriever: Retriever) -> None:
        questions = TEXTS * 4

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda text: retriever.search(text, k=1), questions))

        assert [_texts(answer)[0] for answer in answers] == list(questions)


def _texts(found: Sequence[Found | Hit | str | tuple[str, float]]) -> list[str]:
    return [_text(item) for item in found]


def _text(item: Found | Hit | str | tuple[str, float]) -> str:
    match item:
        case Hit():
            return item.record.text
        case Found():
            return item.text
        case str():
            return item
    return item[0]


def _score(item: Found | Hit | str | tuple[str, float]) -> float | None:
    if isinstance(item, str):
        return None
    return item[1] if isinstance(item, tuple) else item.score
