"""HybridStore where it is used: by agents, their tools, and LangMem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_hybrid_memory import HybridStore, encode_label
from langgraph.config import get_store
from langgraph.graph import END, START, MessagesState, StateGraph
from langmem import create_manage_memory_tool, create_search_memory_tool

from hybrid_memory import HybridMemory


class Scripted(GenericFakeChatModel):
    """A chat model that says what it was told to."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self


def calls(*requests: tuple[str, dict[str, Any]]) -> Scripted:
    """Return a model that calls these tools, one a turn, and then is done."""
    turns = [
        AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"call-{n}"}])
        for n, (name, args) in enumerate(requests)
    ]
    return Scripted(messages=iter([*turns, AIMessage("Done.")]))


def told(result: dict[str, Any]) -> list[str]:
    return [str(one.content) for one in result["messages"] if isinstance(one, ToolMessage)]


@dataclass
class User:
    id: str


@pytest.fixture
def store(memory: HybridMemory) -> HybridStore:
    return HybridStore(memory)


@tool
def remember(text: str, runtime: ToolRuntime[User]) -> str:
    """Remember a text."""
    assert runtime.store is not None
    runtime.store.put((encode_label(runtime.context.id), "notes"), text[:8], {"text": text})
    return "remembered"


@tool
async def recall(query: str, runtime: ToolRuntime[User]) -> str:
    """Find a text."""
    assert runtime.store is not None
    space = (encode_label(runtime.context.id), "notes")
    return "; ".join(hit.value["text"] for hit in await runtime.store.asearch(space, query=query))


async def test_the_tools_of_an_agent_remember_and_recall(store: HybridStore) -> None:
    def agent(*requests: tuple[str, dict[str, Any]]) -> Any:
        return create_agent(
            calls(*requests), tools=[remember, recall], store=store, context_schema=User
        )

    ann, ben = User("ann@example.com"), User("ben@example.com")
    noting = agent(("remember", {"text": "My bicycle is green."}))
    await noting.ainvoke({"messages": "Remember it"}, context=ann)

    found = await agent(("recall", {"query": "bicycle"})).ainvoke({"messages": "?"}, context=ann)
    assert told(found) == ["My bicycle is green."]
    other = await agent(("recall", {"query": "bicycle"})).ainvoke({"messages": "?"}, context=ben)
    assert told(other) == [""]


@pytest.mark.parametrize("is_async", [False, True])
async def test_langmem_writes_changes_searches_and_deletes(
    store: HybridStore, is_async: bool
) -> None:
    space = ("memories", "{langgraph_user_id}")
    tools = [create_manage_memory_tool(namespace=space), create_search_memory_tool(namespace=space)]
    config: Any = {"configurable": {"langgraph_user_id": "ana"}}

    async def ask(name: str, **arguments: Any) -> str:
        agent: Any = create_agent(calls((name, arguments)), tools=tools, store=store)
        question = {"messages": [{"role": "user", "content": "Please."}]}
        if is_async:
            result = await agent.ainvoke(question, config)
        else:
            result = agent.invoke(question, config)  # on a running loop
        return told(result)[0]

    await ask("manage_memory", action="create", content="Ana likes green tea.")
    await ask("manage_memory", action="create", content="Ana has a bicycle.")
    [first, *_] = json.loads(await ask("search_memory", query="tea", limit=1))
    assert first["value"] == {"content": "Ana likes green tea."}
    assert first["namespace"] == ["memories", "ana"]

    await ask("manage_memory", action="update", id=first["key"], content="Ana likes rum.")
    [changed, *_] = json.loads(await ask("search_memory", query="rum"))
    assert (changed["key"], changed["created_at"]) == (first["key"], first["created_at"])
    assert "tea" not in await ask("search_memory", query="tea")

    await ask("manage_memory", action="delete", id=first["key"])
    assert [one.value for one in store.search(("memories",))] == [{"content": "Ana has a bicycle."}]


def test_a_graph_gives_its_nodes_the_store(store: HybridStore) -> None:
    def node(state: MessagesState) -> dict[str, Any]:
        get_store().put(("notes",), "k", {"text": state["messages"][-1].content})
        return {"messages": [AIMessage("Noted.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("note", node)
    graph.add_edge(START, "note")
    graph.add_edge("note", END)
    graph.compile(store=store).invoke({"messages": [("user", "The key is under the mat.")]})

    assert store.search(("notes",), query="key")[0].value == {"text": "The key is under the mat."}
