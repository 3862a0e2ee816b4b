"""Vector stores and retrievers of LangChain as outside sources of the merger, on real ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_hybrid_memory import HybridEmbeddings
from langchain_hybrid_memory.documents import moment
from langchain_hybrid_memory.sources import Scale, source_from

from hybrid_memory import HybridMemory, search_sources
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.testing import HashEmbedder

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
HASHED = HybridEmbeddings(HashEmbedder(dim=256))
TEXTS = ["green tea", "green tea with milk", "black ink", "a red boat"]
METADATA = [{"source": f"{i}.md", "page": i} for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def chroma() -> Iterator[Chroma]:
    store = Chroma.from_texts(TEXTS, HASHED, METADATA, collection_name=f"c{uuid.uuid4().hex}")
    yield store
    store.delete_collection()


@pytest.fixture(scope="module")
def chroma_cosine() -> Iterator[Chroma]:
    store = Chroma.from_texts(
        TEXTS,
        HASHED,
        METADATA,
        collection_name=f"c{uuid.uuid4().hex}",
        collection_metadata={"hnsw:space": "cosine"},
    )
    yield store
    store.delete_collection()


@pytest.fixture(scope="module")
def in_memory() -> InMemoryVectorStore:
    return InMemoryVectorStore.from_texts(TEXTS, HASHED, METADATA)


def milvus(path: Path, metric: str) -> VectorStore:
    from langchain_milvus import Milvus

    return Milvus.from_texts(
        TEXTS,
        HASHED,
        METADATA,
        connection_args={"uri": str(path / "milvus.db")},
        index_params={"index_type": "FLAT", "metric_type": metric},
    )


def check(store: VectorStore, **others: Any) -> None:
    """It finds the same text first, at the greatest score, higher being better."""
    for given in (store, store.as_retriever(search_kwargs={"k": 4})):
        hits = search_sources("green tea", [source_from(given, name="papers", **others)], now=NOW)

        assert [hit.record.text for hit in hits[:2]] == TEXTS[:2]
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert hits[0].score > hits[1].score > hits[2].score
        assert all(0 <= hit.score <= 1 for hit in hits)
        assert (hits[0].record.source, hits[0].record.metadata["page"]) == ("0.md", 0)


@pytest.mark.parametrize("name", ["chroma", "chroma_cosine", "in_memory"])
def test_whatever_a_store_means_by_its_scores_higher_is_better(
    name: str, request: pytest.FixtureRequest
) -> None:
    check(request.getfixturevalue(name))


@pytest.mark.server
@pytest.mark.parametrize("metric", ["L2", "COSINE", "IP"])
def test_so_it_is_with_milvus(tmp_path: Path, metric: str) -> None:
    store = milvus(tmp_path, metric)

    check(store)
    check(store, **({"similarity": lambda d: 1 - d / 2} if metric == "L2" else {}))


def test_a_distance_of_known_metric_becomes_the_cosine(
    chroma: Chroma, in_memory: InMemoryVectorStore
) -> None:
    def scores(source: Any) -> dict[str, float]:
        hits = search_sources("green tea", [source], now=NOW)
        return {hit.record.text: hit.score for hit in hits}

    exact = scores(source_from(in_memory, name="exact"))
    squared = source_from(chroma, name="chroma", similarity=lambda d: 1 - d / 2)

    assert scores(squared) == pytest.approx(exact, abs=1e-3)


@pytest.mark.filterwarnings("ignore:Relevance scores")  # Chroma's leave [0, 1]
def test_bounds_of_a_search_are_passed_on(chroma: Chroma) -> None:
    retriever = chroma.as_retriever(search_kwargs={"k": 3, "filter": {"page": 2}})
    thresholds = {"search_type": "similarity_score_threshold"}
    near = InMemoryVectorStore.from_texts(TEXTS, HASHED)
    near_retriever = near.as_retriever(search_type="mmr", search_kwargs={"k": 2})

    def found(source: Any) -> list[str]:
        return [hit.record.text for hit in search_sources("green tea", [source], now=NOW)]

    assert found(source_from(retriever, name="papers")) == ["black ink"]
    assert found(source_from(chroma, name="papers", filter={"page": 2})) == ["black ink"]
    assert found(source_from(near_retriever, name="papers"))[0] == "green tea"
    assert len(found(source_from(near_retriever, name="papers"))) == 2
    kwargs = {"score_threshold": 0.9, "k": 4}
    threshold = chroma.as_retriever(**thresholds, search_kwargs=kwargs)
    assert found(source_from(threshold, name="papers")) == ["green tea"]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.5, 0.1], [0.9, 0.5, 0.1]),
        ([0.0, 1.0, 3.0], [1.0, 0.5, 0.25]),
        ([12.5, 3.0], [12.5, 3.0]),
        ([-3.0, -1.0], [3.0, 1.0]),  # such as inner products as distances
        ([0.5], [0.5]),  # where a score is called one, it is a similarity
        ([0.5, 0.5], [0.5, 0.5]),
        ([0.5, 0.9, 0.1], [None, None, None]),
        ([0.5, None], [None, None]),
        ([0.5, float("nan")], [None, None]),
        ([], []),
    ],
)
def test_the_order_tells_what_scores_mean(scores: list[Any], expected: list[Any]) -> None:
    assert Scale()(scores) == expected


def test_what_was_seen_once_is_known_of_a_lone_score() -> None:
    scale = Scale()
    scale([0.0, 1.0])

    assert scale([3.0]) == [0.25]
    assert Scale("distance")([1.0]) == [0.5]
    assert Scale("similarity")([0.4]) == [0.4]
    assert Scale("rank")([0.4, 0.2]) == [None, None]


@pytest.mark.parametrize(
    ("own", "scores", "expected"),
    [
        (1.0, [0.25], [0.25]),
        (0.0, [3.0], [0.25]),
        (1.0, [1.0], [1.0]),
        (1e-7, [0.0], [1.0]),
        (0.0, [1.0, 1.0], [0.5, 0.5]),
        (-1.0, [-0.25], [0.25]),
    ],
)
def test_where_the_order_does_not_tell_the_text_itself_does_and_once(
    own: float, scores: list[Any], expected: list[Any]
) -> None:
    scale, asked = Scale(), []

    def own_score() -> float:
        asked.append(own)
        return own

    assert scale(scores, own=own_score) == expected
    assert scale(scores, own=own_score) == expected
    assert len(asked) == 1


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_lone_text_that_is_far_stays_far(metric: str) -> None:
    store = Chroma.from_texts(
        ["a red boat"],
        HASHED,
        collection_name=f"c{uuid.uuid4().hex}",
        collection_metadata={"hnsw:space": metric},
    )

    [hit] = search_sources("green tea", [source_from(store, name="papers")], now=NOW)

    assert hit.score < 0.6


class Reranked(BaseRetriever):
    """Leaves its scores where Cohere's and others do."""

    key: str = "relevance_score"

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        return [
            Document(page_content=text, metadata={self.key: score, "at": NOW - timedelta(days=9)})
            for text, score in (("tea", 0.9), ("ink", 0.2))
        ]


