"""Read path, stage 3: signals in [0, 1], one function each, over all candidates at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.partition import Pool
from hybrid_memory.types import Query

Signal = Callable[[Query, Pool], NDArray[np.float32]]


def cosine(query: Query, pool: Pool) -> NDArray[np.float32]:
    """Nearness in meaning: the cosine, raw, with 0 for what points away."""
    return np.clip(pool.cosine, 0, 1)


def bm25(query: Query, pool: Pool) -> NDArray[np.float32]:
    """The share of the query's words, by their rarity, that a record answers."""
    return pool.bm25


SIGNALS: Mapping[str, Signal] = MappingProxyType({"cosine": cosine, "bm25": bm25})


def score(query: Query, pool: Pool) -> dict[str, NDArray[np.float32]]:
    """Return each signal's (candidates,) values, by name."""
    return {name: signal(query, pool) for name, signal in SIGNALS.items()}
