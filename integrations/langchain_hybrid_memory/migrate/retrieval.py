"""What stock retrievers and FAISS folders hold, into a memory or a retriever."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from hybrid_memory import Record, Scope, Weights
from hybrid_memory.errors import TransferError
from langchain_hybrid_memory import pickles
from langchain_hybrid_memory.documents import moment, plain
from langchain_hybrid_memory.retrievers import HybridRetriever
from langchain_hybrid_memory.texts import stable_id, storable

if TYPE_CHECKING:
    from langchain_classic.retrievers import EnsembleRetriever, TimeWeightedVectorStoreRetriever

# Where the classes of a pickled FAISS folder have lived over the years.
_DOCSTORES = frozenset(
    (f"{package}.docstore.in_memory", "InMemoryDocstore")
    for package in ("langchain", "langchain_classic", "langchain_community")
)
_DOCUMENTS = frozenset(
    (module, "Document")
    for module in (
        "langchain_core.documents.base",
        "langchain.docstore.document",
        "langchain.schema",
        "langchain.schema.document",
    )
)


# -- retrievers ----------------------------------------------------------------------------------


def from_ensemble(ensemble: EnsembleRetriever, **others: Any) -> HybridRetriever:
    """Return a retriever over the children of an `EnsembleRetriever`, with its weights and key.

    `others` are fields of `HybridRetriever`: an ensemble returns all that its children find, this
    the best `k`. Children of weight 0 are not asked.
    """
    return HybridRetriever(
        retrievers=list(ensemble.retrievers),
        weights=list(ensemble.weights),
        id_key=ensemble.id_key,
        **others,
    )


def from_time_weighted(retriever: TimeWeightedVectorStoreRetriever, scope: Scope) -> list[Record]:
    """Remember the documents of a `TimeWeightedVectorStoreRetriever` as events of their time.

    The time is their `created_at`, a local one if it has no zone; an `importance` in [0, 1] is
    kept as that. What it has in the metadata for itself is left out. To rank as it did, open the
    memory with `time_weights(retriever)`.

    Raises:
        TransferError: it has no documents: they live only in the process that added them.
    """
    if not retriever.memory_stream:
        raise TransferError(
            "the retriever's memory_stream is empty; migrate in the process that added the "
            "documents, or read them from its vector store"
        )
    items = [_event(document) for document in retriever.memory_stream]
    return scope.add_many(items, on_conflict="skip")


def time_weights(retriever: TimeWeightedVectorStoreRetriever) -> Weights:
    """Return weights with the half-life of its `decay_rate`, recency counting as the relevance."""
    kept = 1 - retriever.decay_rate  # of the score, after an hour
    if kept >= 1:
        return Weights()
    hours = math.log(0.5) / math.log(kept) if kept > 0 else 0.0
    return Weights(recency=1.0, half_life_days=min(max(hours / 24, 1e-3), 1e5))


def _event(document: Document) -> dict[str, Any]:
    given = dict(document.metadata)
    given.pop("buffer_idx", None)
    given.pop("last_accessed_at", None)
    at = moment(given.pop("created_at", None))
    importance = given.get("importance")
    has_importance = isinstance(importance, int | float) and 0 <= importance <= 1
    return {
        "id": document.id or stable_id(at, document.page_content),
        "text": storable(document.page_content),
        "kind": "event",
        "at": at,
        "importance": importance if has_importance else 0.5,
        "metadata": plain(given),
    }


# -- vector stores -------------------------------------------------------------------------------


def faiss_documents(folder: Path | str, *, index_name: str = "index") -> list[Document]:
    """Return the documents of a folder that `FAISS.save_local` wrote, in the order of its index.

    For `HybridVectorStore.add_documents`, which encodes them anew. Nothing is unpickled: of
    `index.pkl` only documents and plain values are read, and no code in it is run.

    Raises:
        TransferError: not such a folder, or its pickle holds anything else.
    """
    path = Path(folder) / f"{index_name}.pkl"
    content = pickles.read(path, _DOCSTORES | _DOCUMENTS)
    try:
        docstore, order = content
        stored = docstore.state["_dict"]
        return [_document(stored[order[place]], order[place]) for place in sorted(order)]
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        raise TransferError(f"{path} is not the docstore of a FAISS folder") from None


def _document(pickled: pickles.Stored, id: str) -> Document:
    state: Mapping[str, Any] = pickled.state
    fields = state.get("__dict__", state)
    return Document(
        id=id, page_content=fields["page_content"], metadata=dict(fields.get("metadata") or {})
    )
