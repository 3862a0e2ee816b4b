"""Chat messages as turns of a session, and back."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import Record, Scope
from hybrid_memory.errors import HybridMemoryError, InvalidInputError
from hybrid_memory.turns import exchanges, from_message, whole

NOW = datetime(2026, 5, 2, tzinfo=UTC)
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Lyon"}'},
}


def _turns(roles: str) -> list[Record]:
    """Make a turn of each letter: u user, a assistant, t tool, s system."""
    names: dict[str, Any] = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    return [
        Record(
            id=f"{letter}{i}",
            namespace=("ana",),
            kind="message",
            text=letter,
            role=names[letter],
            at=NOW,
            created_at=NOW,
        )
        for i, letter in enumerate(roles)
    ]


# -- messages in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "stored", "source"),
    [
        ("user", "user", "user"),
        ("human", "user", "user"),
        ("assistant", "assistant", "assistant"),
        ("ai", "assistant", "assistant"),
        ("system", "system", "developer"),
        ("developer", "system", "developer"),
        ("tool", "tool", "tool"),
        ("function", "tool", "tool"),
    ],
)
def test_a_role_of_any_framework_is_one_of_ours(role: str, stored: str, source: str) -> None:
    turn = from_message({"role": role, "content": "hello"})

    assert turn == {"text": "hello", "role": stored, "kind": "message", "source": source}


def test_what_add_takes_is_handed_over() -> None:
    message = {
        "role": "user",
        "content": "hello",
        "at": NOW,
        "id": "m1",
        "speaker": "Ana",
        "metadata": {"n": 1},
        "session_id": "s2",
    }

    turn = from_message(message)

    assert {key: turn[key] for key in ("at", "id", "speaker", "metadata", "session_id")} == {
        "at": NOW,
        "id": "m1",
        "speaker": "Ana",
        "metadata": {"n": 1},
        "session_id": "s2",
    }
    assert "data" not in turn


def test_the_name_of_a_user_is_the_speaker_unless_one_is_given() -> None:
    assert from_message({"role": "user", "content": "x", "name": "Ana"})["speaker"] == "Ana"
    both = {"role": "user", "content": "x", "name": "ana_1", "speaker": "Ana"}
    assert from_message(both)["speaker"] == "Ana"
    assert "speaker" not in from_message({"role": "tool", "content": "x", "name": "weather"})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        (["one", "two"], "one\ntwo"),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}], "look"),
        ((), ""),
        (None, ""),
        ("", ""),
        ("  ", ""),
    ],
)
def test_the_text_of_content_is_what_is_remembered(content: Any, text: str) -> None:
    message = {"role": "assistant", "content": content, "tool_calls": [CALL]}

    assert from_message(message)["text"] == (text or 'weather({"city": "Lyon"})')


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "role"),
        ({"content": "hello"}, "role"),
        ({"role": "king", "content": "hello"}, "king"),
        ({"role": None, "content": "hello"}, "role"),
        ({"role": ["user"], "content": "hello"}, "role"),
        ("hello", "mapping"),
        (None, "mapping"),
        (7, "mapping"),
        (["user", "hello"], "mapping"),
        ({"role": "user"}, "neither a text nor tool calls"),
        ({"role": "user", "content": None}, "neither a text nor tool calls"),
        ({"role": "user", "content": " "}, "neither a text nor tool calls"),
        ({"role": "user", "content": []}, "neither a text nor tool calls"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "neither a text nor tool calls"),
        ({"role": "user", "content": 7}, "content"),
        ({"role": "user", "content": {"text": "hello"}}, "content"),
        ({"role": "user", "content": b"hello"}, "content"),
        ({"role": "user", "content": [7]}, "content"),
        ({"role": "user", "content": [None]}, "content"),
        ({"role": "assistant", "content": None, "tool_calls": ["call"]}, "tool_calls"),
        ({"role": "assistant", "content": None, "tool_calls": [None]}, "tool_calls"),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": None}]}, "tool_calls"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(message: Any, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        from_message(message)


def test_a_message_is_left_as_it_was() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    before = copy.deepcopy(message)

    from_message(message)

    assert message == before


def test_one_bad_message_keeps_all_of_them_out(ana: Scope) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_messages([{"role": "user", "content": "hello"}, {"role": "king", "content": "x"}])

    assert ana.messages() == []


# -- and back ----------------------------------------------------------------------------------

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {"role": "user", "content": "hello", "name": "Ana"},
    {"role": "system", "content": "Be concise."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, CALL | {"id": "2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    {"role": "tool", "tool_call_id": "call_1", "content": ""},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "18"}]},
    {"role": "user", "content": [{"type": "text", "text": "Look:"},
                                 {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]},
    {"role": "assistant", "content": "No.", "refusal": "I cannot do that."},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "book", "input":
                                       {"guest": {"address": {"city": "Lyon"}}}},
                                      {"type": "text", "text": "Booking."}]},
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_comes_back_as_it_was(ana: Scope, message: dict[str, Any]) -> None:
    [turn] = ana.add_messages([message])

    assert ana.get(turn.id).as_message() == message


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.text(min_size=1).filter(str.strip)
    | st.lists(
        st.fixed_dictionaries({"type": st.just("text"), "text": st.text(min_size=1)}),
        min_size=1,
        max_size=3,
    ).filter(lambda parts: any(part["text"].strip() for part in parts)),
)
def test_any_message_survives_the_round_trip(role: str, content: Any) -> None:
    message = {"role": role, "content": content}
    turn = from_message(message)

    stored = Record(
        id="m",
        namespace=("ana",),
        kind="message",
        text=turn["text"],
        role=turn["role"],
        data=turn.get("data"),
        at=NOW,
        created_at=NOW,
    )

    assert stored.as_message() == message


def test_a_corrected_turn_is_told_in_its_new_words(ana: Scope) -> None:
    parts = [{"type": "text", "text": "My code is 4711."}]
    [turn] = ana.add_messages([{"role": "user", "content": parts}])

    changed = ana.update(turn.id, text="My code is secret.")

    assert "4711" not in str(changed.as_message())
    assert "My code is secret." in str(changed.as_message())


@pytest.mark.parametrize("data", [{"message": "hello"}, {"message": [1]}, {"message": 7}], ids=str)
def test_data_of_the_users_own_breaks_no_message(ana: Scope, data: dict[str, Any]) -> None:
    ana.add("I like Rust.", data=data)

    [turn] = ana.messages()
    assert turn.as_message() == {"role": "user", "content": "I like Rust."}


@pytest.mark.parametrize("data", [{"priority": "high"}, {"priority": None}, {"priority": [1]}])
def test_data_of_the_users_own_breaks_no_instruction(ana: Scope, data: dict[str, Any]) -> None:
    # Refused at the door or taken for no priority; not accepted and then in the way for ever.
    try:
        ana.add("Be concise.", kind="instruction", data=data)
    except HybridMemoryError:
        assert ana.instructions() == []
    else:
        assert [one.text for one in ana.instructions()] == ["Be concise."]


# -- exchanges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "groups"),
    [
        ("", []),
        ("u", ["u"]),
        ("uaua", ["u", "a", "u", "a"]),
        ("uata", ["u", "at", "a"]),
        ("uatttau", ["u", "attt", "a", "u"]),
        ("atat", ["at", "at"]),
        ("tua", ["t", "u", "a"]),
    ],
)
def test_results_of_a_tool_go_with_their_call(roles: str, groups: list[str]) -> None:
    found = exchanges(_turns(roles))

    assert ["".join(turn.text for turn in group) for group in found] == groups


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("uats"), max_size=12))
def test_exchanges_keep_every_turn_in_its_place(roles: str) -> None:
    turns = _turns(roles)

    assert [turn for group in exchanges(turns) for turn in group] == turns


@pytest.mark.parametrize(
    ("roles", "kept"),
    [("", ""), ("t", ""), ("ttt", ""), ("ttau", "au"), ("uat", "uat"), ("attu", "attu")],
)
def test_a_window_does_not_begin_with_the_result_of_a_call_outside(roles: str, kept: str) -> None:
    assert "".join(turn.text for turn in whole(_turns(roles))) == kept


# -- the window of a session -------------------------------------------------------------------


def _exchange(ana: Scope) -> None:
    ana.add_messages(
        [
            {"role": "user", "content": "Weather in Lyon?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "call_2"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
            {"role": "tool", "tool_call_id": "call_2", "content": "sunny"},
            {"role": "assistant", "content": "18 degrees, sunny."},
        ]
    )


@pytest.mark.parametrize(
    ("last", "count"), [(1, 1), (2, 1), (3, 1), (4, 4), (5, 5), (9, 5), (None, 5)]
)
def test_the_last_turns_hold_a_call_with_all_of_its_results_or_none(
    ana: Scope, last: int | None, count: int
) -> None:
    _exchange(ana)

    kept = ana.messages(last=last)

    assert len(kept) == count
    assert kept == ana.messages()[5 - count :]


@pytest.mark.parametrize("max_tokens", range(1, 25))
def test_a_budget_of_turns_is_kept_and_splits_no_exchange(ana: Scope, max_tokens: int) -> None:
    _exchange(ana)

    kept = ana.messages(max_tokens=max_tokens)

    assert sum(len(turn.text.split()) + 1 for turn in kept) <= max_tokens
    assert not kept or kept[0].role != "tool"
    assert kept == ana.messages()[5 - len(kept) :]


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, "3"])
def test_a_bound_below_one_is_refused(ana: Scope, bound: Any) -> None:
    with pytest.raises(InvalidInputError, match="last"):
        ana.messages(last=bound)
    with pytest.raises(InvalidInputError, match="max_tokens"):
        ana.messages(max_tokens=bound)
