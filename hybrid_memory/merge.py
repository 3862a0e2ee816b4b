"""Read path, stage 4: one ranking out of many signals: weigh, drop repetitions, cut, diversify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.limits import fraction
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
            fraction(getattr(self, name), f"weight {name}")
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
    # Only the columns that are needed: a whole row is ten times as much to copy.
    at, digest = (
        np.concatenate([pool.view.columns[name][pool.rows] for pool, _ in parts])
        for name in ("at", "digest")
    )
    order = _best_first(scores, at, digest, limit=None if mmr_lambda is not None else 4 * k)
    best = _distinct(order[scores[order] >= min_score], digest)
    if len(best) < k and len(order) < len(scores):
        # So many repetitions that the first cut held fewer than k different texts.
        order = _best_first(scores, at, digest, limit=None)
        best = _distinct(order[scores[order] >= min_score], digest)
    if mmr_lambda is not None:
        vectors = [_vector(parts[pools[row]][0], places[row]) for row in best[: 5 * k]]
        best = _diverse(best[: 5 * k], scores, vectors, k, mmr_lambda)
    ranked = []
    for row, copies in zip(best[:k], _copies(best[:k], digest), strict=True):
        _, values = parts[pools[row]]
        signals = {name: float(value[places[row]]) for name, value in values.items()}
        newest = max(copies, key=lambda copy: at[copy])
        pool, _ = parts[pools[newest]]
        ranked.append(
            Ranked(
                namespace=pool.view.namespace,
                key=int(pool.view.columns["key"][pool.rows[places[newest]]]),
                score=min(1.0, sum(signals.values())),
                signals=signals,
                duplicates=len(copies) - 1,
            )
        )
    return ranked


def _weighted(signals: Signals, shares: Mapping[str, float]) -> dict[str, NDArray[np.float64]]:
    return {name: share * signals[name].astype(np.float64) for name, share in shares.items()}


def _best_first(
    scores: NDArray[np.float64],
    at: NDArray[np.int64],
    digest: NDArray[np.int64],
    *,
    limit: int | None,
) -> NDArray[np.int64]:
    rows = np.arange(len(scores))
    if limit is not None and limit < len(scores):
        floor = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        rows = np.flatnonzero(scores >= floor)  # all that tie with the last one too
    # Equal scores: the newer first; equal times: by text, so that the order of writing is no rank.
    return rows[np.lexsort((digest[rows], -at[rows], -scores[rows]))]


def _distinct(order: NDArray[np.int64], digest: NDArray[np.int64]) -> list[int]:
    """Return the first candidate of each text."""
    _, first = np.unique(digest[order], return_index=True)
    best: list[int] = order[np.sort(first)].tolist()
    return best


def _copies(best: Sequence[int], digest: NDArray[np.int64]) -> list[list[int]]:
    """Return all candidates of each text, whatever they score."""
    wanted = digest[list(best)]
    rows = np.flatnonzero(np.isin(digest, wanted))
    groups: dict[int, list[int]] = {}
    for row, said in zip(rows.tolist(), digest[rows].tolist(), strict=True):
        groups.setdefault(said, []).append(row)
    return [groups[said] for said in wanted.tolist()]


def _vector(pool: Pool, place: int) -> NDArray[np.float32] | None:
    vectors = pool.view.vectors
    return None if vectors is None else vectors[pool.rows[place]]


def _diverse(
    best: Sequence[int],
    scores: NDArray[np.float64],
    vectors: Sequence[NDArray[np.float32] | None],
    k: int,
    mmr_lambda: float,
) -> list[int]:
    dim = next((len(vector) for vector in vectors if vector is not None), 1)
    matrix = np.array([np.zeros(dim) if vector is None else vector for vector in vectors])
    relevance = mmr_lambda * scores[list(best)]
    likeness = np.zeros(len(best))
    taken: list[int] = []
    while len(taken) < min(k, len(best)):
        gain = relevance - (1 - mmr_lambda) * likeness
        gain[taken] = -np.inf
        taken.append(int(gain.argmax()))
        likeness = np.maximum(likeness, np.vecdot(matrix, matrix[taken[-1]]))
    return [best[i] for i in taken]
