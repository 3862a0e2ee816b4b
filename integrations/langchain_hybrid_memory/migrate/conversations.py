"""What chat memories and histories hold, into a memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, messages_from_dict

from hybrid_memory import Scope
from hybrid_memory.errors import InvalidInputError, TransferError
from langchain_hybrid_memory import messages
from langchain_hybrid_memory.texts import stable_id

_BATCH = 256  # messages that are encoded and committed together


def from_conversation(old: Any, scope: Scope) -> int:
    """Store the messages of a conversation memory or chat history in the scope's session.

    `old` is a `ConversationBufferMemory` or another of the kind (window, token buffer, summary),
    any chat history, or a list of messages. A summary becomes a fact of the source `import`.
    Return how many records were read.
    """
    history = getattr(old, "chat_memory", old)
    told = _store(scope, getattr(history, "messages", history), key="conversation")
    summary = getattr(old, "moving_summary_buffer", None)
    if summary is None and "Summary" in type(old).__name__:
        summary = getattr(old, "buffer", None)
    if isinstance(summary, str) and summary.strip():
        scope.add_fact(summary, source="import", id=_id("summary", scope.session_id, summary))
        told += 1
    return told


def from_sql_history(
    url: str, scope_of: Callable[[str], Scope], *, table: str = "message_store"
) -> int:
    """Store all sessions of a table of `SQLChatMessageHistory`; return how many messages.

    `url` is that of SQLAlchemy, `scope_of` gives the scope of a session:
    `lambda session: memory.scope(user_id=..., session_id=session)`.

    Raises:
        TransferError: there is no such table, or a message in it is not one of LangChain.
    """
    told = 0
    for session, rows in _sessions(url, table):
        scope = scope_of(session)
        if scope.session_id is None:
            raise InvalidInputError("scope_of must give a scope with a session_id")
        told += _store(scope, rows, key=f"sql {session}")
    return told


def from_retriever_memory(old: Any, scope: Scope) -> int:
    """Store what a `VectorStoreRetrieverMemory` holds as events; return how many.

    `old` is such a memory, its retriever or vector store (in memory, or Chroma), or its documents.
    An exchange stays one text, as it was stored.

    Raises:
        InvalidInputError: a vector store that cannot be listed.
    """
    retriever = getattr(old, "retriever", old)
    found = list(_documents(getattr(retriever, "vectorstore", retriever)))
    stored = scope.add_many(
        {
            "text": document.page_content,
            "kind": "event",
            "source": "import",
            "metadata": document.metadata,
            "id": _id("retriever", document.id, document.page_content),
        }
        for document in found
        if document.page_content.strip()
    )
    return len(stored)


def _store(scope: Scope, given: Iterable[BaseMessage], *, key: str) -> int:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InvalidInputError(f"a {type(given).__name__} is neither a memory nor messages")
    turns = []
    for number, message in enumerate(given):
        turn = messages.to_turn(message, scope.session_id)
        # The same place in the same session is the same message.
        turn.setdefault("id", _id(key, scope.session_id, number, message.type, turn["content"]))
        turns.append(turn)
    for start in range(0, len(turns), _BATCH):
        scope.add_messages(turns[start : start + _BATCH], strict=False)
    return len(turns)


def _sessions(url: str, table: str) -> Iterator[tuple[str, list[BaseMessage]]]:
    from sqlalchemy import MetaData, Table, create_engine, select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url)
        stored = Table(table, MetaData(), autoload_with=engine)
        columns = stored.c.id, stored.c.session_id, stored.c.message
    except (SQLAlchemyError, AttributeError) as error:
        # Not chained: it may hold the address of the database, with its password.
        raise TransferError(
            f"cannot read a table {table!r} with id, session_id and message "
            f"({type(error).__name__})"
        ) from None
    in_order = select(*columns).order_by(stored.c.session_id, stored.c.id)
    try:
        with engine.connect().execution_options(yield_per=_BATCH) as connection:
            for session, rows in groupby(connection.execute(in_order), key=lambda row: row[1]):
                yield str(session), [_message(row[2], f"row {row[0]}") for row in rows]
    finally:
        engine.dispose()


def _message(stored: Any, place: str) -> BaseMessage:
    try:
        read = json.loads(stored) if isinstance(stored, str | bytes) else stored
        return messages_from_dict([read])[0]
    except (ValueError, TypeError, KeyError):
        # Not chained: it may hold what was said.
        raise TransferError(f"{place}: message is not the JSON of one of LangChain's") from None


def _documents(store: Any) -> Iterator[Document]:
    if isinstance(store, Iterable) and not isinstance(store, str | Mapping):
        yield from store
    elif isinstance(held := getattr(store, "store", None), Mapping):  # InMemoryVectorStore
        for one in held.values():
            yield Document(one["text"], id=one["id"], metadata=one["metadata"])
    elif hasattr(store, "_collection") and hasattr(store, "get"):  # Chroma
        got = store.get()
        for id_, text, metadata in zip(got["ids"], got["documents"], got["metadatas"], strict=True):
            yield Document(text or "", id=id_, metadata=metadata or {})
    else:
        raise InvalidInputError(
            f"a {type(store).__name__} cannot list what it holds; pass its documents"
        )


def _id(*parts: object) -> str:
    return stable_id("langchain import", *parts)