@pytest.mark.parametrize("key", ["relevance_score", "score"])
def test_scores_in_the_metadata_of_a_retriever_count(key: str) -> None:
    hits = search_sources("tea", [source_from(Reranked(key=key), name="other")], now=NOW)

    assert [hit.score for hit in hits] == pytest.approx([0.9, 0.2])


def test_without_scores_the_order_counts_and_times_are_read() -> None:
    source = source_from(Reranked(key="x"), name="other", at_key="at")

    hits = search_sources("tea", [source], now=NOW)

    assert [hit.score for hit in hits] == pytest.approx([1, 0.5])
    assert hits[0].record.at == NOW - timedelta(days=9)


def test_a_function_that_gives_texts_is_a_retriever_too() -> None:
    source = source_from(RunnableLambda(lambda query: [query, "ink"]), name="echo")

    assert [hit.record.text for hit in search_sources("tea", [source], now=NOW)] == ["tea", "ink"]


def test_beside_a_memory_its_texts_are_merged_in(memory: HybridMemory, chroma: Chroma) -> None:
    source = source_from(chroma, name="papers", weight=0.8)
    ana = memory.scope(user_id="ana", sources=[source])
    ana.add("I like green tea.")

    texts = [hit.record.text for hit in ana.search("green tea", k=3)]

    assert {"I like green tea.", "green tea"} <= set(texts)


def test_what_is_no_source_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not of a str"):
        source_from("pinecone", name="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="'distance', 'rank' or None, not 'l2'"):
        source_from(Reranked(), name="x", scores="l2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [NOW, NOW.isoformat(), NOW.timestamp(), int(1000 * NOW.timestamp()), NOW.astimezone()],
)
def test_a_time_is_read_in_each_form(value: object) -> None:
    assert moment(value) == NOW


@pytest.mark.parametrize("value", [None, "yesterday", True, float("nan"), 1e30, []])
def test_what_is_no_time_is_none(value: object) -> None:
    assert moment(value) is None


def test_a_time_without_a_zone_is_local() -> None:
    assert moment(datetime(2026, 5, 2, 12)) == datetime(2026, 5, 2, 12).astimezone()  # noqa: DTZ001
