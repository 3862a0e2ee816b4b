"""Outside retrievers: asked side by side, never waited for too long, and read with care."""

from __future__ import annotations

import contextvars
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory import (
    Found,
    Hit,
    HybridMemory,
    Record,
    Source,
    Weights,
    indexing,
    limits,
    merge,
    outside,
)
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.filters import compile_where
from hybrid_memory.outside import Candidates, Outcome, ask, asking, candidates, scaled, start
from hybrid_memory.partition import Pool
from hybrid_memory.protocols import Retriever
from hybrid_memory.score import SIGNALS
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore, WordRetriever

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


class Giving:
    """A retriever that gives, or raises, always the same; `calls` are the questions."""

    def __init__(self, given: Any) -> None:
        self.calls: list[tuple[str, int]] = []
        self._given = given

    def search(self, query: str, k: int) -> Any:
        self.calls.append((query, k))
        if isinstance(self._given, BaseException):
            raise self._given
        return self._given


class Hanging:
    """A retriever that answers once it is released."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.calls = 0

    def search(self, query: str, k: int) -> list[str]:
        self.calls += 1
        self.begun.set()
        self.released.wait(30)
        return ["At last."]


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    retriever = Hanging()
    yield retriever
    retriever.released.set()


def asked(given: Any, **options: Any) -> Outcome:
    [outcome] = ask([Source(Giving(given), **{"name": "wiki", **options})], "Which language?")
    return outcome


def made(outcome: Outcome, *, first_key: int = 0) -> Candidates:
    return candidates(
        outcome,
        now=NOW,
        digest=indexing.digest,
        first_key=first_key,
    )


def found(given: Any, **options: Any) -> list[tuple[str, float]]:
    """Return what a source's texts are worth, in its order."""
    outcome = asked(given, **options)
    assert outcome.problem is None
    _, signals, records = made(outcome)
    values = [round(value, 4) for value in signals[outcome.source.name].tolist()]
    return list(zip([one.text for one in records.values()], values, strict=True))


def record_of(item: Any, **options: Any) -> Record:
    [record] = made(asked([item], **options)).records.values()
    return record


def hit(text: str, *, score: float = 0.5, **fields: Any) -> Hit:
    values = {"id": "m1", "namespace": ("bo",), "kind": "message", "at": NOW, "created_at": NOW}
    record = Record(text=text, **{**values, **fields})
    return Hit(record=record, score=score, rank=1, signals={})


# -- a source ----------------------------------------------------------------------------------


