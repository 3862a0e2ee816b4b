"""A scope's context: answers behind their questions, whole passages, and a budget of shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory import Budget, HybridMemory, Scope, Weights
from hybrid_memory.backends.text_splitter import SemanticSplitter
from hybrid_memory.testing import HashEmbedder, ManualClock, ScriptedChat


@pytest.fixture
def picky(tmp_path: Path, clock: ManualClock) -> Iterator[HybridMemory]:
    """Return a memory that shows a question, but not its answer only for the question's words."""
    with HybridMemory.open(
        tmp_path / "picky",
        embedder=HashEmbedder(),
        weights=Weights(threshold=0.4),
        clock=clock,
        durability="normal",
    ) as opened:
        yield opened


@pytest.fixture
def friends(picky: HybridMemory) -> Scope:
    return picky.scope(namespace=("friends",))


def _told(scope: Scope, query: str, **others: Any) -> list[str]:
    block = scope.context(query, **others).block("memories")
    return [record.text for record in block.records] if block else []


def _say(scope: Scope, *spoken: str, session_id: str = "s1") -> None:
    """Add turns of Bea and Ana, in turn."""
    scope.add_many(
        {"text": text, "speaker": ("Bea", "Ana")[i % 2], "session_id": session_id}
        for i, text in enumerate(spoken)
    )


# -- whole passages ----------------------------------------------------------------------------


def test_chunks_that_overlap_read_as_the_text_they_are_of(tmp_path: Path) -> None:
    text = " ".join(f"The canteen serves dish{i} on day{i} of the month." for i in range(40))
    (tmp_path / "menu.txt").write_text(text)
    with HybridMemory.open(
        tmp_path / "memory",
        embedder=HashEmbedder(),
        splitter=SemanticSplitter(max_tokens=60, overlap=30),
        count_tokens=lambda text: len(text.split()),
    ) as memory:
        ana = memory.scope(user_id="ana")
        chunks = ana.add_documents(tmp_path / "menu.txt")

        context = ana.context("Which dishes does the canteen serve?", max_tokens=2000)

    assert len(context.hits) == len(chunks) > 5
    assert [line for block in context.blocks for line in block.lines] == [f"(menu.txt) {text}"]
    assert [item["id"] for item in context.as_json()["documents"]] == [one.id for one in chunks]


# -- a budget of shares ------------------------------------------------------------------------


def test_a_budget_bounds_the_blocks_of_a_context_and_of_an_answer(
    ana: Scope, chat: ScriptedChat
) -> None:
    ana.profile["city"] = "Lyon"
    ana.add("I like lentils.")
    ana.add_documents(["The canteen serves lentils."], source="menu.md")
    budget = Budget(profile=0, session=0, documents=0)

    context = ana.context("Who likes lentils?", budget=budget)
    answer = ana.ask("Who likes lentils?", budget=budget)

    assert [block.name for block in context.blocks] == ["memories"]
    assert [block.name for block in answer.context.blocks] == ["memories"]
    assert [(one.block, one.key) for one in context.left_out if one.key] == [("profile", "city")]
    assert [one["block"] for one in context.as_json()["dropped"]] == [
        "profile",
        "session",
        "documents",
    ]


# -- what the prompt holds already -------------------------------------------------------------


def test_what_the_prompt_holds_already_is_not_told_again(friends: Scope) -> None:
    said, other = friends.add_many(["The violin is in the attic.", "The violin is a Guarneri."])

    context = friends.context("Where is the violin?", shown=[said.id])

    block = context.block("memories")
    assert block is not None
    assert [record.id for record in block.records] == [other.id]
    assert context.without(said) == "already in the prompt"


def test_a_prompt_that_holds_more_than_would_fit_leaves_room_for_the_rest(
    memory: HybridMemory,
) -> None:
    ana = memory.scope(user_id="ana")
    said = ana.add_many([f"The violin of player {i} is here." for i in range(40)])
    ana.add("Is here a violin in the attic of ours?")

    context = ana.context(
        "Is the violin here?", max_tokens=200, shown=[record.id for record in said]
    )

    block = context.block("memories")
    assert block is not None
    assert [record.text for record in block.records] == ["Is here a violin in the attic of ours?"]


def test_turns_of_the_session_that_the_prompt_holds_are_not_told_again(
    memory: HybridMemory,
) -> None:
    ana = memory.scope(user_id="ana", session_id="s1")
    call = {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c", "function": {}}]}
    told = ana.add_messages(
        [
            {"role": "user", "content": "Where is the violin?"},
            call,
            {"role": "tool", "tool_call_id": "c", "content": "attic"},
            {"role": "assistant", "content": "In the attic."},
        ]
    )

    context = ana.context("Thanks", shown=[told[1].id])

    block = context.block("session")
    assert block is not None
    assert [turn.text for turn in block.records] == ["Where is the violin?", "In the attic."]
