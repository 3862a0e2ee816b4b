"""What a context put into a prompt is not stored when it comes back in a transcript."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_memory import Gate, Scope
from hybrid_memory.errors import TextError
from hybrid_memory.prompt import without_memory

QUESTION = "Which language do I like?"


@pytest.fixture
def told(ana: Scope) -> str:
    """Return a prompt with something in each of its blocks."""
    ana.add_instruction("Be concise.")
    ana.profile["timezone"] = "Europe/Paris"
    ana.add_fact({"intent": "user_preference", "language_like": ["Rust"]})
    ana.add_documents(["Rust is a language that people like."], source="rust.md")
    ana.add("Which language do I like? I like Rust.")
    prompt = ana.context(QUESTION, max_tokens=400).as_system_prompt()
    for name in ("instructions of", "Profile", "Remembered", "From documents", "Earlier"):
        assert name in prompt
    return prompt


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.split("\n"))


WAYS = {
    "as it is": lambda text: text,
    "quoted": _quoted,
    "quoted twice": lambda text: _quoted(_quoted(text)),
    "indented": lambda text: "\n".join(f"    {line}" for line in text.split("\n")),
    "escaped": lambda text: html.escape(text, quote=False),
    "with line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "in a fence": lambda text: f"```\n{text}\n```",
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_of_a_whole_prompt(told: str, way: str) -> None:
    assert without_memory(WAYS[way](told)) == ""


@pytest.mark.parametrize("way", WAYS)
def test_what_stands_around_a_prompt_stays(told: str, way: str) -> None:
    text = f"You are a bot.\n\n{WAYS[way](told)}\n\n- Never lie.\n\nThanks!"

    assert without_memory(text) == "You are a bot.\n\n- Never lie.\n\nThanks!"


def test_a_block_on_one_line_goes_too(told: str) -> None:
    assert "Paris" not in without_memory(" ".join(told.split("\n")))
    assert "Paris" not in without_memory(json.dumps({"content": told}))


def test_a_prompt_cut_at_any_line_leaves_nothing(told: str) -> None:
    lines = told.split("\n")
    for start in range(len(lines)):
        if lines[start].startswith("- "):
            continue  # without its title, a list may be the application's own
        for end in range(start + 1, len(lines) + 1):
            piece = lines[start:end]
            left = without_memory("\n".join(piece))
            # What has no title, no rule and no tag may be a list of anybody.
            marked = [line for line in piece if line and not line.startswith("- ")]
            assert not left or not marked or _could_be_anybodys(piece), (start, end, left)


def _could_be_anybodys(lines: list[str]) -> bool:
    """Tell whether there are no tag, no rule, and no title with items that only we write."""
    text = "\n".join(lines)
    ours = ("memory-", "Remembered, oldest first:\n- ", "Earlier in this conversation:\n- ")
    also = ("From documents:\n- ", "Follow these instructions of the user:\n- ")
    return not any(one in text for one in (*ours, *also))


def test_a_prompt_cut_in_the_middle_of_a_line_leaves_at_most_that_line(told: str) -> None:
    for at in range(told.index("<memory-") + 25, len(told)):
        assert without_memory(told[:at]) == ""
    opened = told.index("Profile of")
    for at in range(opened, told.index("</memory-")):
        assert len(without_memory(told[at:])) <= len(told[at:].split("\n")[0])


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    before=st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
    after=st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
    way=st.sampled_from(sorted(WAYS)),
)
def test_any_text_around_a_block_is_kept_and_nothing_of_the_block(
    told: str, before: str, after: str, way: str
) -> None:
    left = without_memory(f"a{before}z\n{WAYS[way](told)}\na{after}z")

    assert left == f"a{before}z\na{after}z"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_a_text_without_a_block_comes_back_unchanged(text: str) -> None:
    assert without_memory(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Profile of the user:\n- name: Ana\n- age: 40",
        "From documents:\n- a contract\n- a lease",
        "Remembered, oldest first:\n- milk\n- bread",
        "What is <memory-3f9a2c11d0aa> for?",
        "The <memory> tag is closed by </memory>.",
        "Below is my list:\n- a\n- b",
        "I said: You remember nothing about this: say that you do not know.",
        "  Earlier in this conversation: you were kind.  \n",
    ],
)
def test_what_people_write_themselves_stays(text: str) -> None:
    assert without_memory(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["<memory-3f9a2c11d0aa>", "> ", "\n", "Profile of the user:\n- a\n"]
)
def test_the_largest_text_takes_little_time(unit: str) -> None:
    text = "<memory-3f9a2c11d0ab>" + (unit * 65536)[:65536]

    assert len(without_memory(text)) <= len(text)


# -- in the write path ---------------------------------------------------------------------------


def _stored(scope: Scope) -> list[tuple[str, str]]:
    return [(record.role, record.text) for record in scope.messages()]


def test_the_messages_of_a_context_come_back_as_the_question_alone(ana: Scope, told: str) -> None:
    before = _stored(ana)
    context = ana.context(QUESTION, max_tokens=400)
    [system, *_, question] = context.as_messages()

    stored = ana.add_messages([system, question, {"role": "assistant", "content": "Rust."}])

    assert [(one.role, one.text) for one in stored] == [("user", QUESTION), ("assistant", "Rust.")]
    assert len(_stored(ana)) == len(before) + 2


def test_the_application_s_own_part_of_a_system_message_is_kept(ana: Scope, told: str) -> None:
    [stored] = ana.add_messages([{"role": "system", "content": f"You are a bot.\n\n{told}"}])

    assert (stored.role, stored.text) == ("system", "You are a bot.")
    assert stored.as_message() == {"role": "system", "content": "You are a bot."}


def test_parts_of_content_are_looked_through(ana: Scope, told: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,x"}}
    parts = [{"type": "text", "text": told}, {"type": "text", "text": "Look:"}, image]

    [stored] = ana.add_messages([{"role": "user", "content": parts}])

    assert stored.text == "Look:"
    assert stored.as_message()["content"] == parts[1:]


def test_a_tool_result_that_echoes_the_memory_still_answers_its_call(ana: Scope, told: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    stored = ana.add_messages(
        [
            {"role": "assistant", "content": told, "tool_calls": [call]},
            {"role": "tool", "content": told, "tool_call_id": "1"},
        ]
    )

    assert [one.text for one in stored] == ["f({})", "(no output)"]
    assert stored[0].as_message()["tool_calls"] == [call]
    assert not any("Paris" in json.dumps(one.as_message()) for one in stored)


def test_a_turn_that_is_only_an_echo_is_refused_alone_and_passed_over_among_others(
    ana: Scope, told: str
) -> None:
    with pytest.raises(TextError, match="put into a prompt"):
        ana.add(told)
    stored = ana.add_many([told, "I like Zig.", {"text": f"{told}\nYes.", "role": "assistant"}])

    assert [one.text for one in stored] == ["I like Zig.", "Yes."]


def test_an_answer_that_repeats_its_prompt_is_stored_without_it(
    ana: Scope, told: str, chat: Any
) -> None:
    chat.replies = [f"You told me:\n{told}\nSo: Rust."]
    if hasattr(chat, "_replies"):
        chat._replies = chat.replies
    ana.ask(QUESTION)

    assert not any("Paris" in text for _, text in _stored(ana))


def test_the_prompt_of_a_strict_gate_is_recognised_too(ana: Scope, told: str) -> None:
    strict = Gate(memory_reasoning_required=True)
    full = ana.context(QUESTION, gate=strict).as_system_prompt()
    empty = ana.context("Zebra?", gate=strict, max_tokens=60).as_system_prompt()

    assert without_memory(full) == ""
    assert without_memory(empty) == ""
