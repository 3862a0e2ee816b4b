"""A tenant with a thousandth of all records finds what it would find alone.

Its hits and scores are those of a store without anybody else, to the last bit; and with nothing
but the cosine to rank by they are the nearest of all, by brute force.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_memory import HybridMemory, Scope, Weights
from hybrid_memory.testing import HashEmbedder
from tests.reliability.outcome import Outcome
from tests.reliability.processes import opened

ROWS = 50_000
SHARE = 1000
QUERIES = 100
K = 10
WORDS = [f"word{number}" for number in range(30)]  # few, so that cosines are above zero
_KEPT = {"cosine", "half_life_days", "recency_by"}
ONLY_COSINE = Weights(
    **{one.name: 0.0 for one in fields(Weights) if one.name not in _KEPT},  # type: ignore[arg-type]
    cosine=1.0,
)


def run(scale: float = 1.0) -> Outcome:
    """Ask 100 questions, with all comparing and with an index, beside 50,000 records."""
    rows = int(ROWS * scale)
    dice = random.Random(0)
    small = [_text(dice) for _ in range(rows // SHARE)]
    queries = [" ".join(dice.sample(WORDS, 8)) for _ in range(QUERIES)]
    embedder = HashEmbedder()
    # A score is never below zero.
    nearest = np.maximum(embedder.embed(queries) @ embedder.embed(small).T, 0)
    found = wanted = told_otherwise = trials = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with _opened(path / "all") as memory:
            _fill(memory.scope(user_id="large"), [_text(dice) for _ in range(rows)])
            _fill(memory.scope(user_id="small"), small)
        with _opened(path / "alone") as memory:
            _fill(memory.scope(user_id="small"), small)
        for parts in ({}, {"index_above": K}):
            ways: tuple[dict[str, Any], ...] = (parts, {**parts, "weights": ONLY_COSINE})
            for way in ways:
                with _opened(path / "all", **way) as all_, _opened(path / "alone", **way) as alone:
                    for query, cosines in zip(queries, nearest, strict=True):
                        trials += 1
                        hits = _hits(all_, query)
                        told_otherwise += hits != _hits(alone, query)
                        if "weights" in way:
                            tenth = np.sort(cosines)[-K]
                            wanted += K
                            found += sum(cosines[int(id_)] >= tenth - 1e-6 for id_, *_ in hits)
    return Outcome(
        f"questions of a tenant with {len(small)} of {rows + len(small)} records",
        trials=trials,
        failures=wanted - found + told_otherwise,
        seconds=time.monotonic() - started,
        details={
            "recall@10": round(found / wanted, 4),
            "told otherwise": told_otherwise,
            "tenth cosine, mean": round(float(np.sort(nearest)[:, -K].mean()), 2),
        },
    )


def _opened(path: Path, **parts: Any) -> HybridMemory:
    return opened(path, embedder=HashEmbedder(), durability="normal", **parts)


def _text(dice: random.Random) -> str:
    return " ".join(dice.sample(WORDS, 8))


def _fill(scope: Scope, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), 1000):
        part = enumerate(texts[start : start + 1000], start)
        scope.add_many([{"text": text, "id": str(number)} for number, text in part])


def _hits(memory: HybridMemory, query: str) -> list[tuple[Any, ...]]:
    hits = memory.scope(user_id="small").search(query, k=K)
    return [(hit.record.id, hit.score, dict(hit.signals), hit.relevance) for hit in hits]
