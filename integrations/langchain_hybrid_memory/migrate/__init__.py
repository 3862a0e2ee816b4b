"""One call each to bring along what other memories and retrievers of LangChain hold.

The old ones are read and never changed, through their public form; nothing is unpickled. Repeated,
a call adds nothing.
"""

from langchain_hybrid_memory.migrate.conversations import (
    from_conversation,
    from_retriever_memory,
    from_sql_history,
)
from langchain_hybrid_memory.migrate.retrieval import (
    faiss_documents,
    from_ensemble,
    from_time_weighted,
    time_weights,
)

__all__ = [
    "faiss_documents",
    "from_conversation",
    "from_ensemble",
    "from_retriever_memory",
    "from_sql_history",
    "from_time_weighted",
    "time_weights",
]
