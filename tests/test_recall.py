"""The read path, seen from the public API."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.analyze import analyze
from hybrid_memory.backends.faiss import FaissIndex
from hybrid_memory.errors import (
    EmbedderMismatchError,
    FilterError,
    InvalidInputError,
    NamespaceError,
    NotFoundError,
    TextError,
    TimeError,
)
from hybrid_memory.gather import gather
from hybrid_memory.partition import Partition
from hybrid_memory.testing import (
    HashEmbedder,
    ManualClock,
    MemoryDocumentStore,
    MemoryRecordStore,
)

WORDS = [f"word{number}" for number in range(300)]


def sentences(count: int, *, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.sample(WORDS, 12)) for _ in range(count)]


def test_the_score_of_a_hit_is_the_sum_of_its_signals(ana: Scope) -> None:
    ana.add_many(sentences(50))

    hits = ana.search("word1 word2 word3", k=20)

    assert [hit.rank for hit in hits] == list(range(1, 21))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(sum(hit.signals.values()))
        assert 0 <= hit.score <= 1
        assert set(hit.signals) == {"cosine", "bm25", "session"}
        assert 0 <= hit.relevance <= 1


def test_every_ranked_kind_is_searched_at_once(ana: Scope, clock: ManualClock) -> None:
    ana.add("We talked about Lyon.")
    ana.add_fact({"city": "Lyon"})
    ana.add_event("Signed the lease in Lyon", at=clock())
    ana.add_documents(["Lyon lies on the Rhone."], source="guide.md")

    hits = ana.search("Lyon")

    assert {hit.record.kind for hit in hits} == {"message", "fact", "event", "document"}
    assert [hit.record.kind for hit in ana.search("Lyon", kinds=["event"])] == ["event"]
    assert [hit.record.kind for hit in ana.search("Lyon", kinds="document")] == ["document"]


def test_the_name_of_a_speaker_is_not_what_is_looked_for(ana: Scope) -> None:
    ana.add("Hi Caroline, how are you, Caroline?", speaker="Melanie")
    ana.add("I painted a sunset.", speaker="Caroline")

    assert ana.search("What has Caroline painted?")[0].record.text == "I painted a sunset."


def test_a_text_said_again_is_one_hit_the_newest(ana: Scope, clock: ManualClock) -> None:
    for _ in range(3):
        newest = ana.add("I live in Lyon.")
        clock.advance(days=1)

    [hit] = ana.search("Lyon")

    assert hit.record == newest
    assert hit.duplicates == 2


def test_variety_is_to_be_had(ana: Scope) -> None:
    ana.add_many(["red apple pie", "red apple pie recipe", "red apple pie tart", "red bicycle"])

    plain = [hit.record.text for hit in ana.search("red apple pie", k=3)]
    varied = [hit.record.text for hit in ana.search("red apple pie", k=2, mmr_lambda=0.1)]

    assert "red bicycle" not in plain
    assert varied == ["red apple pie", "red bicycle"]


# -- scopes ----------------------------------------------------------------------------------


def test_users_do_not_see_one_another(memory: HybridMemory) -> None:
    ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")
    secret = ana.add("The code is 4711.", id="code")

    assert bob.search("code 4711") == []
    assert bob.messages() == []
    assert bob.stats().total == 0
    assert not bob.delete(secret.id)
    with pytest.raises(NotFoundError) as foreign:
        bob.get(secret.id)
    with pytest.raises(NotFoundError) as missing:
        memory.scope(user_id="carl").get(secret.id)
    assert str(foreign.value) == str(missing.value)
    assert ana.get(secret.id) == secret


def test_the_same_id_lives_in_each_namespace(memory: HybridMemory) -> None:
    ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")

    ana.add("tea", id="drink")
    bob.add("coffee", id="drink")

    assert (ana.get("drink").text, bob.get("drink").text) == ("tea", "coffee")


def test_what_others_store_moves_no_score(memory: HybridMemory) -> None:
    ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")
    ana.add_many(sentences(20))
    before = [(hit.record.id, hit.score) for hit in ana.search("word1 word2")]

    bob.add_many(["word1 word1 word1"] * 50)

    assert [(hit.record.id, hit.score) for hit in ana.search("word1 word2")] == before


def test_shared_documents_are_read_and_never_written(memory: HybridMemory) -> None:
    memory.scope(namespace=("handbook",)).add_documents(["Lentils on Monday."], source="menu.md")
    ana = memory.scope(user_id="ana", read=[("handbook",)])

    [hit] = ana.search("lentils")

    assert hit.record.namespace == ("handbook",)
    assert not ana.delete(hit.record.id)
    with pytest.raises(NotFoundError):
        ana.update(hit.record.id, text="Steak on Monday.")
    assert memory.scope(user_id="bob").search("lentils") == []


def test_a_namespace_is_not_a_prefix(memory: HybridMemory) -> None:
    memory.scope(namespace=("team",)).add("The team's plan.")
    memory.scope(namespace=("team", "ana")).add("Ana's plan.")

    assert len(memory.scope(namespace=("team",)).search("plan")) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"user_id": "a", "namespace": ("a",)},
        {"user_id": ""},
        {"user_id": 7},
        {"namespace": "ana"},
        {"namespace": ()},
        {"namespace": ("a", "")},
        {"namespace": ("a\0",)},
        {"namespace": ("a",) * 9},
        {"user_id": "a", "read": "handbook"},
        {"user_id": "a", "read": ["handbook"]},
        {"user_id": "a", "session_id": " "},
    ],
)
def test_a_malformed_scope_is_refused(memory: HybridMemory, arguments: dict[str, object]) -> None:
    with pytest.raises((InvalidInputError, NamespaceError)):
        memory.scope(**arguments)  # type: ignore[arg-type]


# -- filters ---------------------------------------------------------------------------------


def test_a_filter_is_met_before_ranking_so_k_come_whenever_k_exist(ana: Scope) -> None:
    items = [{"text": text, "metadata": {"n": n}} for n, text in enumerate(sentences(400))]
    ana.add_many(items)

    hits = ana.search("word1 word2", k=10, where={"n": {"$gte": 390}})

    assert sorted(hit.record.metadata["n"] for hit in hits) == list(range(390, 400))


def test_fields_of_the_record_can_be_filtered(ana: Scope, clock: ManualClock) -> None:
    ana.add("tea", speaker="Ana", at=clock() - timedelta(days=10))
    ana.add("tea", role="assistant", source="assistant")

    def found(where: dict[str, object]) -> list[str]:
        return [hit.record.role for hit in ana.search("tea", where=where)]

    assert found({"speaker": "Ana"}) == ["user"]
    assert found({"role": "assistant"}) == ["assistant"]
    assert found({"at": {"$lt": clock() - timedelta(days=1)}}) == ["user"]
    assert found({"session_id": "s2"}) == []


@pytest.mark.parametrize(
    "where", [{"n": {"$regex": "a"}}, {"$xor": []}, {"a b": 1}, {"n": {}}, {"n": None}, [], "n"]
)
def test_a_malformed_filter_is_an_error_and_not_an_empty_result(
    ana: Scope, where: dict[str, object]
) -> None:
    ana.add("tea")

    with pytest.raises(FilterError):
        ana.search("tea", where=where)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"query": " "}, TextError),
        ({"k": 0}, InvalidInputError),
        ({"k": 201}, InvalidInputError),
        ({"k": True}, InvalidInputError),
        ({"kinds": ["dream"]}, InvalidInputError),
        ({"min_score": 1.5}, InvalidInputError),
        ({"mmr_lambda": -1}, InvalidInputError),
        ({"now": datetime(2026, 1, 1)}, TimeError),  # noqa: DTZ001
    ],
)
def test_a_bad_question_is_refused(
    ana: Scope, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ana.search(**({"query": "tea"} | arguments))  # type: ignore[arg-type]


# -- large namespaces ------------------------------------------------------------------------


@pytest.fixture(params=["RaBitQ", "Flat", "HNSW32"])
def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> HybridMemory:
    factory = None if request.param == "RaBitQ" else request.param
    return HybridMemory.open(
        tmp_path,
        embedder=HashEmbedder(384),
        index=lambda dim: FaissIndex(dim, factory=factory),
        index_above=200,
        durability="normal",
    )


def test_above_the_limit_an_index_gives_what_comparing_all_gives(
    indexed: HybridMemory, tmp_path: Path
) -> None:
    texts = sentences(1500)
    indexed.scope(user_id="ana").add_many(texts)
    plain = HybridMemory.open(tmp_path / "plain", embedder=HashEmbedder(384), durability="normal")
    plain.scope(user_id="ana").add_many(texts)
    same = 0

    for question in sentences(20, seed=1):
        found, wanted = (
            {hit.record.text for hit in memory.scope(user_id="ana").search(question, k=10)}
            for memory in (indexed, plain)
        )
        same += len(found & wanted)

    assert same >= 195  # of 200


def test_with_an_index_too_k_come_whenever_k_match(indexed: HybridMemory) -> None:
    ana = indexed.scope(user_id="ana")
    ana.add_many([{"text": t, "metadata": {"n": n}} for n, t in enumerate(sentences(600))])

    assert len(ana.search("word1", k=7, where={"n": {"$lt": 7}})) == 7


def test_with_an_index_what_is_added_or_deleted_counts_at_once(indexed: HybridMemory) -> None:
    ana = indexed.scope(user_id="ana")
    ana.add_many(sentences(600))
    ana.search("warm up")

    record = ana.add("zebra crossing")
    assert ana.search("zebra crossing", k=1)[0].record == record
    ana.delete(record.id)
    assert all(hit.record != record for hit in ana.search("zebra crossing", k=50))


def test_with_an_index_the_newest_turns_of_the_session_are_candidates() -> None:
    embedder = HashEmbedder(384)
    store = MemoryRecordStore()
    ana = HybridMemory(store, embedder=embedder).scope(user_id="ana", session_id="now")
    ana.add_many([{"text": text, "session_id": "old"} for text in sentences(600)])
    said = ana.add("completely unrelated")
    partition = Partition(
        ("ana",), store=store, dim=384, index=FaissIndex, index_above=200, documents=None
    )
    memories, _ = partition.views()
    question = analyze(" ".join(WORDS[:10]), now=said.at)

    def candidates(session_id: str | None) -> int:
        vector = embedder.embed_query(question.text)
        return len(gather(question, vector, memories, session_id=session_id, width=50).rows)

    assert 50 <= candidates(None) <= 100
    assert candidates("now") == candidates(None) + 1


# -- one store, many readers -----------------------------------------------------------------


def test_another_handle_sees_a_write_at_once(memory: HybridMemory, tmp_path: Path) -> None:
    ana = memory.scope(user_id="ana")
    ana.add("I live in Lyon.")
    ana.search("Lyon")

    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as other:
        record = other.scope(user_id="ana").add("I work in Grenoble.")
        assert ana.search("Grenoble", k=1)[0].record == record
        other.scope(user_id="ana").delete(record.id)
    assert all(hit.record != record for hit in ana.search("Grenoble"))


def test_reopened_it_ranks_the_same(tmp_path: Path) -> None:
    texts = sentences(100)

    def ranked(memory: HybridMemory) -> list[tuple[str, float]]:
        hits = memory.scope(user_id="ana").search("word1 word2 word3")
        return [(hit.record.id, round(hit.score, 6)) for hit in hits]

    with HybridMemory.open(tmp_path, embedder=HashEmbedder()) as memory:
        ana = memory.scope(user_id="ana")
        for text in texts:  # one by one, so that the partition grows by small steps
            ana.add(text)
            ana.search("word1")
        before = ranked(memory)
    with HybridMemory.open(tmp_path, embedder=HashEmbedder()) as memory:
        assert ranked(memory) == before


def test_threads_read_their_own_writes(memory: HybridMemory) -> None:
    ana = memory.scope(user_id="ana")
    failures: list[str] = []

    def work(worker: int) -> None:
        for turn in range(15):
            record = ana.add(f"worker{worker} turn{turn}")
            found = {hit.record.id for hit in ana.search(f"worker{worker} turn{turn}", k=5)}
            if record.id not in found:
                failures.append(record.text)
            if turn % 3 == 0:
                ana.delete(record.id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert ana.stats().total == 8 * 10


def test_another_embedder_is_refused_with_both_names(tmp_path: Path) -> None:
    with HybridMemory.open(tmp_path, embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add("tea")

    with pytest.raises(EmbedderMismatchError, match=r"hashed-words.*other"):
        HybridMemory.open(tmp_path, embedder=HashEmbedder(name="other"))
    with pytest.raises(EmbedderMismatchError, match="32"):
        HybridMemory.open(tmp_path, embedder=HashEmbedder(32))


def test_documents_can_live_in_a_document_store(tmp_path: Path) -> None:
    documents = MemoryDocumentStore()
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(), documents=documents) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I like lentils.")
        chunks = ana.add_documents(
            [f"Dish {number}: {text}" for number, text in enumerate(sentences(30))],
            source="menu.md",
        )
        ana.delete(chunks[0].id)

        hits = ana.search(chunks[5].text, k=3)

        assert hits[0].record == chunks[5]
        assert chunks[0] not in [hit.record for hit in ana.search(chunks[0].text, k=40)]
        keys = documents.search((memory._store.id, "ana"), HashEmbedder().embed_query("dish"), 100)[
            0
        ]
        assert len(keys) == 29


def test_an_older_time_can_be_asked_about_without_a_clock(ana: Scope) -> None:
    ana.add("tea")

    assert len(ana.search("tea", now=datetime(2000, 1, 1, tzinfo=UTC))) == 1


def test_a_fact_of_the_future_is_not_found_before_it_holds(ana: Scope, clock: ManualClock) -> None:
    ana.add_fact({"city": "Lyon"}, valid_from=clock() + timedelta(days=30))

    assert ana.search("city") == ana.facts() == []
    assert len(ana.search("city", now=clock() + timedelta(days=31))) == 1


def test_two_memories_share_one_document_store_without_mixing(tmp_path: Path) -> None:
    shared = MemoryDocumentStore()
    found = []
    for name in ("one", "two"):
        with HybridMemory.open(
            tmp_path / name, embedder=HashEmbedder(), documents=shared
        ) as memory:
            ana = memory.scope(user_id="ana")
            ana.add_documents([f"The code of {name}."], source="codes")
            found.append([hit.record.text for hit in ana.search(f"code {name}")])

    assert found == [["The code of one."], ["The code of two."]]
