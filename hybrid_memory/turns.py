"""Chat messages as turns of a session, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybrid_memory import limits
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
_OURS = frozenset({"role", "content", "at", "id", "speaker", "metadata", "session_id", "data"})


def from_message(message: Message) -> dict[str, Any]:
    """Return the arguments of `Scope.add` for a chat message in the form of the OpenAI API.

    `content` is a text, a list of parts (their texts are joined), or None beside tool calls.
    What else the message holds (tool calls, a tool call's id, parts that are no text) is kept as
    it is and comes back from `Record.as_message`. `at`, `id`, `speaker`, `metadata`,
    `session_id` and `data` are those of `add`.

    Raises:
        InvalidInputError: not a mapping, an unknown role, or neither a text nor tool calls.
    """
    try:
        role = _ROLES[message["role"]]
    except (TypeError, KeyError):
        raise InvalidInputError(
            f"a message is a mapping with a role of {', '.join(_ROLES)}, not "
            f"{limits.shown(message.get('role') if isinstance(message, Mapping) else None)}"
        ) from None
    content = message.get("content")
    kept = {key: value for key, value in message.items() if key not in _OURS and value is not None}
    text = _text(content)
    if not text.strip():
        text = _calls(message.get("tool_calls"))
    if not text.strip() and role == "tool":
        text = "(no output)"
    if not text.strip():
        raise InvalidInputError(f"a message of the role {role!r} has neither a text nor tool calls")
    if content != text:
        kept["content"] = content
    turn = {key: message[key] for key in _OURS - {"role", "content"} if key in message}
    data = turn.pop("data", None)
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInputError(f"data must be a mapping, not {type(data).__name__}")
    if role == "user" and "speaker" not in turn and isinstance(message.get("name"), str):
        turn["speaker"] = message["name"]
    turn |= {"text": text, "role": role, "kind": "message"}
    turn["source"] = "developer" if role == "system" else role
    if kept or data:
        turn["data"] = {**(data or {}), **({"message": kept} if kept else {})}
    return turn


def _text(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise InvalidInputError(f"content must be a text or a list, not {type(content).__name__}")
    texts = []
    for part in content:
        if not isinstance(part, str | Mapping):
            raise InvalidInputError(
                f"a part of content must be a text or a mapping, not {type(part).__name__}"
            )
        texts.append(part if isinstance(part, str) else part.get("text"))
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _calls(calls: object) -> str:
    if calls is None:
        return ""
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise InvalidInputError("tool_calls must be a list of mappings")
    called = [call.get("function", call) for call in calls]
    if not all(isinstance(function, Mapping) for function in called):
        raise InvalidInputError("the function of one of the tool_calls must be a mapping")
    return "\n".join(f"{one.get('name', '')}({one.get('arguments', '')})" for one in called)


def without_content(data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a turn's data for a changed text: the content it was given as is no more true."""
    message = (data or {}).get("message")
    if not data or not isinstance(message, Mapping) or "content" not in message:
        return data
    kept = {key: value for key, value in message.items() if key != "content"}
    others = {key: value for key, value in data.items() if key != "message"}
    return others | ({"message": kept} if kept else {}) or None


def storable(text: str) -> list[str]:
    """Return a model's reply as texts that can be stored: without NULs, in parts of 64 KiB."""
    clean = text.replace("\0", "").encode("utf-8", "replace")
    size = limits.MAX_TEXT_BYTES
    parts = []
    while len(clean) > size:
        # Not in the middle of a character, whose further bytes all begin with the bits 10.
        cut = next(at for at in range(size, 0, -1) if clean[at] & 0xC0 != 0x80)
        parts.append(clean[:cut])
        clean = clean[cut:]
    return [part.decode() for part in [*parts, clean] if part.strip()]


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
