"""The retriever: LangChain's own suite, whose memory it is, and what the stock ones get wrong."""

from __future__ import annotations

import asyncio
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_classic.retrievers import EnsembleRetriever, TimeWeightedVectorStoreRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_hybrid_memory import HybridEmbeddings, HybridRetriever, HybridVectorStore
from langchain_hybrid_memory.identity import IdentityError
from langchain_tests.integration_tests import RetrieversIntegrationTests

from hybrid_memory import HybridMemory, Weights
from hybrid_memory.errors import FilterError, InvalidInputError, SourcesUnavailableError
from hybrid_memory.testing import HashEmbedder, ManualClock

HASHED = HybridEmbeddings(HashEmbedder(dim=256))
NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)


class Fixed(BaseRetriever):
    """Gives always the same, or fails; knows with what config it was called."""

    documents: list[Document] = []  # noqa: RUF012
    failing: bool = False

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.failing:
            raise RuntimeError("no")
        return self.documents


def fixed(*texts: str, **others: Any) -> Fixed:
    return Fixed(documents=[Document(page_content=text) for text in texts], **others)


def texts(found: list[Document]) -> list[str]:
    return [one.page_content for one in found]


def as_user(user: Any) -> Any:
    return {"configurable": {"user_id": user}}


class TestStandard(RetrieversIntegrationTests):
    """The suite that LangChain publishes, on a memory."""

    @pytest.fixture(autouse=True)
    def _memory(self, memory: HybridMemory) -> None:
        memory.scope(user_id="ana").add_many([f"I drink tea number {i}." for i in range(9)])
        self.memory = memory

    @property
    def retriever_constructor(self) -> type[HybridRetriever]:
        return HybridRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memory": self.memory, "user_id": "ana"}

    @property
    def retriever_query_example(self) -> str:
        return "Which tea do I drink?"


class TestStandardOfOthers(RetrieversIntegrationTests):
    """The same suite, in place of an EnsembleRetriever."""

    @property
    def retriever_constructor(self) -> type[HybridRetriever]:
        return HybridRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retrievers": [fixed("a", "b", "c"), fixed("c", "d")], "weights": [0.3, 0.7]}

    @property
    def retriever_query_example(self) -> str:
        return "letters"


# -- whose memory ----------------------------------------------------------------------------


@pytest.fixture
def shared(memory: HybridMemory) -> HybridMemory:
    for user, drink in (("ana", "tea"), ("ben@example.com", "beer"), ("7", "milk")):
        memory.scope(user_id=user).add(f"I drink {drink}.")
    return memory


async def test_the_config_says_whose_memory_it_is_called_directly_and_in_a_chain(
    shared: HybridMemory,
) -> None:
    retriever = HybridRetriever(memory=shared)
    parts = {"found": retriever, "asked": RunnablePassthrough()}
    chain = parts | RunnableLambda(lambda said: texts(said["found"]))
    within = RunnableLambda(lambda question: texts(retriever.invoke(question)))

    for user, drink in (("ana", "tea"), ("ben@example.com", "beer"), (7, "milk")):
        expected = [f"I drink {drink}."]
        config = as_user(user)
        assert texts(retriever.invoke("drink", config)) == expected
        assert texts(await retriever.ainvoke("drink", config)) == expected
        assert retriever.batch(["drink"], config)[0][0].page_content == expected[0]
        assert chain.invoke("drink", config) == expected
        assert await chain.ainvoke("drink", config) == expected
        assert within.invoke("drink", config) == expected


def test_the_field_goes_before_the_config(shared: HybridMemory) -> None:
    of_ana = HybridRetriever(memory=shared, user_id="ana")
    of_all = HybridRetriever(memory=shared, namespace=("ana",))
    of_each = HybridRetriever(memory=shared, namespace=("{user_id}",))

    assert texts(of_ana.invoke("drink", as_user("7"))) == ["I drink tea."]
    assert texts(of_all.invoke("drink", as_user("7"))) == ["I drink tea."]
    assert texts(of_each.invoke("drink", as_user("7"))) == ["I drink milk."]


