"""The LangChain adapters among 10,000 memories, against the stock retrievers and the bare core.

All sides have the same vectors at hand, so that no encoder is timed. Ours are on disk when an add
returns; the stock ones are not, and theirs are in RAM only. The BM25 and FAISS that an
EnsembleRetriever is made of are small stand-ins for those of langchain_community, over the same
libraries and in the same way: a BM25 index is made anew for each text that is added.

Run: python -m benchmarks.langchain [--json PATH]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import faiss
import numpy as np
from langchain_classic.retrievers import EnsembleRetriever, TimeWeightedVectorStoreRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_hybrid_memory import HybridEmbeddings, HybridRetriever, HybridVectorStore
from rank_bm25 import BM25Okapi

from benchmarks.common import interleaved, options, questions, ratio, report, sentences, summary
from hybrid_memory import Weights
from hybrid_memory.backends.onnx import MiniLMEmbedder
from hybrid_memory.evaluation import CachedEmbedder, temporary_memory

MEMORIES = 10_000
FEW = 500  # where what an adapter adds is not lost in the noise of a search
ROUNDS = 40
CALLS = 300  # of an adapter and of the core
ADDS = 12  # of the stock side each takes a good part of a second
K = 10
OVERHEAD_MS = 0.3


class Bm25(BaseRetriever):
    """As `BM25Retriever` of langchain_community: words between spaces, an index of all texts."""

    documents: list[Document]
    index: Any = None

    def model_post_init(self, context: Any) -> None:
        self.index = BM25Okapi([one.page_content.split() for one in self.documents])

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        found: list[Document] = self.index.get_top_n(query.split(), self.documents, n=K)
        return found


class Faiss(VectorStore):
    """As `FAISS` of langchain_community: a flat index, and documents in a dictionary."""

    def __init__(self, embedding: Embeddings, dim: int) -> None:
        self._embedding = embedding
        self._index = faiss.IndexFlatL2(dim)
        self._documents: list[Document] = []

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        texts = [one.page_content for one in documents]
        self._index.add(np.array(self._embedding.embed_documents(texts), np.float32))
        self._documents += documents
        return [str(len(self._documents))]

    def similarity_search_with_score(self, *args: Any, **kwargs: Any) -> list[Any]:
        query, k = args[0], kwargs.get("k", K)
        asked = np.array([self._embedding.embed_query(query)], np.float32)
        distances, rows = self._index.search(asked, k)
        return [
            (self._documents[row], float(distance))
            for row, distance in zip(rows[0], distances[0], strict=True)
        ]

    def similarity_search(self, query: str, k: int = K, **kwargs: Any) -> list[Document]:
        return [one for one, _ in self.similarity_search_with_score(query, k=k)]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda distance: max(0.0, 1 - distance / 2)

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> Faiss:
        raise NotImplementedError


class Ensemble:
    """BM25 and FAISS, fused by rank."""

    def __init__(self, store: Faiss, documents: Iterable[Document]) -> None:
        self._store = store
        self._documents = list(documents)
        self._make()

    def _make(self) -> None:
        dense = self._store.as_retriever(search_kwargs={"k": K})
        words = Bm25(documents=self._documents)
        self.retriever = EnsembleRetriever(retrievers=[words, dense], weights=[0.5, 0.5])

    def add(self, document: Document) -> None:
        self._store.add_documents([document])
        self._documents.append(document)
        self._make()


def over(found: Mapping[str, Mapping[str, float]], side: str, core: str) -> dict[str, float]:
    """Return what a side takes more than the core."""
    more = {name: round(found[side][name] - found[core][name], 3) for name in found[side]}
    return more | {"goal": OVERHEAD_MS}


def main() -> None:
    arguments = options(__doc__)
    embedder = CachedEmbedder(MiniLMEmbedder(), keep_questions=True)
    embedding = HybridEmbeddings(embedder)
    told = sentences(MEMORIES + 2 * CALLS, seed=0)
    kept, fresh = told[:MEMORIES], told[MEMORIES:]
    asked = questions(2 * CALLS, seed=1)
    embedder.embed(told)
    for question in asked:
        embedder.embed_query(question)

    documents = [Document(page_content=text) for text in kept]
    ensemble_store = Faiss(embedding, embedder.dim)
    ensemble_store.add_documents(documents)
    ensemble = Ensemble(ensemble_store, documents)
    timed = TimeWeightedVectorStoreRetriever(vectorstore=Faiss(embedding, embedder.dim), k=K)
    timed.add_documents(documents)

    with temporary_memory(embedder, weights=Weights(recency=0.3)) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many(kept)
        ours = HybridRetriever(memory=memory, user_id="ana", k=K)
        times = interleaved(
            {
                "HybridRetriever": lambda i: ours.invoke(asked[i]),
                "EnsembleRetriever": lambda i: ensemble.retriever.invoke(asked[i]),
                "TimeWeighted": lambda i: timed.invoke(asked[i]),
            },
            rounds=ROUNDS,
        )

        ben = memory.scope(user_id="ben")
        ben.add_many(kept[:FEW])
        retriever = HybridRetriever(memory=memory, k=K)
        config: Any = {"configurable": {"user_id": "ben"}}
        store = HybridVectorStore(memory)
        store.add_texts(kept[:FEW])
        times |= interleaved(
            {
                "core search": lambda i: ben.search(asked[i], k=K),
                "retriever": lambda i: retriever.invoke(asked[i], config),
                "core nearest": lambda i: store.scope.nearest(asked[i], k=K, kinds="document"),
                "vector store": lambda i: store.similarity_search_with_score(asked[i], k=K),
            },
            rounds=CALLS,
        )
        times |= interleaved(
            {
                "core add": lambda i: store.scope.add_many(
                    [{"text": fresh[i], "kind": "document", "id": f"core-{i}"}],
                    on_conflict="replace",
                ),
                "vector store add": lambda i: store.add_texts([fresh[i]], ids=[f"store-{i}"]),
            },
            rounds=CALLS,
        )
        times |= interleaved(
            {
                "add": lambda i: ana.add(fresh[i]),
                "add to Ensemble": lambda i: ensemble.add(Document(page_content=fresh[i])),
                "add to TimeWeighted": lambda i: timed.add_documents(
                    [Document(page_content=fresh[i])]
                ),
            },
            rounds=ADDS,
            warm_up=2,
        )

    found = {name: summary(values) for name, values in times.items()}
    report(
        {
            "memories": MEMORIES,
            **{f"{name}, ms": values for name, values in found.items()},
            "search / EnsembleRetriever": ratio(
                found, "HybridRetriever", "EnsembleRetriever", goal=1.0
            ),
            "search / TimeWeighted": ratio(found, "HybridRetriever", "TimeWeighted", goal=1.0),
            "add / EnsembleRetriever": ratio(found, "add", "add to Ensemble", goal=1.0),
            "retriever over core, ms": over(found, "retriever", "core search"),
            "vector store over core, ms": over(found, "vector store", "core nearest"),
            "vector store add over core, ms": over(found, "vector store add", "core add"),
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
