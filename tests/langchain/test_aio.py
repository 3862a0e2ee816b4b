"""Asynchronous forms: what follows a call into the thread that does it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ensure_config
from langchain_hybrid_memory import HybridMemoryMiddleware, source_from
from langchain_hybrid_memory.aio import in_thread

from hybrid_memory import HybridMemory
from tests.langchain.scripted import ScriptedModel


class Wiki(BaseRetriever):
    """Tells who asked it."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        tenant = ensure_config()["configurable"]["tenant"]
        return [Document(page_content=f"Turin is a city in Piedmont, says {tenant}.")]


class Runs(BaseCallbackHandler):
    """Keeps which run is below which, and which of them are a retriever's."""

    def __init__(self) -> None:
        self.parents: dict[Any, Any] = {}
        self.retrievers: list[Any] = []

    def on_chain_start(self, *args: Any, run_id: Any, parent_run_id: Any, **kwargs: Any) -> None:
        self.parents[run_id] = parent_run_id

    def on_retriever_start(
        self, *args: Any, run_id: Any, parent_run_id: Any, **kwargs: Any
    ) -> None:
        self.parents[run_id] = parent_run_id
        self.retrievers.append(run_id)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_a_source_that_an_agent_asks_sees_its_config_and_is_traced_below_its_run(
    memory: HybridMemory, mode: str
) -> None:
    model, runs = ScriptedModel(), Runs()
    sources = [source_from(Wiki(), name="wiki", timeout_s=30)]
    agent = create_agent(model, middleware=[HybridMemoryMiddleware(memory, sources=sources)])
    config: Any = {"configurable": {"user_id": "ana", "tenant": "acme"}, "callbacks": [runs]}
    question = {"messages": "In which part of Italy is the city of Turin?"}

    if mode == "invoke":
        agent.invoke(question, config)  # type: ignore[arg-type]
    else:
        await agent.ainvoke(question, config)  # type: ignore[arg-type]

    assert "Turin is a city in Piedmont, says acme." in model.prompts[0]
    [retriever] = runs.retrievers
    above = [retriever]
    while (parent := runs.parents[above[-1]]) is not None:
        above.append(parent)
    assert len(above) > 2  # the retriever's, that of the hook, and that of the agent


async def test_what_a_thread_sets_does_not_come_back() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    user.set("ana")

    def ask() -> str:
        before = user.get()
        user.set("ben")
        return before

    assert [await in_thread(ask), await in_thread(ask), user.get()] == ["ana", "ana", "ana"]
