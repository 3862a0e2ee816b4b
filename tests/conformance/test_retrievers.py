"""The suite of Retriever on the fake, on a scope of ours and on each shape of an answer."""

from collections.abc import Iterator

import pytest

from hybrid_memory import Found, HybridMemory
from hybrid_memory.protocols import Retriever
from hybrid_memory.testing import (
    HashEmbedder,
    ManualClock,
    MemoryRecordStore,
    RetrieverSuite,
    WordRetriever,
)
from hybrid_memory.testing.retrievers import TEXTS


class TestWordRetriever(RetrieverSuite):
    scores = "similarity"

    @pytest.fixture
    def retriever(self) -> Retriever:
        return WordRetriever(TEXTS)


class TestScope(RetrieverSuite):
    scores = "similarity"

    @pytest.fixture
    def retriever(self) -> Iterator[Retriever]:
        store, clock = MemoryRecordStore(), ManualClock()
        with HybridMemory(store, embedder=HashEmbedder(), clock=clock) as memory:
            handbook = memory.scope(namespace=("handbook",))
            handbook.add_many(TEXTS)
            yield handbook


class _Texts:
    def search(self, query: str, k: int) -> list[str]:
        return [one.text for one in WordRetriever(TEXTS).search(query, k=k)]


class TestBareTexts(RetrieverSuite):
    scores = "rank"

    @pytest.fixture
    def retriever(self) -> Retriever:
        return _Texts()


class _Pairs:
    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        found = WordRetriever(TEXTS).search(query, k=k)
        return [(one.text, 1 - (one.score or 0)) for one in found]


class TestTextsWithADistance(RetrieverSuite):
    scores = "distance"

    @pytest.fixture
    def retriever(self) -> Retriever:
        return _Pairs()


def test_the_fake_knows_what_it_was_given_of_a_text() -> None:
    retriever = WordRetriever([Found("Lentils again.", id="menu-1", source="menu.md")])

    assert retriever.search("more lentils?", k=3) == [
        Found("Lentils again.", score=0.5, id="menu-1", source="menu.md")
    ]
    assert retriever.search("soup", k=3) == []
