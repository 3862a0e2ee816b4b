"""What lifts a record above another, one part at a time, through the public API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hybrid_memory import Hit, HybridMemory, Scope
from hybrid_memory.testing import ManualClock


def signals(hits: list[Hit], text: str) -> dict[str, float]:
    [hit] = [hit for hit in hits if hit.record.text == text]
    return dict(hit.signals)


def test_an_answer_is_found_by_the_words_of_its_question(ana: Scope) -> None:
    ana.add_messages(
        [
            {"role": "user", "content": "Where does the architect live?"},
            {"role": "user", "content": "In Lyon."},
        ]
    )

    assert "bm25" in signals(ana.search("architect"), "In Lyon.")
    assert signals(ana.search("architect"), "In Lyon.")["bm25"] > 0


def test_only_the_question_just_before_in_the_same_session_is_joined(memory: HybridMemory) -> None:
    one = memory.scope(user_id="ana", session_id="one")
    two = memory.scope(user_id="ana", session_id="two")
    one.add("Where does the architect live?")
    two.add("In Lyon.")
    one.add("In Paris.")
    one.add("In Rome.")

    found = one.search("architect")

    assert signals(found, "In Paris.")["bm25"] > 0
    assert signals(found, "In Lyon.")["bm25"] == signals(found, "In Rome.")["bm25"] == 0


def test_a_deleted_question_leaves_its_answer(ana: Scope) -> None:
    asked = ana.add("Where does the architect live?")
    ana.add("In Lyon.")
    ana.search("architect")

    ana.delete(asked.id)

    assert signals(ana.search("architect"), "In Lyon.")["bm25"] == 0


def test_a_corrected_question_changes_what_its_answer_is_found_by(ana: Scope) -> None:
    asked = ana.add("Where does the architect live?")
    ana.add("In Lyon.")
    ana.search("architect")

    ana.update(asked.id, text="Where does the plumber live?")

    assert signals(ana.search("architect"), "In Lyon.")["bm25"] == 0
    assert signals(ana.search("plumber"), "In Lyon.")["bm25"] > 0


def test_the_one_speaker_who_is_asked_about_comes_first(ana: Scope) -> None:
    ana.add("I painted a lake.", speaker="Melanie")
    ana.add("I painted a lake.", speaker="Caroline")

    [first, second] = ana.search("What lake has Caroline painted?")

    assert first.record.speaker == "Caroline"
    assert first.signals["speaker"] > 0
    assert "speaker" not in second.signals


def test_a_date_in_the_question_prefers_what_was_told_then_or_a_week_later(ana: Scope) -> None:
    for day in (1, 12, 30):
        ana.add(f"Notes of the meeting, page {day}.", at=datetime(2026, 3, day, tzinfo=UTC))
    ana.add("Meeting.", at=datetime(2026, 4, 20, tzinfo=UTC))

    hits = ana.search("What was in the meeting on 8 March 2026?")

    assert [hit.record.text for hit in hits if "date" in hit.signals] == [
        "Notes of the meeting, page 12."
    ]


@pytest.mark.parametrize(
    ("question", "signal", "text"),
    [
        ("When was the trip?", "time", "The trip was last week."),
        ("How long was the trip?", "time", "The trip was last week."),
        ("How many came on the trip?", "number", "Seven came on the trip."),
    ],
)
def test_a_question_for_a_time_or_a_number_prefers_one(
    ana: Scope, question: str, signal: str, text: str
) -> None:
    ana.add_many(["The trip was last week.", "Seven came on the trip.", "The trip was fun."])

    hits = ana.search(question)

    assert [hit.record.text for hit in hits if signal in hit.signals] == [text]


def test_beside_an_assistant_what_the_user_said_counts_for_more(ana: Scope) -> None:
    ana.add("Oat milk.", role="assistant", source="assistant")
    ana.add("Oat milk.", role="user")

    assert [hit.record.role for hit in ana.search("Which milk?")] == ["user", "assistant"]


def test_between_people_a_question_counts_for_less_than_a_statement(ana: Scope) -> None:
    ana.add("Do you like oat milk?", speaker="Ana")
    ana.add("You like oat milk.", speaker="Bob")

    hits = ana.search("oat milk")

    assert signals(hits, "Do you like oat milk?")["question"] < 0
    assert all(hit.score >= 0 for hit in hits)


def test_a_turn_is_lifted_by_the_best_of_its_session(memory: HybridMemory) -> None:
    trip = memory.scope(user_id="ana", session_id="trip")
    other = memory.scope(user_id="ana", session_id="other")
    trip.add("We flew to Porto in September.")
    trip.add("The hotel was loud.")
    other.add("The hotel was loud too.")

    found = trip.search("Porto September flew")

    lifted = signals(found, "The hotel was loud.")["session"]
    assert lifted > 2 * signals(found, "The hotel was loud too.").get("session", 0)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("Where is the office now?", "The office is in Paris."),
        ("What is the current office?", "The office is in Paris."),
        ("Where was the office before?", "The office is in Lyon."),
        ("Where did the office used to be?", "The office is in Lyon."),
    ],
)
def test_a_question_for_now_or_for_the_past_chooses_among_alike(
    ana: Scope, clock: ManualClock, question: str, first: str
) -> None:
    for city in ("Lyon", "Rome", "Paris"):
        ana.add(f"The office is in {city}.")
        clock.advance(days=30)

    hits = ana.search(question, k=3)

    assert hits[0].record.text == first
    assert hits[0].signals["version"] > 0


def test_the_newest_does_not_beat_what_answers_better(ana: Scope, clock: ManualClock) -> None:
    ana.add("The office is in Lyon.")
    clock.advance(days=30)
    ana.add("I bought a new bicycle.")

    assert ana.search("Where is the office now?")[0].record.text == "The office is in Lyon."


def test_where_no_word_is_known_meaning_alone_decides(ana: Scope, clock: ManualClock) -> None:
    ana.add_many(["alpha beta", "gamma delta"])

    [first, *_] = ana.search("zeta eta theta", now=clock() + timedelta(days=1))

    assert set(first.signals) <= {"cosine", "bm25", "session"}
    assert first.signals["bm25"] == first.signals.get("session", 0) == 0
