"""What the processes of a comparison need, imported once, in the server they are forked from."""

from __future__ import annotations

import warnings
from contextlib import suppress
from importlib import import_module

warnings.simplefilter("ignore", DeprecationWarning)
for name in (
    "chromadb",
    "faiss",
    "hybrid_memory.backends.sql",
    "langchain_community.docstore.in_memory",
    "langchain_community.vectorstores.faiss",
    "tests.reliability.comparison",
):
    with suppress(ImportError):
        import_module(name)