@pytest.mark.parametrize("config", [None, {}, as_user(None), as_user(True), as_user(["ana"])])
async def test_without_a_user_it_is_an_error_and_never_a_shared_memory(
    shared: HybridMemory, config: Any
) -> None:
    retriever = HybridRetriever(memory=shared)

    with pytest.raises(IdentityError, match=r"whose memory it is|must be a text"):
        retriever.invoke("drink", config)
    with pytest.raises(IdentityError, match=r"whose memory it is|must be a text"):
        await retriever.ainvoke("drink", config)
    with pytest.raises(InvalidInputError):
        retriever.invoke("drink", as_user(""))


def test_a_configurable_field_works_too(shared: HybridMemory) -> None:
    retriever = HybridRetriever(memory=shared, user_id="ana").configurable_fields(
        user_id=ConfigurableField(id="who")
    )

    assert texts(retriever.invoke("drink", {"configurable": {"who": "7"}})) == ["I drink milk."]
    assert texts(retriever.invoke("drink")) == ["I drink tea."]


async def test_users_asked_at_once_are_not_mixed_up(shared: HybridMemory) -> None:
    retriever = HybridRetriever(memory=shared)
    users = 20 * ["ana", "7", "ben@example.com"]

    found = await asyncio.gather(*(retriever.ainvoke("drink", as_user(user)) for user in users))

    drinks = {"ana": "tea", "7": "milk", "ben@example.com": "beer"}
    assert [texts(one) for one in found] == [[f"I drink {drinks[user]}."] for user in users]


def test_shared_documents_are_read_beside(memory: HybridMemory) -> None:
    memory.scope(namespace=("handbook",)).add_documents(["Tea is free."], source="drinks.md")
    memory.scope(user_id="ana").add("I drink tea.")
    retriever = HybridRetriever(memory=memory, read=(("handbook",),))

    found = retriever.invoke("tea", as_user("ana"))

    assert {one.metadata["source"] for one in found} == {"user", "drinks.md"}
    only = HybridRetriever(memory=memory, read=(("handbook",),), kinds=("document",))
    assert texts(only.invoke("tea", as_user("ana"))) == ["Tea is free."]


# -- what it returns -------------------------------------------------------------------------


def test_score_and_signals_are_in_the_metadata(memory: HybridMemory, clock: ManualClock) -> None:
    ana = memory.scope(user_id="ana", session_id="s1")
    record = ana.add("I drink tea.", metadata={"city": "Lyon", "kind": "habit"})
    retriever = HybridRetriever(memory=memory, user_id="ana")

    [found] = retriever.invoke("What do I drink?")

    assert (found.id, found.page_content) == (record.id, "I drink tea.")
    assert found.metadata["score"] == pytest.approx(sum(found.metadata["signals"].values()))
    assert 0 < found.metadata["relevance"] <= 1
    assert found.metadata["city"] == "Lyon"
    assert found.metadata["kind"] == "habit"  # its own word, not the record's kind
    assert (found.metadata["session_id"], found.metadata["role"]) == ("s1", "user")
    assert found.metadata["at"] == clock().isoformat()


async def test_filters_bounds_and_budget_hold_by_field_and_by_call(memory: HybridMemory) -> None:
    ana = memory.scope(user_id="ana")
    ana.add_many({"text": f"tea {i} {'leaf ' * i}", "metadata": {"n": i}} for i in range(30))
    retriever = HybridRetriever(memory=memory, user_id="ana", where={"n": {"$gte": 10}}, k=5)

    assert len(retriever.invoke("tea")) == 5
    assert all(one.metadata["n"] >= 10 for one in retriever.invoke("tea"))
    assert len(retriever.invoke("tea", k=25)) == 20
    assert len(await retriever.ainvoke("tea", k=7)) == 7
    assert texts(retriever.invoke("tea", where={"n": 3})) == ["tea 3 leaf leaf leaf "]
    words = [len(one.page_content.split()) for one in retriever.invoke("tea", max_tokens=40)]
    assert 0 < sum(words) <= 40
    assert retriever.invoke("tea", max_tokens=1) == []
    with pytest.raises(FilterError):
        retriever.invoke("tea", where={"n": {"$near": 1}})
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke("tea", top_k=3)


