"""The product beside stock retrieval, its signals one by one, and what it misses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import recall
from hybrid_memory import HybridMemory
from hybrid_memory.evaluation import (
    BASELINES,
    HEADLINES,
    METRICS,
    PRODUCT,
    RIGHT_FIRST,
    CachedEmbedder,
    Case,
    Comparison,
    Question,
    Report,
    Result,
    Turn,
    ablate,
    answerability,
    auroc,
    baselines,
    bootstrap,
    compare,
    evaluate,
    misses,
    ndcg_at,
    right_first,
    temporary_memory,
)
from hybrid_memory.protocols import Vector
from hybrid_memory.testing import HashEmbedder

Recall = Callable[..., tuple[int, str]]

START = datetime(2026, 5, 2, tzinfo=UTC)


def case_of(name: str, texts: list[str], questions: list[Question]) -> Case:
    turns = [
        Turn(str(i), text, "s1", START + timedelta(hours=i), speaker="Ana")
        for i, text in enumerate(texts)
    ]
    return Case(name, tuple(turns), tuple(questions), START + timedelta(days=1))


@pytest.fixture
def garden() -> Case:
    return case_of(
        "garden",
        ["Tomatoes grow on the balcony.", "It rained all day.", "The tomatoes caught mildew."],
        [
            Question("What became of the tomatoes?", ("2",), "plants"),
            Question("How was the weather?", ("1",), "weather"),
        ],
    )


@pytest.fixture
def kitchen() -> Case:
    return case_of(
        "kitchen",
        ["Lentils are boiled with cumin.", "The oven broke."],
        [Question("What is boiled with cumin?", ("0",), "food")],
    )


@pytest.fixture
def memory() -> Iterator[HybridMemory]:
    with temporary_memory(HashEmbedder()) as opened:
        yield opened


# -- metrics -----------------------------------------------------------------------------------


def test_a_graded_gain_puts_the_best_document_first() -> None:
    grades = {"a": 2.0, "b": 1.0}

    assert ndcg_at(["a", "b"], grades, 10) == 1
    assert ndcg_at(["b", "a"], grades, 10) < 1
    assert ndcg_at(["x", "a"], grades, 1) == 0


@given(st.permutations(list("abcdef")), st.sets(st.sampled_from("abcdxyz"), min_size=1))
def test_equal_grades_are_no_grades(ranked: list[str], evidence: set[str]) -> None:
    graded = ndcg_at(ranked, dict.fromkeys(evidence, 3.0), 4)

    assert graded == pytest.approx(ndcg_at(ranked, evidence, 4))
    assert 0 <= graded <= 1


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [(["new", "old"], 1), (["old", "new"], 0), (["x", "new"], 1), (["x", "old"], 0), (["x"], 0)],
)
def test_right_first_needs_the_evidence_above_the_other(ranked: list[str], expected: float) -> None:
    assert right_first(ranked, ("new", "newer"), "old") == expected


def test_auroc_is_how_often_a_positive_is_greater() -> None:
    assert auroc([0.9, 0.8], [0.1, 0.2, 0.3]) == 1
    assert auroc([0.1], [0.9]) == 0
    assert auroc([0.5, 0.5], [0.5]) == 0.5
    assert auroc([3, 1], [2]) == 0.5
    with pytest.raises(ValueError, match="at least one value"):
        auroc([], [1])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
)
def test_auroc_agrees_with_counting_pairs(positive: list[int], negative: list[int]) -> None:
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]

    assert auroc(positive, negative) == pytest.approx(sum(wins) / len(wins))
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative))


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 4)), min_size=1, max_size=30))
def test_a_bootstrap_stays_within_the_means_of_groups(values: list[tuple[float, int]]) -> None:
    groups = [group for _, group in values]
    means = [
        sum(value for value, of in values if of == group) / groups.count(group) for group in groups
    ]

    low, high = bootstrap([value for value, _ in values], groups)

    assert min(means) - 1e-9 <= low <= high <= max(means) + 1e-9


# -- stock retrieval ---------------------------------------------------------------------------


def test_baselines_rank_the_turns_in_their_own_ways(garden: Case) -> None:
    first, second = baselines(garden, HashEmbedder())

    assert tuple(first) == BASELINES
    assert sorted(first["dense"]) == ["0", "1", "2"]
    # BM25 finds what shares a word; nothing here speaks of the weather.
    assert sorted(first["BM25"]) == ["0", "2"]
    assert second["BM25"] == []
    assert second["RRF"] == second["dense"]
    assert first["last turns"] == second["last turns"] == ["2", "1", "0"]


def test_what_both_rankings_have_in_front_is_first_in_their_fusion(kitchen: Case) -> None:
    [rankings] = baselines(kitchen, HashEmbedder())

    assert rankings["dense"][0] == rankings["BM25"][0] == rankings["RRF"][0] == "0"


def test_baselines_do_not_rank_what_no_search_finds(kitchen: Case) -> None:
    hidden = replace(kitchen.turns[1], kind="instruction")
    case = replace(kitchen, turns=(kitchen.turns[0], hidden))

    [rankings] = baselines(case, HashEmbedder())

    assert all(ranked == ["0"] for ranked in rankings.values())


# -- the comparison ----------------------------------------------------------------------------


def test_every_system_is_scored_on_the_same_questions(
    garden: Case, kitchen: Case, memory: HybridMemory
) -> None:
    silent = replace(garden, name="silent", questions=())
    cases = [garden, silent, kitchen]
    report = evaluate(cases, memory=memory)
    seen: list[tuple[int, int]] = []

    comparison = compare(cases, report, memory=memory, on_progress=lambda *step: seen.append(step))

    assert list(comparison.reports) == [*BASELINES, PRODUCT]
    assert comparison.reports[PRODUCT] is report
    for one in comparison.reports.values():
        assert [(r.case, r.number) for r in one.results] == [
            ("garden", 0),
            ("garden", 1),
            ("kitchen", 0),
        ]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def reports(scores: dict[str, list[tuple[str, str, float]]]) -> Comparison:
    """Return a comparison of made-up scores: (case, category, value of every metric)."""
    return Comparison(
        {
            name: Report(
                results=tuple(
                    Result(case, number, category, {"0": 1}, dict.fromkeys(METRICS, value), 0.0)
                    for number, (case, category, value) in enumerate(rows)
                ),
                turns=1,
                left_out={},
                sha256=(),
                embedder="none",
                weights={},
            )
            for name, rows in scores.items()
        }
    )


def made_up(ours: list[float], theirs: list[float], *, cases: int) -> Comparison:
    rows = [
        [(f"case {i % cases}", "only", value) for i, value in enumerate(side)]
        for side in (theirs, ours)
    ]
    return reports({"dense": rows[0], PRODUCT: rows[1]})


def test_being_worse_on_ten_questions_in_a_row_is_marked() -> None:
    comparison = made_up([0.0] * 10, [1.0] * 10, cases=5)

    difference = comparison.difference("recall@10", "only")

    assert (difference.mean, difference.low, difference.high) == (-1, -1, -1)
    assert str(difference) == "-100.0 [-100.0, -100.0]"
    assert difference.is_worse
    assert {one.metric for one in comparison.worse} == set(HEADLINES)
    assert {one.category for one in comparison.worse} == {"only", None}
    assert [row[-1] for row in comparison.rows()[1:]] == ["worse"] * (3 + len(METRICS))


def test_noise_and_a_handful_of_questions_are_not_marked() -> None:
    noise = made_up([0.0, 1.0] * 10, [1.0, 0.0, 0.0, 1.0] * 4 + [1.0] * 4, cases=5)
    handful = made_up([0.0] * 9, [1.0] * 9, cases=5)

    assert noise.difference("recall@10").mean < 0
    assert noise.worse == handful.worse == []


def test_few_cases_are_not_drawn_but_their_questions_and_it_says_so() -> None:
    mixed = [1.0, 0.0] * 10
    few = made_up(mixed, [0.5] * 20, cases=2)
    many = made_up(mixed, [0.5] * 20, cases=5)

    assert few.difference("mrr").drawn == "questions"
    assert "over questions (cases: 2, too few" in few.note
    assert many.difference("mrr").drawn == "cases"
    assert "over 5 cases" in many.note
    assert few.difference("mrr") == few.difference("mrr")


def test_right_first_is_reported_where_a_question_has_another_version(
    memory: HybridMemory,
) -> None:
    case = case_of(
        "moves",
        ["I live in Paris.", "I live in Lyon.", "Figs are ripe."],
        [
            Question("Where do I live now?", ("1",), "update", other="0"),
            Question("What is ripe?", ("2",), "plain"),
        ],
    )
    report = evaluate([case], memory=memory)

    comparison = compare([case], report, memory=memory)

    assert report.by("category")["update"].overall[RIGHT_FIRST] == report.overall[RIGHT_FIRST]
    assert RIGHT_FIRST not in report.by("category")["plain"].overall
    assert comparison.headlines("update") == [*HEADLINES, RIGHT_FIRST]
    assert comparison.headlines("plain") == list(HEADLINES)
    assert comparison.difference(RIGHT_FIRST).questions == 1
    header, plain, update, everything = report.rows()
    assert header[-1] == RIGHT_FIRST
    assert plain[-1] == "-"
    assert update[-1] == everything[-1] in ("0.0", "100.0")


def test_a_comparison_is_json_and_holds_no_text(garden: Case, memory: HybridMemory) -> None:
    comparison = compare([garden], evaluate([garden], memory=memory), memory=memory)

    text = json.dumps(comparison.as_dict(), allow_nan=False)

    assert "tomatoes" not in text.lower()
    assert json.loads(text)["overall"].keys() == {*BASELINES, PRODUCT}
    assert json.loads(text)["by_category"].keys() == {"plants", "weather"}


# -- a closer look -----------------------------------------------------------------------------


def test_each_weight_is_taken_away_once_and_the_memory_keeps_its_own(
    garden: Case, memory: HybridMemory
) -> None:
    weights = memory._weights
    full = evaluate([garden], memory=memory)

    without = dict(ablate([garden], memory=memory))

    assert {"cosine", "bm25", "session"} <= without.keys()
    assert "question_with_assistant" not in without  # 0 already
    assert all(report.weights[name] == 0 for name, report in without.items())
    assert memory._weights is weights
    assert evaluate([garden], memory=memory).results[0].ranks == full.results[0].ranks


def test_relevance_tells_own_questions_from_those_of_another_case(
    garden: Case, kitchen: Case, memory: HybridMemory
) -> None:
    cases = [replace(garden, questions=garden.questions[:1]), kitchen]
    evaluate(cases, memory=memory)

    assert answerability(cases, memory=memory) == 1
    assert answerability([garden], memory=memory) is None


def test_the_worst_misses_come_first_with_what_stands_above(memory: HybridMemory) -> None:
    texts = [f"Tomatoes, part {i}." for i in range(160)]
    case = case_of(
        "tomatoes",
        [*texts, "Snow fell on the pass.", "The pass was closed."],
        [
            Question("Tomatoes, part 7?", ("7",), "found"),
            Question("Which tomatoes?", ("160",), "lost"),
            Question("Was the pass closed or was there snow?", ("160", "161", "0"), "half"),
        ],
    )
    report = evaluate([case], memory=memory)

    lost, half = misses([case], report, memory=memory, count=10)

    assert (lost.category, lost.evidence.id, lost.hit) == ("lost", "160", None)
    assert [hit.rank for hit in lost.above] == [1, 2, 3, 4, 5]
    assert half.evidence.id == "0"
    assert half.hit is None or half.hit.rank > 2
    assert len(misses([case], report, memory=memory, count=1)) == 1


def test_questions_are_kept_only_where_it_is_asked_for() -> None:
    class Counting(HashEmbedder):
        asked = 0

        def embed_query(self, text: str) -> Vector:
            self.asked += 1
            return super().embed_query(text)

    anew, kept = Counting(), Counting()
    for cached in (CachedEmbedder(anew), CachedEmbedder(kept, keep_questions=True)):
        first, second = cached.embed_query("tea?"), cached.embed_query("tea?")
        assert (first == second).all()

    assert (anew.asked, kept.asked) == (2, 1)


# -- the program -------------------------------------------------------------------------------


@pytest.fixture
def recalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Recall:
    """Runs benchmarks/recall.py and returns its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["recall", *arguments])
        monkeypatch.setattr(recall, "MiniLMEmbedder", HashEmbedder)
        monkeypatch.setattr(recall, "DATA", tmp_path / "data")
        code = recall.main()
        return code, capsys.readouterr().out

    return run


