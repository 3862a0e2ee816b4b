"""What lifts a record above another, one part at a time, through the public API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from hybrid_memory import Hit, HybridMemory, Scope, Weights
from hybrid_memory.protocols import Vector, Vectors
from hybrid_memory.testing import ExactIndex, HashEmbedder, ManualClock, MemoryRecordStore

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


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


def test_between_people_a_question_counts_for_less_than_a_statement(ana: Scope) -> None:
    ana.add("Do you like oat milk?", speaker="Ana")
    ana.add("You like oat milk.", speaker="Bob")

    hits = ana.search("oat milk")

    assert signals(hits, "Do you like oat milk?")["question"] < 0
    assert all(hit.score >= 0 for hit in hits)


# -- who speaks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "role"),
    [
        ("Which milk do I like?", "user"),
        ("Which milk did you recommend?", "assistant"),
        ("What was your advice on milk?", "assistant"),
    ],
)
def test_beside_an_assistant_the_one_that_is_asked_about_counts_for_more(
    ana: Scope, question: str, role: str
) -> None:
    ana.add("Oat milk.", role="assistant", source="assistant")
    ana.add("Oat milk.", role="user")
    ana.add("Oat milk.", role="tool", source="shop")

    hits = ana.search(question)

    assert hits[0].record.role == role
    assert [hit.record.role for hit in hits if "role" in hit.signals] == [role]


def test_without_an_assistant_nobody_is_asked_about(ana: Scope) -> None:
    ana.add("Oat milk.", speaker="Ana")
    ana.add("Oat milk.", speaker="Bob")

    assert all("role" not in hit.signals for hit in ana.search("Which milk did you recommend?"))


def _two_sessions(memory: HybridMemory, **others: Any) -> dict[str, float]:
    """Return what the session adds to each turn of a talk about Porto and of another talk."""
    for session_id, text in (
        ("trip", "We flew to Porto in September."),
        ("trip", "The hotel was loud."),
        ("other", "The hotel was loud too."),
    ):
        scope = memory.scope(user_id="ana", session_id=session_id)
        scope.add(text, **others.get(text, others.get("all", {})))
    hits = memory.scope(user_id="ana").search("Porto September flew")
    return {hit.record.text: hit.signals.get("session", 0) for hit in hits}


PEOPLE = {"all": {"speaker": "Ana"}, "The hotel was loud too.": {"speaker": "Bob"}}
ASSISTANT = {"The hotel was loud too.": {"role": "assistant", "source": "assistant"}}


@pytest.mark.parametrize("others", [PEOPLE, ASSISTANT], ids=["people", "assistant"])
def test_a_turn_of_a_talk_is_lifted_by_the_best_of_its_session(
    memory: HybridMemory, others: dict[str, Any]
) -> None:
    lifted = _two_sessions(memory, **others)

    assert lifted["The hotel was loud."] == lifted["We flew to Porto in September."] > 0
    assert lifted["The hotel was loud."] > 2 * lifted["The hotel was loud too."]


@pytest.mark.parametrize("speaker", [None, "Ana"])
def test_the_notes_of_one_user_do_not_lift_one_another(
    memory: HybridMemory, speaker: str | None
) -> None:
    lifted = _two_sessions(memory, all={"speaker": speaker})

    assert set(lifted.values()) == {0}


@pytest.mark.parametrize(
    "others", [{}, {"speaker": "Ana"}, {"role": "assistant"}], ids=["nobody", "one", "assistant"]
)
def test_a_question_is_taken_for_less_only_between_people(
    ana: Scope, others: dict[str, str]
) -> None:
    ana.add("Do you like oat milk?", speaker=others.get("speaker"))
    ana.add("You like oat milk.", **others)

    assert all("question" not in hit.signals for hit in ana.search("oat milk"))


# -- an answer is found by what its question means -----------------------------------------------


class SynonymEmbedder(HashEmbedder):
    """Takes some words for others, as a model of meaning does; words alone cannot."""

    def embed(self, texts: list[str]) -> Vectors:  # type: ignore[override]
        meant = {"reside": "live", "domicile": "live", "vehicle": "car"}
        return super().embed(
            [
                " ".join(meant.get(word, word) for word in text.lower().strip("?.!").split())
                for text in texts
            ]
        )

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self.embed([text])[0]
        return vector


@pytest.fixture
def open_memory(clock: ManualClock) -> Callable[..., HybridMemory]:
    def opened(**parts: Any) -> HybridMemory:
        return HybridMemory(
            MemoryRecordStore(), embedder=SynonymEmbedder(512), clock=clock, **parts
        )

    return opened


TALK = [
    ("s1", "Bob", "Where does your aunt reside?"),
    ("s1", "Ana", "Near the old harbour."),
    ("s1", "Bob", "Mine has a garden."),
    ("s2", "Ana", "The blue one."),
    ("s2", "Bob", "Which vehicle is yours?"),
]
QUESTION = "aunt domicile"


def _told(memory: HybridMemory, talk: list[tuple[str, str, str]] = TALK) -> Scope:
    ana = memory.scope(user_id="ana")
    ana.add_many(
        {"text": text, "speaker": speaker, "session_id": session_id}
        for session_id, speaker, text in talk
    )
    return ana


def _answers(hits: list[Hit]) -> dict[str, float]:
    return {hit.record.text: hit.signals["answer"] for hit in hits if "answer" in hit.signals}


def test_an_answer_of_few_words_is_found_by_what_its_question_means(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = _told(open_memory())

    hits = ana.search(QUESTION)

    assert [hit.record.text for hit in hits][:2] == [
        "Where does your aunt reside?",
        "Near the old harbour.",
    ]
    assert _answers(hits).keys() == {"Near the old harbour."}


def test_an_answer_gains_half_of_what_its_question_is_nearer(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = _told(open_memory(), TALK[:2])

    cosines = {hit.record.text: hit.signals["cosine"] for hit in ana.search(QUESTION)}

    nearer = cosines["Where does your aunt reside?"] - cosines["Near the old harbour."]
    gain = _answers(ana.search(QUESTION))["Near the old harbour."]
    assert gain == pytest.approx(nearer / 2, rel=1e-5)


def test_an_answer_that_is_as_near_as_its_question_gains_nothing(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = _told(
        open_memory(),
        [("s1", "Bob", "Where is it?"), ("s1", "Ana", "The domicile of my aunt is in Lyon.")],
    )

    assert _answers(ana.search(QUESTION)) == {}


def test_no_answer_is_sought_in_another_session_or_before_the_question(
    open_memory: Callable[..., HybridMemory],
) -> None:
    talk = [
        ("s1", "Ana", "Near the old harbour."),
        ("s1", "Bob", "Where does your aunt reside?"),
        ("s2", "Ana", "In the small house."),
    ]

    assert _answers(_told(open_memory(), talk).search(QUESTION)) == {}


def test_turns_without_a_session_answer_nothing(open_memory: Callable[..., HybridMemory]) -> None:
    ana = open_memory().scope(user_id="ana")
    ana.add_many([{"text": text, "speaker": speaker} for _, speaker, text in TALK[:2]])

    assert _answers(ana.search(QUESTION)) == {}


def test_only_turns_answer(open_memory: Callable[..., HybridMemory]) -> None:
    ana = open_memory().scope(user_id="ana", session_id="s1")
    ana.add("Where does your aunt reside?", speaker="Bob")
    ana.add_event("Walked along the old harbour")
    ana.add_fact({"harbour": "old"})

    assert _answers(ana.search(QUESTION)) == {}


def test_what_stands_between_is_not_in_the_way_of_an_answer_if_it_is_no_turn(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = open_memory().scope(user_id="ana", session_id="s1")
    ana.add("Where does your aunt reside?", speaker="Bob")
    ana.add_event("Walked along the old harbour")
    ana.add("Near the old harbour.", speaker="Ana")

    assert _answers(ana.search(QUESTION)).keys() == {"Near the old harbour."}


def test_without_its_question_an_answer_is_a_turn_like_others(
    open_memory: Callable[..., HybridMemory],
) -> None:
    memory = open_memory()
    ana = _told(memory)
    [asked] = [one for one in ana.messages() if "reside" in one.text]
    assert _answers(ana.search(QUESTION))

    ana.delete(asked.id)

    assert _answers(ana.search(QUESTION)) == {}
    # As if it had never been asked.
    never = _told(open_memory(), TALK[1:])
    assert _scores(ana.search(QUESTION)) == _scores(never.search(QUESTION))


def test_a_question_that_is_changed_changes_what_is_answered(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = _told(open_memory())
    [asked] = [one for one in ana.messages() if "reside" in one.text]
    ana.search(QUESTION)

    ana.update(asked.id, text="Which train is late?")

    assert _answers(ana.search(QUESTION)) == {}
    assert _answers(ana.search("train late?")).keys() == {"Near the old harbour."}


def _scores(hits: list[Hit]) -> dict[str, tuple[float, dict[str, float]]]:
    return {hit.record.text: (hit.score, dict(hit.signals)) for hit in hits}


def _alike(one: list[Hit], other: list[Hit]) -> bool:
    mine, theirs = _scores(one), _scores(other)
    return mine.keys() == theirs.keys() and all(
        mine[text][1] == pytest.approx(theirs[text][1], abs=1e-6) for text in mine
    )


def _long_talk(count: int = 300) -> list[tuple[str, str, str]]:
    rng = np.random.default_rng(5)
    words = [
        "aunt",
        "harbour",
        "garden",
        "car",
        "train",
        "bread",
        "river",
        "lamp",
        "stone",
        "bird",
        "tea",
        "song",
    ]
    talk = []
    for number in range(count):
        said = " ".join(rng.choice(words, 4, replace=False).tolist())
        sign = "?" if rng.random() < 0.4 else "."
        talk.append((f"s{number // 12}", ("Ana", "Bob")[number % 2], f"{said} n{number}{sign}"))
    return talk


@pytest.mark.parametrize(
    "bounds",
    [{}, {"where": {"speaker": "Ana"}}, {"where": {"at": {"$gte": START}}}, {"kinds": "message"}],
    ids=["all", "speaker", "time", "kind"],
)
def test_with_an_index_answers_are_worth_what_they_are_without(
    open_memory: Callable[..., HybridMemory], bounds: dict[str, Any]
) -> None:
    plain = _told(open_memory(), _long_talk())
    indexed = _told(open_memory(index=ExactIndex, index_above=0), _long_talk())

    found = 0
    for question in ("aunt domicile harbour", "train vehicle", "bread tea song n7"):
        everything = {hit.record.text: hit for hit in plain.search(question, k=200, **bounds)}
        some = indexed.search(question, k=30, **bounds)

        assert len(some) == 30
        found += sum("answer" in hit.signals for hit in some)
        for hit in some:
            alone = everything[hit.record.text]
            assert hit.signals.get("answer", 0) == pytest.approx(
                alone.signals.get("answer", 0), rel=1e-5
            )
    assert found > 3


def test_a_filter_that_leaves_the_question_out_leaves_the_answer_its_worth(
    open_memory: Callable[..., HybridMemory],
) -> None:
    ana = _told(open_memory())

    hits = ana.search(QUESTION, where={"speaker": "Ana"})

    assert hits[0].record.text == "Near the old harbour."
    assert _answers(hits).keys() == {"Near the old harbour."}


def test_reopened_an_answer_is_worth_the_same(tmp_path: Any, clock: ManualClock) -> None:
    def opened() -> HybridMemory:
        return HybridMemory.open(
            tmp_path / "memory", embedder=SynonymEmbedder(512), clock=clock, durability="normal"
        )

    with opened() as memory:
        ana = memory.scope(user_id="ana")
        for session_id, speaker, text in TALK:  # one by one, with a search in between
            ana.add_many([{"text": text, "speaker": speaker, "session_id": session_id}])
            before = ana.search(QUESTION)
        assert _answers(before)
    with opened() as memory:
        assert _alike(memory.scope(user_id="ana").search(QUESTION), before)


# -- now and then --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "question",
    [
        "How old is the office?",
        "What was in the office on the first weekend of May?",
        "What is the last name of the office?",
        "Did you know the office?",
        "Which office comes first?",
    ],
)
def test_a_question_for_neither_leaves_the_order_to_what_is_said(
    ana: Scope, clock: ManualClock, question: str
) -> None:
    for city in ("Lyon", "Rome", "Paris"):
        ana.add(f"The office is in {city}.")
        clock.advance(days=30)

    assert all("version" not in hit.signals for hit in ana.search(question))


@pytest.mark.parametrize("question", ["Where is the office now?", "Where was the office before?"])
def test_a_question_for_now_or_before_finds_the_same_ten(clock: ManualClock, question: str) -> None:
    store = MemoryRecordStore()
    rng = np.random.default_rng(3)
    words = ["office", "desk", "Lyon", "Rome", "Paris", "rent", "lease", "move", "street", "floor"]
    asked, unasked = (
        HybridMemory(store, embedder=HashEmbedder(), clock=clock, weights=weights)
        for weights in (Weights(), Weights(newest=0, oldest=0))
    )
    for number in range(60):
        text = " ".join([*rng.choice(words, 5).tolist(), f"n{number}"])
        asked.scope(user_id="ana").add(text)
        clock.advance(days=3)

    found, plain = (
        [hit.record.id for hit in memory.scope(user_id="ana").search(question, k=10)]
        for memory in (asked, unasked)
    )

    assert found != plain
    assert set(found[:3]) == set(plain[:3])
    assert found[3:] == plain[3:]
