"""Read path, stage 4: one ranking out of many signals: weigh, drop repetitions, cut, diversify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.limits import fraction
from hybrid_memory.partition import Pool
from hybrid_memory.types import Namespace

Signals = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts for, and how the ranking is made of them; each in [0, 1].

    The weights matter little, the parts do: draws within 50 % of them rank about as well. They
    were found on chats between people and on chats with an assistant together, so that no signal
    costs more on one of them than it knows; where both could not be served, chats with an
    assistant have a setting of their own.
    """

    cosine: float = 0.60
    bm25: float = 0.50
    speaker: float = 0.20
    date: float = 0.20
    time: float = 0.10
    number: float = 0.10
    user: float = 0.15
    question: float = 0.10  # taken off
    question_with_assistant: float = 0.0  # "I moved to Lyon, can you suggest...?" tells the fact
    session: float = 0.50  # of the best turn of a record's session
    session_with_assistant: float = 0.25
    version: float = 0.30  # the newest, or the oldest, of the near-best, where the query asks
    near_best: float = 0.60  # share of the best score from which a record is among them
    gate: float = 0.20  # best share of the words below which words and boosts fade out
    threshold: float = 0.14  # relevance below which a record stays out of a prompt: a cosine of .25

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            fraction(getattr(self, name), f"weight {name}")
        if self.cosine + self.bm25 == 0:
            raise InvalidInputError("the weights of cosine and bm25 are 0; give one of them some")


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place: its score in [0, 1] and what each signal contributed to it.

    `relevance` is the weighted mean of cosine and bm25 alone.
    """

    namespace: Namespace
    key: int
    score: float
    signals: Mapping[str, float]
    relevance: float
    duplicates: int = 0


def merge(
    scored: Sequence[tuple[Pool, Signals]],
    *,
    weights: Weights,
    k: int,
    version: Literal["newest", "oldest"] | None = None,
    min_score: float = 0.0,
    mmr_lambda: float | None = None,
) -> list[Ranked]:
    """Return the best k of all pools, best first.

    A record's own sum of weighted signals, plus a share of the best sum in its session, over the
    most that any record could get for this query: so the score is in [0, 1] and the sum of its
    parts. With a `version`, the newest or oldest of the near-best records gains. Of records of
    the same text by the same author only the newest stays, at the place of the best, and counts
    the others. With `mmr_lambda` in [0, 1] the k are chosen by maximal marginal relevance, 1 being
    relevance alone, 0 variety alone; records whose vectors lie in a document store count as
    unlike all others.

    Source of MMR: Carbonell and Goldstein, SIGIR 1998.
    """
    parts = _weighted(scored, weights, version)
    sizes = [len(pool.rows) for pool, _ in parts]
    if not sum(sizes):
        return []
    pools = np.repeat(np.arange(len(parts)), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    scores = np.clip(np.concatenate([_sum(values) for _, values in parts]), 0, 1)
    at, digest = (
        np.concatenate([pool.column(name) for pool, _ in parts]) for name in ("at", "digest")
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
        parted = {name: float(value[places[row]]) for name, value in values.items()}
        raw = scored[pools[row]][1]
        newest = max(copies, key=lambda copy: at[copy])
        pool, _ = parts[pools[newest]]
        ranked.append(
            Ranked(
                namespace=pool.view.namespace,
                key=int(pool.view.columns["key"][pool.rows[places[newest]]]),
                score=float(scores[row]),
                signals={name: part for name, part in parted.items() if part or name in _ALWAYS},
                relevance=_relevance(raw, places[row], weights),
                duplicates=len(copies) - 1,
            )
        )
    return ranked


_ALWAYS = ("cosine", "bm25")
_BOOSTS = ("speaker", "date", "time", "number")

Parts = dict[str, NDArray[np.float64]]  # what each signal contributes to each candidate's score


def _weighted(
    scored: Sequence[tuple[Pool, Signals]],
    weights: Weights,
    version: Literal["newest", "oldest"] | None,
) -> list[tuple[Pool, Parts]]:
    assistant = any(pool.view.has_assistant for pool, _ in scored)
    session = weights.session_with_assistant if assistant else weights.session
    penalty = weights.question_with_assistant if assistant else weights.question
    parts = [
        (pool, _own_and_session(pool, signals, weights, session=session, penalty=penalty))
        for pool, signals in scored
    ]
    # A boost that no candidate has asks nothing of any: it is no part of the most there is.
    boosts = [
        name
        for name in (*_BOOSTS, "user")
        if any(name in signals and signals[name].any() for _, signals in scored)
    ]
    most = weights.cosine + weights.bm25 + sum(getattr(weights, name) for name in boosts)
    most *= 1 + session
    if version is not None:
        _add_version(parts, weights, version)
        most += weights.version
    return [(pool, {name: part / most for name, part in own.items()}) for pool, own in parts]


def _own_and_session(
    pool: Pool, signals: Signals, weights: Weights, *, session: float, penalty: float
) -> Parts:
    bm25 = signals["bm25"]
    # Where the question's words say next to nothing, neither words nor boosts can be trusted, and
    # the ranking falls back to the cosine.
    heard = float(bm25.max(initial=0))
    trust = min(1.0, heard / weights.gate) if weights.gate else 1.0
    own: Parts = {
        "cosine": weights.cosine * signals["cosine"].astype(np.float64),
        "bm25": trust * weights.bm25 * bm25.astype(np.float64),
    }
    for name in _BOOSTS:
        if name in signals:
            own[name] = trust * getattr(weights, name) * signals[name].astype(np.float64)
    if "user" in signals:
        own["user"] = weights.user * signals["user"].astype(np.float64)
    total = _sum(own)
    if "question" in signals and penalty:
        own["question"] = -np.minimum(trust * penalty * signals["question"], total)
        total = total + own["question"]
    return _with_session(own, pool, total, trust * session)


def _with_session(own: Parts, pool: Pool, total: NDArray[np.float64], session: float) -> Parts:
    """Add a share of the best sum in each candidate's session.

    A record without a session is the best of its own: its parts grow by that share.
    """
    codes = pool.column("session_id")
    within = codes >= 0
    grown = np.where(within, 1.0, 1.0 + session)
    own = {name: part * grown for name, part in own.items()}
    if within.any():
        peak = np.zeros(int(codes.max()) + 1)
        np.maximum.at(peak, codes[within], total[within])
        own["session"] = np.where(within, session * peak[codes], 0.0)
    return own


def _add_version(
    parts: Sequence[tuple[Pool, Parts]], weights: Weights, version: Literal["newest", "oldest"]
) -> None:
    """Let time decide among the near-best memories, and only there: elsewhere it costs recall."""
    memories = [(pool, own, _sum(own)) for pool, own in parts if not pool.view.are_documents]
    best = max((float(total.max(initial=0)) for _, _, total in memories), default=0.0)
    near = [total >= weights.near_best * best for _, _, total in memories]
    times = [pool.column("at")[mask] for (pool, _, _), mask in zip(memories, near, strict=True)]
    order = np.unique(np.concatenate(times or [np.empty(0, np.int64)]))
    for (_, own, _), mask, at in zip(memories, near, times, strict=True):
        rank = np.searchsorted(order, at) / max(1, len(order) - 1)
        gain = np.zeros(len(mask))
        gain[mask] = weights.version * (rank if version == "newest" else 1 - rank)
        own["version"] = gain


def _sum(parts: Parts) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.sum(list(parts.values()), axis=0, dtype=np.float64)
    return total


def _relevance(signals: Signals, place: int, weights: Weights) -> float:
    said = weights.cosine * signals["cosine"][place] + weights.bm25 * signals["bm25"][place]
    return float(said / (weights.cosine + weights.bm25))


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
    first: dict[int, int] = {}
    for row, said in zip(order.tolist(), digest[order].tolist(), strict=True):
        first.setdefault(said, row)
    return list(first.values())


def _copies(best: Sequence[int], digest: NDArray[np.int64]) -> list[list[int]]:
    """Return all candidates of each text, whatever they score."""
    # A pass a text: for the few that are shown it takes less than sorting all to look them up.
    return [np.flatnonzero(digest == said).tolist() for said in digest[list(best)]]


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