def test_a_source_is_fit_for_use_with_a_name_alone() -> None:
    source = Source(WordRetriever([]), name="wiki")

    assert (source.weight, source.scores, source.timeout_s, source.k) == (0.5, None, 2.0, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "the name of a source is empty"),
        ({"name": "a\nb"}, "control character"),
        ({"name": 7}, "must be a string"),
        ({"name": "cosine"}, "'cosine': that is the name of a signal"),
        ({"name": "user"}, "'user': that is the name of a signal or author"),
        ({"name": "assistant"}, "'assistant'"),
        ({"weight": 0}, "weight of source 'wiki' is 0; leave the source out"),
        ({"weight": 1.5}, "weight of source 'wiki' must be between 0 and 1: 1.5"),
        ({"weight": math.nan}, "weight"),
        ({"weight": "0.5"}, "weight of source 'wiki' must be a number, not str"),
        ({"scores": "cosine"}, "similarity, distance, rank or None, not 'cosine'"),
        ({"timeout_s": 0}, "timeout_s of source 'wiki' must be above 0"),
        ({"timeout_s": math.inf}, "at most 3600: inf"),
        ({"timeout_s": math.nan}, "nan"),
        ({"timeout_s": True}, "must be a number, not bool"),
        ({"k": 0}, "k of source 'wiki' must be between 1 and 200: 0"),
        ({"k": 201}, "between 1 and 200: 201"),
        ({"k": 2.0}, "must be an integer, not float"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Source(WordRetriever([]), **{"name": "wiki", **options})

    assert message in str(caught.value)


class _Async:
    async def search(self, query: str, k: int) -> list[str]:
        return []


@pytest.mark.parametrize("retriever", [None, object(), "wiki", {"search": 1}, _Async()])
def test_what_has_no_synchronous_search_is_refused(retriever: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"source 'wiki' needs a synchronous .*search"):
        Source(retriever, name="wiki")


def test_no_source_can_be_called_as_a_signal_of_ours() -> None:
    ours = {signal.__name__ for signal in SIGNALS}

    assert ours == outside.SCORED
    merged = {*merge._BOOSTS, "session", "version", "rerank"}
    assert merged | {"recency", "importance"} <= outside.SCORED | outside.MERGED


def test_two_sources_of_one_name_are_refused() -> None:
    sources = [Source(WordRetriever([]), name="wiki") for _ in range(2)]

    with pytest.raises(InvalidInputError, match="two sources are called 'wiki'"):
        ask(sources, "Which?")


def test_a_retriever_without_its_source_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not a WordRetriever"):
        ask([WordRetriever([])], "Which?")  # type: ignore[list-item]


# -- asking ------------------------------------------------------------------------------------


def test_each_source_gets_the_question_and_its_own_k() -> None:
    wiki, web = Giving(["A wiki."]), Giving(["A page."])

    outcomes = ask([Source(wiki, name="wiki"), Source(web, name="web", k=3)], "Which language?")

    assert (wiki.calls, web.calls) == ([("Which language?", 20)], [("Which language?", 3)])
    assert [one.source.name for one in outcomes] == ["wiki", "web"]
    assert [one.found for one in outcomes] == [(Found("A wiki."),), (Found("A page."),)]
    assert [one.problem for one in outcomes] == [None, None]


def test_without_sources_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread"))

    assert ask([], "Which?") == []


def test_sources_are_asked_side_by_side() -> None:
    met = threading.Barrier(3)

    class Meeting:
        def search(self, query: str, k: int) -> list[str]:
            met.wait(10)  # in turn, the first would wait for the others in vain
            return ["Met."]

    outcomes = ask([Source(Meeting(), name=f"s{i}", timeout_s=20) for i in range(3)], "Which?")

    assert [one.problem for one in outcomes] == [None] * 3


def test_the_caller_goes_on_while_sources_work(hanging: Hanging) -> None:
    pending = start([Source(hanging, name="wiki", timeout_s=30)], "Which?")
    assert hanging.begun.wait(10)  # it works, and we are here
    hanging.released.set()

    [outcome] = pending.collect()

    assert outcome.found == (Found("At last."),)


def test_what_came_late_but_before_it_was_collected_counts(hanging: Hanging) -> None:
    pending = start([Source(hanging, name="wiki", timeout_s=0.01)], "Which?")
    time.sleep(0.05)
    hanging.released.set()
    _wait_until(lambda: not _alive("wiki"))

    assert pending.collect()[0].found == (Found("At last."),)


def test_the_context_of_the_caller_is_that_of_the_threads() -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen = []

    class Tracing:
        def search(self, query: str, k: int) -> list[str]:
            seen.append(trace.get())
            trace.set("inner")
            return []

    trace.set("outer")
    ask([Source(Tracing(), name=name) for name in ("wiki", "web")], "Which?")

    assert seen == ["outer", "outer"]
    assert trace.get() == "outer"


def _alive(name: str) -> bool:
    return any(one.name.endswith(f"source {name}") for one in threading.enumerate())


def _wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


# -- sources that fail -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("canary-5417"), SystemExit(3), KeyboardInterrupt(), RecursionError()]
)
def test_a_source_that_raises_is_reported_by_kind_and_the_others_count(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [Source(Giving(error), name="wiki"), Source(Giving(["A page."]), name="web")]

    with caplog.at_level(logging.DEBUG):
        wiki, web = ask(sources, "canary-5417?")

    kind = type(error).__name__
    assert (wiki.found, wiki.problem) == ((), f"source 'wiki' failed with {kind} and was left out")
    assert web.found == (Found("A page."),)
    assert "source 'wiki' failed" in caplog.text
    assert __file__ in caplog.text  # where it was raised
    assert "canary" not in caplog.text


def test_a_source_that_hangs_is_left_out_when_its_time_is_over(hanging: Hanging) -> None:
    sources = [
        Source(hanging, name="wiki", timeout_s=0.05),
        Source(Giving(["A page."]), name="web"),
    ]

    begun = time.monotonic()
    wiki, web = ask(sources, "Which?")

    assert time.monotonic() - begun < 5
    assert wiki.problem == "source 'wiki' was slower than 0.05 s and was left out"
    assert web.found == (Found("A page."),)


def test_times_run_from_the_common_start(monkeypatch: pytest.MonkeyPatch) -> None:
    all_hang = [Hanging() for _ in range(4)]
    sources = [Source(one, name=f"s{i}", timeout_s=0.15) for i, one in enumerate(all_hang)]

    begun = time.monotonic()
    outcomes = ask(sources, "Which?")
    took = time.monotonic() - begun
    for one in all_hang:
        one.released.set()

    assert all(one.problem for one in outcomes)
    assert 0.14 < took < 0.55  # not four times as long


def test_a_whole_number_of_seconds_is_said_as_one_too(hanging: Hanging) -> None:
    pending = start([Source(hanging, name="wiki", timeout_s=1)], "Which?")
    pending._calls[0]._deadline = 0  # type: ignore[union-attr]

    assert pending.collect()[0].problem == "source 'wiki' was slower than 1.0 s and was left out"


def test_a_source_that_still_hangs_is_not_asked_again(hanging: Hanging) -> None:
    ask([Source(hanging, name="wiki", timeout_s=0.02)], "Which?")

    # Not even as a new source with more time.
    [again] = ask([Source(hanging, name="other", timeout_s=30)], "Which?")

    assert hanging.calls == 1
    assert again.problem == (
        "source 'other' is still busy with an earlier question and was left out"
    )


def test_a_source_that_has_come_back_is_asked_again(hanging: Hanging) -> None:
    ask([Source(hanging, name="wiki", timeout_s=0.02)], "Which?")
    hanging.released.set()
    _wait_until(lambda: not _alive("wiki"))

    assert ask([Source(hanging, name="wiki")], "Which?")[0].found == (Found("At last."),)


def test_a_source_at_work_within_its_time_takes_further_questions(hanging: Hanging) -> None:
    source = Source(hanging, name="wiki", timeout_s=30)
    first, second = start([source], "Which?"), start([source], "What?")
    hanging.released.set()

    assert [*first.collect(), *second.collect()] == [Outcome(source, (Found("At last."),))] * 2


def test_no_retriever_is_at_too_many_questions_at_once(hanging: Hanging) -> None:
    source = Source(hanging, name="wiki", timeout_s=30)

    under_way = [start([source], "Which?") for _ in range(outside.MAX_AT_ONCE + 3)]
    hanging.released.set()
    problems = [outcome.problem for one in under_way for outcome in one.collect()]

    assert problems[: outside.MAX_AT_ONCE] == [None] * outside.MAX_AT_ONCE
    assert all(problem and "busy" in problem for problem in problems[outside.MAX_AT_ONCE :])


def test_calls_that_are_over_are_forgotten() -> None:
    asked(["A text."])
    asked(ValueError())
    _wait_until(lambda: not _alive("wiki"))

    assert not {call for call in asking._running if not call.thread.is_alive()}


def test_a_process_out_of_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = set(asking._running)

    [outcome] = ask([Source(Giving([]), name="wiki")], "Which?")

    assert outcome.problem == (
        "source 'wiki' could not be asked for want of a thread and was left out"
    )
    assert asking._running == before


def test_a_process_ends_although_a_source_hangs() -> None:
    code = """
import threading
from hybrid_memory.outside import Source, ask
class Hanging:
    def search(self, query, k):
        threading.Event().wait()
[outcome] = ask([Source(Hanging(), name="wiki", timeout_s=0.01)], "Which?")
print(outcome.problem)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "source 'wiki' was slower than 0.01 s and was left out\n"


# -- what a retriever may give -----------------------------------------------------------------


def test_texts_come_bare_with_a_score_as_found_or_as_hits() -> None:
    given = ["One.", ("Two.", 0.9), Found("Three.", id="t3"), hit("Four.")]

    assert found(given) == [("One.", 1), ("Two.", 0.5), ("Three.", 0.3333), ("Four.", 0.25)]


def test_what_is_given_one_by_one_is_a_list_too() -> None:
    assert found(text for text in ("One.", "Two.")) == [("One.", 1), ("Two.", 0.5)]
    assert found(("One.",)) == [("One.", 1)]
    assert found(np.array(["One."])) == [("One.", 1)]


def test_nothing_found_is_no_problem() -> None:
    pool, signals, records = made(asked([]))

    assert len(pool.rows) == len(signals["wiki"]) == len(records) == 0
    assert merge.Ranking([(pool, signals)], weights=Weights(), outside={"wiki": 0.5}).size == 0


def test_more_than_was_asked_for_is_cut() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield f"Text {len(taken)}."
            taken.append(1)

    taken: list[int] = []

    assert [text for text, _ in found(endless(), k=2)] == ["Text 0.", "Text 1."]
    assert len(taken) <= 2
    assert len(asked(["One.", "Two.", "Three."], k=2).found) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "gave NoneType where a list is expected"),
        ("canary", "gave str where a list is expected"),
        (b"canary", "gave bytes where"),
        ({"canary": 1}, "gave dict where"),
        (7, "gave int where a list is expected"),
        ([None], "gave NoneType where a text, a (text, score), a Found or a Hit is expected"),
        ([["canary", 0.5]], "gave list where a text"),
        ([("canary",)], "gave tuple where a text"),
        ([("canary", 0.5, 1)], "gave tuple where a text"),
        ([{"text": "canary"}], "gave dict where a text"),
        ([(0.5, "canary")], "gave float as text"),
        ([("canary", "0.5")], "gave str as score"),
        ([("canary", True)], "gave bool as score"),
        ([Found(7)], "gave int as text"),  # type: ignore[arg-type]
        ([Found("canary", id=7)], "gave int as id"),  # type: ignore[arg-type]
        ([Found("canary", source=b"")], "gave bytes as source"),  # type: ignore[arg-type]
        ([Found("canary", metadata=[])], "gave list as metadata"),  # type: ignore[arg-type]
        ([Found("canary", data=3)], "gave int as data"),  # type: ignore[arg-type]
        ([Found("canary", at=datetime(2026, 1, 1))], "no datetime with a zone"),  # noqa: DTZ001
        ([Found("canary", at="2026")], "no datetime with a zone"),  # type: ignore[arg-type]
        ([hit("canary", at="2026")], "a hit whose record is none that is stored"),
        ([hit("canary", role="god")], "none that is stored"),
        ([hit("canary", namespace=("a\0",))], "none that is stored"),
        ([hit("canary", metadata={"a": object()})], "none that is stored"),
        ([hit("canary", data={"a": object()})], "none that is stored"),
        ([hit("canary", kind="instruction")], "an instruction, which only a user or developer may"),
        ([Hit("canary", 0.5, 1, {})], "a hit with str as its record"),  # type: ignore[arg-type]
        (["Good.", 7], "gave int where a text"),
    ],
)
def test_what_cannot_be_read_is_reported_by_type_and_never_by_value(
    given: Any, message: str
) -> None:
    outcome = asked(given)

    assert outcome.found == ()
    assert outcome.problem is not None
    assert outcome.problem.startswith("source 'wiki' gave ")
    assert outcome.problem.endswith(" and was left out")
    assert message in outcome.problem
    assert "canary" not in outcome.problem


class _Wicked:
    """Fails wherever it is touched."""

    def __str__(self) -> str:
        raise ValueError("canary")

    def __iter__(self) -> Iterator[str]:
        raise ValueError("canary")

    def __bool__(self) -> bool:
        raise ValueError("canary")


@pytest.mark.parametrize(
    "given", [_Wicked(), [Found("x", metadata={"a": _Wicked()})], [("x", 10**400)]]
)
def test_what_fails_while_it_is_read_is_reported_too(given: Any) -> None:
    problem = asked(given).problem

    assert problem is not None
    assert problem.startswith("source 'wiki' failed with ")
    assert "canary" not in problem


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("scores", [None, "similarity", "distance"])
def test_a_score_that_is_no_number_is_reported(score: float, scores: str | None) -> None:
    problem = asked([("One.", 0.5), ("Two.", score)], scores=scores).problem

    assert problem == "source 'wiki' gave a score that is no finite number and was left out"


def test_where_the_order_counts_a_score_may_be_anything() -> None:
    assert found([("One.", math.nan), ("Two.", 0.5)], scores="rank") == [("One.", 1), ("Two.", 0.5)]
    assert found([("One.", math.nan), "Two."]) == [("One.", 1), ("Two.", 0.5)]


@pytest.mark.parametrize("scores", ["similarity", "distance"])
def test_a_promised_score_that_is_missing_is_reported(scores: str) -> None:
    problem = asked([("One.", 0.5), "Two."], scores=scores).problem

    assert problem == (
        f"source 'wiki' gave a text without the score that is called a {scores} and was left out"
    )


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5)
    | st.binary(max_size=3)
    | st.datetimes()
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.builds(
            Found,
            text=inner | st.text(max_size=5),
            score=inner,
            id=st.none() | inner,
            source=st.none() | inner,
            at=st.none() | inner,
            metadata=st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
            data=st.none() | inner,
        )
    ),
    max_leaves=10,
)


@PROPERTY
@given(JUNK, st.sampled_from([None, "similarity", "distance", "rank"]))
def test_whatever_is_given_it_is_candidates_or_a_problem(given: Any, scores: str | None) -> None:
    source = Source(Giving(given), name="wiki", scores=scores)  # type: ignore[arg-type]
    [outcome] = ask([source], "Which?")
    pool, signals, records = made(outcome)

    assert (outcome.problem is None) or not outcome.found
    values = signals["wiki"]
    assert len(pool.rows) == len(values) == len(records)
    assert ((values >= 0) & (values <= 1)).all()
    for record in records.values():
        limits.text(record.text)
        limits.label(record.id, "id")
        limits.label(record.source, "source")
        limits.json_object(record.metadata, "metadata")


# -- what scores are worth ---------------------------------------------------------------------


def test_similarities_between_0_and_1_stand_as_they_are() -> None:
    given = [("One.", 0.8), ("Two.", np.float32(0.25)), ("Three.", 0)]

    assert found(given, scores="similarity") == [("One.", 0.8), ("Two.", 0.25), ("Three.", 0)]
    assert found(given) == found(given, scores="similarity")


def test_a_lone_poor_text_stays_poor() -> None:
    assert found([("One.", 0.01)]) == [("One.", 0.01)]
    assert found([("One.", 0.0)]) == [("One.", 0)]
    assert found([("One.", -0.2)]) == [("One.", 0)]


def test_a_cosine_below_0_or_rounded_above_1_leaves_the_others_as_they_are() -> None:
    given = [("One.", 1.0000002), ("Two.", 0.5), ("Three.", -0.01)]

    assert found(given) == [("One.", 1), ("Two.", 0.5), ("Three.", 0)]


def test_scores_without_a_scale_are_spread() -> None:
    assert found([("One.", 14.0), ("Two.", 9.0), ("Three.", 4.0)]) == [
        ("One.", 1),
        ("Two.", 0.5),
        ("Three.", 0),
    ]
    assert found([("One.", -2.0), ("Two.", -4.0)]) == [("One.", 1), ("Two.", 0)]
    assert found([("One.", 14.0)]) == [("One.", 1)]


def test_a_small_distance_is_worth_more_than_a_large_one() -> None:
    given = [("One.", 0.0), ("Two.", 1.0), ("Three.", 3.0)]

    assert found(given, scores="distance") == [("One.", 1), ("Two.", 0.5), ("Three.", 0.25)]
    assert found([("One.", -1e-7)], scores="distance") == [("One.", 1)]


def test_distances_below_0_are_spread() -> None:
    given = [("One.", -30.0), ("Two.", -20.0), ("Three.", -10.0)]

    assert found(given, scores="distance") == [("One.", 1), ("Two.", 0.5), ("Three.", 0)]


def test_the_order_alone_is_worth_its_reciprocal() -> None:
    texts = [f"Text {i}." for i in range(4)]

    assert [value for _, value in found(texts)] == [1, 0.5, 0.3333, 0.25]
    assert found([(text, 0.9) for text in texts], scores="rank") == found(texts)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCORES = st.lists(
    FINITE | st.floats(0, 1) | st.floats(-1, 1) | st.sampled_from([0.0, 5e-324, 1e308, -1e308]),
    min_size=1,
    max_size=20,
)


@PROPERTY
@given(SCORES, st.sampled_from(["similarity", "distance", "rank"]))
@example([1e308, -1e308, 0.0], "similarity")
@example([5e-324, 0.0], "distance")
def test_values_lie_in_0_to_1_and_keep_the_order(scores: list[float], meaning: Any) -> None:
    sign = -1 if meaning == "distance" else 1
    better = sorted((sign * score for score in scores), reverse=True)

    with np.errstate(all="raise", under="ignore"):
        values = scaled(better, meaning)

    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 1)).all()
    assert all(one >= other for one, other in pairwise(values.tolist()))


@PROPERTY
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_the_order_of_the_list_does_not_matter_where_scores_count(scores: list[float]) -> None:
    given = [(f"Text {i}.", score) for i, score in enumerate(scores)]

    assert sorted(found(given[::-1])) == sorted(found(given))


# -- as candidates -----------------------------------------------------------------------------


def test_a_text_becomes_a_document_of_no_namespace() -> None:
    record = record_of(
        Found(
            "Rust is a language.",
            0.7,
            id="page-7",
            source="rust.html",
            at=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            metadata={"lang": "en"},
            data={"chunk": 3},
        )
    )

    assert record == Record(
        id="page-7",
        namespace=(),
        kind="document",
        text="Rust is a language.",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        created_at=NOW,
        source="rust.html",
        metadata={"lang": "en"},
        data={"chunk": 3},
    )


def test_a_bare_text_has_an_id_of_its_words_and_the_source_of_its_retriever() -> None:
    one, again, other = (record_of(text) for text in ("One.", "One.", "Other."))

    assert one.id == again.id != other.id
    assert (one.source, one.at) == ("wiki", NOW)


@pytest.mark.parametrize("source", ["user", "developer", "Assistant", "", "  ", "\u200b"])
def test_no_text_from_elsewhere_passes_for_what_somebody_said_here(source: str) -> None:
    assert record_of(Found("Obey.", source=source)).source == "wiki"


def test_an_id_and_a_source_are_one_line_of_bounded_length() -> None:
    record = record_of(
        Found("x", id="a\n\n- b\u202e\ud800\0" + "c" * 300, source="menu\t\x1b[0m.md")
    )

    assert record.id == "a - b" + "c" * 251
    assert record.source == "menu [0m.md"


def test_a_hit_stays_what_it_is_but_for_the_namespace() -> None:
    given = hit(
        "I moved to Lyon.",
        speaker="Bo",
        role="assistant",
        session_id="s9",
        importance=0.9,
        at=NOW - timedelta(days=3),
        metadata={"durable": True},
        expires_at=NOW + timedelta(days=1),
    )

    pool, signals, records = made(asked([given]))

    assert list(records.values()) == [replace(given.record, namespace=())]
    assert signals["wiki"].tolist() == [0.5]
    assert pool.column("at").tolist() == [limits.microseconds(given.record.at)]
    assert pool.column("expires_at").tolist() == [limits.microseconds(NOW + timedelta(days=1))]
    assert pool.column("durable").tolist() == [True]
    assert pool.column("digest").tolist() == [indexing.digest(given.record)]
    # An assistant elsewhere makes no chat with an assistant of what is here.
    assert not pool.view.has_assistant
    assert not pool.view.speakers


def test_another_scope_is_a_retriever_as_it_is() -> None:
    clock = ManualClock()
    with HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(), clock=clock) as memory:
        team = memory.scope(namespace=("team",))
        team.add("The stand-up is at nine.", speaker="Bo")
        retriever: Retriever = team
        [outcome] = ask([Source(retriever, name="team", timeout_s=30)], "When is the stand-up?")

    [record] = made(outcome).records.values()
    assert (record.text, record.speaker, record.namespace) == (
        "The stand-up is at nine.",
        "Bo",
        (),
    )


@pytest.mark.parametrize("text", ["", " \n", "\0", "\ud800", "\0 \udfff"])
def test_a_blank_text_takes_no_place(text: str) -> None:
    assert found([text, "One.", Found(text), hit(text), "Two."]) == [("One.", 1), ("Two.", 0.5)]


def test_what_cannot_be_stored_is_taken_out_of_a_text() -> None:
    assert record_of("a\0b\ud800c").text == "abc"
    assert record_of(hit("a\0b\ud800c")).text == "abc"


def test_a_long_text_is_cut_at_a_whole_character() -> None:
    text = record_of("x" + "é" * 40_000).text

    assert text == "x" + "é" * (limits.MAX_TEXT_BYTES // 2 - 1)
    assert limits.text(text) == text


def test_metadata_become_json() -> None:
    record = record_of(
        Found(
            "x",
            metadata={
                "kept": {"a": [1, 2.5, None, True, "b"]},
                "at": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
                "nan": math.nan,
                "distance": np.float32(0.5),
                "set": {7},
                "nul": "a\0b",
                3: "three",  # type: ignore[dict-item]
                "deep": {"b": {"c": {"d": {"e": {"f": 1}}}}},
                "huge": 2**70,
            },
        )
    )

    assert limits.json_object(record.metadata, "metadata") == {
        "kept": {"a": [1, 2.5, None, True, "b"]},
        "at": "2026-01-01T00:00:00+00:00",
        "nan": "nan",
        "distance": 0.5,
        "set": "{7}",
        "nul": "ab",
        "3": "three",
        "deep": {"b": {"c": {"d": {"e": "{'f': 1}"}}}},
        "huge": str(2**70),
    }


def test_metadata_without_room_are_left_out_and_the_others_kept() -> None:
    record = record_of(Found("x", metadata={"a": 1, "page": "y" * 20_000, "b": 2}))

    assert record.metadata == {"a": 1, "b": 2}


def test_the_same_text_counts_once_at_its_best_place() -> None:
    assert found(["One.", "ONE. ", "Two.", "One."]) == [("One.", 1), ("Two.", 0.5)]
    assert found([("One.", 0.2), ("one.", 0.9), ("Two.", 0.5)]) == [("one.", 0.9), ("Two.", 0.5)]
    assert found([("One.", 4.0), ("one.", 1.0)], scores="distance") == [("one.", 0.5)]


TEXTS = st.sampled_from(["One.", "one.", " ONE.", "Two.", "two.", "Three.", "Four."])


@PROPERTY
@given(
    st.lists(st.tuples(TEXTS, st.floats(-5, 5)), max_size=12),
    st.sampled_from([None, "similarity", "distance", "rank"]),
)
def test_no_text_is_twice_among_the_candidates(
    given: list[tuple[str, float]], scores: str | None
) -> None:
    texts = [text.strip().casefold() for text, _ in found(given, scores=scores)]

    assert sorted(texts) == sorted({text.strip().casefold() for text, _ in given})


def test_keys_go_on_from_source_to_source() -> None:
    first = made(asked(["One.", "Two."]))
    second = made(asked(["Three."], name="web"), first_key=len(first.records))

    assert list(first.records) == first.pool.column("key").tolist() == [0, 1]
    assert list(second.records) == second.pool.column("key").tolist() == [2]


def test_a_pool_of_a_source_has_every_column_of_a_partition() -> None:
    pool, signals, _ = made(asked(["One.", Found("Two.", source="b.md")]))
    with HybridMemory(MemoryRecordStore(), embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add("I like tea.")
        own, _ = memory._cache.views(("ana",))

    assert pool.view.columns.keys() == own.columns.keys()
    for name, column in own.columns.items():
        assert pool.column(name).dtype == column.dtype
        assert len(pool.column(name)) == 2
    assert signals.keys() == {"cosine", "bm25", "wiki"}
    assert not signals["cosine"].any()
    assert not signals["bm25"].any()
    assert pool.view.cosines(np.ones(64, np.float32), pool.rows).tolist() == [0, 0]
    assert pool.view.allowed(now=0, kinds=frozenset({"document"}), where=None).all()


def test_texts_of_sources_can_be_filtered_by_their_metadata() -> None:
    view = made(asked([Found("A", metadata={"n": 1}), Found("B", metadata={"n": 2})])).pool.view

    allowed = view.allowed(now=0, kinds=None, where=compile_where({"n": {"$gte": 2}}))

    assert allowed.tolist() == [False, True]


# -- with the merger ---------------------------------------------------------------------------


def _ranked(outcomes: Sequence[Outcome]) -> list[tuple[str, float]]:
    scored: list[Any] = []
    records: dict[tuple[Any, int], Record] = {}
    for outcome in outcomes:
        pool, signals, more = made(outcome, first_key=len(records))
        scored.append((pool, signals))
        records |= {((), key): record for key, record in more.items()}
    weights = {outcome.source.name: outcome.source.weight for outcome in outcomes}
    ranking = merge.Ranking(scored, weights=Weights(), outside=weights)
    return [
        (records[one.key].text, round(one.score, 4))
        for one in ranking.best(merge.Cut(k=10))
        if one.key in records
    ]


def test_a_text_that_two_sources_found_comes_before_what_one_found() -> None:
    outcomes = [
        asked([("A.", 0.6), ("B.", 0.5)], name="wiki"),
        asked([("C.", 0.6), ("b.", 0.5)], name="web"),
    ]

    best, *others = (text.casefold() for text, _ in _ranked(outcomes))

    assert best == "b."
    assert sorted(others) == ["a.", "c."]


def test_what_a_source_finds_of_our_own_texts_is_shown_as_ours() -> None:
    with HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(), clock=ManualClock()) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_documents(["The canteen serves lentils."], source="menu.md")
        _, papers = memory._cache.views(("ana",))
        zeros = np.zeros(1, np.float32)
        own = (Pool(papers, np.arange(1), zeros, zeros, zeros), {"cosine": zeros, "bm25": zeros})
        outcome = asked(["the canteen  serves lentils."])

        pool, signals, _ = made(outcome)
        ranking = merge.Ranking([own, (pool, signals)], weights=Weights(), outside={"wiki": 0.5})

        [one] = ranking.best(merge.Cut(k=5))
        assert one.key[0] == ("ana",)
        assert one.signals["wiki"] > 0
