"""What the fakes promise beyond the seams they stand in for."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

import hybrid_memory.testing
from hybrid_memory.testing import ManualClock


def test_a_manual_clock_moves_only_when_it_is_told_to() -> None:
    clock = ManualClock(datetime(2026, 5, 2, tzinfo=UTC))

    assert clock() == clock() == datetime(2026, 5, 2, tzinfo=UTC)
    assert clock.advance(days=2, minutes=1) == clock()
    assert clock() - datetime(2026, 5, 2, tzinfo=UTC) == timedelta(days=2, minutes=1)


def test_the_fakes_need_neither_pytest_nor_a_library_of_a_backend() -> None:
    code = """
import sys
for name in ("pytest", "faiss", "chromadb", "openai", "sqlalchemy", "onnxruntime", "torch"):
    sys.modules[name] = None
from hybrid_memory.testing import HashEmbedder, MemoryRecordStore, ScriptedChat
HashEmbedder().embed(["a"])
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_promised_is_there() -> None:
    for name in hybrid_memory.testing.__all__:
        assert getattr(hybrid_memory.testing, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        hybrid_memory.testing.Nothing  # noqa: B018
