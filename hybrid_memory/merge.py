"""Read path, stage 4: one ranking out of many signals: weigh, drop repetitions, cut, diversify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.partition import Pool
from hybrid_memory.types import Namespace

Signals = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts for; only their ratios matter.

    `threshold` is the score below which a record stays out of a prompt.
    """

    cosine: float = 0.60  # any pair from 0.60 : 0.35 to 0.60 : 0.90 ranks about as well
    bm25: float = 0.50
    threshold: float = 0.14  # a cosine of 0.25 and no word in common: rejects only the foreign

    def __post_init__(self) -> None:
        for name in ("cosine", "bm25", "threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidInputError(f"weight {name} must be between 0 and 1: {value}")
        if self.cosine + self.bm25 == 0:
            raise InvalidInputError("all weights are 0; give at least one signal some")

    def shares(self) -> dict[str, float]:
        """Return each signal's share of the score; they add up to 1."""
        total = self.cosine + self.bm25
        return {"cosine": self.cosine / total, "bm25": self.bm25 / total}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place: its score in [0, 1] and what each signal contributed to it."""

    namespace: Namespace
    key: int
    score: float
    signals: Mapping[str, float]
    duplicates: int = 0


def merge(
    scored: Sequence[tuple[Pool, Signals]],
    *,
    weights: Weights,
    k: int,
    min_score: float = 0.0,
    mmr_lambda: float | None = None,
) -> list[Ranked]:
    """Return the best k of all pools, best first.

    The score is the weighted mean of the signals. Of records of the same text by the same author
    only the newest stays, at the place of the best, and counts the others. With `mmr_lambda` in
    [0, 1] the k are chosen by maximal marginal relevance, 1 being relevance alone, 0 variety
    alone; records whose vectors lie in a document store count as unlike all others.

    Source of MMR: Carbonell and Goldstein, SIGIR 1998.
    """
    shares = weights.shares()
    parts = [(pool, _weighted(signals, shares)) for pool, signals in scored]
    pools = np.concatenate(
        [np.full(len(pool.rows), i) for i, (pool, _) in enumerate(parts)] or [np.empty(0, int)]
    ).astype(np.int64)
    if not len(pools):
        return []
    places = np.concatenate([np.arange(len(pool.rows)) for pool, _ in parts])
    scores = np.concatenate([sum(values.values()) for _, values in parts]).astype(np.float64)
    columns = np.concatenate([pool.view.columns[pool.rows] for pool, _ in parts])
    order = _best_first(scores, columns, limit=None if mmr_lambda is not None else 4 * k)
    chosen = _distinct(order[scores[order] >= min_score], columns)
    if len(chosen) < k and len(order) < len(scores):
        # So many repetitions that the first cut held fewer than k different texts.
        order = _best_first(scores, columns, limit=None)
        chosen = _distinct(order[scores[order] >= min_score], columns)
    if mmr_lambda is not None:
        chosen = _diverse(chosen[: 5 * k], scores, parts, pools, places, k, mmr_lambda)
    ranked = []
    for best, newest, count in chosen[:k]:
        _, values = parts[pools[best]]
        signals = {name: float(value[places[best]]) for name, value in values.items()}
        ranked.append(
            Ranked(
                namespace=parts[pools[newest]][0].view.namespace,
                key=int(columns["key"][newest]),
                score=min(1.0, sum(signals.values())),
                signals=signals,
                duplicates=count,
            )
        )
    return ranked


_Chosen = tuple[int, int, int]  # the candidate that scored best, the newest of its text, the rest


def _weighted(signals: Signals, shares: Mapping[str, float]) -> dict[str, NDArray[np.float64]]:
    return {name: share * signals[name].astype(np.float64) for name, share in shares.items()}


def _best_first(
    scores: NDArray[np.float64], columns: NDArray[np.void], limit: int | None
) -> NDArray[np.int64]:
    rows = np.arange(len(scores))
    if limit is not None and limit < len(scores):
        floor = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        rows = np.flatnonzero(scores >= floor)  # all that tie with the last one too
    # Equal scores: the newer first; equal times: by text, so that the order of writing is no rank.
    at, digest = columns["at"][rows], columns["digest"][rows]
    return rows[np.lexsort((digest, -at, -scores[rows]))]


def _distinct(order: NDArray[np.int64], columns: NDArray[np.void]) -> list[_Chosen]:
    groups: dict[int, list[int]] = {}
    for row, digest in zip(order.tolist(), columns["digest"][order].tolist(), strict=True):
        groups.setdefault(digest, []).append(row)
    at = columns["at"]
    return [
        (rows[0], max(rows, key=lambda row: at[row]), len(rows) - 1) for rows in groups.values()
    ]


def _diverse(
    chosen: list[_Chosen],
    scores: NDArray[np.float64],
    parts: Sequence[tuple[Pool, Mapping[str, NDArray[np.float64]]]],
    pools: NDArray[np.int64],
    places: NDArray[np.int64],
    k: int,
    mmr_lambda: float,
) -> list[_Chosen]:
    if not chosen:
        return []
    best = np.array([row for row, _, _ in chosen])
    vectors = []
    for row in best.tolist():
        pool, _ = parts[pools[row]]
        known = pool.view.vectors
        vectors.append(None if known is None else known[pool.rows[places[row]]])
    dim = next((len(vector) for vector in vectors if vector is not None), 1)
    matrix = np.array([np.zeros(dim) if vector is None else vector for vector in vectors])
    relevance = mmr_lambda * scores[best]
    likeness = np.zeros(len(best))
    taken: list[int] = []
    while len(taken) < min(k, len(best)):
        gain = relevance - (1 - mmr_lambda) * likeness
        gain[taken] = -np.inf
        taken.append(int(gain.argmax()))
        likeness = np.maximum(likeness, np.vecdot(matrix, matrix[taken[-1]]))
    return [chosen[i] for i in taken]
