"""Chat messages as turns of a session, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.types import Message, Record, Role

_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
_OURS = frozenset({"role", "content", "at", "id", "speaker", "metadata", "session_id"})


def from_message(message: Message) -> dict[str, Any]:
    """Return the arguments of `Scope.add` for a chat message in the form of the OpenAI API.

    `content` is a text, a list of parts (their texts are joined), or None beside tool calls.
    What else the message holds (tool calls, a tool call's id, parts that are no text) is kept as
    it is and comes back from `Record.as_message`. `at`, `id`, `speaker`, `metadata` and
    `session_id` are those of `add`.

    Raises:
        InvalidInputError: not a mapping, an unknown role, or neither a text nor tool calls.
    """
    try:
        role = _ROLES[message["role"]]
    except (TypeError, KeyError) as error:
        raise InvalidInputError(
            f"a message is a mapping with a role of {', '.join(_ROLES)}: {error}"
        ) from None
    content = message.get("content")
    kept = {key: value for key, value in message.items() if key not in _OURS and value is not None}
    text = _text(content)
    if not isinstance(content, str):
        kept["content"] = content
    if not text.strip():
        text = _calls(message.get("tool_calls"))
    if not text.strip():
        raise InvalidInputError(f"a message of the role {role!r} has neither a text nor tool calls")
    turn = {key: message[key] for key in _OURS - {"role", "content"} if key in message}
    if role == "user" and "speaker" not in turn and isinstance(message.get("name"), str):
        turn["speaker"] = message["name"]
    turn |= {"text": text, "role": role, "kind": "message"}
    turn["source"] = {"system": "developer"}.get(role, role)
    if kept:
        turn["data"] = {"message": kept}
    return turn


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, Sequence):
        raise InvalidInputError(f"content must be a text or a list, not {type(content).__name__}")
    parts = [part if isinstance(part, str) else part.get("text", "") for part in content]
    return "\n".join(part for part in parts if isinstance(part, str) and part)


def _calls(calls: object) -> str:
    if not isinstance(calls, Sequence):
        return ""
    called = [call.get("function", call) for call in calls]
    return "\n".join(f"{call.get('name', '')}({call.get('arguments', '')})" for call in called)


def exchanges(turns: Sequence[Record]) -> list[list[Record]]:
    """Return the turns in order, the results of a tool together with the turn that called it."""
    groups: list[list[Record]] = []
    for turn in turns:
        if turn.role == "tool" and groups:
            groups[-1].append(turn)
        else:
            groups.append([turn])
    return groups


def whole(turns: Sequence[Record]) -> list[Record]:
    """Return the turns of a window without tool results at its start, whose call is outside."""
    first = next((i for i, turn in enumerate(turns) if turn.role != "tool"), len(turns))
    return list(turns[first:])
