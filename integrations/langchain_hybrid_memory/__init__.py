"""hybrid_memory for LangChain and LangGraph: thin adapters over one engine.

`HybridStore` is a LangGraph store, `HybridMemoryMiddleware` and `memory_tools` give an agent its
memory, `HybridRetriever`, `HybridVectorStore` and `RecencyRelevanceReranker` find documents and
memories, `HybridConversationMemory` and `HybridChatMessageHistory` serve chains of before, and
`migrate` brings along what is there.

Each is imported when it is asked for: a program pays for what it uses, and needs only the
libraries of that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hybrid_memory.errors import MissingExtraError

if TYPE_CHECKING:
    from langchain_hybrid_memory import migrate
    from langchain_hybrid_memory.classic import HybridConversationMemory
    from langchain_hybrid_memory.embeddings import HybridEmbeddings, embedder_from
    from langchain_hybrid_memory.history import HybridChatMessageHistory
    from langchain_hybrid_memory.identity import IdentityError, scope_from
    from langchain_hybrid_memory.middleware import HybridMemoryMiddleware
    from langchain_hybrid_memory.rerankers import RecencyRelevanceReranker
    from langchain_hybrid_memory.retrievers import HybridRetriever
    from langchain_hybrid_memory.sources import source_from
    from langchain_hybrid_memory.store import HybridStore, decode_label, encode_label
    from langchain_hybrid_memory.tools import memory_tools
    from langchain_hybrid_memory.vectorstores import HybridVectorStore

_MODULES = {
    "HybridChatMessageHistory": "history",
    "HybridConversationMemory": "classic",
    "HybridEmbeddings": "embeddings",
    "HybridMemoryMiddleware": "middleware",
    "HybridRetriever": "retrievers",
    "HybridStore": "store",
    "HybridVectorStore": "vectorstores",
    "IdentityError": "identity",
    "RecencyRelevanceReranker": "rerankers",
    "decode_label": "store",
    "embedder_from": "embeddings",
    "encode_label": "store",
    "memory_tools": "tools",
    "scope_from": "identity",
    "source_from": "sources",
}
_EXTRAS = {"classic": "langchain-classic"}  # the others need "langchain"

__all__ = [
    "HybridChatMessageHistory",
    "HybridConversationMemory",
    "HybridEmbeddings",
    "HybridMemoryMiddleware",
    "HybridRetriever",
    "HybridStore",
    "HybridVectorStore",
    "IdentityError",
    "RecencyRelevanceReranker",
    "decode_label",
    "embedder_from",
    "encode_label",
    "memory_tools",
    "migrate",
    "scope_from",
    "source_from",
]


def __getattr__(name: str) -> Any:
    module = name if name == "migrate" else _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__name__):
            raise
        extra = _EXTRAS.get(module, "langchain")
        raise MissingExtraError(
            f'{name} needs {error.name}: pip install ".[{extra}]" in a checkout of '
            "hybrid-rag-memory"
        ) from error
    return found if name == "migrate" else getattr(found, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
