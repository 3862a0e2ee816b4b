"""Recall on the two public formats: the files, the metrics, the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_memory import HybridMemory
from hybrid_memory.backends.onnx import count_tokens
from hybrid_memory.errors import HybridMemoryError, InvalidInputError
from hybrid_memory.evaluation import (
    METRICS,
    CachedEmbedder,
    Case,
    Question,
    Turn,
    evaluate,
    load_locomo,
    load_longmemeval,
    ndcg_at,
    pack,
    recall_at,
    reciprocal_rank,
    score,
    temporary_memory,
)
from hybrid_memory.testing import HashEmbedder

GARDEN = {
    "sample_id": "garden",
    "conversation": {
        "speaker_a": "Mira",
        "speaker_b": "Tobias",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Mira", "dia_id": "D1:1", "text": "I planted tomatoes on the balcony."},
            {
                "speaker": "Tobias",
                "dia_id": "D1:2",
                "text": "Look at my new kayak!",
                "img_url": ["https://example.org/kayak.jpg"],
                "blip_caption": "a red kayak on a lake",
                "query": "red kayak",
            },
            {"speaker": "Mira", "dia_id": "D1:3", "text": ""},
        ],
        "session_2_date_time": "12:09 am on 13 September, 2023",
        "session_2": [
            {"speaker": "Tobias", "dia_id": "D2:1", "text": "My sister Ines moved to Porto."},
            {"speaker": "Mira", "dia_id": "D2:2", "text": "The tomatoes caught mildew."},
        ],
        "session_3_date_time": "9:00 am on 1 October, 2023",
    },
    "event_summary": {"session_1": "never to be used"},
    "qa": [
        {
            "question": "What became of Mira's tomatoes?",
            "answer": "Mildew",
            "evidence": ["D1:1; D2:2"],
            "category": 1,
        },
        {
            "question": "When did Tobias buy a kayak?",
            "answer": 2023,
            "evidence": ["D:1:02"],
            "category": 2,
        },
        {"question": "Where might Ines swim?", "evidence": ["D2:1", "D9:9"], "category": 3},
        {"question": "Where did Ines move?", "evidence": ["D2:1", "D2:1"], "category": 4},
        {"question": "What is unknown?", "evidence": ["D7:7", "D"], "category": 4},
        {"question": "What is not even cited?", "evidence": [], "category": 4},
        {
            "question": "Where did Mira move?",
            "evidence": ["D2:1"],
            "category": 5,
            "adversarial_answer": "Porto",
        },
    ],
}

BREAD = {
    "question_id": "bread",
    "question_type": "single-session-user",
    "question": "Which flour do I use for my bread?",
    "answer": "Rye",
    "question_date": "2023/05/30 (Tue) 23:40",
    "haystack_session_ids": ["noise", "answer_1"],
    "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/28 (Sun) 11:05"],
    "haystack_sessions": [
        [
            {"role": "user", "content": "How far is the moon?"},
            {"role": "assistant", "content": "About 384,000 km."},
        ],
        [
            {"role": "user", "content": "I bake my bread with rye flour.", "has_answer": True},
            {"role": "assistant", "content": " "},
            {"role": "assistant", "content": "Rye is a fine flour.", "has_answer": False},
        ],
    ],
    "answer_session_ids": ["answer_1"],
}


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def garden(tmp_path: Path) -> Case:
    return load_locomo(written(tmp_path / "locomo.json", [GARDEN]))[0]


@pytest.fixture
def bread(tmp_path: Path) -> Case:
    return load_longmemeval(written(tmp_path / "longmemeval.json", [BREAD]))[0]


@pytest.fixture
def memory() -> Iterator[HybridMemory]:
    with temporary_memory(HashEmbedder()) as opened:
        yield opened


# LoCoMo


def test_turns_keep_speaker_session_time_and_order(garden: Case) -> None:
    assert garden.name == "garden"
    assert [turn.id for turn in garden.turns] == ["D1:1", "D1:2", "D2:1", "D2:2"]
    assert [turn.speaker for turn in garden.turns] == ["Mira", "Tobias", "Tobias", "Mira"]
    assert [turn.session_id for turn in garden.turns] == ["session_1"] * 2 + ["session_2"] * 2
    assert garden.turns[0].at == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert garden.turns[1].at == datetime(2023, 5, 8, 13, 56, 1, tzinfo=UTC)
    assert garden.turns[2].at == datetime(2023, 9, 13, 0, 9, tzinfo=UTC)


def test_the_caption_of_a_photo_is_part_of_the_turn(garden: Case) -> None:
    assert garden.turns[1].text == "Look at my new kayak! [shares a photo: a red kayak on a lake]"


def test_questions_are_asked_at_the_end_of_the_last_session(garden: Case) -> None:
    assert garden.now == datetime(2023, 9, 13, 0, 9, 2, tzinfo=UTC)


def test_evidence_ids_are_repaired(garden: Case) -> None:
    assert [question.evidence for question in garden.questions] == [
        ("D1:1", "D2:2"),
        ("D1:2",),
        ("D2:1",),
        ("D2:1",),
    ]


@pytest.mark.parametrize(
    "evidence",
    [["D1:1", "D2:2"], ["D1:1 D2:2"], ["D1:1,D2:2"], "D1:1; D2:2", ["D:1:1", "D02:02"]],
)
def test_evidence_is_split_on_anything(evidence: Any, tmp_path: Path) -> None:
    sample = {**GARDEN, "qa": [{"question": "What?", "evidence": evidence, "category": 1}]}

    [case] = load_locomo(written(tmp_path / "locomo.json", [sample]))

    assert case.questions[0].evidence == ("D1:1", "D2:2")


def test_categories_have_the_names_of_the_protocol(garden: Case) -> None:
    assert [question.category for question in garden.questions] == [
        "multi-hop",
        "temporal",
        "open-domain",
        "single-hop",
    ]


def test_what_is_left_out_is_counted(garden: Case) -> None:
    assert garden.left_out == {
        "empty or repeated turns": 1,
        "questions without evidence": 2,
        "adversarial questions": 1,
    }


# LongMemEval


def test_a_question_comes_with_its_sessions(bread: Case) -> None:
    assert bread.name == "bread"
    assert [(turn.role, turn.session_id) for turn in bread.turns] == [
        ("user", "noise"),
        ("assistant", "noise"),
        ("user", "answer_1"),
        ("assistant", "answer_1"),
    ]
    assert bread.turns[1].at == datetime(2023, 5, 20, 2, 21, 1, tzinfo=UTC)
    assert bread.now == datetime(2023, 5, 30, 23, 40, tzinfo=UTC)
    [question] = bread.questions
    assert question.category == "single-session-user"
    assert question.evidence == (bread.turns[2].id,)
    assert bread.left_out == {"empty or repeated turns": 1}


def test_a_question_is_never_asked_before_its_last_session_ends(tmp_path: Path) -> None:
    item = {**BREAD, "question_date": "2023/05/01 (Mon) 10:00"}

    [case] = load_longmemeval(written(tmp_path / "longmemeval.json", [item]))

    assert case.now == datetime(2023, 5, 28, 11, 5, 3, tzinfo=UTC)


def test_a_question_without_a_marked_turn_is_left_out(tmp_path: Path) -> None:
    unmarked = {**BREAD, "haystack_sessions": [BREAD["haystack_sessions"][0]] * 2}

    [case] = load_longmemeval(written(tmp_path / "longmemeval.json", [unmarked]))

    assert case.questions == ()
    assert case.left_out == {"questions without evidence": 1}


def test_a_session_may_stand_in_a_haystack_twice(tmp_path: Path) -> None:
    twice = {
        **BREAD,
        "haystack_session_ids": ["answer_1", "answer_1"],
        "haystack_sessions": [BREAD["haystack_sessions"][1]] * 2,
    }

    [case] = load_longmemeval(written(tmp_path / "longmemeval.json", [twice]))

    assert len({turn.id for turn in case.turns}) == len(case.turns) == 4


def test_a_text_that_no_record_can_hold_is_mended_and_counted(
    tmp_path: Path, memory: HybridMemory
) -> None:
    sessions = [
        [{"role": "user", "content": "é" * 40_000 + " end"}],
        [{"role": "user", "content": "a\0b \ud83d", "has_answer": True}],
    ]

    [case] = load_longmemeval(
        written(tmp_path / "longmemeval.json", [{**BREAD, "haystack_sessions": sessions}])
    )

    assert len(case.turns[0].text.encode()) == 65_536
    assert case.turns[1].text == "a b ?"
    assert case.left_out == {"texts cut to 64 KiB": 1}
    assert evaluate([case], memory=memory).turns == 2


# Both


def test_a_list_inside_of_an_object_is_found(tmp_path: Path) -> None:
    wrapped = {"license": "CC BY-NC 4.0", "conversations": [GARDEN, {**GARDEN, "sample_id": "b"}]}

    cases = load_locomo(written(tmp_path / "locomo.json", wrapped))

    assert [case.name for case in cases] == ["garden", "b"]


def without(value: Any, *path: str | int) -> Any:
    """Return a copy without the value at the end of the path."""
    copy = json.loads(json.dumps(value))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (["conversation"], r"locomo\.json\[1\] has no 'conversation'"),
        (["qa"], r"locomo\.json\[1\] has no 'qa'"),
        (["qa", 2, "question"], r"locomo\.json\[1\]\.qa\[2\] has no 'question'"),
        (["conversation", "session_2_date_time"], r"\.conversation has no 'session_2_date_time'"),
        (["conversation", "session_1", 0, "dia_id"], r"\.session_1\[0\] has no 'dia_id'"),
    ],
)
def test_a_missing_key_is_named_with_its_place(
    path: list[str | int], message: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "locomo.json", [GARDEN, without(GARDEN, *path)])

    with pytest.raises(InvalidInputError, match=message):
        load_locomo(file)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (["question"], r"longmemeval\.json\[0\] has no 'question'"),
        (["question_date"], r"longmemeval\.json\[0\] has no 'question_date'"),
        (["haystack_sessions"], r"longmemeval\.json\[0\] has no 'haystack_sessions'"),
        (["haystack_sessions", 1, 0, "role"], r"\.haystack_sessions\[1\]\[0\] has no 'role'"),
        (["haystack_dates", 0], r"haystack sessions, dates and ids differ in number"),
    ],
)
def test_a_missing_key_of_longmemeval_is_named(
    path: list[str | int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_longmemeval(written(tmp_path / "longmemeval.json", [without(BREAD, *path)]))


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"a": [1], "b": [2]}', "not JSON", "[1]"])
def test_another_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)

    for load in (load_locomo, load_longmemeval):
        with pytest.raises(InvalidInputError, match=r"other\.json"):
            load(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot read"):
        load_locomo(tmp_path / "nowhere.json")


def test_a_time_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    conversation = {**GARDEN["conversation"], "session_2_date_time": "some day"}
    file = written(tmp_path / "locomo.json", [{**GARDEN, "conversation": conversation}])

    with pytest.raises(
        InvalidInputError, match=r"'session_2_date_time'.*is not a time: 'some day'"
    ):
        load_locomo(file)


# Metrics

RANKED = ["a", "x", "b", "y", "z", "c", "p", "q", "r", "s", "d"]


def test_recall_is_the_share_of_the_evidence() -> None:
    assert recall_at(RANKED, ("a", "b", "c", "d"), 5) == 0.5
    assert recall_at(RANKED, ("a", "b", "c", "d"), 10) == 0.75
    assert recall_at(RANKED, ("a", "b", "c", "d"), 20) == 1
    assert recall_at([], ("a",), 5) == 0


def test_ndcg_discounts_by_rank_and_divides_by_the_ideal() -> None:
    found = 1 / log2(2) + 1 / log2(4) + 1 / log2(7)
    ideal = 1 / log2(2) + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)

    assert ndcg_at(RANKED, ("a", "b", "c", "d"), 10) == pytest.approx(found / ideal)
    assert ndcg_at(["a", "b"], ("b", "a"), 10) == 1
    # Twelve evidence turns cannot all be in ten ranks; ten are the ideal.
    assert ndcg_at(list("abcdefghij"), tuple("abcdefghijkl"), 10) == 1


def test_the_reciprocal_rank_is_that_of_the_first_evidence() -> None:
    assert reciprocal_rank(RANKED, ("b", "c")) == pytest.approx(1 / 3)
    assert reciprocal_rank(RANKED, ("w",)) == 0


def test_a_line_that_does_not_fit_is_skipped_and_a_shorter_one_taken() -> None:
    assert pack(["a", "b", "c", "d"], [100, 160, 140, 11], 250) == ["a", "c"]
    assert pack(["a", "b", "c", "d"], [100, 160, 140, 10], 250) == ["a", "c", "d"]


def test_any_and_all_and_the_budgets() -> None:
    scores = score(RANKED, [100] * len(RANKED), ("a", "b", "c", "d"))

    assert scores["any@10"] == 1
    assert scores["all@10"] == 0
    assert scores["mrr"] == 1
    assert [scores[f"t{n}"] for n in (250, 500, 1000, 2000)] == [0.25, 0.5, 0.75, 1]


def test_nothing_beyond_150_ranks_counts() -> None:
    ranked = [str(i) for i in range(200)]

    assert score(ranked, [1] * 200, ("149",))["t2000"] == 1
    assert score(ranked, [1] * 200, ("150",))["t2000"] == 0
    assert score(ranked, [1] * 200, ("150",))["mrr"] == 0


@given(
    st.lists(st.integers(0, 40), unique=True),
    st.sets(st.integers(0, 60), min_size=1),
    st.integers(0, 200),
)
def test_metrics_are_shares_and_grow_with_depth(
    ranked: list[int], evidence: set[int], cost: int
) -> None:
    ids = [str(turn) for turn in ranked]
    scores = score(ids, [cost + turn for turn in ranked], {str(turn) for turn in evidence})

    assert tuple(scores) == METRICS
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores["recall@5"] <= scores["recall@10"] <= scores["recall@20"]
    assert scores["all@10"] <= scores["recall@10"] <= scores["any@10"]
    assert (scores["ndcg@10"] > 0) == (scores["any@10"] == 1)


@given(st.sets(st.integers(0, 200), min_size=1, max_size=10))
def test_a_perfect_ranking_scores_one_everywhere_but_at_5(evidence: set[int]) -> None:
    ids = [str(turn) for turn in sorted(evidence)]
    scores = score([*ids, "x", "y"], [1] * (len(ids) + 2), ids)

    del scores["recall@5"]
    assert set(scores.values()) == {1.0}


# The run


def test_every_question_is_scored_and_the_run_disclosed(
    garden: Case, memory: HybridMemory, tmp_path: Path
) -> None:
    report = evaluate([garden], memory=memory)

    assert len(report.results) == 4
    assert report.turns == 4
    # Four turns: whatever the order, all are within ten ranks.
    assert report.overall["recall@10"] == report.overall["all@10"] == 1
    assert report.results[0].ranks.keys() == {"D1:1", "D2:2"}
    assert report.left_out == garden.left_out
    assert report.sha256 == (sha256((tmp_path / "locomo.json").read_bytes()).hexdigest(),)
    assert report.embedder == HashEmbedder().name
    assert report.weights
    assert 0 < report.search_ms(50) <= report.search_ms(95)


def test_the_cost_of_a_line_is_its_word_pieces_and_one_more(memory: HybridMemory) -> None:
    at = datetime(2023, 5, 8, tzinfo=UTC)

    def recall_within_250(words: int) -> float:
        text = " ".join(["tomato"] * words)
        turn = Turn("1", text, "s", at, speaker="Mira")
        case = Case(f"{words} words", (turn,), (Question("tomato", ("1",), "any"),), at)
        return evaluate([case], memory=memory).overall["t250"]

    frame = count_tokens("[08 May 2023] Mira: ")
    word = count_tokens("tomato")

    assert recall_within_250((249 - frame) // word) == 1
    assert recall_within_250((249 - frame) // word + 1) == 0


def test_cases_share_a_store_and_never_a_hit(
    garden: Case, bread: Case, memory: HybridMemory
) -> None:
    alone = evaluate([garden], memory=memory)

    with temporary_memory(HashEmbedder()) as shared:
        both = evaluate([bread, garden], memory=shared)

    assert [r.ranks for r in both.results[1:]] == [r.ranks for r in alone.results]
    assert [r.case for r in both.results] == ["bread"] + ["garden"] * 4


def test_a_hit_that_is_not_of_the_case_is_an_error(garden: Case, memory: HybridMemory) -> None:
    memory.scope(namespace=("evaluation", "garden")).add("Tomatoes from elsewhere.", at=garden.now)

    with pytest.raises(HybridMemoryError, match="not a turn of its case"):
        evaluate([garden], memory=memory)


def test_two_cases_of_one_name_are_refused(garden: Case, memory: HybridMemory) -> None:
    with pytest.raises(InvalidInputError, match="same name"):
        evaluate([garden, garden], memory=memory)


def test_nothing_to_ask_is_refused(memory: HybridMemory) -> None:
    with pytest.raises(InvalidInputError, match="no case has a question"):
        evaluate([], memory=memory)


def test_a_case_without_questions_is_counted_and_not_stored(
    bread: Case, garden: Case, memory: HybridMemory
) -> None:
    silent = Case("silent", bread.turns, (), bread.now, {"questions without evidence": 1})

    report = evaluate([silent, garden], memory=memory)

    assert report.left_out["questions without evidence"] == 3
    assert memory.scope(namespace=("evaluation", "silent")).stats().total == 0


def test_progress_counts_turns_and_questions(garden: Case, memory: HybridMemory) -> None:
    seen: list[tuple[int, int]] = []

    evaluate([garden], memory=memory, on_progress=lambda done, total: seen.append((done, total)))

    assert seen == [(4, 8), (5, 8), (6, 8), (7, 8), (8, 8)]


def test_the_report_is_json_and_holds_no_text(
    garden: Case, bread: Case, memory: HybridMemory
) -> None:
    report = evaluate([garden, bread], memory=memory)

    text = json.dumps(report.as_dict(), allow_nan=False)

    assert "tomatoes" not in text
    assert "rye" not in text
    assert json.loads(text)["by_category"].keys() == {
        "multi-hop",
        "temporal",
        "open-domain",
        "single-hop",
        "single-session-user",
    }
    assert json.loads(text)["by_case"].keys() == {"bread", "garden"}


def test_the_table_has_a_row_for_each_category_and_one_for_all(
    garden: Case, memory: HybridMemory
) -> None:
    header, *rows = evaluate([garden], memory=memory).rows()

    assert header == ["category", "questions", *METRICS]
    assert [row[0] for row in rows] == [
        "multi-hop",
        "open-domain",
        "single-hop",
        "temporal",
        "all",
    ]
    assert rows[-1][1] == "4"
    assert rows[-1][header.index("recall@10")] == "100.0"


def test_the_interval_is_drawn_over_cases(garden: Case, bread: Case, memory: HybridMemory) -> None:
    one = evaluate([garden], memory=memory)
    with temporary_memory(HashEmbedder()) as another:
        two = evaluate([garden, bread], memory=another)

    assert one.interval("mrr") is None
    interval = two.interval("mrr")
    assert interval is not None
    assert interval[0] <= two.overall["mrr"] <= interval[1]
    assert two.interval("mrr") == interval


# The cache


def test_no_text_is_embedded_twice() -> None:
    class Counting(HashEmbedder):
        texts: list[str] = []  # noqa: RUF012 (of this test only)

        def embed(self, texts: Any) -> Any:
            self.texts.extend(texts)
            return super().embed(texts)

    cached = CachedEmbedder(Counting())

    first = cached.embed(["a", "b", "a"])
    second = cached.embed(["b", "c"])

    assert Counting.texts == ["a", "b", "c"]
    assert (first[0] == first[2]).all()
    assert (first[1] == second[0]).all()
    assert cached.embed([]).shape == (0, cached.dim)
    assert (first == HashEmbedder().embed(["a", "b", "a"])).all()


def test_a_repeated_run_on_the_same_store_gives_the_same_ranks(
    garden: Case, memory: HybridMemory
) -> None:
    first = evaluate([garden], memory=memory)
    second = evaluate([garden], memory=memory)

    assert [r.ranks for r in first.results] == [r.ranks for r in second.results]
