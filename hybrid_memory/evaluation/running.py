"""Evaluation: cases go through a memory, question by question, and the results are summed up."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from statistics import fmean
from typing import Any

import numpy as np

from hybrid_memory.errors import HybridMemoryError, InvalidInputError
from hybrid_memory.evaluation.cases import Case, line
from hybrid_memory.evaluation.metrics import METRICS, RANKS, RIGHT_FIRST, bootstrap, score
from hybrid_memory.memory import HybridMemory, Scope
from hybrid_memory.protocols import Embedder, Vector, Vectors

OnProgress = Callable[[int, int], None]  # (done, total)

_BATCH = 500  # turns an `add_many`, so that progress is seen


@dataclass(frozen=True, slots=True)
class Result:
    """How one question went; `number` is its place in the case, from 0.

    `ranks` has a rank from 1, or None, for each evidence turn. `search_ms` includes encoding; it
    is NaN where nothing was timed.
    """

    case: str
    number: int
    category: str
    ranks: Mapping[str, int | None]
    scores: Mapping[str, float]
    search_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run, and what a figure has to disclose."""

    results: tuple[Result, ...]
    turns: int
    left_out: Mapping[str, int]
    sha256: tuple[str, ...]
    embedder: str
    weights: Mapping[str, Any]

    @property
    def overall(self) -> dict[str, float]:
        """Every metric as a mean over the questions that have it, in [0, 1].

        All have `METRICS`, those with an `other` have `RIGHT_FIRST` too.
        """
        metrics = [*METRICS, RIGHT_FIRST]
        found = {m: [r.scores[m] for r in self.results if m in r.scores] for m in metrics}
        return {metric: fmean(values) for metric, values in found.items() if values}

    def by(self, attribute: str) -> dict[str, Report]:
        """Return a report for each "category" or "case", by name."""
        groups: dict[str, list[Result]] = {}
        for result in self.results:
            groups.setdefault(getattr(result, attribute), []).append(result)
        return {name: replace(self, results=tuple(groups[name])) for name in sorted(groups)}

    def search_ms(self, percentile: float) -> float:
        """Return a percentile (in [0, 100]) of the wall milliseconds of a warm search, k = 150."""
        return float(np.percentile([result.search_ms for result in self.results], percentile))

    def interval(self, metric: str, *, seed: int = 0) -> tuple[float, float] | None:
        """Return the 95 % interval of an overall mean, see `bootstrap`; None for one case.

        Cases are drawn, not questions: those of one conversation are not independent.
        """
        scored = [result for result in self.results if metric in result.scores]
        cases = [result.case for result in scored]
        if len(set(cases)) < 2:
            return None
        return bootstrap([result.scores[metric] for result in scored], cases, seed=seed)

    def rows(self) -> list[list[str]]:
        """Return a table: its header, a row for each category, last all questions; in percent."""
        overall = self.overall
        lines = [["category", "questions", *overall]]
        for name, part in [*self.by("category").items(), ("all", self)]:
            means = part.overall
            values = [f"{100 * means[m]:.1f}" if m in means else "-" for m in overall]
            lines.append([name, str(len(part.results)), *values])
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values, without a text of the data."""
        return {
            "questions": len(self.results),
            "turns": self.turns,
            "left_out": dict(self.left_out),
            "overall": self.overall,
            "recall@10_interval_95": self.interval("recall@10"),
            "by_category": {name: part.overall for name, part in self.by("category").items()},
            "by_case": {name: part.overall for name, part in self.by("case").items()},
            "search_ms": {"p50": self.search_ms(50), "p95": self.search_ms(95)},
            "sha256": list(self.sha256),
            "embedder": self.embedder,
            "weights": dict(self.weights),
            "results": [asdict(result) for result in self.results],
        }


def evaluate(
    cases: Sequence[Case],
    *,
    memory: HybridMemory,
    on_progress: OnProgress | None = None,
) -> Report:
    """Put each case into a namespace of its own, ask its questions and score what is found.

    `on_progress(done, total)` counts turns added and questions asked. Cases without a question
    count in `left_out` and are not stored.

    Raises:
        InvalidInputError: no case has a question, or two have the same name.
        HybridMemoryError: a search returned what is not a turn of its case.
    """
    asked = [case for case in cases if case.questions]
    if not asked:
        raise InvalidInputError("no case has a question with evidence")
    if len({case.name for case in asked}) < len(asked):
        raise InvalidInputError("two cases have the same name; they would share a namespace")
    turns = sum(len(case.turns) for case in asked)
    total = turns + sum(len(case.questions) for case in asked)
    done = 0
    results = []
    for case in asked:
        for step in _run(case, memory):
            done += step if isinstance(step, int) else 1
            if isinstance(step, Result):
                results.append(step)
            if on_progress is not None:
                on_progress(done, total)
    return Report(
        results=tuple(results),
        turns=turns,
        left_out=dict(sum((Counter(case.left_out) for case in cases), Counter())),
        sha256=tuple(dict.fromkeys(case.sha256 for case in cases if case.sha256)),
        embedder=memory._embedder.name,
        weights=asdict(memory._weights),
    )


def scope_of(case: Case, memory: HybridMemory) -> Scope:
    """Return the scope that `evaluate` puts a case into."""
    return memory.scope(namespace=("evaluation", case.name))


def _run(case: Case, memory: HybridMemory) -> Iterator[int | Result]:
    """Yield how many turns were added, time and again, then the result of each question."""
    scope = scope_of(case, memory)
    for start in range(0, len(case.turns), _BATCH):
        batch = case.turns[start : start + _BATCH]
        yield len(scope.add_many([turn.as_item() for turn in batch]))
    # The first search of a namespace loads it; that is not what `search_ms` is about.
    scope.search("warm up", k=1, now=case.now)
    known = {(scope.namespace, turn.id) for turn in case.turns}
    judge = Judge(case)
    for number, question in enumerate(case.questions):
        started = time.perf_counter()
        hits = scope.search(question.text, k=RANKS, now=case.now)
        search_ms = 1000 * (time.perf_counter() - started)
        if not known.issuperset((hit.record.namespace, hit.record.id) for hit in hits):
            raise HybridMemoryError(
                f"a search in {scope.namespace} found what is not a turn of its case"
            )
        yield judge.result(number, [hit.record.id for hit in hits], search_ms=search_ms)


class Judge:
    """Scores the rankings of a case; no line's tokens are counted twice."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._turns = {turn.id: turn for turn in case.turns}
        self._costs: dict[str, int] = {}

    def result(self, number: int, ranked: Sequence[str], *, search_ms: float = math.nan) -> Result:
        """Return how a question of the case went, whose ranking holds ids of its turns."""
        question = self._case.questions[number]
        rank_of = {turn: rank for rank, turn in enumerate(ranked, 1)}
        return Result(
            case=self._case.name,
            number=number,
            category=question.category,
            ranks={turn: rank_of.get(turn) for turn in question.evidence},
            scores=score(
                ranked,
                [self._cost(turn) for turn in ranked],
                question.grades or question.evidence,
                question.other,
            ),
            search_ms=search_ms,
        )

    def _cost(self, turn: str) -> int:
        from hybrid_memory.backends.onnx import count_tokens  # loads the tokenizer

        if turn not in self._costs:
            self._costs[turn] = count_tokens(line(self._turns[turn])) + 1
        return self._costs[turn]


