"""Evaluation: the product beside stock retrieval, what its signals are worth, what it misses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory import words
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.evaluation.cases import Case, Turn
from hybrid_memory.evaluation.metrics import RANKS, RIGHT_FIRST, auroc, bootstrap
from hybrid_memory.evaluation.running import (
    Judge,
    OnProgress,
    Report,
    Result,
    evaluate,
    scope_of,
)
from hybrid_memory.memory import HybridMemory
from hybrid_memory.protocols import Embedder
from hybrid_memory.types import Hit

BASELINES = ("dense", "BM25", "RRF", "last turns")
PRODUCT = "product"
HEADLINES = ("recall@10", "t1000", "ndcg@10")  # compared in each category; all are on the whole

FEWEST_QUESTIONS = 10  # of a category that may be called worse
FEWEST_CASES = 5  # that are drawn in a bootstrap: four agree by chance once in eight times

_RRF_CONSTANT = 60
_RRF_DEPTH = 50
_SHOWN_ABOVE = 5  # hits above a missed one


# -- stock retrieval ---------------------------------------------------------------------------


def baselines(case: Case, embedder: Embedder) -> Iterator[dict[str, list[str]]]:
    """Yield, for each question, the ranking of ids of each of `BASELINES`, at most 150 long.

    - dense: the cosine of the whole question and the turn, `Speaker: text`.
    - BM25: the words of the same texts, k1 = 0.9, b = 0.75; what shares no word is not found.
    - RRF: reciprocal rank fusion of the first 50 of both, with the constant 60.
    - last turns: the newest first, whatever the question.
    """
    turns = [turn for turn in case.turns if turn.is_searched]
    texts = [f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text for turn in turns]
    vectors = embedder.embed(texts)
    postings = words.Postings().extended([words.terms(text) for text in texts])
    alive = np.ones(len(turns), np.bool_)
    newest_last = sorted(range(len(turns)), key=lambda row: turns[row].at)
    for question in case.questions:
        dense = _best_first(vectors @ embedder.embed_query(question.text))
        bm25 = postings.scores(words.terms(question.text).tolist(), alive)
        lexical = [row for row in _best_first(bm25) if bm25[row] > 0]
        rankings = (dense, lexical, _fused(dense, lexical), newest_last[: -RANKS - 1 : -1])
        yield {
            name: [turns[row].id for row in ranking]
            for name, ranking in zip(BASELINES, rankings, strict=True)
        }


def _best_first(scores: NDArray[np.float32]) -> list[int]:
    rows: list[int] = np.argsort(-scores, kind="stable")[:RANKS].tolist()
    return rows


def _fused(*rankings: Sequence[int]) -> list[int]:
    """Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking[:_RRF_DEPTH], 1):
            scores[row] = scores.get(row, 0.0) + 1 / (_RRF_CONSTANT + rank)
    return sorted(scores, key=lambda row: -scores[row])


