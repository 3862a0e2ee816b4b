"""Read path, stage 3: signals in [0, 1], one function each, over all candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.limits import microseconds
from hybrid_memory.partition import Pool
from hybrid_memory.types import Query

TOLD_WITHIN = timedelta(days=7)  # people tell of things afterwards

Values = NDArray[np.float32]
Signal = Callable[[Query, Pool], Values | None]  # None where the query does not ask for it


def cosine(query: Query, pool: Pool) -> Values:
    """Nearness in meaning: the cosine, raw, with 0 for what points away."""
    return _within_0_and_1(pool.cosine)


def bm25(query: Query, pool: Pool) -> Values:
    """The share of the query's words, by their rarity, that a record answers."""
    return pool.bm25


def speaker(query: Query, pool: Pool) -> Values | None:
    """Said by the one speaker that the query names."""
    code = None if query.speaker is None else pool.view.code(query.speaker)
    return None if code is None else _as_values(pool.column("speaker") == code)


def date(query: Query, pool: Pool) -> Values | None:
    """Told in a time that the query names, or within seven days after it."""
    if not query.windows:
        return None
    at = pool.column("at")
    inside = np.zeros(len(at), np.bool_)
    for window in query.windows:
        start, end = microseconds(window.start), microseconds(window.end + TOLD_WITHIN)
        inside |= (at >= start) & (at < end)
    return _as_values(inside)


def time(query: Query, pool: Pool) -> Values | None:
    """Tells a time, where the query asks for one."""
    return _as_values(pool.column("tells_time")) if query.asks_when else None


def number(query: Query, pool: Pool) -> Values | None:
    """Tells a number, where the query asks for one."""
    return _as_values(pool.column("tells_number")) if query.asks_how_many else None


def answer(query: Query, pool: Pool) -> Values | None:
    """How much nearer than a turn itself the question is that it answers: "The blue one."."""
    if not pool.view.has_answers:
        return None
    return _within_0_and_1(pool.asked - np.maximum(pool.cosine, 0))


def role(query: Query, pool: Pool) -> Values | None:
    """Said by the one that is asked about, where a user and an assistant speak.

    That is the user, unless the question is what the assistant said: people ask about what they
    themselves told.
    """
    if not pool.view.has_assistant:
        return None
    code = pool.view.code("assistant" if query.asks_assistant else "user")
    return None if code is None else _as_values(pool.column("role") == code)


def question(query: Query, pool: Pool) -> Values | None:
    """The share of a turn that asks: a question answers nothing."""
    values: Values = pool.column("question")
    return values


SIGNALS = (cosine, bm25, answer, speaker, date, time, number, role, question)
# Of a document it says nothing who wrote it or when it was learned.
DOCUMENT_SIGNALS = (cosine, bm25)


def score(query: Query, pool: Pool) -> dict[str, Values]:
    """Return the (candidates,) values of each signal that the query asks for, by name."""
    signals: Sequence[Signal] = DOCUMENT_SIGNALS if pool.view.are_documents else SIGNALS
    found = {signal.__name__: signal(query, pool) for signal in signals}
    return {name: values for name, values in found.items() if values is not None}


def _within_0_and_1(values: Values) -> Values:
    return np.minimum(np.maximum(values, 0), 1)  # np.clip takes three times as long for few


def _as_values(claims: NDArray[np.bool_]) -> Values:
    return claims.astype(np.float32)
