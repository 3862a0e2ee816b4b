"""Evaluation: what a ranking is worth, and how sure a mean of many is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

RANKS = 150  # how deep a ranking is looked at
TOKEN_BUDGETS = (250, 500, 1000, 2000)
METRICS = (
    *("recall@5", "recall@10", "recall@20", "recall@100", "any@10", "all@10", "ndcg@10", "mrr"),
    *(f"t{budget}" for budget in TOKEN_BUDGETS),
)
RIGHT_FIRST = "right_first"  # a metric of the questions that have an `other` alone

_DRAWS = 2_000


def recall_at(ranked: Sequence[str], evidence: Collection[str], k: int) -> float:
    """Fractional recall: the share of the evidence that is in the first k ranks, in [0, 1]."""
    return len(set(ranked[:k]) & set(evidence)) / len(set(evidence))


def ndcg_at(
    ranked: Sequence[str], evidence: Collection[str] | Mapping[str, float], k: int
) -> float:
    """Normalised discounted cumulative gain of the first k ranks, in [0, 1].

    An evidence turn at rank r (from 1) gains its grade / log2(r + 1), any other nothing; the sum
    is divided by that of the best ranking there could be. Grades are positive; without them each
    is 1.
    """
    grades = evidence if isinstance(evidence, Mapping) else dict.fromkeys(evidence, 1.0)
    ideal = sorted(grades.values(), reverse=True)
    return _gain([grades.get(turn, 0.0) for turn in ranked[:k]]) / _gain(ideal[:k])


def _gain(grades: Sequence[float]) -> float:
    return math.fsum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def reciprocal_rank(ranked: Sequence[str], evidence: Collection[str]) -> float:
    """1 / rank (from 1) of the first evidence turn, 0 where there is none; in [0, 1]."""
    return next((1 / rank for rank, turn in enumerate(ranked, 1) if turn in evidence), 0.0)


def right_first(ranked: Sequence[str], evidence: Collection[str], other: str) -> float:
    """1 if an evidence turn is found and ranks above the other one, else 0."""
    first = next((turn for turn in ranked if turn == other or turn in evidence), other)
    return float(first != other)


def pack(ranked: Sequence[str], tokens: Sequence[int], budget: int) -> list[str]:
    """Return what fits into a budget: down the ranking, a line is taken whole or skipped.

    `tokens` has the cost of each line. What is skipped ends nothing: a shorter one may fit.
    """
    kept = []
    for turn, cost in zip(ranked, tokens, strict=True):
        if cost <= budget:
            budget -= cost
            kept.append(turn)
    return kept


def score(
    ranked: Sequence[str],
    tokens: Sequence[int],
    evidence: Collection[str] | Mapping[str, float],
    other: str | None = None,
) -> dict[str, float]:
    """Return the `METRICS` of one ranking, each in [0, 1], and with an `other` `RIGHT_FIRST`.

    - `recall@5`, `@10`, `@20`, `@100`: fractional, see `recall_at`.
    - `any@10`, `all@10`: 1 if at least one, or all, of the evidence is in the first 10, else 0.
    - `ndcg@10`, `mrr`: see `ndcg_at`, and `reciprocal_rank` over 150 ranks.
    - `t250`, ...: fractional recall of what `pack` fits into that many tokens from 150 ranks.
    - `right_first`: see there.

    `ranked` has no id twice; `tokens` has the cost of each line: its word pieces, and one more.
    """
    ranked, tokens = ranked[:RANKS], tokens[:RANKS]
    recall = {k: recall_at(ranked, evidence, k) for k in (5, 10, 20, 100)}
    packed = [pack(ranked, tokens, budget) for budget in TOKEN_BUDGETS]
    values = (
        *recall.values(),
        *(float(recall[10] > 0), float(recall[10] == 1)),
        *(ndcg_at(ranked, evidence, 10), reciprocal_rank(ranked, evidence)),
        *(recall_at(kept, evidence, RANKS) for kept in packed),
    )
    scores = dict(zip(METRICS, values, strict=True))
    return scores if other is None else scores | {RIGHT_FIRST: right_first(ranked, evidence, other)}


def bootstrap(
    values: Sequence[float], groups: Sequence[object], *, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values by 2,000 bootstraps.

    Whole groups are drawn, not values: those of one conversation are not independent. `groups`
    names the group of each value.
    """
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    codes = [number[group] for group in groups]
    counts, sums = np.bincount(codes), np.bincount(codes, values)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(_DRAWS, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return how often a positive value is greater than a negative one, a tie counting half.

    That is the area under the ROC curve: 1 parts the two, 0.5 tells nothing.

    Raises:
        ValueError: one of them is empty.
    """
    if not len(positive) or not len(negative):
        raise ValueError("auroc needs at least one value on either side")
    below = np.searchsorted(np.sort(negative), positive, side="left").sum()
    not_above = np.searchsorted(np.sort(negative), positive, side="right").sum()
    return float(below + not_above) / (2 * len(positive) * len(negative))