class CachedEmbedder:
    """Embeds no stored text twice; many cases share their sessions.

    Questions are embedded each time, so that a search takes as long as it does without, unless
    `keep_questions` is set: for many runs over the same ones.
    """

    def __init__(self, embedder: Embedder, *, keep_questions: bool = False) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self._embedder = embedder
        self._known: dict[bytes, Vector] = {}
        self._questions: dict[str, Vector] | None = {} if keep_questions else None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self._embedder.embed(list(new.values())), strict=True))
        rows = [self._known[key] for key in keys]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question."""
        if self._questions is None:
            return self._embedder.embed_query(text)
        if text not in self._questions:
            self._questions[text] = self._embedder.embed_query(text)
        return self._questions[text].copy()


@contextmanager
def temporary_memory(embedder: Embedder | None = None, **settings: Any) -> Iterator[HybridMemory]:
    """Open a memory that is gone afterwards; `settings` are those of `HybridMemory.open`.

    Its embedder (by default the bundled one) is cached; its commits do not wait for the disk.
    """
    from hybrid_memory.backends.onnx import MiniLMEmbedder

    cached = embedder if isinstance(embedder, CachedEmbedder) else None
    cached = cached or CachedEmbedder(embedder or MiniLMEmbedder())
    settings = {"durability": "normal", "embedder": cached, **settings}
    with (
        tempfile.TemporaryDirectory(prefix="hybrid-memory-") as directory,
        HybridMemory.open(directory, **settings) as memory,
    ):
        yield memory
