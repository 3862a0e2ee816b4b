"""Embedders as LangChain's `Embeddings`, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from langchain_core.embeddings import Embeddings

from hybrid_memory.protocols import Embedder, Vector, Vectors
from langchain_hybrid_memory.aio import in_thread

# Where the classes of providers keep the name of their model.
_MODEL_NAMES = ("model", "model_name", "model_id", "deployment", "repo_id", "deployment_name")


class HybridEmbeddings(Embeddings):
    """An embedder of hybrid_memory for LangChain; without one all-MiniLM-L6-v2, bundled.

    No key, no download, no network. Vectors have norm 1.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        if embedder is None:
            from hybrid_memory.backends.onnx import MiniLMEmbedder

            embedder = MiniLMEmbedder()
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        vectors: list[list[float]] = self.embedder.embed(texts).tolist() if texts else []
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        vector: list[float] = self.embedder.embed_query(text).tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text, in another thread."""
        return await in_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of a question, in another thread."""
        return await in_thread(self.embed_query, text)


def embedder_from(
    embeddings: Embeddings, *, name: str | None = None, dim: int | None = None
) -> Embedder:
    """Return any `Embeddings` as an embedder for `HybridMemory.open`.

    `name` is what a store remembers its vector space by; without one it is made of the class and
    the model it names, and is the same in every process. Give one where that says too little, as
    for a class of your own with two models. Without a `dim` one short text is encoded to learn it.
    """
    if isinstance(embeddings, HybridEmbeddings):
        return embeddings.embedder
    return LangChainEmbedder(embeddings, name=name, dim=dim)


def embeddings_of(embedder: Embedder) -> Embeddings:
    """Return an embedder as `Embeddings`: those that it was made of, if it was made of any."""
    if isinstance(embedder, LangChainEmbedder):
        return embedder.embeddings
    return HybridEmbeddings(embedder)


class LangChainEmbedder:
    """An Embedder that asks an `Embeddings`; see `embedder_from`."""

    def __init__(self, embeddings: Embeddings, *, name: str | None, dim: int | None) -> None:
        self.embeddings = embeddings
        self._name = name or f"langchain:{name_of(embeddings)}"
        self._dim = dim

    @property
    def name(self) -> str:
        """What identifies the vector space."""
        return self._name

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._dim or self._measured

    @cached_property
    def _measured(self) -> int:
        return len(self.embeddings.embed_query("dimension"))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return _units(np.array(self.embeddings.embed_documents(list(texts)), np.float64))

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, in the space of `embed`."""
        return _units(np.array(self.embeddings.embed_query(text), np.float64))


def _units(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def name_of(embeds: object) -> str:
    """Return what tells one embedding from another in every process, as far as it can be told.

    Of a function that is where it is from, of an object its class and the model that it names.
    """
    if isinstance(embeds, str):
        return embeds
    kind = embeds if hasattr(embeds, "__qualname__") else type(embeds)
    models = (getattr(embeds, attribute, None) for attribute in _MODEL_NAMES)
    model = next((one for one in models if isinstance(one, str) and one), None)
    name = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
    return name if model is None else f"{name}:{model}"
