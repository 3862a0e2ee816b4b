"""The memory of a session: the newest turns that fit."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import InvalidInputError

CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call-1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Lyon"}'},
        },
        {
            "id": "call-2",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
        },
    ],
}
RESULTS: list[dict[str, Any]] = [
    {"role": "tool", "tool_call_id": "call-1", "content": "18 degrees"},
    {"role": "tool", "tool_call_id": "call-2", "content": "15 degrees"},
]
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "How warm is it?"},
    CALL,
    *RESULTS,
    {"role": "assistant", "content": "18 in Lyon, 15 in Paris."},
]


def test_messages_come_back_as_they_went_in(ana: Scope) -> None:
    ana.add_messages(CHAT)

    assert [turn.as_message() for turn in ana.messages()] == CHAT


@pytest.mark.parametrize(("last", "shown"), [(1, 1), (2, 1), (3, 1), (4, 4), (5, 5), (99, 5)])
def test_a_tools_result_is_never_shown_without_its_call(ana: Scope, last: int, shown: int) -> None:
    ana.add_messages(CHAT)

    assert [turn.as_message() for turn in ana.messages(last=last)] == CHAT[-shown:]


@pytest.mark.parametrize(("max_tokens", "shown"), [(5, 0), (7, 1), (9, 1), (14, 1), (21, 4)])
def test_tokens_bound_the_window_by_whole_exchanges(
    ana: Scope, max_tokens: int, shown: int
) -> None:
    ana.add_messages(CHAT)  # 4, 4, 2, 2 and 6 words, one more each

    turns = ana.messages(max_tokens=max_tokens)

    assert len(turns) == shown
    assert [turn.as_message() for turn in turns] == CHAT[len(CHAT) - shown :]


def test_tool_calls_beside_a_text_have_their_tokens_too(ana: Scope) -> None:
    arguments = '{"letter": "' + "word " * 30 + '"}'
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}
    ana.add_messages([{"role": "assistant", "content": "I send it.", "tool_calls": [call]}])

    assert ana.messages(max_tokens=30) == []
    assert len(ana.messages(max_tokens=40)) == 1


def test_a_session_is_apart_from_the_others(memory: HybridMemory) -> None:
    one = memory.scope(user_id="ana", session_id="one")
    two = memory.scope(user_id="ana", session_id="two")
    one.add("in one")
    two.add("in two")

    assert [turn.text for turn in one.messages()] == ["in one"]
    assert [turn.text for turn in memory.scope(user_id="ana").messages()] == ["in one", "in two"]


def test_the_order_is_that_of_writing_and_not_of_clocks(ana: Scope) -> None:
    messages = [
        {"role": "user", "content": "first", "at": ana.add("x").at},
        {"role": "assistant", "content": "second", "at": ana.add("y").at},
    ]
    ana.add_messages(messages)

    assert [turn.text for turn in ana.messages(last=2)] == ["first", "second"]


def test_parts_that_are_no_text_are_kept(ana: Scope) -> None:
    picture = {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        ],
    }

    [turn] = ana.add_messages([picture])

    assert turn.text == "What is this?"
    assert ana.messages()[0].as_message() == picture


def test_the_applications_own_words_are_kept_and_never_recalled(ana: Scope) -> None:
    ana.add_messages([{"role": "system", "content": "You are a helpful parrot."}])

    assert [turn.role for turn in ana.messages()] == ["system"]
    assert ana.search("helpful parrot") == []


@pytest.mark.parametrize(
    "message",
    [
        {"role": "king", "content": "hello"},
        {"content": "hello"},
        {"role": "user", "content": ""},
        {"role": "user", "content": None},
        {"role": "user", "content": 7},
        {"role": "assistant", "content": None, "tool_calls": []},
        "hello",
    ],
)
def test_a_malformed_message_is_refused_and_none_is_stored(ana: Scope, message: Any) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_messages([{"role": "user", "content": "fine"}, message])

    assert ana.messages() == []


@pytest.mark.parametrize("bound", [{"last": 0}, {"last": -1}, {"max_tokens": 0}, {"last": 1.5}])
def test_a_bound_of_the_window_is_at_least_one(ana: Scope, bound: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        ana.messages(**bound)


def test_the_window_is_one_search_in_an_index_however_long_the_history(
    memory: HybridMemory, tmp_path: Path
) -> None:
    memory.scope(user_id="ana", session_id="s1").add("hello")

    with sqlite3.connect(tmp_path / "memory" / "memory.db") as database:
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT key FROM records WHERE namespace = 1 AND kind IN ('message')"
            " AND session_id = 's1' ORDER BY key DESC LIMIT 3"
        ).fetchall()

    assert [step[3] for step in plan] == [
        "SEARCH records USING COVERING INDEX records_session "
        "(namespace=? AND session_id=? AND kind=?)"
    ]


def test_a_message_keeps_data_beside_what_it_says(ana: Scope) -> None:
    ana.add_messages([{**CALL, "data": {"trace": "t-1"}}, {"role": "user", "content": "So?"}])

    call, question = ana.messages()
    assert (call.data or {})["trace"] == "t-1"
    assert call.as_message() == CALL
    assert question.data is None


def test_data_of_a_message_must_be_a_mapping(ana: Scope) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_messages([{"role": "user", "content": "hello", "data": ["trace"]}])


LONG = "ä" * 100_000
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 200_000}}
DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"in": DEEP}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": "nul \0 and \ud800"},
        {"role": "tool", "tool_call_id": "c", "content": LONG},
        {"role": "user", "content": [PICTURE]},
        {"role": "user", "content": [{"type": "text", "text": LONG}, PICTURE]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}] * 5000},
        {"role": "assistant", "content": "well", "extra": DEEP},
        {"role": "assistant", "content": "well", "extra": [float("nan"), 2**70, object(), {1: 2}]},
        {**CALL, "tool_calls": [{"function": {"name": "write", "arguments": LONG}}]},
        {"role": "user", "content": "see", "data": {"raw": LONG}},
    ],
)
def test_what_was_said_is_stored_whatever_it_is_unless_strict(
    ana: Scope, message: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_messages([message])

    [turn] = ana.add_messages([message], strict=False)

    assert turn.role == message["role"]
    assert turn.as_message().get("tool_call_id") == message.get("tool_call_id")
    assert ana.get(turn.id) == turn


def test_a_long_text_is_cut_and_says_by_how_much(ana: Scope) -> None:
    text = "The report. " + LONG

    [turn] = ana.add_messages([{"role": "assistant", "content": text}], strict=False)

    kept, note = turn.text.rsplit(" ... ", 1)
    left_out = len(text.encode()) - len(kept.encode())
    assert text.startswith(kept)
    assert len(kept) > 30_000
    assert note == f"({left_out} bytes more, not kept)"


def test_a_picture_that_is_too_large_is_named_and_the_text_beside_it_kept(ana: Scope) -> None:
    content = [{"type": "text", "text": "What is this?"}, PICTURE]

    [turn] = ana.add_messages([{"role": "user", "content": content}], strict=False)

    assert turn.as_message()["content"][0] == content[0]
    assert "'image_url' of 2000" in turn.text


def test_what_can_be_stored_is_the_same_strict_or_not(ana: Scope) -> None:
    ana.add_messages(CHAT, strict=False)

    assert [turn.as_message() for turn in ana.messages()] == CHAT


@pytest.mark.parametrize("message", [{"role": "king", "content": "x"}, {"content": "x"}, "x"])
def test_the_form_of_a_message_is_checked_also_where_its_content_is_not(
    ana: Scope, message: Any
) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_messages([message], strict=False)
