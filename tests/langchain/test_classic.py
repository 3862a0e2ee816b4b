"""Chains of langchain_classic with this memory, and how the stock memories compare."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.base_memory import BaseMemory
from langchain_classic.chains import ConversationalRetrievalChain, ConversationChain, LLMChain
from langchain_classic.memory import (
    ConversationBufferMemory,
    VectorStoreRetrieverMemory,
)
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_hybrid_memory import HybridConversationMemory

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import InvalidInputError
from tests.langchain.scripted import ScriptedModel, calls

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


@pytest.fixture
def session(memory: HybridMemory) -> Scope:
    return memory.scope(user_id="ana", session_id="s1")


def _invoke(chain: Any, inputs: Any) -> Any:
    return chain.invoke(inputs)


def _ainvoke(chain: Any, inputs: Any) -> Any:
    return asyncio.run(chain.ainvoke(inputs))


Run = Callable[[Any, Any], Any]


@pytest.fixture(params=[_invoke, _ainvoke], ids=["invoke", "ainvoke"])
def run(request: pytest.FixtureRequest) -> Run:
    way: Run = request.param
    return way


def said(scope: Scope) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in scope.messages()]


# -- in chains ---------------------------------------------------------------------------------


def test_a_conversation_chain_remembers_in_place_of_a_buffer(session: Scope, run: Run) -> None:
    model = ScriptedModel(replies=["Hello Ana.", "Ana."])
    chain = ConversationChain(llm=model, memory=HybridConversationMemory(scope=session))

    run(chain, {"input": "I am Ana."})
    run(chain, {"input": "Who am I?"})

    assert "Human: I am Ana.\nAI: Hello Ana." in model.calls[1][0].text
    assert said(session)[0] == ("user", "I am Ana.")


def test_another_process_goes_on_where_one_stopped(memory: HybridMemory, run: Run) -> None:
    for text in ("I am Ana.", "Who am I?"):
        model = ScriptedModel(replies=["Yes."])
        scope = memory.scope(user_id="ana", session_id="s1")
        run(
            ConversationChain(llm=model, memory=HybridConversationMemory(scope=scope)),
            {"input": text},
        )

    assert "I am Ana." in model.calls[0][0].text


def test_a_chain_gets_history_memories_and_profile_apart(memory: HybridMemory, run: Run) -> None:
    memory.scope(user_id="ana").add("My violin is a Guarneri.")
    session = memory.scope(user_id="ana", session_id="s1")
    session.profile["timezone"] = "Europe/Paris"
    session.add_messages([{"role": "user", "content": "I tuned my violin today."}])
    model = ScriptedModel(replies=["A Guarneri."])
    prompt = PromptTemplate.from_template("H:{history}\nM:{memories}\nP:{profile}\nQ:{question}")
    chain = LLMChain(
        llm=model,
        prompt=prompt,
        memory=HybridConversationMemory(
            scope=session, relevant_key="memories", profile_key="profile"
        ),
    )

    run(chain, {"question": "What is my violin?"})

    text = model.calls[0][0].text
    history, rest = text.split("\nM:")
    memories, rest = rest.split("\nP:")
    assert history == "H:Human: I tuned my violin today."
    assert "Guarneri" in memories
    assert "tuned" not in memories  # it is in the history
    assert "Paris" not in memories
    assert json.loads(rest.split("\nQ:")[0]) == {"timezone": "Europe/Paris"}


@pytest.mark.parametrize("return_messages", [True, False])
def test_a_retrieval_chain_takes_the_history_either_way(
    session: Scope, run: Run, return_messages: bool
) -> None:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts(["The violin is in the attic."])
    model = ScriptedModel(replies=["In the attic.", "Where is the violin?", "Still there."])
    chain = ConversationalRetrievalChain.from_llm(
        model,
        store.as_retriever(),
        memory=HybridConversationMemory(
            scope=session, memory_key="chat_history", return_messages=return_messages
        ),
        return_source_documents=True,  # a second output, next to "answer"
        return_generated_question=True,
        # By default the chain takes messages only, whatever the memory.
        **({} if return_messages else {"get_chat_history": str}),
    )

    run(chain, {"question": "Where is the violin?"})
    run(chain, {"question": "And now?"})

    assert said(session) == [
        ("user", "Where is the violin?"),
        ("assistant", "In the attic."),
        ("user", "And now?"),
        ("assistant", "Still there."),
    ]
    assert "In the attic." in model.calls[1][0].text


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"18 degrees in {city}"


def _executor(session: Scope, model: ScriptedModel) -> AgentExecutor:
    prompt = ChatPromptTemplate.from_messages(
        [
            MessagesPlaceholder("history"),
            ("human", "{input}"),
            MessagesPlaceholder("agent_scratchpad"),
        ]
    )
    return AgentExecutor(
        agent=create_tool_calling_agent(model, [weather], prompt),
        tools=[weather],
        memory=HybridConversationMemory(scope=session, return_messages=True),
        return_intermediate_steps=True,  # a second output, next to "output"
        stream_runnable=False,
    )


def test_an_agents_tool_calls_are_kept_with_their_results(session: Scope, run: Run) -> None:
    model = ScriptedModel(replies=[calls("weather", city="Lyon"), "18 degrees.", "Yes."])
    executor = _executor(session, model)

    run(executor, {"input": "How warm is it in Lyon?"})
    run(executor, {"input": "Sure?"})

    assert [one.type for one in model.calls[2]] == ["human", "ai", "tool", "ai", "human"]
    call, result = model.calls[2][1:3]
    assert call.tool_calls[0]["id"] == result.tool_call_id  # type: ignore[attr-defined]
    assert result.text == "18 degrees in Lyon"


@pytest.mark.filterwarnings("ignore:.*multiple output keys")
def test_the_stock_memory_refuses_what_chains_return_and_drops_tool_calls() -> None:
    stock = ConversationBufferMemory(return_messages=True)

    with pytest.raises(ValueError, match="output"):
        stock.save_context({"input": "x"}, {"answer": "y", "source_documents": []})
    stock.save_context({"input": "x"}, {"output": "y", "intermediate_steps": [1]})  # and drops them

    assert [one.type for one in stock.chat_memory.messages] == ["human", "ai"]


def test_chains_refuse_a_memory_that_is_not_of_their_class(session: Scope) -> None:
    class Duck:
        memory_variables = ("history",)

    with pytest.raises(ValueError, match="memory"):
        ConversationChain(llm=ScriptedModel(), memory=Duck())  # type: ignore[arg-type]

    assert isinstance(HybridConversationMemory(scope=session), BaseMemory)


# -- keys --------------------------------------------------------------------------------------


def test_one_of_several_inputs_is_named(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session, input_key="question")

    memory.save_context({"question": "Why?", "language": "de", "history": ""}, {"text": "So."})

    assert said(session) == [("user", "Why?"), ("assistant", "So.")]


def test_several_inputs_are_an_error_before_the_model_is_asked(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session)
    inputs = {"question": "Why?", "language": "de", "stop": [":"]}

    with pytest.raises(InvalidInputError, match=r"'language', 'question'.*input_key="):
        memory.load_memory_variables(inputs)
    with pytest.raises(InvalidInputError, match=r"'language', 'question'.*input_key="):
        memory.save_context(inputs, {"text": "So."})


@pytest.mark.parametrize("outputs", [{"a": "x", "b": "y"}, {}])
def test_several_outputs_are_an_error_that_names_the_way_out(
    session: Scope, outputs: dict[str, str]
) -> None:
    with pytest.raises(InvalidInputError, match="output_key="):
        HybridConversationMemory(scope=session).save_context({"input": "Why?"}, outputs)

    assert said(session) == []


def test_a_key_that_is_not_there_is_an_error_that_names_what_is(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session, output_key="text")

    with pytest.raises(InvalidInputError, match=r"'output'.*not 'text'"):
        memory.save_context({"input": "Why?"}, {"output": "So."})


def test_without_inputs_there_is_a_history_and_nothing_to_recall(session: Scope) -> None:
    session.add("I like tea.")
    memory = HybridConversationMemory(scope=session, relevant_key="memories")

    variables = memory.load_memory_variables({})

    assert variables == {"history": "Human: I like tea.", "memories": ""}
    assert memory.memory_variables == ["history", "memories"]


# -- messages in, messages out -----------------------------------------------------------------


def test_inputs_that_are_messages_keep_their_roles_and_texts(session: Scope) -> None:
    given = [
        SystemMessage("Be brief."),
        HumanMessage("Why?"),
        AIMessage("What?"),
        HumanMessage("So!"),
    ]
    memory = HybridConversationMemory(scope=session, return_messages=True)

    memory.save_context({"input": given}, {"output": AIMessage("Aha.", id="a1")})

    assert memory.load_memory_variables({"input": given})["history"] == [
        *given,
        AIMessage("Aha.", id="a1"),
    ]


def test_the_stock_memory_cannot_take_messages() -> None:
    stock = ConversationBufferMemory()

    with pytest.raises(ValueError, match="validation error"):
        stock.save_context({"input": HumanMessage("Why?")}, {"output": "So."})


def test_the_text_of_the_history_names_who_one_wants(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session, human_prefix="Ana", ai_prefix="Bot")
    memory.save_context({"input": "Why?"}, {"output": "So."})

    assert memory.load_memory_variables({"input": "x"})["history"] == "Ana: Why?\nBot: So."


def test_a_history_is_bounded_and_loses_nothing(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session, last=2, return_messages=True)
    for i in range(5):
        memory.save_context({"input": f"question {i}"}, {"output": f"answer {i}"})

    shown: list[BaseMessage] = memory.load_memory_variables({"input": "x"})["history"]
    assert [one.text for one in shown] == ["question 4", "answer 4"]
    assert len(memory.chat_memory.messages) == 10


def test_what_left_the_window_is_still_recalled(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session, last=2, relevant_key="memories")
    memory.save_context({"input": "My violin is a Guarneri."}, {"output": "Nice."})
    memory.save_context({"input": "Bye."}, {"output": "Bye."})

    variables = memory.load_memory_variables({"input": "What is my violin?"})

    assert "Guarneri" not in variables["history"]
    assert "Guarneri" in variables["memories"]


# -- async, threads, clear ---------------------------------------------------------------------


def test_every_method_has_its_own_async_form() -> None:
    for name in ("aload_memory_variables", "asave_context", "aclear"):
        assert name in vars(HybridConversationMemory)


async def test_the_async_forms_do_the_same(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session)

    await memory.asave_context({"input": "Why?"}, {"output": "So."})
    assert await memory.aload_memory_variables({"input": "x"}) == {
        "history": "Human: Why?\nAI: So."
    }
    await memory.aclear()

    assert said(session) == []


def test_a_batch_of_a_chain_loses_no_turn(session: Scope) -> None:
    model = ScriptedModel(replies=[lambda messages: AIMessage("So.")])
    chain = ConversationChain(llm=model, memory=HybridConversationMemory(scope=session))

    chain.batch([{"input": f"question {i}"} for i in range(20)], {"max_concurrency": 8})

    told = said(session)
    assert sorted(text for role, text in told if role == "user") == sorted(
        f"question {i}" for i in range(20)
    )
    assert [role for role, _ in told] == ["user", "assistant"] * 20


def test_users_at_once_keep_apart(memory: HybridMemory) -> None:
    def talk(user: str) -> str:
        scope = memory.scope(user_id=user, session_id="s1")
        model = ScriptedModel(replies=["Noted."])
        chain = ConversationChain(llm=model, memory=HybridConversationMemory(scope=scope))
        chain.invoke({"input": f"I am {user}."})
        chain.invoke({"input": "Who am I?"})
        return str(model.calls[1][0].text)

    users = [f"user{i}" for i in range(10)]
    with ThreadPoolExecutor(10) as pool:
        prompts = list(pool.map(talk, users))

    for user, prompt in zip(users, prompts, strict=True):
        assert [other for other in users if f"I am {other}." in prompt] == [user]


def test_clear_forgets_the_session_and_nothing_else(memory: HybridMemory) -> None:
    one, two = (memory.scope(user_id="ana", session_id=name) for name in ("s1", "s2"))
    for scope in (one, two):
        HybridConversationMemory(scope=scope).save_context({"input": "Violin?"}, {"output": "Yes."})
    one.profile["timezone"] = "Europe/Paris"
    fact = one.add_fact("The violin is in the attic.")

    HybridConversationMemory(scope=one).clear()

    assert said(one) == []
    assert len(said(two)) == 2
    assert one.facts() == [fact]
    assert dict(one.profile) == {"timezone": "Europe/Paris"}


def test_the_stock_memory_still_recalls_what_was_cleared() -> None:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    stock = VectorStoreRetrieverMemory(retriever=store.as_retriever())
    stock.save_context({"input": "My secret is 42."}, {"output": "Noted."})

    stock.clear()

    assert "My secret is 42." in stock.load_memory_variables({"prompt": "secret"})["history"]


# -- what it is --------------------------------------------------------------------------------


PROGRAM = """
import tempfile, warnings
from hybrid_memory import HybridMemory
from hybrid_memory.testing import HashEmbedder
from langchain_classic.memory import ConversationBufferMemory
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_hybrid_memory import HybridChatMessageHistory, HybridConversationMemory

