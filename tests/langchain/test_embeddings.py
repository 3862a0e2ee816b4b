"""Embedders as LangChain's Embeddings, and the other way round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_hybrid_memory import HybridEmbeddings
from langchain_hybrid_memory.embeddings import embedder_from, embeddings_of
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from hybrid_memory.testing import EmbedderSuite, HashEmbedder


class TestUnit(EmbeddingsUnitTests):
    """The suite that LangChain publishes, on the bundled model."""

    @property
    def embeddings_class(self) -> type[HybridEmbeddings]:
        return HybridEmbeddings


class TestIntegration(EmbeddingsIntegrationTests):
    """The suite that LangChain publishes, on the bundled model."""

    @property
    def embeddings_class(self) -> type[HybridEmbeddings]:
        return HybridEmbeddings


class Words(Embeddings):
    """Hashed words, not of norm 1; counts its calls."""

    model = "words-2"

    def __init__(self) -> None:
        self.calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return (7 * HashEmbedder(dim=256).embed(texts)).tolist()

    def embed_query(self, text: str) -> list[float]:
        self.calls += 1
        return (3 * HashEmbedder(dim=256).embed_query(text)).tolist()


class TestAdapted(EmbedderSuite):
    """The suite of hybrid_memory, on an adapted Embeddings."""

    @pytest.fixture
    def embedder(self) -> Any:
        return embedder_from(Words())


def test_the_bundled_model_serves_stores_of_langchain() -> None:
    store = InMemoryVectorStore.from_texts(
        ["The cat sleeps on the sofa.", "Interest rates rose."], HybridEmbeddings()
    )

    [(best, score)] = store.similarity_search_with_score("a kitten naps on a couch", k=1)

    assert best.page_content.startswith("The cat")
    assert 0.4 < score < 1
    assert HybridEmbeddings().embed_documents([]) == []


def test_the_name_is_that_of_class_and_model_and_can_be_given() -> None:
    name = embedder_from(Words()).name

    assert name.startswith("langchain:")
    assert name.endswith("test_embeddings.Words:words-2")
    assert embedder_from(Words()).name == name
    assert embedder_from(Words(), name="mine").name == "mine"
    fake = embedder_from(DeterministicFakeEmbedding(size=6))
    assert (fake.name, fake.dim) == (
        "langchain:langchain_core.embeddings.fake.DeterministicFakeEmbedding",
        6,
    )


def test_the_dimension_is_asked_for_once_and_not_at_all_if_given() -> None:
    asked, told = Words(), Words()

    assert [embedder.dim for embedder in 3 * [embedder_from(asked)]] == [256, 256, 256]
    assert embedder_from(told, dim=256).dim == 256
    assert (asked.calls, told.calls) == (1, 0)


def test_there_and_back_is_the_same_object() -> None:
    words, hashed = Words(), HashEmbedder()

    assert embeddings_of(embedder_from(words)) is words
    assert embedder_from(HybridEmbeddings(hashed)) is hashed


def test_vectors_have_norm_1_and_zeros_stay_zero() -> None:
    class Zero(Words):
        def embed_query(self, text: str) -> list[float]:
            return [0.0] * 256

    assert np.linalg.norm(embedder_from(Words()).embed_query("tea")) == pytest.approx(1)
    assert not embedder_from(Zero()).embed_query("tea").any()
