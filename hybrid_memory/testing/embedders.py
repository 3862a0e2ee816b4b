"""The contract of Embedder, as tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybrid_memory.protocols import Embedder

TEXTS = [
    "I drink green tea every morning.",
    "The train to Lyon leaves at nine.",
    "My daughter plays the violin.",
    "Rust has no garbage collector, and I like that.",
]


class EmbedderSuite:
    """Override `embedder`. `tolerance` bounds what batching may change in a vector's values."""

    tolerance = 1e-4

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Return the embedder under test."""
        raise NotImplementedError("override the fixture embedder")

    def test_it_has_a_name_and_a_dimension_that_stay(self, embedder: Embedder) -> None:
        name, dim = embedder.name, embedder.dim
        embedder.embed(TEXTS)

        assert isinstance(name, str)
        assert name.strip()
        assert dim > 0
        assert (embedder.name, embedder.dim) == (name, dim)

    def test_vectors_are_float32_rows_of_norm_1(self, embedder: Embedder) -> None:
        vectors = embedder.embed(TEXTS)

        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_a_query_is_one_float32_vector_of_norm_1(self, embedder: Embedder) -> None:
        vector = embedder.embed_query("What do I drink?")

        assert vector.shape == (embedder.dim,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)

    def test_no_texts_give_no_rows_of_the_dimension(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.dim)

    def test_the_same_text_gives_the_same_vector(self, embedder: Embedder) -> None:
        assert np.array_equal(embedder.embed(TEXTS), embedder.embed(TEXTS))
        assert np.array_equal(embedder.embed_query(TEXTS[0]), embedder.embed_query(TEXTS[0]))

    def test_a_vector_does_not_depend_on_its_neighbours_in_the_batch(
        self, embedder: Embedder
    ) -> None:
        batch = [TEXTS[0] * 20, *TEXTS, "tea"]

        together = embedder.embed(batch)
        alone = np.concatenate([embedder.embed([text]) for text in batch])

        assert np.allclose(together, alone, atol=self.tolerance)

    def test_rows_keep_the_order_of_many_texts(self, embedder: Embedder) -> None:
        texts = [f"{TEXTS[i % 4]} Part {i}." + " again" * (i * 7 % 12) for i in range(300)]

        vectors = embedder.embed(texts)
        picked = [0, 1, 137, 255, 256, 299]

        assert np.allclose(
            vectors[picked], embedder.embed([texts[i] for i in picked]), atol=self.tolerance
        )

    def test_a_question_is_nearest_to_the_text_that_answers_it(self, embedder: Embedder) -> None:
        near = embedder.embed(TEXTS) @ embedder.embed_query("Which tea do I drink in the morning?")

        assert near.argmax() == 0

    @pytest.mark.parametrize(
        "text",
        ["", " \n\t", "?!", "\N{GRINNING FACE}", "茶を飲みます", "a\u0301\u200b", "tea " * 1500],
        ids=["empty", "blank", "punctuation", "emoji", "japanese", "combining", "long"],
    )
    def test_any_text_has_a_unit_vector(self, embedder: Embedder, text: str) -> None:
        for vector in (embedder.embed([text])[0], embedder.embed_query(text)):
            assert np.isfinite(vector).all()
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)

    def test_a_returned_array_belongs_to_the_caller(self, embedder: Embedder) -> None:
        before = embedder.embed(TEXTS).copy()
        for array in (embedder.embed(TEXTS), embedder.embed_query(TEXTS[0])):
            array[...] = 0

        assert np.array_equal(embedder.embed(TEXTS), before)

    def test_threads_get_what_one_thread_gets(self, embedder: Embedder) -> None:
        batches = [TEXTS[i:] + [text * 9 for text in TEXTS[:i]] for i in range(4)] * 2
        expected = [embedder.embed(batch) for batch in batches]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(embedder.embed, batches))

        for one, other in zip(found, expected, strict=True):
            assert np.allclose(one, other, atol=self.tolerance)
