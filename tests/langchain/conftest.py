"""A memory whose embedder counts what it encodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory
from hybrid_memory.protocols import Vectors
from hybrid_memory.testing import HashEmbedder, ManualClock


class CountingEmbedder(HashEmbedder):
    count = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.count += len(texts)
        return super().embed(texts)


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def memory(
    tmp_path: Path, clock: ManualClock, embedder: CountingEmbedder
) -> Iterator[HybridMemory]:
    with HybridMemory.open(
        tmp_path / "memory",
        embedder=embedder,
        clock=clock,
        count_tokens=lambda text: len(text.split()),
        durability="normal",
    ) as opened:
        yield opened
