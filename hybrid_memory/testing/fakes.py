"""Fakes of the seams: deterministic, in memory, without models and networks."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import DimensionMismatchError, DocumentError, VectorError
from hybrid_memory.protocols import Keys, Vector, Vectors
from hybrid_memory.types import Completion, Found, Message, Namespace, Usage


class HashEmbedder:
    """An Embedder of hashed words: texts that share words are near, whatever they mean."""

    def __init__(self, dim: int = 64, *, name: str = "hashed-words") -> None:
        self._dim = dim
        self._name = name

    @property
    def name(self) -> str:
        """What identifies the vector space."""
        return self._name

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        vectors = np.zeros((len(texts), self._dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                slot, sign = _slot(word, self._dim)
                row[slot] += sign
            if not row.any():  # no words, or words that cancel out
                row[_slot(text, self._dim)[0]] = 1
            row /= np.linalg.norm(row)
        return vectors

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, in the space of `embed`."""
        vector: Vector = self.embed([text])[0]
        return vector


@lru_cache(maxsize=65536)
def _slot(word: str, dim: int) -> tuple[int, int]:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    number = int.from_bytes(digest)
    return (number >> 1) % dim, 1 if number & 1 else -1


class WordOverlapReranker:
    """A Reranker by words: the share of the question's words that the text has too."""

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts),) values in [0, 1], higher is better, whatever the order of texts."""
        asked = _words(query)
        shares = [len(asked & _words(text)) / max(len(asked), 1) for text in texts]
        return np.array(shares, dtype=np.float32)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class ScriptedChat:
    """A ChatModel that gives the replies of a list, one a call; the last one repeats.

    An exception in the list is raised in its turn. `calls` are the conversations it was given.
    """

    def __init__(self, replies: Sequence[str | Exception] = ("Yes.",)) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        self._replies = list(replies)
        self._lock = threading.Lock()

    def complete(
        self, messages: Sequence[Message], *, on_token: Callable[[str], None] | None = None
    ) -> Completion:
        """Return the next reply; with `on_token`, hand it over word by word. Tokens are words."""
        with self._lock:
            reply = self._replies[min(len(self.calls), len(self._replies) - 1)]
            self.calls.append([dict(message) for message in messages])
        if isinstance(reply, Exception):
            raise reply
        pieces = re.findall(r"\s*\S+|\s+$", reply)
        if on_token is not None:
            for piece in pieces:
                on_token(piece)
        prompt = sum(len(str(message.get("content") or "").split()) for message in messages)
        return Completion(reply, Usage(prompt, len(pieces)))


class ExactIndex:
    """A VectorIndex that compares with every vector."""

    def __init__(self, dim: int) -> None:
        self._vectors = np.empty((0, dim), dtype=np.float32)

    def add(self, vectors: Vectors) -> None:
        """Append (n, dim) vectors of norm 1; rows are numbered from 0 in the order added."""
        self._check(vectors, ndim=2)
        # A new array, so that a search going on keeps its own.
        self._vectors = np.concatenate([self._vectors, vectors])

    def search(self, vector: Vector, k: int) -> NDArray[np.int64]:
        """Return up to k distinct row numbers, nearest first, never -1."""
        self._check(vector, ndim=1)
        return np.argsort(-(self._vectors @ vector), kind="stable")[: max(k, 0)].astype(np.int64)

    def _check(self, vectors: NDArray[np.float32], *, ndim: int) -> None:
        if vectors.ndim != ndim:
            raise VectorError(f"expected {ndim} axes, not an array of shape {vectors.shape}")
        if vectors.shape[-1] != self._vectors.shape[1]:
            raise DimensionMismatchError(
                f"the index has {self._vectors.shape[1]} dimensions, "
                f"the vectors have {vectors.shape[-1]}"
            )


class MemoryDocumentStore:
    """A DocumentStore in dictionaries."""

    def __init__(self) -> None:
        self._vectors: dict[Namespace, dict[int, Vector]] = {}
        self._positions: dict[Namespace, int] = {}
        self._lock = threading.RLock()

    def position(self, namespace: Namespace) -> int:
        """Return the last `position` that was applied to this namespace, or 0."""
        return self._positions.get(namespace, 0)

    def apply(
        self, namespace: Namespace, *, keys: Keys, vectors: Vectors, removed: Keys, position: int
    ) -> None:
        """Add or replace (n, dim) vectors by key, remove others, then remember the position."""
        with self._lock:
            held = self._vectors.setdefault(namespace, {})
            for vector in vectors[:1] if len(keys) else ():
                self._check(held, vector)
            for key in removed.tolist():
                held.pop(key, None)
            held |= {
                key: vector.copy() for key, vector in zip(keys.tolist(), vectors, strict=False)
            }
            self._positions[namespace] = position

    def search(
        self, namespace: Namespace, vector: Vector, k: int
    ) -> tuple[Keys, NDArray[np.float32]]:
        """Return up to k keys and their cosines, best first."""
        with self._lock:
            keys = np.array(list(self._vectors.get(namespace, {})), dtype=np.int64)
            cosines = self.cosines(namespace, vector, keys)
        best = np.argsort(-cosines, kind="stable")[: max(k, 0)]
        return keys[best], cosines[best]

    def cosines(self, namespace: Namespace, vector: Vector, keys: Keys) -> NDArray[np.float32]:
        """Return the (len(keys),) cosines of given keys; 0 for unknown ones."""
        with self._lock:
            held = self._vectors.get(namespace, {})
            self._check(held, vector)
            return np.array(
                [held[key] @ vector if key in held else 0 for key in keys.tolist()],
                dtype=np.float32,
            )

    def count(self, namespace: Namespace) -> int:
        """Return how many vectors a namespace has."""
        with self._lock:
            return len(self._vectors.get(namespace, {}))

    def drop(self, namespace: Namespace) -> None:
        """Remove all of a namespace; its position is 0 again."""
        with self._lock:
            self._vectors.pop(namespace, None)
            self._positions.pop(namespace, None)

    def purge(self) -> Sequence[str]:
        """Do nothing: there is no file."""
        return ()

    def files(self) -> list[Path]:
        """Return nothing: there is no file."""
        return []

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _check(self, held: dict[int, Vector], vector: Vector) -> None:
        for known in held.values():
            if len(known) != len(vector):
                raise DimensionMismatchError(
                    f"the namespace holds {len(known)} dimensions, not {len(vector)}"
                )
            return


class LineSplitter:
    """A DocumentSplitter that makes a chunk of each line that is not blank."""

    def split(self, text: str, *, markdown: bool = False) -> list[tuple[int, str]]:
        """Return (offset in characters, chunk), in order; every chunk stands in the text."""
        return [(match.start(), match.group()) for match in re.finditer(r"\S(?:.*\S)?", text)]


class TextReader:
    """A DocumentReader of UTF-8 text files."""

    def read(self, path: Path) -> list[str]:
        """Return the text as one page.

        Raises:
            DocumentError: missing, a folder, or not UTF-8.
        """
        try:
            return [Path(path).read_text(encoding="utf-8")]
        except OSError as error:
            raise DocumentError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            # Not chained: that error holds the bytes of the file.
            raise DocumentError(f"{path} is not UTF-8 at byte {error.start}") from None


class WordRetriever:
    """A Retriever over texts; its score is the share of the question's words that a text has."""

    def __init__(self, texts: Sequence[str | Found]) -> None:
        self._texts = [Found(text) if isinstance(text, str) else text for text in texts]

    def search(self, query: str, *, k: int) -> list[Found]:
        """Return the up to k texts that share words with the question, best first."""
        asked = set(re.findall(r"\w+", query.lower()))
        found = []
        for text in self._texts:
            shared = asked & set(re.findall(r"\w+", text.text.lower()))
            if shared:
                found.append(replace(text, score=len(shared) / len(asked)))
        return sorted(found, key=lambda one: -(one.score or 0))[: max(k, 0)]


class ManualClock:
    """A Clock that stands still until it is told to move."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def __call__(self) -> datetime:
        """Return the aware time it stands at."""
        return self._now

    def advance(self, **span: float) -> datetime:
        """Move by a timedelta's arguments, such as `days=2`, and return the new time."""
        self._now += timedelta(**span)
        return self._now
