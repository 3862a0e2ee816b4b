"""Relevance and recency in one ranking, for `ContextualCompressionRetriever`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from hybrid_memory import Found, Source, Weights, search_sources
from langchain_hybrid_memory.aio import in_thread
from langchain_hybrid_memory.documents import document_of_hit, moment
from langchain_hybrid_memory.embeddings import embedder_from
from langchain_hybrid_memory.sources import Scale, scores_in

MAX_DOCUMENTS = 200
_PLACE = "place"  # of a document among those given


class RecencyRelevanceReranker(BaseDocumentCompressor):
    """Ranks documents by how relevant and how new they are: the merger's `Weights.recency`.

    Relevance is the cosine with the question by `embeddings`; without them, the score that all
    documents have in their metadata; else their order. The time stands under `at_key`: a datetime,
    ISO 8601, or seconds since 1970. What has none, or is `durable` by its metadata, does not age;
    nothing falls below `recency_floor` of what recency adds, and recency never adds more than its
    share of the relevance. So the old is not forgotten, only behind what is as good and newer.

    `top_n` are returned (all, if None), with `score` and `signals` in their metadata. Of more than
    200 documents the first 200 are looked at.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    embeddings: Embeddings | None = Field(default=None, exclude=True, repr=False)
    weights: Weights = Weights(recency=0.5, half_life_days=30)
    at_key: str = "created_at"
    top_n: int | None = None
    clock: Callable[[], datetime] | None = Field(default=None, exclude=True, repr=False)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents, best first, as copies."""
        given = list(documents)[:MAX_DOCUMENTS]
        if not given:
            return []
        found = [
            Found(
                text=document.page_content or " ",
                score=score,
                at=moment(document.metadata.get(self.at_key)),
                metadata={_PLACE: place, "durable": document.metadata.get("durable") is True},
            )
            for place, (document, score) in enumerate(
                zip(given, self._relevance(given, query), strict=True)
            )
        ]
        hits = search_sources(
            query,
            [Source(_Given(found), name="relevance", k=len(found))],
            k=len(found) if self.top_n is None else min(self.top_n, len(found)),
            weights=self.weights,
            now=datetime.now(UTC) if self.clock is None else self.clock(),
            id_key=_PLACE,
        )
        return [document_of_hit(hit, given[hit.record.metadata[_PLACE]]) for hit in hits]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents, ranked in another thread."""
        return await in_thread(self.compress_documents, documents, query, callbacks)

    def _relevance(self, documents: Sequence[Document], query: str) -> Sequence[float | None]:
        if self.embeddings is None:
            return Scale()(scores_in(documents))
        embedder = embedder_from(self.embeddings)
        vectors = embedder.embed([document.page_content for document in documents])
        cosines: list[float] = np.vecdot(vectors, embedder.embed_query(query)).tolist()
        return cosines


class _Given:
    """A Retriever that finds what it was given."""

    def __init__(self, found: list[Found]) -> None:
        self._found = found

    def search(self, query: str, /, *, k: int) -> list[Any]:
        return self._found[:k]