def test_what_time_it_is_can_be_said(memory: HybridMemory) -> None:
    memory.scope(user_id="ana").add("I drink tea.", expires_at=NOW)
    retriever = HybridRetriever(memory=memory, user_id="ana")

    assert len(retriever.invoke("tea", now=NOW - timedelta(days=1))) == 1
    assert retriever.invoke("tea", now=NOW) == []
    late = HybridRetriever(memory=memory, user_id="ana", clock=lambda: NOW + timedelta(days=1))
    assert late.invoke("tea") == []


def test_traces_tell_the_provider_the_model_and_the_scores(memory: HybridMemory) -> None:
    seen: list[Any] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append(kwargs["metadata"])

        def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
            seen.append(documents)

    memory.scope(user_id="ana").add("I drink tea.")
    HybridRetriever(memory=memory, user_id="ana").invoke("tea", {"callbacks": [Handler()]})

    started, [found] = seen
    assert started["ls_retriever_name"] == "hybrid"
    assert started["ls_vector_store_provider"] == "hybrid_memory"
    assert started["ls_embedding_provider"] == "CountingEmbedder"
    assert started["ls_embedding_model"] == "hashed-words"
    assert found.metadata["score"] > 0


# -- in place of EnsembleRetriever -----------------------------------------------------------


def test_a_near_text_is_above_a_far_one_where_ranks_alone_put_the_far_one_first() -> None:
    far = InMemoryVectorStore.from_texts(["a red boat"], HASHED).as_retriever()
    near = InMemoryVectorStore.from_texts(["green tea"], HASHED).as_retriever()

    stock = EnsembleRetriever(retrievers=[far, near], weights=[0.5, 0.5])
    ours = HybridRetriever(retrievers=[far, near], weights=[0.5, 0.5])

    assert texts(stock.invoke("green tea")) == ["a red boat", "green tea"]
    assert "score" not in stock.invoke("green tea")[0].metadata
    found = ours.invoke("green tea")
    assert texts(found) == ["green tea", "a red boat"]
    assert found[0].metadata["score"] == pytest.approx(0.5)  # of the weight of both
    assert found[1].metadata["score"] < 0.1


def test_k_is_heeded_where_the_stock_one_gives_all() -> None:
    children = [fixed(*"abcde"), fixed(*"fghij")]
    stock: Any = EnsembleRetriever(retrievers=children)

    assert len(stock.invoke("x", k=3)) == 10
    assert len(HybridRetriever(retrievers=children).invoke("x", k=3)) == 3
    assert len(HybridRetriever(retrievers=children, k=4).invoke("x")) == 4


def test_one_text_of_two_people_is_two_documents_where_the_stock_one_keeps_the_older() -> None:
    old = Document(id="1", page_content="yes", metadata={"by": "ana", "year": 2020})
    new = Document(id="2", page_content="yes", metadata={"by": "ben", "year": 2026})
    children = [Fixed(documents=[old]), Fixed(documents=[new])]

    assert EnsembleRetriever(retrievers=children).invoke("yes?") == [old]
    found = HybridRetriever(retrievers=children).invoke("yes?")
    assert {one.metadata["by"] for one in found} == {"ana", "ben"}
    assert {one.id for one in found} == {"1", "2"}


def test_one_document_of_two_children_comes_once_and_first() -> None:
    lone, both = Document(page_content="ink"), Document(id="7", page_content="tea")
    same = Document(page_content="tea")  # as keyword indexes keep it: without the id
    children = [Fixed(documents=[lone, both]), Fixed(documents=[same])]

    found = HybridRetriever(retrievers=children).invoke("x")

    assert texts(found) == ["tea", "ink"]
    assert set(found[0].metadata["signals"]) >= {"retriever_1", "retriever_2"}


def test_an_id_key_names_the_document() -> None:
    documents = [Document(page_content=f"part {i}", metadata={"doc": "a"}) for i in range(3)]
    children = [Fixed(documents=documents)]

    assert len(HybridRetriever(retrievers=children).invoke("x")) == 3
    assert texts(HybridRetriever(retrievers=children, id_key="doc").invoke("x")) == ["part 0"]