# -- the comparison ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """The product less dense retrieval in one metric: the mean over questions, and its interval.

    `category` is None for all questions. `low` and `high` bound 95 % of bootstraps, paired by
    question, in which `drawn` ("cases" or "questions") are drawn.
    """

    metric: str
    category: str | None
    questions: int
    mean: float
    low: float
    high: float
    drawn: str

    @property
    def is_worse(self) -> bool:
        """Whether the product is worse beyond the noise, on at least ten questions."""
        return self.high < 0 and self.questions >= FEWEST_QUESTIONS

    def __str__(self) -> str:
        """Return it in points of a hundred: `+3.1 [+0.4, +5.9]`."""
        mean, low, high = (100 * value for value in (self.mean, self.low, self.high))
        return f"{mean:+z.1f} [{low:+z.1f}, {high:+z.1f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reports of stock retrieval, by name, and last that of the product, on the same cases."""

    reports: Mapping[str, Report]

    @property
    def categories(self) -> list[str | None]:
        """The categories in order, then None for all questions."""
        return [*self.reports[PRODUCT].by("category"), None]

    def overall(self, category: str | None = None) -> dict[str, dict[str, float]]:
        """Return every metric of each system, over a category or all questions."""
        parts = {name: _part(report, category) for name, report in self.reports.items()}
        return {name: part.overall for name, part in parts.items()}

    def difference(self, metric: str, category: str | None = None, *, seed: int = 0) -> Difference:
        """Return the product less dense retrieval.

        Cases are drawn if there are five at least, for the questions of one are not independent;
        else questions, for so few cases would agree by chance.
        """
        ours, theirs = (_part(self.reports[name], category) for name in (PRODUCT, "dense"))
        pairs = [
            (our.case, our.scores[metric] - their.scores[metric])
            for our, their in zip(ours.results, theirs.results, strict=True)
            if metric in our.scores
        ]
        cases = [case for case, _ in pairs]
        values = [value for _, value in pairs]
        by_case = len(set(cases)) >= FEWEST_CASES
        low, high = bootstrap(values, cases if by_case else range(len(values)), seed=seed)
        drawn = "cases" if by_case else "questions"
        return Difference(metric, category, len(values), fmean(values), low, high, drawn)

    def headlines(self, category: str | None = None) -> list[str]:
        """Return `HEADLINES`, and `RIGHT_FIRST` where the questions of a category have it."""
        known = _part(self.reports[PRODUCT], category).overall
        return [metric for metric in (*HEADLINES, RIGHT_FIRST) if metric in known]

    def differences(self, category: str | None = None) -> list[Difference]:
        """Return the difference in the headlines of a category, or in every metric of all."""
        known = _part(self.reports[PRODUCT], category).overall
        metrics = known if category is None else self.headlines(category)
        return [self.difference(metric, category) for metric in metrics]

    @property
    def worse(self) -> list[Difference]:
        """Where the product is worse than dense retrieval in a headline, beyond the noise."""
        return [
            difference
            for category in self.categories
            for metric in self.headlines(category)
            if (difference := self.difference(metric, category)).is_worse
        ]

    @property
    def note(self) -> str:
        """What a reader of `rows` has to know."""
        cases = len(self.reports[PRODUCT].by("case"))
        drawn = f"{cases} cases"
        if cases < FEWEST_CASES:
            drawn = f"questions (cases: {cases}, too few to draw from)"
        return (
            f"product - dense: points, with the 95 % interval of paired bootstraps over {drawn}. "
            f"worse: the interval ends below 0, on {FEWEST_QUESTIONS} questions or more."
        )

    def rows(self) -> list[list[str]]:
        """Return a table: its header, headlines by category, then each metric; in percent."""
        lines = [["category", "questions", "metric", *self.reports, "product - dense", ""]]
        for category in self.categories:
            overall = self.overall(category)
            lines += [
                [
                    category or "all",
                    str(difference.questions),
                    difference.metric,
                    *(f"{100 * means[difference.metric]:.1f}" for means in overall.values()),
                    str(difference),
                    "worse" if difference.is_worse else "",
                ]
                for difference in self.differences(category)
            ]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values, without a text of the data."""
        return {
            "overall": self.overall(),
            "by_category": {name: self.overall(name) for name in self.categories if name},
            "differences": [
                {**asdict(difference), "is_worse": difference.is_worse}
                for category in self.categories
                for difference in self.differences(category)
            ],
        }


def _part(report: Report, category: str | None) -> Report:
    return report if category is None else report.by("category")[category]


def compare(
    cases: Sequence[Case],
    report: Report,
    *,
    memory: HybridMemory,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """Put `baselines` beside a report on the same cases; they use the memory's embedder only.

    `on_progress(done, total)` counts questions.
    """
    results: dict[str, list[Result]] = {name: [] for name in BASELINES}
    for case in cases:
        if not case.questions:
            continue
        judge = Judge(case)
        for number, rankings in enumerate(baselines(case, memory._embedder)):
            for name, ranked in rankings.items():
                results[name].append(judge.result(number, ranked))
            if on_progress is not None:
                on_progress(len(results[BASELINES[0]]), len(report.results))
    stock = {
        name: replace(report, results=tuple(found), weights={}) for name, found in results.items()
    }
    return Comparison({**stock, PRODUCT: report})


# -- a closer look -----------------------------------------------------------------------------


def ablate(cases: Sequence[Case], *, memory: HybridMemory) -> Iterator[tuple[str, Report]]:
    """Yield the name of each weight that is not 0, and the report of a run where it is."""
    for name, value in asdict(memory._weights).items():
        if not isinstance(value, float) or not value:
            continue
        other = copy.copy(memory)
        without: dict[str, Any] = {name: 0.0}
        try:
            other._weights = replace(memory._weights, **without)
        except InvalidInputError:  # one that cannot be 0, such as a half-life
            continue
        yield name, evaluate(cases, memory=other)


def answerability(cases: Sequence[Case], *, memory: HybridMemory) -> float | None:
    """Return how well the best hit's `relevance` tells whether a case can answer a question.

    That is the `auroc` of each case's own questions against as many of the next case's, asked of
    this one; None with fewer than two cases. It says little where cases share their sessions. The
    cases are in the memory already: see `evaluate`.
    """
    asked = [case for case in cases if case.questions]
    if len(asked) < 2:
        return None
    own: list[float] = []
    foreign: list[float] = []
    for case, following in zip(asked, [*asked[1:], asked[0]], strict=True):
        scope = scope_of(case, memory)
        others = following.questions[: len(case.questions)]
        for relevances, questions in ((own, case.questions), (foreign, others)):
            for question in questions:
                hits = scope.search(question.text, k=1, now=case.now)
                relevances.append(hits[0].relevance if hits else 0.0)
    return auroc(own, foreign)


@dataclass(frozen=True, slots=True)
class Miss:
    """A question whose evidence ranks low: the worst of it, and the best hits above, best first.

    `hit` is None where the evidence is not in the first 150.
    """

    case: str
    category: str
    question: str
    evidence: Turn
    hit: Hit | None
    above: tuple[Hit, ...]


def misses(
    cases: Sequence[Case], report: Report, *, memory: HybridMemory, count: int
) -> list[Miss]:
    """Return the questions with the worst ranks of evidence, worst first; they are asked again.

    A question whose evidence fills the first ranks is none. The cases are in the memory already:
    see `evaluate`.
    """
    by_name = {case.name: case for case in cases}
    missed = (result for result in report.results if _depth(result) > len(result.ranks))
    worst = sorted(missed, key=lambda result: -_depth(result))[:count]
    return [_miss(by_name[result.case], result, memory) for result in worst]


def _depth(result: Result) -> float:
    return max(rank or np.inf for rank in result.ranks.values())


def _miss(case: Case, result: Result, memory: HybridMemory) -> Miss:
    question = case.questions[result.number]
    id = max(result.ranks, key=lambda turn: result.ranks[turn] or np.inf)
    hits = scope_of(case, memory).search(question.text, k=RANKS, now=case.now)
    hit = next((hit for hit in hits if hit.record.id == id), None)
    above = hits if hit is None else hits[: hit.rank - 1]
    return Miss(
        case=case.name,
        category=question.category,
        question=question.text,
        evidence=next(turn for turn in case.turns if turn.id == id),
        hit=hit,
        above=tuple(above[:_SHOWN_ABOVE]),
    )
