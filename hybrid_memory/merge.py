"""Read path, stage 4: one ranking out of many signals: weigh, drop repetitions, cut, diversify."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_memory import limits
from hybrid_memory.partition import Pool
from hybrid_memory.types import Namespace
from hybrid_memory.weights import Weights

Values = NDArray[np.float32]
Signals = Mapping[str, Values]
Scored = Sequence[tuple[Pool, Signals]]
Key = tuple[Namespace, int]  # of a record: its namespace and its number there
Version = Literal["newest", "oldest"]

NO_SOURCES: Mapping[str, float] = MappingProxyType({})

DAY = 86_400_000_000  # microseconds
SAID_HERE = ("user", "assistant")  # sources that no cap is for


class Ranked(NamedTuple):
    """A candidate in its place: its score in [0, 1] and what each signal contributed to it.

    `relevance` is the weighted mean of cosine and bm25 alone. `copies` are the keys of all records
    of its text, its own among them, if there are several.
    """

    key: Key
    score: float
    signals: Mapping[str, float]
    relevance: float
    copies: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Cut:
    """How a ranking becomes a list.

    With `mmr_lambda` in [0, 1] the k are chosen by maximal marginal relevance, 1 being relevance
    alone, 0 variety alone. At most `max_per_source` come from one document, tool or outside
    retriever. `min_share` is a share of the best score.

    Source of MMR: Carbonell and Goldstein, SIGIR 1998.
    """

    k: int
    min_score: float = 0.0
    min_share: float = 0.0
    mmr_lambda: float | None = None
    max_per_source: int | None = None

    def __post_init__(self) -> None:
        limits.whole(self.k, "k", low=1, high=limits.MAX_K)
        limits.fraction(self.min_score, "min_score")
        limits.fraction(self.min_share, "min_share")
        if self.mmr_lambda is not None:
            limits.fraction(self.mmr_lambda, "mmr_lambda")
        if self.max_per_source is not None:
            limits.whole(self.max_per_source, "max_per_source", low=1)


def merge(
    scored: Scored,
    *,
    weights: Weights,
    cut: Cut,
    now: int = 0,
    version: Version | None = None,
    outside: Mapping[str, float] = NO_SOURCES,
) -> list[Ranked]:
    """Return the best of all pools, best first: `Ranking`, cut."""
    return Ranking(scored, weights=weights, now=now, version=version, outside=outside).best(cut)


def nearest(
    pools: Sequence[Pool], wanted: int, *, k: int, mmr_lambda: float | None = None
) -> list[Ranked]:
    """Return the nearest in meaning, copies of one text too; of equally near ones the first stored.

    With a lambda in [0, 1], k of the `wanted` nearest are chosen by maximal marginal relevance.
    The score is the cosine, with 0 for what points away.
    """
    if not any(len(pool.rows) for pool in pools):
        return []
    cosine = _joined([pool.cosine for pool in pools]).astype(np.float64)
    keys = _joined([pool.column("key") for pool in pools])
    rows = np.arange(len(cosine))
    if wanted < len(cosine):
        rows = (cosine >= _greatest(cosine, wanted)).nonzero()[0]
    rows = rows[np.lexsort((keys[rows], -cosine[rows]))][:wanted]
    ends = list(accumulate(len(pool.rows) for pool in pools))
    numbers = [bisect_right(ends, row) for row in rows.tolist()]
    places = [
        row - (ends[n - 1] if n else 0) for row, n in zip(rows.tolist(), numbers, strict=True)
    ]
    chosen = list(range(len(rows)))[:k]
    if mmr_lambda is not None:
        vectors = [_vector(pools[n], at) for n, at in zip(numbers, places, strict=True)]
        chosen = _diverse(cosine[rows], vectors, k, mmr_lambda)
    ranked = []
    for one in chosen:
        score = min(max(cosine.item(rows.item(one)), 0.0), 1.0)
        key = (pools[numbers[one]].view.namespace, keys.item(rows.item(one)))
        ranked.append(Ranked(key, score, {"cosine": score}, score))
    return ranked


@dataclass(slots=True)
class _Weighed:
    """The candidates of a pool, each with its sum; `parts` is what that is made of, by signal."""

    pool: Pool
    signals: Signals
    parts: dict[str, NDArray[np.float64]]
    total: NDArray[np.float64]
    relevance: tuple[float, float]  # the shares of cosine and bm25 in it
    told: NDArray[np.float64] | None = None  # what outside retrievers say of a candidate, at most
    grown: NDArray[np.float64] | None = None  # factor on the parts above, 1 if None
    boosts: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def boost(self, name: str, values: NDArray[np.float64]) -> None:
        self.boosts[name] = values
        self.total = self.total + values

    def signals_at(self, place: int, most: float) -> dict[str, float]:
        factor = 1.0 if self.grown is None else self.grown.item(place)
        own = {name: factor * part.item(place) / most for name, part in self.parts.items()}
        for name, part in self.boosts.items():
            own[name] = part.item(place) / most
        return {name: value for name, value in own.items() if value or name in _ALWAYS}

    def relevance_at(self, place: int) -> float:
        cosine, bm25 = self.relevance
        said = cosine * self.signals["cosine"].item(place) + bm25 * self.signals["bm25"].item(place)
        return max(said, 0.0 if self.told is None else self.told.item(place))


class Ranking:
    """All candidates of all pools by score.

    A record's own sum of weighted signals, plus a share of the best sum in its session, over the
    most that any record could get for this query: so the score is in [0, 1] and the sum of its
    parts. With a `version`, the newest or oldest of the first three records gains. `now` is in
    microseconds and counts only for the recency that a user may switch on. `outside` has the
    weight of each outside retriever, by the name of the signal in which its candidates have what
    it says of them; any candidate of the same text gains by it. Where all `is_outside`, meaning and
    words, which nothing has there, are no part of the most.
    """

    def __init__(
        self,
        scored: Scored,
        *,
        weights: Weights,
        now: int = 0,
        version: Version | None = None,
        outside: Mapping[str, float] = NO_SOURCES,
        is_outside: bool = False,
    ) -> None:
        self._weighed, self._most = _weighed(
            scored, weights, now=now, version=version, outside=outside, is_outside=is_outside
        )
        self._ends = list(accumulate(len(part.total) for part in self._weighed))
        self.size = self._ends[-1] if self._ends else 0
        if self.size:
            total = _joined([part.total for part in self._weighed])
            self._scores = np.minimum(np.maximum(total / self._most, 0), 1)
            self._at, self._digest = (
                _joined([part.pool.column(name) for part in self._weighed])
                for name in ("at", "digest")
            )

    def best(self, cut: Cut) -> list[Ranked]:
        """Return the candidates that stay, best first.

        Of records of the same text by the same author (`indexing.digest`) only the newest stays,
        at the place of the best, and counts the others. With MMR, records whose vectors lie in a
        document store count as unlike all others.
        """
        if not self.size:
            return []
        wanted = cut.k if cut.mmr_lambda is None else 5 * cut.k
        limit = None if cut.mmr_lambda is not None or cut.max_per_source else 4 * cut.k
        while True:
            rows = self._distinct(self._order(cut, limit), wanted, cut.max_per_source)
            if len(rows) >= wanted or limit is None or limit >= self.size:
                break
            limit = None  # so many repetitions that the first cut held fewer than k texts
        if cut.mmr_lambda is not None:
            best = [row for row, _ in rows]
            vectors = [self._vector(row) for row in best]
            places = _diverse(self._scores[best], vectors, cut.k, cut.mmr_lambda)
            rows = [rows[place] for place in places]
        return [self._ranked(row, copies) for row, copies in rows[: cut.k]]

    def scores(self) -> list[tuple[Pool, NDArray[np.float64]]]:
        """Return the pools, each with the scores of its candidates: repetitions are among them."""
        starts = [0, *self._ends]
        return [
            (part.pool, self._scores[start:end])
            for part, start, end in zip(self._weighed, starts, self._ends, strict=False)
            if end > start
        ]

    def find(self, key: Key) -> Ranked | None:
        """Return a candidate as it is without the others of its text, if it is one."""
        row = self._row(key)
        return None if row is None else self._ranked(row, [row])

    def place(self, key: Key) -> int | None:
        """Return the place of a candidate among all, from 1, copies counted too."""
        row = self._row(key)
        if row is None:
            return None
        return 1 + int(np.count_nonzero(self._scores > self._scores[row]))

    def _row(self, key: Key) -> int | None:
        namespace, number = key
        start = 0
        for part in self._weighed:
            if part.pool.view.namespace == namespace:
                places = np.flatnonzero(part.pool.column("key") == number)
                if len(places):
                    return start + int(places[0])
            start += len(part.total)
        return None

    def _order(self, cut: Cut, limit: int | None) -> NDArray[np.int64]:
        """Return rows by score: equal ones newest first, at equal times by text.

        So the order of writing is no rank.
        """
        scores = self._scores
        floor = max(cut.min_score, cut.min_share and cut.min_share * float(scores.max()))
        if limit is not None and limit < len(scores):
            floor = max(floor, _greatest(scores, limit))  # all that tie with the last one too
        rows = (scores >= floor).nonzero()[0]
        ordered: NDArray[np.int64] = rows[
            np.lexsort((self._digest[rows], -self._at[rows], -scores[rows]))
        ]
        return ordered

    def _distinct(
        self, order: NDArray[np.int64], wanted: int, max_per_source: int | None
    ) -> list[tuple[int, list[int]]]:
        """Return the first row of each text, at most `wanted`, each with all rows of its text."""
        first: dict[int, int] = {}
        left_out: set[int] = set()
        sources: Counter[tuple[Namespace, str]] = Counter()
        for row, said in zip(order.tolist(), self._digest[order].tolist(), strict=True):
            if said in first or said in left_out:
                continue
            if len(first) == wanted:
                break
            if max_per_source and (source := self._source(row)) is not None:
                sources[source] += 1
                if sources[source] > max_per_source:
                    left_out.add(said)
                    continue
            first[said] = row
        copies = self._copies(first)
        return [(row, copies[said]) for said, row in first.items()]

    def _copies(self, digests: Iterable[int]) -> dict[int, list[int]]:
        """Return all rows of each digest."""
        copies: dict[int, list[int]] = {digest: [] for digest in digests}
        # One pass for all of them: by 12 bits of a digest, which few others share.
        wanted = np.zeros(4096, np.bool_)
        wanted[np.array(list(copies), np.int64) & 4095] = True
        for row in wanted[self._digest & 4095].nonzero()[0].tolist():
            if (same := copies.get(self._digest.item(row))) is not None:
                same.append(row)
        return copies

    def _ranked(self, row: int, copies: Sequence[int]) -> Ranked:
        part, place = self._place(row)
        return Ranked(
            key=self._key(max(copies, key=self._at.item) if len(copies) > 1 else copies[0]),
            score=self._scores.item(row),
            signals=part.signals_at(place, self._most),
            relevance=part.relevance_at(place),
            copies=frozenset(map(self._key, copies) if len(copies) > 1 else ()),
        )

    def _place(self, row: int) -> tuple[_Weighed, int]:
        number = bisect_right(self._ends, row)
        return self._weighed[number], row - (self._ends[number - 1] if number else 0)

    def _key(self, row: int) -> Key:
        part, place = self._place(row)
        view = part.pool.view
        return view.namespace, view.columns["key"].item(part.pool.rows.item(place))

    def _source(self, row: int) -> tuple[Namespace, str] | None:
        part, place = self._place(row)
        view = part.pool.view
        name = view.names.values[int(view.columns["source"][part.pool.rows[place]])]
        return None if name in SAID_HERE else (view.namespace, name)

    def _vector(self, row: int) -> Values | None:
        part, place = self._place(row)
        return _vector(part.pool, place)


_ALWAYS = ("cosine", "bm25")
_BOOSTS = ("speaker", "date", "time", "number", "answer", "role")
_AS_WORDS = ("bm25", "speaker", "date", "time", "number")  # trusted as far as the words
_VERSIONS = 3  # of the first hits, how many time can put in another order


def _weighed(
    scored: Scored,
    weights: Weights,
    *,
    now: int,
    version: Version | None,
    outside: Mapping[str, float],
    is_outside: bool,
) -> tuple[list[_Weighed], float]:
    """Return the candidates of each pool with their sums, and the most that a sum can be."""
    views = [pool.view for pool, _ in scored]
    session, penalty = 0.0, 0.0
    if any(view.has_assistant for view in views):
        session = weights.session_with_assistant
    elif any(len(view.speakers) > 1 for view in views):
        session, penalty = weights.session, weights.question
    reranked = any("rerank" in signals for _, signals in scored)
    weighed = [
        _own_and_session(pool, signals, weights, session=session, penalty=penalty)
        for pool, signals in scored
    ]
    # A boost that no candidate has asks nothing of any: it is no part of the most there is.
    given = {name for one in weighed for name in one.parts}
    meaning = weights.cosine
    if reranked:
        meaning = max(meaning, weights.cosine_with_rerank + weights.rerank)
    most = meaning + weights.bm25 + sum(getattr(weights, name) for name in _BOOSTS if name in given)
    most *= 1 + session
    if is_outside:
        most = 0.0
    for name, weight in outside.items():
        _add_outside(weighed, name, weight)
        most += weight
    most += _add_always_on(weighed, weights, now, most)
    if version is not None:
        most += _add_version(weighed, weights, version) * most
    return weighed, most


def _own_and_session(
    pool: Pool, signals: Signals, weights: Weights, *, session: float, penalty: float
) -> _Weighed:
    bm25 = signals["bm25"]
    # Where the question's words say next to nothing, neither words nor boosts can be trusted, and
    # the ranking falls back to the cosine.
    heard = float(bm25.max(initial=0))
    gate = weights.gate_documents if pool.view.are_documents else weights.gate
    trust = min(1.0, heard / gate) if gate else 1.0
    parts: dict[str, NDArray[np.float64]] = {}
    for name in (*_ALWAYS, *_BOOSTS):
        if name in signals and (name in _ALWAYS or signals[name].any()):
            factor = getattr(weights, name) * (trust if name in _AS_WORDS else 1)
            parts[name] = np.multiply(signals[name], factor, dtype=np.float64)
    if "rerank" in signals:
        seen = ~np.isnan(signals["rerank"])  # the others were not looked at
        parts["rerank"] = np.where(seen, weights.rerank * signals["rerank"], 0.0)
        parts["cosine"] = np.where(
            seen, weights.cosine_with_rerank * signals["cosine"], parts["cosine"]
        )
    total = reduce(np.add, parts.values())
    if "question" in signals and penalty:
        parts["question"] = -np.minimum(trust * penalty * signals["question"], total)
        total = total + parts["question"]
    share = weights.cosine + weights.bm25
    relevance = (weights.cosine / share, weights.bm25 / share)
    weighed = _Weighed(pool, signals, parts, total, relevance)
    _add_session(weighed, trust * session)
    return weighed


def _add_session(weighed: _Weighed, session: float) -> None:
    """Add a share of the best sum in each candidate's session.

    A record without a session is the best of its own: its parts grow by that share.
    """
    codes = weighed.pool.column("session_id")
    if not session or not len(codes):
        return
    total = weighed.total
    within = codes >= 0
    if not within.any():
        weighed.grown = np.full(len(codes), 1 + session)
        weighed.total = total * (1 + session)
        return
    # Code -1, no session, is the last place.
    peak = np.zeros(int(codes.max()) + 2)
    np.maximum.at(peak, codes, total)
    best = session * peak[codes]
    if within.all():
        weighed.boost("session", best)
        return
    weighed.grown = np.where(within, 1.0, 1.0 + session)
    weighed.total = total * weighed.grown
    weighed.boost("session", np.where(within, best, 0.0))


def _add_outside(weighed: Sequence[_Weighed], name: str, weight: float) -> None:
    told: dict[int, float] = {}
    for part in weighed:
        if name in part.signals:
            digests = part.pool.column("digest").tolist()
            told |= dict(zip(digests, part.signals[name].tolist(), strict=True))
    for part in weighed:
        digest = part.pool.column("digest")
        gain = np.zeros(len(digest))
        for place in np.flatnonzero(np.isin(digest, list(told))).tolist():
            gain[place] = told[int(digest[place])]
        if gain.any():
            part.boost(name, weight * gain)
            part.told = gain if part.told is None else np.maximum(part.told, gain)


def _add_always_on(weighed: Sequence[_Weighed], weights: Weights, now: int, most: float) -> float:
    """Let age and importance add shares of a record's own sum; return the most they can add.

    So neither is ever above the relevance. What is durable (facts, documents, and what metadata
    call so) does not age.
    """
    if weights.recency:
        fresh = [_freshness(part.pool, weights, now, weighed) for part in weighed]
        gains = [
            weights.recency * new * part.total for new, part in zip(fresh, weighed, strict=True)
        ]
        for part, gain in zip(weighed, gains, strict=True):
            part.boost("recency", gain)
    if weights.importance:
        for part in weighed:
            own = part.total - part.boosts.get("recency", 0.0)
            part.boost("importance", weights.importance * part.pool.column("importance") * own)
    return most * (weights.recency + weights.importance)


def _freshness(
    pool: Pool, weights: Weights, now: int, weighed: Sequence[_Weighed]
) -> NDArray[np.float64]:
    """Return how fresh each candidate is, from the floor to 1."""
    at = pool.column("at")
    if weights.recency_by == "rank":
        times = np.unique(_joined([part.pool.column("at") for part in weighed]))
        fresh = (
            np.searchsorted(times, at) / (len(times) - 1) if len(times) > 1 else np.ones(len(at))
        )
    else:
        fresh = np.exp2(-np.maximum(now - at, 0) / (weights.half_life_days * DAY))
    floor = weights.recency_floor
    aged: NDArray[np.float64] = floor + (1 - floor) * fresh
    aged[pool.column("durable")] = 1.0
    return aged


def _add_version(weighed: Sequence[_Weighed], weights: Weights, version: Version) -> float:
    """Let time decide among the first memories, and only there; return the weight of it.

    Elsewhere it costs recall: among many the newest is about something else.
    """
    weight = weights.newest if version == "newest" else weights.oldest
    memories = [part for part in weighed if not part.pool.view.are_documents]
    totals = _joined([part.total for part in memories] or [np.empty(0)])
    if not len(totals):
        return weight
    at, digest = (
        _joined([part.pool.column(name) for part in memories]) for name in ("at", "digest")
    )
    best = float(totals.max())
    first = _first_texts(totals, at, digest, at_least=weights.near_best * best)
    # A text was last said when its newest copy was.
    said = [int(at[digest == digest[row]].max()) for row in first]
    times = sorted(set(said))
    gain = np.zeros(len(totals))
    for row, time in zip(first, said, strict=True):
        rank = times.index(time) / max(1, len(times) - 1)
        gain[row] = weight * best * (rank if version == "newest" else 1 - rank)
    start = 0
    for part in memories:
        end = start + len(part.total)
        part.boost("version", gain[start:end])
        start = end
    return weight


def _first_texts(
    totals: NDArray[np.float64],
    at: NDArray[np.int64],
    digest: NDArray[np.int64],
    *,
    at_least: float,
) -> list[int]:
    """Return the best rows of the first texts that time can put in another order."""
    rows = np.flatnonzero(totals >= at_least)
    width = 16 * _VERSIONS
    if len(rows) > width:  # more copies than that of the first texts are not looked through
        rows = rows[totals[rows] >= _greatest(totals[rows], width)]
    first: dict[int, int] = {}
    for row in rows[np.lexsort((digest[rows], -at[rows], -totals[rows]))].tolist():
        first.setdefault(digest.item(row), row)
    return list(first.values())[:_VERSIONS]


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _greatest(values: NDArray[np.float64], n: int) -> float:
    """Return the n-th greatest value."""
    width = 8 * n
    if len(values) > 4 * width:
        # Of many, those below the n-th greatest peak of their blocks are not among them.
        whole = values[: len(values) // width * width]
        values = values[values >= _greatest(whole.reshape(-1, width).max(axis=0), n)]
    return float(np.partition(values, len(values) - n)[len(values) - n])


def _vector(pool: Pool, place: int) -> Values | None:
    vectors = pool.view.vectors
    return None if vectors is None else vectors[pool.rows[place]]


def _diverse(
    scores: NDArray[np.float64],
    vectors: Sequence[Values | None],
    k: int,
    mmr_lambda: float,
) -> list[int]:
    dim = next((len(vector) for vector in vectors if vector is not None), 1)
    matrix = np.array([np.zeros(dim) if vector is None else vector for vector in vectors])
    relevance = mmr_lambda * scores
    likeness = np.zeros(len(scores))
    taken: list[int] = []
    while len(taken) < min(k, len(scores)):
        gain = relevance - (1 - mmr_lambda) * likeness
        gain[taken] = -np.inf
        taken.append(int(gain.argmax()))
        likeness = np.maximum(likeness, np.vecdot(matrix, matrix[taken[-1]]))
    return taken