def test_weights_count_and_may_be_of_any_size() -> None:
    children = [fixed("a"), fixed("b"), fixed("c")]

    for weights in ([0.2, 0.6, 0], [2, 6, 0]):
        found = HybridRetriever(retrievers=children, weights=weights).invoke("x")
        assert texts(found) == ["b", "a"]
        assert [one.metadata["score"] for one in found] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a memory, retrievers, or sources"),
        ({"retrievers": [fixed("a")], "weights": [1, 2]}, "2 weights were given for 1 retrievers"),
        ({"retrievers": [fixed("a")], "weights": [0]}, "one is above 0"),
        ({"retrievers": ["a"]}, "not of a str"),
    ],
)
def test_what_makes_no_retriever_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridRetriever(**arguments)


def test_a_child_that_fails_costs_no_other_where_the_stock_one_fails() -> None:
    children = [fixed("a"), fixed(failing=True)]

    with pytest.raises(RuntimeError):
        EnsembleRetriever(retrievers=children).invoke("x")
    assert texts(HybridRetriever(retrievers=children).invoke("x")) == ["a"]
    with pytest.raises(SourcesUnavailableError, match="retriever_1"):
        HybridRetriever(retrievers=children[1:]).invoke("x")


def test_children_are_asked_side_by_side_where_the_stock_one_waits_for_each() -> None:
    running, most, lock = [0], [0], threading.Lock()
    met = threading.Event()

    class Waits(Fixed):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                if running[0] == 5:
                    met.set()
            met.wait(0.2)
            with lock:
                running[0] -= 1
            return [Document(page_content=str(uuid.uuid4()))]

    children = [Waits() for _ in range(5)]
    EnsembleRetriever(retrievers=children).invoke("x")
    assert most == [1]
    assert len(HybridRetriever(retrievers=children).invoke("x")) == 5
    assert most == [5]


def test_a_child_that_hangs_is_left_out_and_not_asked_again() -> None:
    release, asked = threading.Event(), []

    class Hangs(Fixed):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            asked.append(query)
            release.wait(60)
            return []

    retriever = HybridRetriever(retrievers=[fixed("a"), Hangs()], timeout_s=0.2)
    try:
        assert texts(retriever.invoke("x")) == ["a"]
        assert texts(retriever.invoke("y")) == ["a"]
    finally:
        release.set()

    assert asked == ["x"]


def test_documents_come_back_as_they_were_with_what_json_cannot_hold() -> None:
    given = Document(
        id="1",
        page_content=100_000 * "long ",
        metadata={"when": NOW, "source": "a.pdf", "any": {1, 2}, "score": 0.25},
    )

    [found] = HybridRetriever(retrievers=[Fixed(documents=[given])]).invoke("x")

    assert found.page_content == given.page_content
    assert found.metadata["when"] is NOW
    assert found.metadata["any"] == {1, 2}
    assert "score" in given.metadata
    assert given.metadata["score"] == 0.25


def test_what_is_new_gains_where_recency_is_asked_for() -> None:
    children = [
        Fixed(
            documents=[
                Document(page_content="old", metadata={"score": 0.8, "made": "2025-01-01T00:00Z"}),
                Document(page_content="new", metadata={"score": 0.7, "made": NOW.timestamp()}),
            ]
        )
    ]
    others: dict[str, Any] = {"retrievers": children, "at_key": "made", "clock": lambda: NOW}

    assert texts(HybridRetriever(**others).invoke("x")) == ["old", "new"]
    aged = HybridRetriever(**others, ranking=Weights(recency=0.5))
    assert texts(aged.invoke("x")) == ["new", "old"]


async def test_children_see_the_config_and_are_traced_below_it() -> None:
    seen: list[Any] = []
    runs: dict[Any, Any] = {}

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
            runs[run_id] = kwargs["parent_run_id"]

    class Sees(Fixed):
        def invoke(self, input: str, config: Any = None, **kwargs: Any) -> list[Document]:
            seen.append((config["configurable"], config["tags"]))
            return super().invoke(input, config, **kwargs)

    retriever = HybridRetriever(retrievers=[Sees(documents=fixed("a").documents)])
    config: Any = {"configurable": {"tenant": "t"}, "tags": ["mine"], "callbacks": [Handler()]}
    retriever.invoke("x", config)
    await retriever.ainvoke("x", config)

    assert [(one["tenant"], tags) for one, tags in seen] == 2 * [("t", ["mine"])]
    parents = [run for run, parent in runs.items() if parent is None]
    assert len(parents) == 2
    assert [parent for parent in runs.values() if parent] == parents