with tempfile.TemporaryDirectory() as path, HybridMemory.open(
    path, embedder=HashEmbedder()
) as memory, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    scope = memory.scope(user_id="ana", session_id="s1")
    HybridConversationMemory(scope=scope).save_context({"input": "Why?"}, {"output": "So."})
    HybridConversationMemory(scope=scope).load_memory_variables({"input": "x"})
    assert len(HybridChatMessageHistory(scope).messages) == 2
    ours = len(caught)
    InMemoryChatMessageHistory()
    ConversationBufferMemory()
    print(ours, len(caught) > ours)
"""


def test_ours_warns_of_nothing_and_the_stock_memories_do() -> None:
    # In a process of its own: a class warns once.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    assert done.stdout.split() == ["0", "True"], done.stderr


def test_it_is_not_serialized_with_its_chain(session: Scope) -> None:
    memory = HybridConversationMemory(scope=session)

    assert not memory.is_lc_serializable()
    assert "scope" not in memory.model_dump()


@pytest.mark.parametrize("options", [{"scope": None}, {"scoop": 1}, {"return_message": True}])
def test_an_argument_that_is_wrong_is_refused(session: Scope, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        HybridConversationMemory(**{"scope": session, **options})


def test_a_scope_without_a_session_is_refused(memory: HybridMemory) -> None:
    with pytest.raises(ValueError, match="session_id"):
        HybridConversationMemory(scope=memory.scope(user_id="ana"))
