"""What is nearest in meaning alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import FilterError, InvalidInputError, VectorError
from hybrid_memory.testing import ExactIndex, HashEmbedder, MemoryDocumentStore

TEXTS = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in "abcdefgh"]


def test_the_order_is_that_of_the_cosines(ana: Scope) -> None:
    embedder = HashEmbedder()
    ana.add_many(TEXTS)
    asked = "red c and blue f"

    hits = ana.nearest(asked, k=len(TEXTS))

    cosines = embedder.embed(TEXTS) @ embedder.embed_query(asked)
    assert [hit.score for hit in hits] == pytest.approx(sorted(np.maximum(cosines, 0))[::-1])
    assert [hit.rank for hit in hits] == list(range(1, len(TEXTS) + 1))
    assert all(hit.signals == {"cosine": hit.score} for hit in hits)


def test_the_same_text_scores_one_and_a_vector_finds_what_its_text_does(ana: Scope) -> None:
    ana.add_many(TEXTS)

    by_text = ana.nearest("green d", k=3)
    by_vector = ana.nearest((5 * HashEmbedder().embed_query("green d")).tolist(), k=3)

    assert by_text[0].record.text == "green d"
    assert by_text[0].score == pytest.approx(1)
    assert [hit.record.id for hit in by_text] == [hit.record.id for hit in by_vector]


def test_a_text_that_is_there_twice_comes_twice_first_stored_first(ana: Scope) -> None:
    first, second = ana.add_many(["tea", "tea"])

    assert [hit.record.id for hit in ana.nearest("tea")] == [first.id, second.id]


@pytest.mark.parametrize("parts", ["plain", "index", "documents"])
def test_k_come_back_whenever_k_match(tmp_path: Path, parts: str) -> None:
    index = {"index": ExactIndex, "index_above": 10} if parts == "index" else {}
    documents = MemoryDocumentStore() if parts == "documents" else None
    with HybridMemory.open(
        tmp_path / "memory", embedder=HashEmbedder(), documents=documents, **index
    ) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many(
            {"text": f"note {i}", "kind": "document", "metadata": {"tenant": i % 50}}
            for i in range(500)
        )

        hits = ana.nearest("note 7", k=10, kinds="document", where={"tenant": 3})

        assert len(hits) == 10
        assert {hit.record.metadata["tenant"] for hit in hits} == {3}
        assert len(ana.nearest("note 7", k=400)) == 400


def test_variety_is_chosen_from_the_nearest(ana: Scope) -> None:
    ana.add_many(["tea and cake", "tea and cake!", "tea and cake?", "tea for you", "wine"])

    plain = [hit.record.text for hit in ana.nearest("tea and cake", k=2)]
    varied = [hit.record.text for hit in ana.nearest("tea and cake", k=2, mmr_lambda=0.3)]
    narrow = ana.nearest("tea and cake", k=2, mmr_lambda=0.3, fetch_k=3)

    assert plain == ["tea and cake", "tea and cake!"]
    assert varied[0] == "tea and cake"
    assert "cake" not in varied[1]
    assert all("cake" in hit.record.text for hit in narrow)


def test_what_is_refused(ana: Scope) -> None:
    ana.add("tea")

    with pytest.raises(InvalidInputError, match="k must be between 1 and 10000: 0"):
        ana.nearest("tea", k=0)
    with pytest.raises(VectorError, match="3 dimensions"):
        ana.nearest([1.0, 2.0, 3.0])
    with pytest.raises(FilterError, match="unknown operator"):
        ana.nearest("tea", where={"a": {"$near": 1}})


def test_what_is_gone_is_not_found(ana: Scope) -> None:
    records = ana.add_many(TEXTS)
    ana.nearest("red a")

    ana.delete_many([record.id for record in records[:8]])

    assert not any(hit.record.text.startswith("red") for hit in ana.nearest("red a", k=24))
