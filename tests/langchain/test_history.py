"""A session as a chat history: whole messages, windows, sessions that stay apart."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.memory import ConversationTokenBufferMemory
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableFieldSpec
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_hybrid_memory import HybridChatMessageHistory

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.redaction import redact_secrets
from hybrid_memory.testing import HashEmbedder
from tests.langchain.scripted import ScriptedModel

CALL = AIMessage(
    "I look.",
    id="ai-1",
    tool_calls=[
        {"name": "weather", "args": {"city": "Lyon", "days": [1, 2]}, "id": "c1"},
        {"name": "weather", "args": {"city": "Paris"}, "id": "c2"},
    ],
    usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    response_metadata={"model_name": "scripted", "logprobs": None},
)
CHAT: list[BaseMessage] = [
    SystemMessage("You are a parrot."),
    HumanMessage("How warm is it?", name="ana"),
    CALL,
    ToolMessage("18 degrees", tool_call_id="c1", name="weather", status="success"),
    ToolMessage("no such city", tool_call_id="c2", name="weather", status="error"),
    AIMessage("18 in Lyon."),
]
BLOCKS: list[BaseMessage] = [
    HumanMessage(
        [{"type": "text", "text": "What is this?"}, {"type": "image", "url": "https://x"}]
    ),
    HumanMessage([{"type": "image", "url": "https://example.org/cat.png"}]),
    AIMessage(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "A cat"},
        ]
    ),
    AIMessage(""),
    ChatMessage("Applause.", role="audience"),
    AIMessage("cut", invalid_tool_calls=[{"name": "w", "args": "{", "id": "1", "error": "json"}]),
]


@pytest.fixture
def session(memory: HybridMemory) -> Scope:
    return memory.scope(user_id="ana", session_id="s1")


@pytest.fixture
def history(session: Scope) -> HybridChatMessageHistory:
    return HybridChatMessageHistory(session)


def test_messages_come_back_whole(history: HybridChatMessageHistory) -> None:
    history.add_messages(CHAT)

    assert history.messages == CHAT


@pytest.mark.parametrize("message", BLOCKS, ids=lambda message: message.type)
def test_a_message_of_any_kind_comes_back_as_it_was(
    history: HybridChatMessageHistory, message: BaseMessage
) -> None:
    history.add_messages([message])

    assert history.messages == [message]


def test_calls_of_the_old_form_are_kept_with_their_results(
    history: HybridChatMessageHistory,
) -> None:
    call = AIMessage("", additional_kwargs={"function_call": {"name": "w", "arguments": "{}"}})
    result = FunctionMessage("18", name="w")

    history.add_messages([call, result])

    assert history.messages == [call, result]


def test_a_message_that_came_in_pieces_is_kept_as_one(history: HybridChatMessageHistory) -> None:
    history.add_messages([AIMessageChunk(content="18 ") + AIMessageChunk(content="degrees")])

    assert [(type(one), one.text) for one in history.messages] == [(AIMessage, "18 degrees")]


def test_an_object_of_the_process_is_not_kept_with_a_result(
    history: HybridChatMessageHistory,
) -> None:
    result = ToolMessage("18", tool_call_id="c1", artifact=object())

    history.add_messages([CALL, result])

    assert history.messages[1] == result.model_copy(update={"artifact": None})


def test_nothing_is_stored_but_json(history: HybridChatMessageHistory, tmp_path: Path) -> None:
    history.add_messages(CHAT)

    with sqlite3.connect(tmp_path / "memory" / "memory.db") as database:
        dump = "\n".join(database.iterdump())
    assert "langchain_core" not in dump  # a pickle, or LangChain's `dumpd`, would name its modules


@pytest.mark.parametrize(("last", "shown"), [(1, 1), (2, 1), (3, 1), (4, 4), (5, 5), (99, 6)])
def test_a_window_does_not_split_a_call_from_its_results(
    session: Scope, last: int, shown: int
) -> None:
    history = HybridChatMessageHistory(session, last=last)
    history.add_messages(CHAT)

    assert history.messages == CHAT[-shown:]


def test_a_bound_of_tokens_holds_over_a_stored_history_and_deletes_nothing(
    session: Scope,
) -> None:
    turns = [HumanMessage(f"this is turn number {i}") for i in range(60)]  # 5 tokens and one more
    bounded = HybridChatMessageHistory(session, max_tokens=50)
    bounded.add_messages(turns)

    assert bounded.messages == turns[-8:]
    assert HybridChatMessageHistory(session).messages == turns


def test_the_stock_bound_of_tokens_does_not_hold_over_a_stored_history(session: Scope) -> None:
    # What the test above replaces: it takes messages off a list that nobody stores.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = ConversationTokenBufferMemory(
            llm=ScriptedModel(custom_get_token_ids=lambda text: list(range(len(text.split())))),
            max_token_limit=50,
            chat_memory=HybridChatMessageHistory(session),
            return_messages=True,
        )
    for i in range(30):
        stock.save_context(
            {"input": f"this is turn number {i}"}, {"output": "and this is the answer"}
        )

    assert len(stock.load_memory_variables({})["history"]) == 60


def test_messages_tell_when_they_were_said(history: HybridChatMessageHistory, clock: Any) -> None:
    first = clock()
    history.add_user_message("Hello")
    clock.advance(hours=1)
    history.add_ai_message("Hello!")

    assert [(at, message.text) for at, message in history.timed()] == [
        (first, "Hello"),
        (clock(), "Hello!"),
    ]


def test_a_history_trims_like_any_other(history: HybridChatMessageHistory) -> None:
    history.add_messages(CHAT)

    trimmed = trim_messages(
        history.messages, max_tokens=3, token_counter=len, start_on="human", strategy="last"
    )

    assert trimmed == []  # the only human message is further back
    assert len(history.messages) == len(CHAT)


def test_sessions_and_users_are_apart(memory: HybridMemory) -> None:
    histories = [
        HybridChatMessageHistory(memory.scope(user_id=user, session_id=session))
        for user in ("ana", "ben")
        for session in ("s1", "s2")
    ]
    for number, one in enumerate(histories):
        one.add_user_message(f"message {number}")

    assert [one.messages[0].text for one in histories] == [f"message {i}" for i in range(4)]


def test_clear_deletes_the_messages_of_its_session_only(memory: HybridMemory) -> None:
    one, two = (memory.scope(user_id="ana", session_id=name) for name in ("s1", "s2"))
    ben = memory.scope(user_id="ben", session_id="s1")
    for scope in (one, two, ben):
        HybridChatMessageHistory(scope).add_user_message("Where is the violin?")
    fact = one.add_fact("The violin is in the attic.")

    HybridChatMessageHistory(one).clear()

    assert one.messages() == []
    assert one.facts() == [fact]
    assert len(two.messages()) == len(ben.messages()) == 1


def test_a_history_without_a_session_is_refused(memory: HybridMemory) -> None:
    with pytest.raises(InvalidInputError, match="session_id"):
        HybridChatMessageHistory(memory.scope(user_id="ana"))


def test_a_message_that_is_added_again_is_there_once(history: HybridChatMessageHistory) -> None:
    history.add_messages([CALL])
    history.add_messages([CALL, HumanMessage("well?")])

    assert [message.text for message in history.messages] == ["I look.", "well?"]


def test_a_message_that_was_changed_takes_the_place_of_the_old_one(
    history: HybridChatMessageHistory,
) -> None:
    history.add_messages([HumanMessage("I am vegan", id="m1"), HumanMessage("yes")])
    history.add_messages([HumanMessage("I am vegetarian", id="m1")])

    assert [message.text for message in history.messages] == ["yes", "I am vegetarian"]


def test_two_messages_of_one_id_in_one_call_are_the_last_of_them(
    history: HybridChatMessageHistory,
) -> None:
    history.add_messages([HumanMessage("draft", id="m1"), HumanMessage("final", id="m1")])

    assert [message.text for message in history.messages] == ["final"]


def test_a_secret_in_a_tool_call_is_redacted_in_every_form_of_it(tmp_path: Path) -> None:
    card = "4539 1488 0343 6467"
    message = AIMessage("", tool_calls=[{"name": "pay", "args": {"card": card}, "id": "c1"}])
    with HybridMemory.open(
        tmp_path / "careful", embedder=HashEmbedder(), redact=redact_secrets
    ) as memory:
        history = HybridChatMessageHistory(memory.scope(user_id="ana", session_id="s1"))
        history.add_messages([message, ToolMessage("paid", tool_call_id="c1")])

        [call, result] = history.messages
        assert memory.verify_erased(texts=[card]).is_clean
    assert call.tool_calls[0]["args"] == {"card": "[redacted: card number]"}  # type: ignore[attr-defined]
    assert call.tool_calls[0]["id"] == result.tool_call_id == "c1"  # type: ignore[attr-defined]


def test_turns_that_others_stored_are_read_as_messages(
    session: Scope, history: HybridChatMessageHistory
) -> None:
    session.add("I like tea.")
    session.add_messages(
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "brew", "arguments": '{"cups": 2}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "brewed"},
        ]
    )

    human, call, result = history.messages
    assert human == HumanMessage("I like tea.")
    assert call.tool_calls[0]["args"] == {"cups": 2}  # type: ignore[attr-defined]
    assert result.tool_call_id == "c1"  # type: ignore[attr-defined]


async def test_the_async_forms_do_the_same(history: HybridChatMessageHistory) -> None:
    await history.aadd_messages(CHAT)
    assert await history.aget_messages() == CHAT
    await history.aclear()
    assert await history.aget_messages() == []


def test_every_method_has_its_own_async_form() -> None:
    for name in ("aget_messages", "aadd_messages", "aclear"):
        assert name in vars(HybridChatMessageHistory)
        assert getattr(HybridChatMessageHistory, name) is not getattr(BaseChatMessageHistory, name)


def test_threads_that_write_at_once_lose_nothing(memory: HybridMemory) -> None:
    def write(number: int) -> None:
        scope = memory.scope(user_id="ana", session_id="s1")
        HybridChatMessageHistory(scope).add_messages(
            [HumanMessage(f"question {number}"), AIMessage(f"answer {number}")]
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))

    told = [
        one.text
        for one in HybridChatMessageHistory(memory.scope(user_id="ana", session_id="s1")).messages
    ]
    assert sorted(told) == sorted(
        f"{what} {i}" for i in range(40) for what in ("question", "answer")
    )
    # Each pair is one commit: nobody comes between.
    assert all(
        told[at].replace("question", "answer") == told[at + 1] for at in range(0, len(told), 2)
    )


# -- RunnableWithMessageHistory ----------------------------------------------------------------


PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")])


@pytest.fixture
def chain(memory: HybridMemory) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(replies=["One.", "Two.", "Three."])
    fields = [
        ConfigurableFieldSpec(id=name, annotation=str, is_shared=True)
        for name in ("user_id", "session_id")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RunnableWithMessageHistory itself is deprecated
        made = RunnableWithMessageHistory(
            PROMPT | model,  # type: ignore[arg-type]
            lambda user_id, session_id: HybridChatMessageHistory(
                memory.scope(user_id=user_id, session_id=session_id), last=2
            ),
            input_messages_key="input",
            history_messages_key="history",
            history_factory_config=fields,
        )
    return made, model


def _of(user: str, session: str = "s1") -> Any:
    return {"configurable": {"user_id": user, "session_id": session}}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_chain_gets_the_last_messages_of_its_session(
    chain: tuple[Any, ScriptedModel], memory: HybridMemory, is_async: bool
) -> None:
    runnable, model = chain

    def say(text: str, config: Any) -> None:
        if is_async:
            asyncio.run(runnable.ainvoke({"input": text}, config))
        else:
            runnable.invoke({"input": text}, config)

    for text in ("first", "second", "third"):
        say(text, _of("ana"))
    say("other", _of("ben"))

    assert [one.text for one in model.calls[2]] == ["second", "Two.", "third"]
    assert [one.text for one in model.calls[3]] == ["other"]
    stored = memory.scope(user_id="ana", session_id="s1").messages()
    assert [turn.text for turn in stored] == ["first", "One.", "second", "Two.", "third", "Three."]


def test_a_chain_that_streams_is_remembered(
    chain: tuple[Any, ScriptedModel], memory: HybridMemory
) -> None:
    runnable, _ = chain

    pieces = list(runnable.stream({"input": "first"}, _of("ana")))

    assert len(pieces) >= 1
    stored = memory.scope(user_id="ana", session_id="s1").messages()
    assert [turn.text.strip() for turn in stored] == ["first", "One."]