MOVES = {
    "memories": [{"id": "old", "text": "I live in Paris."}, {"id": "new", "text": "In Lyon now."}],
    "questions": [{"question": "Lyon?", "evidence": ["new"], "other": "old"}],
}


def test_recall_prints_a_table_of_every_data_set(tmp_path: Path, recalled: Recall) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "moves.json").write_text(json.dumps([MOVES, MOVES]))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "corpus.py").write_text(
        "def stdlib_corpus():\n    return {'re.sub': ('re.sub (function)', 'Replace matches.')}\n"
    )
    (docs / "questions.json").write_text(
        json.dumps([{"question": "How to replace?", "evidence": ["re.sub"], "category": "how-to"}])
    )

    code, out = recalled("--docs", str(docs), "--ablate", "--json", str(tmp_path / "out.json"))

    assert code == 0
    assert "| moves | **all** | 2 |" in out
    assert "| docs | how-to | 1 |" in out
    assert "The evidence above the other version" in out
    assert "| without | moves | docs |" in out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["moves"]["answerability"] == 0.5  # the two cases are the same


def test_recall_fails_where_the_product_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recalled: Recall
) -> None:
    file = tmp_path / "moves.json"
    file.write_text(json.dumps(MOVES))
    worse = made_up([0.0] * 10, [1.0] * 10, cases=5)
    monkeypatch.setattr(recall, "compare", lambda *_, **__: worse)

    code, out = recalled(str(file))

    assert code == 1
    assert "**worse than dense** in recall@10, t1000, ndcg@10" in out


def test_recall_without_data_says_so(recalled: Recall) -> None:
    with pytest.raises(SystemExit):
        recalled()
