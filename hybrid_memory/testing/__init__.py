"""For tests: a fake of every seam, and the suite that any implementation of a seam must pass.

Fakes need no model, file or network. A suite is a base class for pytest: subclass it, override the
fixture that provides the object under test, and every test of the contract runs on it.

    class TestMyIndex(VectorIndexSuite):
        @pytest.fixture
        def make(self):
            return MyIndex

The suites need pytest; the fakes do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hybrid_memory.testing.fakes import (
    ExactIndex,
    HashEmbedder,
    LineSplitter,
    ManualClock,
    MemoryDocumentStore,
    ScriptedChat,
    TextReader,
    WordOverlapReranker,
    WordRetriever,
)
from hybrid_memory.testing.memory_store import MemoryRecordStore

if TYPE_CHECKING:
    from hybrid_memory.testing.chat_models import ChatModelSuite
    from hybrid_memory.testing.document_stores import DocumentStoreSuite
    from hybrid_memory.testing.embedders import EmbedderSuite
    from hybrid_memory.testing.readers import DocumentReaderSuite
    from hybrid_memory.testing.record_stores import DurableRecordStoreSuite, RecordStoreSuite
    from hybrid_memory.testing.rerankers import RerankerSuite
    from hybrid_memory.testing.retrievers import RetrieverSuite
    from hybrid_memory.testing.splitters import DocumentSplitterSuite
    from hybrid_memory.testing.vector_indexes import VectorIndexSuite
    from hybrid_memory.testing.vector_spaces import VectorSpaceSuite

_SUITES = {
    "ChatModelSuite": "chat_models",
    "DocumentReaderSuite": "readers",
    "DocumentSplitterSuite": "splitters",
    "DocumentStoreSuite": "document_stores",
    "DurableRecordStoreSuite": "record_stores",
    "EmbedderSuite": "embedders",
    "RecordStoreSuite": "record_stores",
    "RerankerSuite": "rerankers",
    "RetrieverSuite": "retrievers",
    "VectorIndexSuite": "vector_indexes",
    "VectorSpaceSuite": "vector_spaces",
}

__all__ = [
    "ChatModelSuite",
    "DocumentReaderSuite",
    "DocumentSplitterSuite",
    "DocumentStoreSuite",
    "DurableRecordStoreSuite",
    "EmbedderSuite",
    "ExactIndex",
    "HashEmbedder",
    "LineSplitter",
    "ManualClock",
    "MemoryDocumentStore",
    "MemoryRecordStore",
    "RecordStoreSuite",
    "RerankerSuite",
    "RetrieverSuite",
    "ScriptedChat",
    "TextReader",
    "VectorIndexSuite",
    "VectorSpaceSuite",
    "WordOverlapReranker",
    "WordRetriever",
]


def __getattr__(name: str) -> object:
    # Suites load when asked for, so that the fakes work without pytest.
    if name not in _SUITES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    module = f"{__name__}.{_SUITES[name]}"
    pytest.register_assert_rewrite(module)  # else a failure would not show its values
    return getattr(import_module(module), name)
