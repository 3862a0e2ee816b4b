"""All adapters over one memory: users kept apart, erased as one, and one filter language."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_hybrid_memory import (
    HybridConversationMemory,
    HybridMemoryMiddleware,
    HybridRetriever,
    HybridStore,
    HybridVectorStore,
    memory_tools,
)
from langgraph.store.base import GetOp, PutOp, SearchOp

from hybrid_memory import HybridMemory
from tests.langchain.scripted import ScriptedModel

USERS = [f"user-{number}" for number in range(8)]
DIMS = 4


def of(user: str) -> Any:
    return {"configurable": {"user_id": user, "thread_id": "t1"}}


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [[1.0, len(text), text.count("a"), text.count("e")] for text in texts]


@pytest.mark.parametrize("index", [None, {"dims": DIMS, "embed": embed}], ids=["own", "embed"])
def test_an_erasure_takes_all_that_any_adapter_holds_of_a_user_and_nothing_of_another(
    memory: HybridMemory, index: Any
) -> None:
    store = HybridStore(memory, index=index)
    model = ScriptedModel(replies=["Noted."])
    agent = create_agent(model, middleware=[HybridMemoryMiddleware(memory)])
    for user in ("ana", "ben"):
        secret = f"the-word-of-{user}"
        agent.invoke({"messages": f"Mine is {secret}, said."}, of(user))
        save = memory_tools(memory, user_id=user)[0]
        save.invoke({"text": f"{secret}, by a tool."})
        session = memory.scope(user_id=user, session_id="chain")
        HybridConversationMemory(scope=session).save_context(
            {"input": f"{secret}, in a chain."}, {"output": "Noted."}
        )
        HybridVectorStore(memory, namespace=(user,)).add_texts([f"{secret}, on paper."])
        store.put((user,), "k", {"text": f"{secret}, as an item."})

    erased = memory.scope(user_id="ana").erase()

    assert erased.is_complete
    assert memory.verify_erased(texts=["the-word-of-ana"]).is_clean
    assert store.search(("ana",)) == store.search(("ana",), query="the word") == []
    assert HybridVectorStore(memory, namespace=("ana",)).similarity_search("word") == []
    assert HybridRetriever(memory=memory).invoke("word", of("ana")) == []
    assert memory.scope(user_id="ana").stats().total == 0
    agent.invoke({"messages": "Which word?"}, of("ana"))
    assert "the-word" not in model.prompts[-1]

    assert store.search(("ben",), query="the word")[0].value == {
        "text": "the-word-of-ben, as an item."
    }
    found = HybridRetriever(memory=memory, k=20).invoke("the word", of("ben"))
    assert "the-word-of-ana" not in str(found)
    assert len({one.metadata["kind"] for one in found}) >= 3
    agent.invoke({"messages": "Which word?"}, of("ben"))
    assert "the-word-of-ben" in model.prompts[-1]


async def test_users_of_one_batch_of_a_store_see_their_own_only(memory: HybridMemory) -> None:
    store = HybridStore(memory)

    def writes(user: str) -> list[Any]:
        return [PutOp((user,), f"k{n}", {"text": f"{user} says {n}"}) for n in range(5)]

    def reads(user: str) -> list[Any]:
        return [SearchOp((user,), query="says", limit=20), GetOp((user,), "k0")]

    store.batch([op for user in USERS[:4] for op in writes(user)])
    await asyncio.gather(*(store.abatch(writes(user)) for user in USERS[4:]))
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(store.batch, map(reads, USERS)))
    told += await asyncio.gather(*(store.abatch(reads(user)) for user in USERS))
    mixed = store.batch([op for user in USERS for op in reads(user)])
    told += [mixed[place : place + 2] for place in range(0, len(mixed), 2)]

    for user, (hits, one) in zip(USERS * 3, told, strict=True):
        assert {hit.namespace for hit in hits} == {(user,)}
        assert len(hits) == 5
        assert one.value == {"text": f"{user} says 0"}


async def test_users_of_one_batch_of_a_retriever_or_an_agent_see_their_own_only(
    memory: HybridMemory,
) -> None:
    for user in USERS:
        memory.scope(user_id=user).add(f"The secret word is {user}-secret.")
    retriever = HybridRetriever(memory=memory, k=5)
    model = ScriptedModel()
    agent = create_agent(model, middleware=[HybridMemoryMiddleware(memory, save=False)])
    configs = [of(user) for user in USERS]
    asked: list[Any] = [{"messages": f"What is my secret word? I am {user}."} for user in USERS]

    found = retriever.batch(["secret word"] * len(USERS), configs)
    found += await retriever.abatch(["secret word"] * len(USERS), configs)
    agent.batch(asked, configs)  # type: ignore[arg-type]
    await agent.abatch(asked, configs)  # type: ignore[arg-type]

    for user, documents in zip(USERS * 2, found, strict=True):
        assert [one.page_content for one in documents] == [f"The secret word is {user}-secret."]
    assert len(model.calls) == 2 * len(USERS)
    for prompt, sent in zip(model.prompts, model.calls, strict=True):
        [who] = [user for user in USERS if f"I am {user}." in sent[-1].text]
        assert [user for user in USERS if f"{user}-secret" in prompt] == [who]


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "custom", "debug"])
async def test_no_way_to_stream_shows_the_memory_of_another_or_changes_what_is_stored(
    memory: HybridMemory, mode: Any
) -> None:
    memory.scope(user_id="ana").add("My violin is a Guarneri.")
    memory.scope(user_id="ben").add("My violin is a Stradivari.")
    agent = create_agent(
        ScriptedModel(replies=["It is a fine one."]), middleware=[HybridMemoryMiddleware(memory)]
    )
    asked: Any = {"messages": "Which violin do I have?"}

    events = list(agent.stream(asked, of("ana"), stream_mode=mode))
    events += [one async for one in agent.astream(asked, of("ana"), stream_mode=mode)]

    assert "Stradivari" not in str(events)
    # Only messages are for the eyes of a user as they are: the others show the agent's state.
    assert ("Guarneri" in str(events)) == (mode != "messages")
    turns = memory.scope(user_id="ana", session_id="t1").messages()
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2
    assert turns[-1].text.strip() == "It is a fine one."


@pytest.mark.parametrize("adapter", ["store", "vector store", "retriever", "middleware"])
async def test_an_operator_that_no_filter_has_is_a_value_error_whoever_passes_it_on(
    memory: HybridMemory, adapter: str
) -> None:
    memory.scope(user_id="ana").add("I drink tea.", metadata={"n": 1})
    wrong: dict[str, Any] = {"n": {"$nearly": 1}}

    async def ask(condition: dict[str, Any]) -> object:
        if adapter == "store":
            store = HybridStore(memory)
            await store.aput(("ana", "cups"), "k", {"n": 1})
            return await store.asearch(("ana", "cups"), query="tea", filter=condition)
        if adapter == "vector store":
            vectors = HybridVectorStore(memory, namespace=("ana",))
            vectors.add_texts(["tea"], metadatas=[{"n": 1}])
            return await vectors.asimilarity_search("tea", filter=condition)
        if adapter == "retriever":
            return await HybridRetriever(memory=memory).ainvoke("tea", of("ana"), where=condition)
        middleware = HybridMemoryMiddleware(memory, where=condition)
        agent = create_agent(ScriptedModel(), middleware=[middleware])
        return await agent.ainvoke({"messages": "Which tea?"}, of("ana"))  # type: ignore[arg-type]

    assert await ask({"n": {"$lte": 1}})
    with pytest.raises(ValueError, match=r"\$nearly"):
        await ask(wrong)
