"""An embedder and a reranker on any model of sentence-transformers; torch loads at first use."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import InvalidInputError, MissingExtraError, ModelFileError
from hybrid_memory.limits import unit_vectors, whole
from hybrid_memory.protocols import Vector, Vectors

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer


class SentenceTransformersEmbedder:
    """An Embedder on a model of the Hugging Face hub, a folder, or a loaded SentenceTransformer.

    A hub model is downloaded at first use; a folder is not looked up anywhere. Prompts are put
    before the texts; without them the model's own "query" and "document" prompts are used.
    `name` identifies the vector space; a loaded model has none that can be relied on, so it must
    be given then.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelFileError: the folder is not there.
    """

    def __init__(
        self,
        model: str | Path | SentenceTransformer,
        *,
        device: str | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        name: str | None = None,
        batch_size: int = 32,
    ) -> None:
        _require(model, wanted_by="SentenceTransformersEmbedder")
        if not isinstance(model, str | Path) and name is None:
            raise InvalidInputError("a loaded model needs a name= for its vector space")
        self._source = model
        self._device = device
        self._query_prompt = query_prompt
        self._document_prompt = document_prompt
        self._batch_size = batch_size
        self._name = name
        self._dim = 0
        self._model: Any = None
        # The tokenizers of Hugging Face change their padding while they work: one call at a time.
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The model's name, or the folder's name and a hash of its files, and the prompts."""
        with self._lock:
            if self._name is None:
                source = str(self._source)
                if Path(source).is_dir():
                    source = f"{Path(source).resolve().name}@{_folder_hash(Path(source))}"
                prompts = [self._query_prompt, self._document_prompt]
                given = f" with prompts {prompts}" if any(prompts) else ""
                self._name = f"sentence-transformers/{source}{given}"
            return self._name

    @property
    def dim(self) -> int:
        """The dimension of the vectors; loads the model."""
        with self._lock:
            if not self._dim:
                self._dim = self._encode(["dimension"], None).shape[1]
            return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        prompt = self._prompt(self._document_prompt, "document", "passage", "corpus")
        return unit_vectors(self._encode(texts, prompt), count=len(texts), dim=self.dim)

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, in the space of `embed`."""
        prompt = self._prompt(self._query_prompt, "query")
        vector: Vector = unit_vectors(self._encode([text], prompt), count=1, dim=self.dim)[0]
        return vector

    def _prompt(self, given: str | None, *names: str) -> str | None:
        if given is not None:
            return given
        prompts = self._loaded().prompts or {}
        return next((prompts[name] for name in names if name in prompts), None)

    def _encode(self, texts: Sequence[str], prompt: str | None) -> Any:
        with self._lock:
            return self._loaded().encode(
                list(texts),
                prompt=prompt,
                batch_size=self._batch_size,
                convert_to_numpy=True,
                show_progress_bar=False,
            )

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                if isinstance(self._source, str | Path):
                    from sentence_transformers import SentenceTransformer

                    self._model = SentenceTransformer(str(self._source), device=self._device)
                else:
                    self._model = self._source
            return self._model


class CrossEncoderReranker:
    """A Reranker on a cross-encoder: of the Hugging Face hub, a folder, or a loaded CrossEncoder.

    A hub model is downloaded at first use; a folder is not looked up anywhere. The model must give
    one value for a pair; unless it comes out of a sigmoid already, a sigmoid is applied. A pair
    longer than the model's window is cut by the model. Thread-safe, one call at a time.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelFileError: the folder is not there.
    """

    def __init__(
        self, model: str | Path | CrossEncoder, *, device: str | None = None, batch_size: int = 32
    ) -> None:
        _require(model, wanted_by="CrossEncoderReranker")
        self._source = model
        self._device = device
        self._batch_size = whole(batch_size, "batch_size", low=1)
        self._model: Any = None
        self._lock = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts),) values in [0, 1], higher is better, whatever the order of texts.

        Raises:
            InvalidInputError: the model gives more than one value for a pair.
        """
        if isinstance(texts, str):
            raise InvalidInputError("texts are a list; put the one text into a list")
        if not texts:
            return np.empty(0, dtype=np.float32)
        with self._lock:
            if self._model is None:
                self._model = self._loaded()
            # By place: its name changed from one version of the library to the next.
            values: NDArray[np.float32] = self._model.predict(
                [(query, text) for text in texts],
                batch_size=self._batch_size,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        if values.shape != (len(texts),):
            raise InvalidInputError(
                f"the cross-encoder gives {values.shape[-1]} values for a pair; "
                "take one with num_labels=1, made for ranking"
            )
        return values if _ends_in_sigmoid(self._model) else _sigmoid(values)

    def _loaded(self) -> Any:
        if not isinstance(self._source, str | Path):
            return self._source
        from sentence_transformers import CrossEncoder

        return CrossEncoder(str(self._source), device=self._device)


def _require(model: object, *, wanted_by: str) -> None:
    if find_spec("sentence_transformers") is None:
        raise MissingExtraError(
            f"{wanted_by} needs sentence-transformers: "
            'pip install ".[sentence-transformers]" '
            "in a checkout of hybrid-rag-memory"
        )
    if isinstance(model, Path) and not model.is_dir():
        raise ModelFileError(f"{model} is not a folder with a model")


def _ends_in_sigmoid(model: Any) -> bool:
    # The second is the name before version 4 of the library.
    names = ("activation_fn", "default_activation_function")
    last = next((getattr(model, name) for name in names if hasattr(model, name)), None)
    return type(last).__name__ == "Sigmoid"


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # Unlike 1 / (1 + exp(-x)), this cannot overflow.
    scores: NDArray[np.float32] = 0.5 + 0.5 * np.tanh(0.5 * logits)
    return scores


def _folder_hash(folder: Path) -> str:
    """Return a hash of the weights and settings, so that a folder may move but not change."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".bin", ".txt"):
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
