"""Relevance and recency in one ranking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    TimeWeightedVectorStoreRetriever,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_hybrid_memory import (
    HybridEmbeddings,
    HybridVectorStore,
    RecencyRelevanceReranker,
)

from hybrid_memory import Weights
from hybrid_memory.testing import HashEmbedder

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
HASHED = HybridEmbeddings(HashEmbedder(dim=256))


def document(text: str, *, days: float | None = None, **metadata: Any) -> Document:
    if days is not None:
        metadata["created_at"] = NOW - timedelta(days=days)
    return Document(page_content=text, metadata=metadata)


def reranked(documents: list[Document], **others: Any) -> list[str]:
    reranker = RecencyRelevanceReranker(clock=lambda: NOW, **others)
    return [one.page_content for one in reranker.compress_documents(documents, "green tea")]


def test_of_equally_good_ones_the_newer_is_first() -> None:
    documents = [document("old", days=400, score=0.8), document("new", days=1, score=0.8)]

    assert reranked(documents) == ["new", "old"]
    assert reranked(documents, weights=Weights()) == ["new", "old"]  # ties go to the newer


def test_recency_never_lifts_what_is_far_above_what_is_near() -> None:
    documents = [document("near", days=4000, score=0.9), document("far", days=0, score=0.3)]

    assert reranked(documents) == ["near", "far"]


def test_an_old_fact_is_not_forgotten_where_the_stock_retriever_loses_it() -> None:
    told = ["I drink green tea.", *(f"My {thing} is red." for thing in ("boat", "car", "hat"))]
    with HybridVectorStore.open(None, HASHED) as store:
        stock = TimeWeightedVectorStoreRetriever(
            vectorstore=store, k=3, decay_rate=0.05, search_kwargs={"k": 10}
        )
        documents = [
            Document(
                page_content=text,
                metadata={
                    "last_accessed_at": datetime.now() - timedelta(days=242 * (i == 0)),  # noqa: DTZ005
                    "created_at": NOW - timedelta(days=242 * (i == 0)),
                },
            )
            for i, text in enumerate(told)
        ]
        stock.add_documents(documents)

        assert told[0] not in [one.page_content for one in stock.invoke("green tea")]

    assert reranked(documents, embeddings=HASHED)[0] == told[0]


def test_relevance_is_by_embeddings_else_by_scores_else_by_order() -> None:
    plain = [document("black ink"), document("green tea")]

    assert reranked(plain, embeddings=HASHED) == ["green tea", "black ink"]
    assert reranked(plain) == ["black ink", "green tea"]
    scored = [document("black ink", score=0.1), document("green tea", score=0.9)]
    assert reranked(scored[::-1]) == ["green tea", "black ink"]
    distances = [document("near", relevance_score=0.1), document("far", relevance_score=1.9)]
    assert reranked(distances) == ["near", "far"]


def test_what_is_durable_or_of_no_time_does_not_age() -> None:
    documents = [
        document("old", days=900, score=0.8),
        document("durable", days=900, score=0.8, durable=True),
        document("timeless", score=0.8),
    ]

    assert set(reranked(documents)[:2]) == {"durable", "timeless"}


def test_no_document_is_lost_not_even_a_copy_and_top_n_holds() -> None:
    documents = [document("green tea", days=i, score=0.5, n=i) for i in range(9)]

    assert len(reranked(documents)) == 9
    assert len(reranked(documents, top_n=3)) == 3
    assert reranked([]) == []
    assert reranked([document("")]) == []  # what says nothing


def test_scores_and_signals_are_in_the_metadata_of_copies() -> None:
    given = [document("a", days=10, score=0.8), document("b", days=0, score=0.4)]
    reranker = RecencyRelevanceReranker(clock=lambda: NOW)

    found = reranker.compress_documents(given, "x")

    for one in found:
        assert one.metadata["score"] == pytest.approx(sum(one.metadata["signals"].values()))
        assert 0 < one.metadata["score"] <= 1
        assert one.metadata["signals"]["recency"] > 0
        assert isinstance(one.metadata["created_at"], datetime)
    assert given[0].metadata["score"] == 0.8


async def test_it_serves_a_compression_retriever_in_both_modes() -> None:
    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [document("old", days=400, score=0.8), document("new", days=1, score=0.8)]

    retriever = ContextualCompressionRetriever(
        base_retriever=Fixed(), base_compressor=RecencyRelevanceReranker(clock=lambda: NOW, top_n=1)
    )

    assert [one.page_content for one in retriever.invoke("x")] == ["new"]
    assert [one.page_content for one in await retriever.ainvoke("x")] == ["new"]
