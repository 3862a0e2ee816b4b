"""Why a question recalls a record, or does not: in the words of the stage that decided."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Record, Scope, Source, Weights, Why
from hybrid_memory.errors import FilterError, InvalidInputError, NotFoundError, TextError
from hybrid_memory.testing import (
    ExactIndex,
    HashEmbedder,
    LineSplitter,
    ManualClock,
    MemoryDocumentStore,
    MemoryRecordStore,
    WordOverlapReranker,
    WordRetriever,
)

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)
QUESTION = "Which trip to Lyon did I like?"


def _opened(clock: ManualClock, **parts: Any) -> HybridMemory:
    given_parts: dict[str, Any] = {
        "splitter": LineSplitter(),
        "count_tokens": lambda text: len(text.split()),
        **parts,
    }
    return HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(256), clock=clock, **given_parts)


def _trips(scope: Scope, count: int = 6) -> list[Record]:
    """Remember trips to Lyon, the first nearest to the question."""
    words = "which to did I like of all the year"
    texts = [f"Trip {number} Lyon {words[: 30 - 5 * number]}" for number in range(count)]
    return scope.add_many(texts)


@pytest.fixture(params=["plain", "index", "documents elsewhere", "second stage", "age"])
def anas(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Scope]:
    parts: dict[str, dict[str, Any]] = {
        "plain": {},
        "index": {"index": ExactIndex, "index_above": 0},
        "documents elsewhere": {"documents": MemoryDocumentStore()},
        "second stage": {"rerank": WordOverlapReranker()},
        "age": {"weights": Weights(recency=0.5, importance=0.5)},
    }
    with _opened(clock, **parts[request.param]) as memory:
        yield memory.scope(user_id="ana", session_id="s1")


# -- what is recalled ----------------------------------------------------------------------------


def test_of_a_hit_it_tells_what_the_search_told(anas: Scope) -> None:
    _trips(anas)
    anas.add_documents(["Lyon lies on the Rhone.", "A trip takes time."], source="guide.md")
    anas.add_fact({"likes": ["Lyon"]})

    for hit in anas.search(QUESTION, k=5):
        why = anas.why(QUESTION, hit.record.id, k=5)

        assert (why.record, why.rank) == (hit.record, hit.rank)
        assert why.score == pytest.approx(hit.score)
        assert dict(why.signals) == pytest.approx(dict(hit.signals))
        assert why.relevance == pytest.approx(hit.relevance)
        assert (why.reason, why.lacked) == ("", {})
        assert why.candidates == 9
        assert why.query.text == QUESTION
        assert "lyon" in why.query.words


def test_the_signals_of_what_is_not_recalled_add_up_too(anas: Scope) -> None:
    *_, last = _trips(anas)

    why = anas.why(QUESTION, last.id, k=2)

    assert why.rank is None
    assert 0 < why.score < 1
    assert sum(why.signals.values()) == pytest.approx(why.score, abs=1e-6)


def test_it_tells_what_was_read_out_of_the_question(ana: Scope, clock: ManualClock) -> None:
    record = ana.add("I painted a lake.", speaker="Caroline")

    why = ana.why("When did Caroline paint the lake in 2026, before?", record.id)

    assert why.query.speaker == "Caroline"
    assert why.query.dense_text == "When did paint the lake in 2026, before?"
    assert (why.query.asks_when, why.query.version) == (True, "oldest")
    assert len(why.query.windows) == 1
    assert why.query.now == clock()
    assert {"speaker", "date", "version"} <= why.signals.keys()


@PROPERTY
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tea", "green tea", "Lyon", "a trip to Lyon", "a trip"]),
            st.sampled_from(["message", "fact", "event", "document"]),
        ),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    st.integers(1, 8),
    st.sampled_from([None, ["message", "fact"], "document"]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([None, 0.5]),
)
def test_every_record_is_either_a_hit_or_has_a_reason(
    items: list[tuple[str, str]],
    k: int,
    kinds: Any,
    min_score: float,
    min_share: float,
    mmr_lambda: float | None,
) -> None:
    ana = _opened(ManualClock()).scope(user_id="ana")
    records = ana.add_many(
        {"text": text, "kind": kind, "source": "a" if kind == "document" else "user"}
        for text, kind in items
    )
    bounds: dict[str, Any] = {
        "k": k,
        "kinds": kinds,
        "min_score": min_score,
        "min_share": min_share,
        "mmr_lambda": mmr_lambda,
    }

    ranks = {hit.record.id: hit.rank for hit in ana.search(QUESTION, **bounds)}

    for record in records:
        why = ana.why(QUESTION, record.id, **bounds)
        assert why.rank == ranks.get(record.id)
        assert (why.reason == "") == (why.rank is not None)
        assert all(value > 0 and math.isfinite(value) for value in why.lacked.values())


# -- what is not, each with its reason -----------------------------------------------------------


def _kept_out(scope: Scope, record: Record, **bounds: Any) -> Why:
    assert record not in [hit.record for hit in scope.search(QUESTION, **bounds)]
    why = scope.why(QUESTION, record.id, **bounds)
    assert why.rank is None
    return why


def test_an_instruction_is_not_ranked(anas: Scope) -> None:
    _trips(anas)
    record = anas.add_instruction("Which trip to Lyon did I like?")

    why = _kept_out(anas, record)

    assert why.reason.startswith("it is not ranked")
    assert (why.score, why.signals, why.relevance) == (0, {}, 0)
    assert why.prompt == ""  # it is in force, and so in the prompt


def test_a_system_message_is_not_ranked(anas: Scope) -> None:
    record = anas.add("Which trip to Lyon did I like?", role="system")

    assert _kept_out(anas, record).reason.startswith("it is not ranked")


def test_a_kind_that_was_not_asked_for_is_named(anas: Scope) -> None:
    record, *_ = _trips(anas)

    why = _kept_out(anas, record, kinds=["fact", "event"])

    assert why.reason == "its kind, 'message', was not asked for"
    assert why.score > 0  # what it would have had


def test_what_expired_says_when(anas: Scope, clock: ManualClock) -> None:
    record = anas.add("Trip to Lyon", expires_at=clock() + timedelta(hours=1))
    assert anas.why(QUESTION, record.id).rank == 1

    clock.advance(hours=1)

    assert _kept_out(anas, record).reason == "it expired at 2026-01-01T13:00:00+00:00"
    assert anas.why(QUESTION, record.id, now=clock() - timedelta(seconds=1)).rank == 1


def test_a_fact_of_the_future_says_from_when_it_holds(anas: Scope, clock: ManualClock) -> None:
    record = anas.add_fact("Trip to Lyon", valid_from=clock() + timedelta(days=1))

    assert _kept_out(anas, record).reason == "it holds from 2026-01-02T12:00:00+00:00 on"
    assert anas.why(QUESTION, record.id, now=clock() + timedelta(days=1)).rank == 1


def test_a_fact_of_the_past_says_until_when_it_held(anas: Scope, clock: ManualClock) -> None:
    record = anas.add_fact("Trip to Lyon", valid_from=clock() - timedelta(days=9), valid_to=clock())

    assert _kept_out(anas, record).reason == "it held until 2026-01-01T12:00:00+00:00"
    assert anas.why(QUESTION, record.id, now=clock() - timedelta(days=1)).rank == 1


def test_a_filter_that_leaves_it_out_is_named(anas: Scope) -> None:
    record, *_ = _trips(anas)
    anas.add("Trip to Lyon", metadata={"city": "Lyon"})

    why = _kept_out(anas, record, where={"city": "Lyon"})

    assert why.reason == "the filter leaves it out"
    assert why.candidates == 1
    assert why.score > 0


@pytest.mark.parametrize("again", ["I went on a trip to Lyon.", "i went on  a trip to LYON."])
def test_an_older_copy_names_the_newer(anas: Scope, clock: ManualClock, again: str) -> None:
    older = anas.add("I went on a trip to Lyon.")
    clock.advance(days=1)
    newer = anas.add(again)

    assert (
        _kept_out(anas, older).reason == f"it says the same as record {newer.id!r}, which is newer"
    )
    assert anas.why(QUESTION, newer.id).rank == 1


def test_a_text_with_other_signs_names_the_newer_too(anas: Scope, clock: ManualClock) -> None:
    older = anas.add("Last year I went on a long trip to Lyon with my sister.")
    clock.advance(days=1)
    newer = anas.add("Last year, I went on a LONG trip to Lyon with my sister!")

    assert repr(newer.id) in _kept_out(anas, older).reason


def test_a_text_with_another_word_is_not_said_to_be_the_same(
    anas: Scope, clock: ManualClock
) -> None:
    older = anas.add("Last year I went on a long trip to Lyon with my sister.")
    clock.advance(days=1)
    newer = anas.add("Last year I went on a long trip to Lyon with my brother.")

    assert {anas.why(QUESTION, one.id, k=20).rank for one in (older, newer)} == {1, 2}


def test_a_score_below_the_bound_is_told_with_both(anas: Scope) -> None:
    *_, last = _trips(anas)
    score = anas.why(QUESTION, last.id).score

    why = _kept_out(anas, last, min_score=score + 0.05)

    assert why.reason == f"its score {score:.2f} is below min_score {score + 0.05:.2f}"


def test_beyond_k_its_number_is_told_and_what_it_lacked(anas: Scope) -> None:
    trips = _trips(anas)

    for k in (1, 3):
        hits = anas.search(QUESTION, k=k)
        for record in trips:
            if record in [hit.record for hit in hits]:
                continue
            why = _kept_out(anas, record, k=k)
            number = re.fullmatch(rf"it is number (\d) of 6, {k} were asked for", why.reason)
            assert number
            assert int(number[1]) > k
            assert why.lacked
            for name, value in why.lacked.items():
                least = hits[-1].signals[name] - why.signals.get(name, 0)
                assert value == pytest.approx(least)
                assert value > 0


def test_what_it_lacked_adds_up_to_no_less_than_the_difference(anas: Scope) -> None:
    *_, last = _trips(anas)

    why = _kept_out(anas, last, k=2)

    least = anas.search(QUESTION, k=2)[-1].score
    assert sum(why.lacked.values()) >= least - why.score - 1e-6 > 0


def test_a_share_below_the_bound_is_told(ana: Scope) -> None:
    *_, last = _trips(ana)

    why = _kept_out(ana, last, min_share=0.95)

    assert why.reason == f"its score {why.score:.2f} is below min_share 0.95 of the best"


def test_a_source_that_is_full_is_told(ana: Scope) -> None:
    _, last = ana.add_documents(["Trip to Lyon", "Lyon"], source="guide.md")

    reason = _kept_out(ana, last, max_per_source=1).reason

    assert reason == "max_per_source is 1, and better ones are of source 'guide.md'"


def test_what_gave_way_to_variety_is_told(ana: Scope) -> None:
    ana.add_many(["Trip to Lyon, which I did like", "rain and wind"])
    record = ana.add("Trip to Lyon, which I did not like")

    reason = _kept_out(ana, record, k=2, mmr_lambda=0.0).reason

    assert re.fullmatch(
        r"it is number \d, and others that are less like the first went before", reason
    )


def test_a_source_that_is_not_full_is_not_blamed_for_what_variety_did(ana: Scope) -> None:
    ana.add_many(["Trip to Lyon, which I did like", "rain and wind"])
    [record] = ana.add_documents(["Trip to Lyon, which I did not like"], source="guide.md")

    reason = _kept_out(ana, record, k=2, mmr_lambda=0.0, max_per_source=3).reason

    assert "of source" not in reason


# -- whose record it is --------------------------------------------------------------------------


def test_a_record_of_another_is_as_missing_as_one_that_never_was(memory: HybridMemory) -> None:
    secret = memory.scope(user_id="bob").add("The code is 4711.", id="code")
    ana = memory.scope(user_id="ana")
    ana.add("I like tea.")

    with pytest.raises(NotFoundError) as foreign:
        ana.why("What is the code?", secret.id)
    with pytest.raises(NotFoundError) as missing:
        memory.scope(user_id="carl").why("What is the code?", "code")
    assert str(foreign.value) == str(missing.value) == "no record 'code' in this scope"

    ana.delete(ana.add("gone", id="code").id)
    with pytest.raises(NotFoundError) as deleted:
        ana.why("What is the code?", "code")
    assert str(deleted.value) == str(foreign.value)


def test_a_record_that_may_be_read_is_explained(memory: HybridMemory) -> None:
    [menu, bread] = memory.scope(namespace=("handbook",)).add_documents(
        ["The canteen serves lentils.", "Bread is free."], source="menu.md"
    )
    ana = memory.scope(user_id="ana", read=[("handbook",)])
    ana.add("I like lentils.")

    why = ana.why("Does the canteen serve lentils?", menu.id)

    assert (why.record, why.rank, why.prompt) == (menu, 1, "")
    assert ana.why("lentils", bread.id, k=2).reason == "it is number 3 of 3, 2 were asked for"


def test_what_others_hold_is_not_counted(memory: HybridMemory) -> None:
    memory.scope(user_id="bob").add_many(["tea", "green tea", "black tea"])
    ana = memory.scope(user_id="ana")
    record = ana.add("I like tea.")

    assert ana.why("tea", record.id).candidates == 1


def test_of_two_with_one_id_the_own_is_explained(memory: HybridMemory) -> None:
    memory.scope(namespace=("team",)).add("We like tea.", id="drink")
    ana = memory.scope(user_id="ana", read=[("team",)])
    own = ana.add("I like coffee.", id="drink")

    assert ana.why("coffee", "drink").record == own


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"query": " "}, TextError),
        ({"id": ""}, InvalidInputError),
        ({"id": 7}, InvalidInputError),
        ({"k": 0}, InvalidInputError),
        ({"kinds": "instruction"}, InvalidInputError),
        ({"where": {"n": {"$regex": "a"}}}, FilterError),
        ({"max_tokens": 0}, InvalidInputError),
    ],
)
def test_a_question_that_cannot_be_is_refused(
    ana: Scope, arguments: dict[str, Any], error: type[Exception]
) -> None:
    ana.add("I like tea.", id="tea")

    with pytest.raises(error):
        ana.why(**{"query": "tea", "id": "tea", **arguments})


# -- and in the prompt ---------------------------------------------------------------------------


def test_what_is_in_the_prompt_has_nothing_to_say(ana: Scope) -> None:
    record = ana.add("I went on a trip to Lyon.")

    assert ana.why(QUESTION, record.id).prompt == ""
    assert record.text in ana.context(QUESTION).as_system_prompt()


def test_what_has_no_room_in_the_prompt_says_so(clock: ManualClock) -> None:
    ana = _opened(clock).scope(user_id="ana")
    ana.add("Trip to Lyon, which I did like.")
    record = ana.add("I did like my trip to Lyon. " + "It rained. " * 60)

    why = ana.why(QUESTION, record.id, max_tokens=60)

    assert (why.rank, why.prompt) == (2, "over the token budget")
    [dropped] = ana.context(QUESTION, max_tokens=60).dropped
    assert (dropped.hit.record, dropped.reason) == (record, why.prompt)


def test_what_is_beside_the_point_says_what_the_prompt_asks_for(clock: ManualClock) -> None:
    ana = _opened(clock).scope(user_id="ana")
    ana.add("I went on a trip to Lyon.")
    record = ana.add("kwyjibo")

    why = ana.why(QUESTION, record.id)

    assert (why.rank, why.score) == (2, 0)
    assert "relevance" in why.prompt


def test_what_is_no_hit_of_the_context_says_so(clock: ManualClock) -> None:
    ana = _opened(clock).scope(user_id="ana")
    record = ana.add("I went on a trip to Lyon.")

    why = ana.why(QUESTION, record.id, kinds="fact")

    assert (why.reason, why.prompt) == (
        "its kind, 'message', was not asked for",
        "not among the hits",
    )


def test_a_turn_that_the_session_shows_is_in_the_prompt(clock: ManualClock) -> None:
    memory = _opened(clock)
    ana = memory.scope(user_id="ana", session_id="s1")
    ana.add("I went on a trip to Lyon.")
    record = ana.add("kwyjibo")

    assert ana.why(QUESTION, record.id).prompt == ""
    assert "relevance" in memory.scope(user_id="ana").why(QUESTION, record.id).prompt


# -- with sources outside ------------------------------------------------------------------------


def test_what_a_source_adds_is_among_the_signals(memory: HybridMemory) -> None:
    wiki = Source(WordRetriever(["The canteen serves lentils."]), name="wiki", timeout_s=30)
    ana = memory.scope(user_id="ana", sources=[wiki])
    menu, other = ana.add_documents(
        ["The canteen serves lentils.", "Bread is free."], source="menu.md"
    )

    why = ana.why("Does the canteen serve lentils?", menu.id)

    assert why.rank == 1
    assert why.signals["wiki"] > 0
    assert sum(why.signals.values()) == pytest.approx(why.score, abs=1e-6)
    assert ana.why("Does the canteen serve lentils?", other.id, k=1).lacked["wiki"] > 0


def test_what_only_a_source_knows_is_no_record_of_ours(memory: HybridMemory) -> None:
    wiki = Source(WordRetriever(["The canteen serves lentils."]), name="wiki", timeout_s=30)
    ana = memory.scope(user_id="ana", sources=[wiki])
    [hit] = ana.search("canteen lentils")

    with pytest.raises(NotFoundError):
        ana.why("canteen lentils", hit.record.id)
