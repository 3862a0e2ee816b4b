"""Chat messages as turns of a session, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
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


NO_TEXT = "(no text)"
_ROOMS = (64 * 1024, 24 * 1024, 8 * 1024, 2 * 1024, 512)  # bytes that a string may have, by turns


def from_message(message: Message, *, strict: bool = True) -> dict[str, Any]:
    """Return the arguments of `Scope.add` for a chat message in the form of the OpenAI API.

    `content` is a text, a list of parts (their texts are joined), or None beside tool calls.
    What else the message holds (tool calls, a tool call's id, parts that are no text) is kept as
    it is and comes back from `Record.as_message`. `at`, `id`, `speaker`, `metadata`,
    `session_id` and `data` are those of `add`.

    Without `strict` a message may have neither, see `fitted`.

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
    if not text.strip() and not strict:
        text = NO_TEXT
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


def fitted(message: Message) -> dict[str, Any]:
    """Return the arguments of `Scope.add` for what a model or a tool said, whatever it said.

    NULs and lone surrogates go, and what JSON cannot hold. A string that is too long is cut and
    says by how much; a part of the content that is no text is kept whole or not at all. Of a
    message with neither a text nor tool calls the text is "(no text)".

    Raises:
        InvalidInputError: not a mapping, an unknown role, or content of another form.
    """
    if not isinstance(message, Mapping):
        return from_message(message)
    content = message.get("content")
    as_given = ((room, _cut_content(content, room)) for room in _ROOMS)
    as_text = ((room, _cut_text(_text(content), room)) for room in _ROOMS)
    turn: dict[str, Any] = {}
    for room, said in chain(as_given, as_text):
        told = {
            key: _cut(value, room) if key == "data" or key not in _OURS else value
            for key, value in message.items()
        }
        turn = from_message({**told, "content": said}, strict=False)
        size = len(limits.to_json(turn.get("data")).encode())
        if len(turn["text"].encode()) <= limits.MAX_TEXT_BYTES and size <= limits.MAX_DATA_BYTES:
            return turn
    # Thousands of tool calls: the text says what can be said.
    return {**turn, "text": _cut_text(turn["text"], limits.MAX_TEXT_BYTES), "data": None}


def _cut_content(content: object, room: int) -> Any:
    if not isinstance(content, Sequence) or isinstance(content, str):
        return _cut(content, room) if isinstance(content, str) else content
    parts: list[Any] = []
    for part in content:
        is_text = isinstance(part, str) or (isinstance(part, Mapping) and "text" in part)
        size = 0 if is_text else len(limits.to_json(_cut(part)).encode())
        kind = part.get("type") if isinstance(part, Mapping) else None
        gone = {"type": "text", "text": f"({limits.shown(kind)} of {size} bytes, not kept)"}
        parts.append(gone if size > room else _cut(part, room if is_text else None))
    return parts


def _cut(value: Any, room: int | None = None, depth: int = limits.MAX_DATA_DEPTH - 3) -> Any:
    """Return a value as JSON that can be stored, its strings of at most `room` bytes."""
    if isinstance(value, str):
        return _cut_text(value, room)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return None
    if isinstance(value, Mapping):
        return {_cut_text(str(key)): _cut(part, room, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(part, room, depth - 1) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value.bit_length() <= limits.MAX_INTEGER_BITS else str(value)
    return None


def _cut_text(text: str, room: int | None = None) -> str:
    clean = text.replace("\0", "").encode("utf-8", "replace")
    if room is None or len(clean) <= room:
        return clean.decode()
    kept = clean[: room - 64].decode(errors="ignore")  # the note has room in 64 bytes
    return f"{kept} ... ({len(clean) - len(kept.encode())} bytes more, not kept)"


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


def told(turn: Record) -> str:
    """Return all that a model reads of a turn: its text, and the tool calls beside it."""
    calls = _calls(turn.as_message().get("tool_calls"))
    return turn.text if not calls or calls == turn.text else f"{turn.text}\n{calls}"


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
