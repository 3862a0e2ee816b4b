"""What most tests start from: an empty memory without a model, and a clock that stands still."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.testing import HashEmbedder, LineSplitter, ManualClock, ScriptedChat

# Some tests import ONNX Runtime themselves; see `backends/onnx.py`.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat(["You like Rust."])


@pytest.fixture
def memory(tmp_path: Path, clock: ManualClock, chat: ScriptedChat) -> Iterator[HybridMemory]:
    with HybridMemory.open(
        tmp_path / "memory",
        embedder=HashEmbedder(),
        splitter=LineSplitter(),
        llm=chat,
        clock=clock,
        count_tokens=lambda text: len(text.split()),
        durability="normal",  # most tests are not about power cuts
    ) as opened:
        yield opened


@pytest.fixture
def ana(memory: HybridMemory) -> Scope:
    return memory.scope(user_id="ana", session_id="s1")
