"""LangChain messages as turns of a session, and back; nothing pickled, nothing run.

A turn has the form of the OpenAI API, which all of hybrid_memory reads, and beside it what else
the message has: its type, id, name, usage, and the metadata of the response.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
    message_chunk_to_message,
    message_to_dict,
    messages_from_dict,
)

from hybrid_memory import Record, Scope
from hybrid_memory.errors import ConflictError
from langchain_hybrid_memory.texts import stable_id, storable

_HERE = "langchain"  # where a record's data keeps what the OpenAI form has no place for
# Elsewhere in the record, or an object of the process that stored it.
_NOT_KEPT = frozenset({"content", "tool_calls", "type", "artifact"})
_MAX_QUERY = 4000  # characters; an encoder reads a few hundred words


def store(
    scope: Scope, messages: Iterable[BaseMessage], *, at: Sequence[datetime] | None = None
) -> list[Record]:
    """Remember messages in one commit; one that was stored before is not stored again.

    Which one it is says its id, within the session of the scope. If it has changed since, as
    after an edit, the new one takes the place of the old.
    """
    turns = [to_turn(message, scope.session_id) for message in messages]
    if at is not None:
        turns = [{**turn, "at": moment} for turn, moment in zip(turns, at, strict=True)]
    try:
        return scope.add_messages(turns, strict=False)
    except ConflictError:
        return [record for turn in turns for record in _replace(scope, turn)]


def _replace(scope: Scope, turn: Mapping[str, Any]) -> list[Record]:
    try:
        return scope.add_messages([turn], strict=False)
    except ConflictError:
        scope.delete(turn["id"])
        return scope.add_messages([turn], strict=False)


def record_id(message_id: str, session_id: str | None) -> str:
    """Return the id of the record of a message: the same whoever stores it, and how often."""
    return stable_id(_HERE, session_id, message_id)


def record_ids(messages: Iterable[BaseMessage], session_id: str | None) -> Iterator[str]:
    """Yield the ids of the records of messages that have an id."""
    return (record_id(message.id, session_id) for message in messages if message.id)


def to_turn(message: BaseMessage, session_id: str | None = None) -> dict[str, Any]:
    """Return a message as `Scope.add_messages` takes it."""
    if isinstance(message, BaseMessageChunk):
        message = message_chunk_to_message(message)
    # The content stays as it is: blocks that this conversion does not know are an error to it.
    bare = message.model_copy(update={"content": ""})
    turn: dict[str, Any] = {}
    if not isinstance(message, ChatMessage):
        turn |= convert_to_openai_messages(bare)
    elif message.role in ("user", "assistant", "system", "developer"):
        turn["role"] = message.role
    else:  # any word
        turn |= {"role": "user", "speaker": message.role}
    rest = {
        key: value
        for key, value in message_to_dict(message)["data"].items()
        if key not in _NOT_KEPT and value not in (None, {}, []) and _is_json(value)
    }
    turn["content"] = message.content
    turn["data"] = {_HERE: {"type": message.type, **({"data": rest} if rest else {})}}
    if message.id:
        turn["id"] = record_id(message.id, session_id)
    return turn


def from_record(record: Record) -> BaseMessage:
    """Return the message of a turn, whoever stored it."""
    said = record.as_message()
    kept = (record.data or {}).get(_HERE)
    if not isinstance(kept, Mapping):
        return convert_to_messages([said])[0]
    data = {**kept.get("data", {}), "content": said["content"] or ""}
    if calls := said.get("tool_calls"):
        data["tool_calls"] = [_call(call) for call in calls]
    for key in ("tool_call_id", "name"):
        if key in said:
            data.setdefault(key, said[key])
    return messages_from_dict([{"type": kept["type"], "data": data}])[0]


def finished(messages: Iterable[BaseMessage], *, without: Iterable[str] = ()) -> list[BaseMessage]:
    """Return the messages whose tool calls all have their results, and results with their call.

    A call that never had one, as of a run that was given up, goes; so do the calls of the tools
    named in `without`, with their results. Of a message that says nothing else nothing is left.
    """
    messages, left_out = list(messages), set(without)
    answered = {one.tool_call_id for one in messages if isinstance(one, ToolMessage)}
    called: set[str | None] = set()
    kept: list[BaseMessage] = []
    for message in messages:
        if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
            calls = [
                call
                for call in message.tool_calls
                if call["name"] not in left_out and call["id"] in answered
            ]
            called |= {call["id"] for call in calls}
            if not calls and not str(message.text).strip():
                continue
            message = message.model_copy(
                update={
                    "content": _without_calls(message.content, {call["id"] for call in calls}),
                    "tool_calls": calls,
                    "invalid_tool_calls": [],
                }
            )
        elif isinstance(message, ToolMessage) and message.tool_call_id not in called:
            continue
        kept.append(message)
    return kept


def as_query(text: str) -> str:
    """Return a message's text as a question that can be asked; empty if it has none."""
    clean = storable(text).strip()
    if len(clean) <= _MAX_QUERY:
        return clean
    half = _MAX_QUERY // 2
    return f"{clean[:half]}\n{clean[-half:]}"  # it stands before or after what was pasted


def _without_calls(content: str | list[Any], kept: Set[str | None]) -> str | list[Any]:
    """Return content without the blocks in which some providers repeat the calls that went."""
    if isinstance(content, str):
        return content
    calls = ("tool_use", "tool_call", "function_call")
    return [
        part
        for part in content
        if not isinstance(part, Mapping)
        or part.get("type") not in calls
        or not kept.isdisjoint({part.get("id"), part.get("call_id")})
    ]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    given = function.get("arguments") or "{}"
    try:
        arguments = json.loads(given)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):  # cut, or a secret in it was redacted
        arguments = {"arguments": given}
    return {
        "name": function.get("name", ""),
        "args": arguments,
        "id": call.get("id"),
        "type": "tool_call",
    }


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