def test_beside_a_memory_others_are_merged_in(memory: HybridMemory) -> None:
    memory.scope(user_id="ana").add("I drink green tea.")
    papers = InMemoryVectorStore.from_texts(["green tea", "black ink"], HASHED).as_retriever()
    retriever = HybridRetriever(memory=memory, retrievers=[papers], weights=[0.8])

    found = retriever.invoke("Which green tea?", as_user("ana"), k=2)

    assert set(texts(found)) == {"I drink green tea.", "green tea"}


def test_a_vector_store_of_ours_is_searched_by_the_merger_too(memory: HybridMemory) -> None:
    store = HybridVectorStore(memory)
    store.add_texts(["error E-4711", "a pump"], ids=["1", "2"])
    retriever = HybridRetriever(memory=memory, namespace=("documents",), kinds=("document",))

    assert retriever.invoke("What is E-4711?", k=1)[0].id == "1"


def test_it_holds_no_handles_in_what_is_dumped(memory: HybridMemory) -> None:
    retriever = HybridRetriever(memory=memory, user_id="ana", retrievers=[fixed("a")])

    assert not retriever.is_lc_serializable()
    assert {"memory", "retrievers", "sources", "clock"}.isdisjoint(retriever.model_dump())
    assert "HybridMemory" not in repr(retriever)


# -- what TimeWeightedVectorStoreRetriever gets wrong ----------------------------------------


def test_what_was_told_survives_a_restart_where_the_stock_one_fails(tmp_path: Path) -> None:
    store = HybridVectorStore.open(tmp_path / "stock", HASHED)
    stock = TimeWeightedVectorStoreRetriever(vectorstore=store)
    stock.add_documents([Document(page_content="I drink tea.")])
    restarted = TimeWeightedVectorStoreRetriever(vectorstore=store)
    with pytest.raises(IndexError):
        restarted.invoke("tea")
    store.close()

    for _ in range(2):
        with HybridMemory.open(tmp_path / "m", embedder=HashEmbedder()) as memory:
            ana = memory.scope(user_id="ana")
            ana.add_event("I drink tea.", at=NOW, id="1")
            retriever = HybridRetriever(memory=memory, user_id="ana")
            assert texts(retriever.invoke("tea")) == ["I drink tea."]


def test_the_last_k_are_not_always_in_and_scores_stay_in_0_and_1(
    tmp_path: Path, clock: ManualClock
) -> None:
    told = ["I drink green tea.", *(f"My {thing} is red." for thing in ("boat", "car", "house"))]
    with HybridVectorStore.open(None, HASHED) as store:
        stock = TimeWeightedVectorStoreRetriever(
            vectorstore=store, k=2, search_kwargs={"k": 1, "score_threshold": 0.2}
        )
        stock.add_documents([Document(page_content=text) for text in told])
        assert texts(stock.invoke("green tea")) == ["I drink green tea.", "My car is red."]

    with HybridMemory.open(
        tmp_path / "m",
        embedder=HashEmbedder(dim=256),
        weights=Weights(recency=0.5),
        clock=clock,
    ) as memory:
        ana = memory.scope(user_id="ana")
        for text in told:
            ana.add_event(text)
            clock.advance(days=1)
        retriever = HybridRetriever(memory=memory, user_id="ana", min_score=0.2)
        found = retriever.invoke("green tea")

    assert texts(found) == ["I drink green tea."]
    assert 0 < found[0].metadata["score"] <= 1


def test_a_write_that_fails_leaves_nothing_behind_where_the_stock_one_keeps_a_phantom(
    memory: HybridMemory,
) -> None:
    stock = TimeWeightedVectorStoreRetriever(
        vectorstore=Chroma(embedding_function=HASHED, collection_name="phantom")
    )
    with pytest.raises(ValueError, match="metadata"):  # its own datetimes
        stock.add_documents([Document(page_content="I drink tea.")])
    assert len(stock.memory_stream) == 1

    ana = memory.scope(user_id="ana")
    with pytest.raises(ValueError, match="metadata"):
        ana.add_event("I drink tea.", metadata={"when": object()})
    assert HybridRetriever(memory=memory, user_id="ana").invoke("tea") == []
