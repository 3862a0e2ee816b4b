"""The way out of the stock memories: one call each, and a second one changes nothing."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_classic.chains import ConversationChain
from langchain_classic.memory import (
    ConversationBufferMemory,
    ConversationSummaryBufferMemory,
    ConversationSummaryMemory,
    VectorStoreRetrieverMemory,
)
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    message_to_dict,
)
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_hybrid_memory import HybridChatMessageHistory, HybridConversationMemory, migrate

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import InvalidInputError, TransferError
from tests.langchain.scripted import ScriptedModel

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")

CHAT: list[BaseMessage] = [
    HumanMessage("How warm is it in Lyon?"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Lyon"}, "id": "c1"}]),
    ToolMessage("18 degrees", tool_call_id="c1"),
    AIMessage("18 degrees."),
    HumanMessage("How warm is it in Lyon?"),  # said twice
    AIMessage("Still 18."),
]


@pytest.fixture
def session(memory: HybridMemory) -> Scope:
    return memory.scope(user_id="ana", session_id="s1")


def said(scope: Scope) -> list[BaseMessage]:
    return HybridChatMessageHistory(scope).messages


def test_a_chain_goes_on_with_the_messages_of_its_old_memory(session: Scope) -> None:
    old = ConversationBufferMemory()
    model = ScriptedModel(replies=["Hello Ana.", "Ana."])
    chain = ConversationChain(llm=model, memory=old)
    chain.invoke({"input": "I am Ana."})

    migrate.from_conversation(old, session)
    chain.memory = HybridConversationMemory(scope=session)
    chain.invoke({"input": "Who am I?"})

    assert "Human: I am Ana.\nAI: Hello Ana." in model.calls[1][0].text
    assert len(said(session)) == 4


def test_messages_are_whole_and_a_second_call_changes_nothing(session: Scope) -> None:
    old = ConversationBufferMemory(return_messages=True)
    old.chat_memory.add_messages(CHAT)

    assert [migrate.from_conversation(old, session) for _ in range(2)] == [len(CHAT)] * 2

    assert said(session) == CHAT
    assert old.chat_memory.messages == CHAT


def test_what_came_after_a_first_call_is_added_by_the_second(session: Scope) -> None:
    migrate.from_conversation(CHAT[:4], session)
    migrate.from_conversation(CHAT, session)

    assert said(session) == CHAT


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (ConversationSummaryMemory, "buffer"),
        (ConversationSummaryBufferMemory, "moving_summary_buffer"),
    ],
)
def test_a_summary_becomes_a_fact_beside_the_messages(
    session: Scope, kind: type[Any], field: str
) -> None:
    old = kind(llm=ScriptedModel(), **{field: "Ana plays the violin."})
    old.chat_memory.add_messages(CHAT)

    for _ in range(2):
        migrate.from_conversation(old, session)

    assert [(fact.text, fact.source) for fact in session.facts()] == [
        ("Ana plays the violin.", "import")
    ]
    assert said(session) == CHAT


@pytest.mark.parametrize("old", [None, "text", {"messages": []}, 7])
def test_what_is_no_memory_is_refused(session: Scope, old: Any) -> None:
    with pytest.raises(InvalidInputError):
        migrate.from_conversation(old, session)


# -- SQLChatMessageHistory ---------------------------------------------------------------------


def _table(path: Path, rows: Sequence[tuple[str, Any]], table: str = "message_store") -> str:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, session_id TEXT, message TEXT)"
        )
        database.executemany(f"INSERT INTO {table} (session_id, message) VALUES (?, ?)", rows)
    return f"sqlite:///{path}"


def _rows(session: str, messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    return [(session, json.dumps(message_to_dict(message))) for message in messages]


@pytest.mark.parametrize("table", ["message_store", "chats"])
def test_all_sessions_of_a_database_come_along(
    memory: HybridMemory, tmp_path: Path, table: str
) -> None:
    one, two = _rows("one", CHAT), _rows("two", CHAT[:2])
    url = _table(tmp_path / "old.db", [*one[:3], *two, *one[3:]], table)

    def scope_of(session: str) -> Scope:
        return memory.scope(user_id="ana", session_id=session)

    for _ in range(2):
        assert migrate.from_sql_history(url, scope_of, table=table) == 8

    assert said(scope_of("one")) == CHAT
    assert said(scope_of("two")) == CHAT[:2]


def test_a_database_without_the_table_is_an_error_without_its_password(
    memory: HybridMemory, tmp_path: Path
) -> None:
    url = _table(tmp_path / "old.db", [], "other")

    for wrong in (url, "sqlite:////no/such/folder/s3cret.db", "nothing://ana:s3cret@host/db"):
        with pytest.raises(TransferError, match="message_store") as error:
            migrate.from_sql_history(wrong, lambda session: memory.scope(user_id="ana"))
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "stored", ["{", "null", '{"type": "alien", "data": {}}', "[]", b"\x80\x04"]
)
def test_a_row_that_is_no_message_is_named_and_nothing_of_it_told(
    memory: HybridMemory, tmp_path: Path, stored: Any
) -> None:
    url = _table(tmp_path / "old.db", [*_rows("one", CHAT[:1]), ("one", stored)])
    scope = memory.scope(user_id="ana", session_id="one")

    with pytest.raises(TransferError, match="row 2: message"):
        migrate.from_sql_history(url, lambda session: scope)

    assert said(scope) == []


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(memory: HybridMemory, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    url = _table(tmp_path / "old.db", [("one", pickle.dumps(Trap(trap)))])

    with pytest.raises(TransferError):
        migrate.from_sql_history(url, lambda session: memory.scope(user_id="ana", session_id="one"))

    assert not trap.exists()


def test_a_scope_without_a_session_is_refused(memory: HybridMemory, tmp_path: Path) -> None:
    url = _table(tmp_path / "old.db", _rows("one", CHAT))

    with pytest.raises(InvalidInputError, match="session_id"):
        migrate.from_sql_history(url, lambda session: memory.scope(user_id="ana"))


# -- VectorStoreRetrieverMemory ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "chroma"])
def test_what_a_retriever_memory_recalled_is_recalled(
    session: Scope, tmp_path: Path, kind: str
) -> None:
    embedding = DeterministicFakeEmbedding(size=8)
    store: Any = (
        InMemoryVectorStore(embedding)
        if kind == "memory"
        else Chroma("old", embedding, persist_directory=str(tmp_path / "chroma"))
    )
    old = VectorStoreRetrieverMemory(retriever=store.as_retriever())
    old.save_context({"input": "My violin is a Guarneri."}, {"output": "Nice."})
    old.save_context({"input": "I live in Turin."}, {"output": "Lovely."})

    for _ in range(2):
        assert migrate.from_retriever_memory(old, session) == 2

    assert session.stats().total == session.stats().records["event"] == 2
    hit = session.search("What is my violin?")[0]
    assert hit.record.text == "input: My violin is a Guarneri.\noutput: Nice."
    assert hit.record.source == "import"


def test_documents_may_be_given_where_a_store_cannot_list_them(session: Scope) -> None:
    with pytest.raises(InvalidInputError, match="pass its documents"):
        migrate.from_retriever_memory(object(), session)

    assert (
        migrate.from_retriever_memory([Document("I live in Turin.", metadata={"n": 1})], session)
        == 1
    )
    assert session.search("Turin")[0].record.metadata == {"n": 1}
