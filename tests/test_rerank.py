"""Late interaction over the bundled model's tokens: what a score is, and what is kept for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hybrid_memory.backends.onnx import BUNDLED, MaxSim, MiniLMEmbedder, count_tokens
from hybrid_memory.errors import InvalidInputError, ModelFileError
from hybrid_memory.protocols import Vectors

QUERY = "Which of my sisters repaired the old bicycle?"
TEXTS = [
    "My sister Ana repaired my old bicycle on Monday.",
    "The bicycle shop in Lyon is closed.",
    "Bruno forgot the concert, as always :-(",
    "def repair(bicycle): return [part.fixed() for part in bicycle.parts]",
    "1,250.00 EUR, paid on 2025-03-14",
    "Mañana voy al médico / 我喜欢喝绿茶",
    "My brother sold the car. " * 30,
    "",
    "?!",
]


class CountingEmbedder(MiniLMEmbedder):
    """Remembers what it encoded: the number of windows of each run of the model."""

    def __init__(self) -> None:
        super().__init__(threads=2)
        self.encoded: list[int] = []

    def _run(self, windows: list[list[int]], *outputs: str) -> list[Vectors]:
        self.encoded.append(len(windows))
        return super()._run(windows, *outputs)


class MadeUpTokens(MiniLMEmbedder):
    """Has the same 30 tokens for every text, and needs no model."""

    tokens = np.random.default_rng(7).standard_normal((30, 384)).astype(np.float32)

    def embed_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return [self.tokens for _ in texts]


@pytest.fixture(scope="module")
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def maxsim(embedder: CountingEmbedder) -> MaxSim:
    embedder.embed_query("nothing of what the test asks")
    embedder.encoded.clear()
    return MaxSim(embedder)


def unit(vectors: Vectors) -> Vectors:
    rows: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


# -- The score -----------------------------------------------------------------------------


def test_a_score_is_the_mean_over_the_query_of_the_nearest_word_in_the_text(maxsim, embedder):
    for query in (QUERY, *TEXTS):
        [asked] = embedder.embed_tokens([query])
        exact = [
            (unit(asked) @ unit(tokens).T).max(axis=1).mean()
            for tokens in embedder.embed_tokens(TEXTS)
        ]

        assert np.abs(maxsim.scores(query, TEXTS) - np.clip(exact, 0, 1)).max() < 0.002


def test_a_text_that_is_the_query_scores_1(maxsim):
    for text in (QUERY, *TEXTS):
        assert maxsim.scores(text, [text])[0] == pytest.approx(1, abs=1e-3)


def test_a_text_that_holds_the_query_among_other_things_scores_nearly_as_high(maxsim):
    among, other = maxsim.scores(
        "the violin concert", ["We talked of food, then the violin concert, then rent.", TEXTS[1]]
    )

    assert among > 0.7 > other + 0.2


def test_punctuation_scores_nothing(maxsim):
    plain, other = maxsim.scores("!!! bicycle ???", ["a bicycle", "what?! no!!! why???"])

    assert plain > other + 0.3


def test_what_stands_beyond_the_first_window_does_not_count(maxsim):
    head = "My brother sold the car. " * 43
    assert count_tokens(head) > 254

    one, other = maxsim.scores(QUERY, [head + TEXTS[0], head + TEXTS[1]])

    assert one == other


# -- What is kept --------------------------------------------------------------------------


def test_an_empty_and_a_full_cache_give_the_same_values(maxsim, embedder):
    cold = maxsim.scores(QUERY, TEXTS)
    embedder.encoded.clear()
    warm = maxsim.scores(QUERY, TEXTS)

    assert embedder.encoded == [1]  # the query
    assert np.array_equal(cold, warm)
    for room in (0, 1, 20_000):
        assert np.array_equal(MaxSim(embedder, max_cache_bytes=room).scores(QUERY, TEXTS), cold)


def test_texts_half_of_which_are_known_score_as_if_all_were_new(maxsim, embedder):
    expected = MaxSim(embedder).scores(QUERY, TEXTS)

    maxsim.scores("something else", TEXTS[::2])

    assert np.allclose(maxsim.scores(QUERY, TEXTS), expected, atol=1e-5)


def test_the_cache_keeps_to_its_bytes():
    maxsim = MaxSim(MadeUpTokens(), max_cache_bytes=2**20)
    maxsim.scores("warm up", ["a text"])
    tracemalloc.start()
    try:
        for first in range(0, 1000, 50):
            maxsim.scores(QUERY, [f"text {i}" for i in range(first, first + 50)])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert 0.8 * 2**20 < held < 1.1 * 2**20


def test_the_text_not_scored_for_longest_goes_first(embedder):
    texts = [f"{TEXTS[0]} Part {name}." for name in ("one", "two", "three", "four")]
    size = 384 * len(embedder.embed_tokens(texts[:1])[0]) + 1000
    maxsim = MaxSim(embedder, max_cache_bytes=3 * size)
    for text in (*texts[:3], texts[0], texts[3]):
        embedder.embed_query(QUERY)
        maxsim.scores(QUERY, [text])

    def is_kept(text: str) -> bool:
        embedder.embed_query(QUERY)
        embedder.encoded.clear()
        maxsim.scores(QUERY, [text])
        return not embedder.encoded

    assert [is_kept(texts[i]) for i in (0, 2, 3, 1)] == [True, True, True, False]


def test_a_text_that_two_threads_encode_at_once_takes_its_room_once():
    class Meeting(MadeUpTokens):
        together = threading.Barrier(2, timeout=10)
        encoded: list[str] = []  # noqa: RUF012

        def embed_tokens(self, texts: Sequence[str]) -> list[Vectors]:
            if texts == ["same"]:
                self.together.wait()
            self.encoded.extend(texts)
            return super().embed_tokens(texts)

    embedder = Meeting()
    maxsim = MaxSim(embedder, max_cache_bytes=3 * (30 * 384 + 1000))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(maxsim.scores, QUERY), [["same"], ["same"]]))
    maxsim.scores(QUERY, ["second", "third"])
    embedder.encoded.clear()

    maxsim.scores(QUERY, ["same", "second", "third"])

    assert embedder.encoded == [QUERY]


def test_a_text_given_twice_is_encoded_once(maxsim, embedder):
    maxsim.scores(QUERY, [TEXTS[0], TEXTS[1], TEXTS[0]])

    assert sum(embedder.encoded) == 3  # two texts and the query


def test_a_query_that_was_just_embedded_is_not_encoded_again(maxsim, embedder):
    expected = maxsim.scores(QUERY, TEXTS)
    embedder.embed_query(QUERY)
    embedder.encoded.clear()

    assert np.array_equal(maxsim.scores(QUERY, TEXTS), expected)
    assert embedder.encoded == []


def test_threads_that_ask_different_questions_get_their_own_answers(embedder):
    questions = [QUERY, *TEXTS[:5]] * 3
    expected = [MaxSim(embedder).scores(question, TEXTS[:5]) for question in questions]
    shared = MaxSim(embedder, max_cache_bytes=15_000)  # too little: texts come and go

    def search(question: str) -> Vectors:
        embedder.embed_query(question)
        return shared.scores(question, TEXTS[:5])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(search, questions))

    assert all(
        np.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True)
    )


# -- What it costs -------------------------------------------------------------------------


def test_scoring_wakes_no_other_thread():
    script = """
import time
from tests.test_rerank import MadeUpTokens, MaxSim
maxsim = MaxSim(MadeUpTokens())
texts = [f"text {i}" for i in range(50)]
maxsim.scores("warm up", texts)
time.sleep(0.2)
process, thread = time.process_time(), time.thread_time()
for _ in range(30):
    maxsim.scores("a question", texts)
process, thread = time.process_time() - process, time.thread_time() - thread
assert process < 1.2 * thread, (process, thread)
"""
    command = [sys.executable, "-c", script]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])


def test_a_model_that_is_missing_is_told_at_the_first_question(tmp_path):
    maxsim = MaxSim(MiniLMEmbedder(path=tmp_path))

    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        maxsim.scores(QUERY, TEXTS)


def test_a_cache_of_less_than_nothing_is_refused():
    with pytest.raises(InvalidInputError, match="max_cache_bytes"):
        MaxSim(max_cache_bytes=-1)


def test_it_finds_the_bundled_model_by_itself():
    assert BUNDLED.is_dir()
    assert MaxSim().scores(QUERY, TEXTS).argmax() == 0
