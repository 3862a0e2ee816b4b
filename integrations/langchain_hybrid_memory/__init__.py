"""hybrid_memory for LangChain and LangGraph: thin adapters over one engine.

`HybridStore` is a LangGraph store, `HybridMemoryMiddleware` and `memory_tools` give an agent its
memory, `HybridRetriever`, `HybridVectorStore` and `RecencyRelevanceReranker` find documents and
memories, `HybridConversationMemory` and `HybridChatMessageHistory` serve chains of before.

Each is imported when it is asked for: a program pays for what it uses, and needs only the
libraries of that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hybrid_memory.errors import MissingExtraError

if TYPE_CHECKING:
    from langchain_hybrid_memory.store import HybridStore, decode_label, encode_label

_MODULES = {
    "HybridChatMessageHistory": "chat_history",
    "HybridConversationMemory": "conversation_memory",
    "HybridEmbeddings": "embeddings",
    "HybridMemoryMiddleware": "middleware",
    "HybridRetriever": "retriever",
    "HybridStore": "store",
    "HybridVectorStore": "vectorstore",
    "RecencyRelevanceReranker": "reranker",
    "decode_label": "store",
    "encode_label": "store",
    "memory_tools": "tools",
}
_EXTRAS = {"conversation_memory": "langchain-classic"}  # the others need "langchain"

__all__ = [
    "HybridChatMessageHistory",
    "HybridConversationMemory",
    "HybridEmbeddings",
    "HybridMemoryMiddleware",
    "HybridRetriever",
    "HybridStore",
    "HybridVectorStore",
    "RecencyRelevanceReranker",
    "decode_label",
    "encode_label",
    "memory_tools",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__name__):
            raise
        extra = _EXTRAS.get(module, "langchain")
        raise MissingExtraError(
            f'{name} needs {error.name}: pip install ".[{extra}]" in a checkout of '
            "hybrid-rag-memory"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
