"""The contract of Reranker, as tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybrid_memory.protocols import Reranker

QUERY = "Which tea do I drink in the morning?"
TEXTS = [
    "The train to Lyon leaves at nine.",
    "I drink green tea every morning.",
    "My daughter plays the violin.",
    "Rust has no garbage collector, and I like that.",
    "In the morning I drink nothing but tea.",
]
ODD = {
    "empty": "",
    "blank": " \n\t",
    "punctuation": "?!",
    "emoji": "\N{GRINNING FACE}",
    "japanese": "茶を飲みます",
    "combining": "a\u0301\u200b",
    "long": "tea " * 1500,
}


class RerankerSuite:
    """Override `reranker`.

    `tolerance` bounds what the other texts of a call may change in a score. `trained` says whether
    the model under test knows an answer when it sees one; weights made up for a test do not.
    """

    tolerance = 1e-4
    trained = True

    @pytest.fixture
    def reranker(self) -> Reranker:
        """Return the reranker under test."""
        raise NotImplementedError("override the fixture reranker")

    def test_each_text_has_a_float32_score_in_0_to_1(self, reranker: Reranker) -> None:
        scores = reranker.scores(QUERY, TEXTS)

        assert scores.shape == (len(TEXTS),)
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()

    def test_no_texts_have_no_scores(self, reranker: Reranker) -> None:
        scores = reranker.scores(QUERY, [])

        assert scores.shape == (0,)
        assert scores.dtype == np.float32

    def test_texts_that_answer_the_question_score_highest(self, reranker: Reranker) -> None:
        if not self.trained:
            pytest.skip("the model under test has not learned what an answer is")
        scores = reranker.scores(QUERY, TEXTS)

        assert set(np.argsort(-scores)[:2].tolist()) == {1, 4}

    def test_scores_follow_the_texts_whatever_their_order(self, reranker: Reranker) -> None:
        order = [3, 0, 4, 2, 1]

        mixed = reranker.scores(QUERY, [TEXTS[i] for i in order])

        assert np.allclose(mixed, reranker.scores(QUERY, TEXTS)[order], atol=self.tolerance)

    def test_a_score_does_not_depend_on_the_other_texts(self, reranker: Reranker) -> None:
        batch = [TEXTS[0] * 20, *TEXTS, "tea"]

        together = reranker.scores(QUERY, batch)
        alone = np.concatenate([reranker.scores(QUERY, [text]) for text in batch])

        assert np.allclose(together, alone, atol=self.tolerance)

    def test_many_texts_keep_their_places(self, reranker: Reranker) -> None:
        texts = [f"{TEXTS[i % 5]} Part {i}." + " again" * (i * 7 % 12) for i in range(100)]

        scores = reranker.scores(QUERY, texts)
        picked = [0, 1, 31, 32, 57, 99]

        expected = reranker.scores(QUERY, [texts[i] for i in picked])
        assert np.allclose(scores[picked], expected, atol=self.tolerance)

    def test_the_same_question_and_texts_have_the_same_scores(self, reranker: Reranker) -> None:
        assert np.array_equal(reranker.scores(QUERY, TEXTS), reranker.scores(QUERY, TEXTS))

    def test_a_text_given_twice_scores_the_same_twice(self, reranker: Reranker) -> None:
        first, _, second = reranker.scores(QUERY, [TEXTS[1], TEXTS[0], TEXTS[1]])

        assert first == pytest.approx(second, abs=self.tolerance)

    @pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
    def test_any_text_can_be_scored_and_asked_for(self, reranker: Reranker, text: str) -> None:
        for scores in (reranker.scores(QUERY, [text]), reranker.scores(text, TEXTS)):
            assert ((scores >= 0) & (scores <= 1)).all()

    def test_a_returned_array_belongs_to_the_caller(self, reranker: Reranker) -> None:
        before = reranker.scores(QUERY, TEXTS).copy()
        reranker.scores(QUERY, TEXTS)[...] = 0

        assert np.array_equal(reranker.scores(QUERY, TEXTS), before)

    def test_threads_get_what_one_thread_gets(self, reranker: Reranker) -> None:
        calls = [(TEXTS[i], TEXTS[i:] + [text * 9 for text in TEXTS[:i]]) for i in range(5)] * 2
        expected = [reranker.scores(query, texts) for query, texts in calls]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda call: reranker.scores(*call), calls))

        for one, other in zip(found, expected, strict=True):
            assert np.allclose(one, other, atol=self.tolerance)
