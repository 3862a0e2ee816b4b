"""Read path, stage 3: signals in [0, 1], one function each, over all candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.limits import microseconds
from hybrid_memory.partition import Pool
from hybrid_memory.types import Query

TOLD_WITHIN = timedelta(days=7)  # people tell of things afterwards

Values = NDArray[np.float32]
Signal = Callable[[Query, Pool], Values]


def cosine(query: Query, pool: Pool) -> Values:
    """Nearness in meaning: the cosine, raw, with 0 for what points away."""
    return np.clip(pool.cosine, 0, 1)


def bm25(query: Query, pool: Pool) -> Values:
    """The share of the query's words, by their rarity, that a record answers."""
    return pool.bm25


def speaker(query: Query, pool: Pool) -> Values:
    """Said by the one speaker that the query names."""
    code = None if query.speaker is None else pool.view.code(query.speaker)
    return _as_values(pool.column("speaker") == (_NOBODY if code is None else code))


def date(query: Query, pool: Pool) -> Values:
    """Told in a time that the query names, or within seven days after it."""
    at = pool.column("at")
    inside = np.zeros(len(at), np.bool_)
    for window in query.windows:
        start, end = microseconds(window.start), microseconds(window.end + TOLD_WITHIN)
        inside |= (at >= start) & (at < end)
    return _as_values(inside)


def time(query: Query, pool: Pool) -> Values:
    """Tells a time, where the query asks for one."""
    return _as_values(pool.column("tells_time") & query.asks_when)


def number(query: Query, pool: Pool) -> Values:
    """Tells a number, where the query asks for one."""
    return _as_values(pool.column("tells_number") & query.asks_how_many)


def user(query: Query, pool: Pool) -> Values:
    """Said by the user, where an assistant speaks too: people ask about what they said."""
    code = pool.view.code("user") if pool.view.has_assistant else None
    return _as_values(pool.column("role") == (_NOBODY if code is None else code))


def question(query: Query, pool: Pool) -> Values:
    """The share of a turn that asks: a question answers nothing."""
    values: Values = pool.column("question")
    return values


_NOBODY = -2  # no code of a name, nor of an absent one

SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {one.__name__: one for one in (cosine, bm25, speaker, date, time, number, user, question)}
)
# Of a document it says nothing who wrote it or when it was learned.
DOCUMENT_SIGNALS: Mapping[str, Signal] = MappingProxyType({"cosine": cosine, "bm25": bm25})


def score(query: Query, pool: Pool) -> dict[str, Values]:
    """Return each signal's (candidates,) values, by name."""
    signals = DOCUMENT_SIGNALS if pool.view.are_documents else SIGNALS
    return {name: signal(query, pool) for name, signal in signals.items()}


def _as_values(claims: NDArray[np.bool_]) -> Values:
    return claims.astype(np.float32)
