"""The vector index of a large partition, on FAISS; the partition ranks what it finds exactly."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import DimensionMismatchError, InvalidInputError, VectorError
from hybrid_memory.limits import whole
from hybrid_memory.protocols import Vector, Vectors

# 56 bytes a vector and a tenth of the time of Flat; re-ranked from 100 its recall is .993.
DEFAULT_FACTORY = "RaBitQfs"
# RaBitQ codes a vector by its direction from the mean, so one that equals the mean has no code and
# is never found (a single vector is its own mean). A mean below norm 1 equals no unit vector.
_SHRINK = np.float32(0.99)


class FaissIndex:
    """A VectorIndex for inner products, thread-safe, trained on the first vectors added.

    `factory` is any FAISS factory string that takes vectors in order, such as "Flat", "HNSW32" or
    "IVF1024,Flat"; without one it is RaBitQFastScan. `parameters` are FAISS's own too, such as
    "nprobe=32" or "efSearch=64". `threads` bounds the OpenMP threads of this index's calls only.

    Raises:
        InvalidInputError: FAISS cannot make this index; the message has the factory string.
    """

    def __init__(
        self,
        dim: int,
        *,
        factory: str | None = None,
        parameters: str | None = None,
        threads: int = 1,
    ) -> None:
        self.dim = whole(dim, "dim", low=1)
        self.factory = DEFAULT_FACTORY if factory is None else factory
        self._shrink = _SHRINK if factory is None else np.float32(1)
        self._threads = whole(threads, "threads", low=1)
        self._lock = threading.Lock()  # FAISS crashes when a search meets an add
        with self._calling("make"):
            self._index = faiss.index_factory(self.dim, self.factory, faiss.METRIC_INNER_PRODUCT)
            if parameters is not None:
                space: Any = faiss.ParameterSpace()  # its stub knows one of several forms
                space.set_index_parameters(self._index, parameters)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Append (n, dim) vectors of norm 1; rows are numbered from 0 in the order added.

        Raises:
            DimensionMismatchError: another dimension.
            InvalidInputError: FAISS refuses, such as too few vectors to train an IVF index on.
        """
        vectors = self._checked(vectors, ndim=2)
        if not len(vectors):
            return
        with self._lock:
            if not self._index.is_trained:
                with self._calling(f"train on {len(vectors)} vectors"):
                    self._index.train(vectors * self._shrink)
            with self._calling("add to"):
                self._index.add(vectors)

    def search(self, vector: Vector, k: int) -> NDArray[np.int64]:
        """Return up to k distinct row numbers, nearest first, never -1."""
        vector = self._checked(vector, ndim=1)
        with self._lock:
            k = min(k, self._index.ntotal)
            if k <= 0:
                return np.empty(0, dtype=np.int64)
            with self._calling("search"):
                _, rows = self._index.search(vector[None, :], k)
        found: NDArray[np.int64] = rows[0][rows[0] >= 0]  # -1 pads what FAISS did not find
        return found

    def _checked(self, vectors: NDArray[np.float32], *, ndim: int) -> NDArray[np.float32]:
        # FAISS's own check is an assert: gone under `python -O`, and then it reads past the end.
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != ndim:
            raise VectorError(f"expected {ndim} axes, not an array of shape {vectors.shape}")
        if vectors.shape[-1] != self.dim:
            raise DimensionMismatchError(
                f"the index has {self.dim} dimensions, the vectors have {vectors.shape[-1]}"
            )
        return vectors

    @contextmanager
    def _calling(self, verb: str) -> Iterator[None]:
        """Bound the threads of this thread's calls, and type FAISS's errors."""
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self._threads)  # OpenMP keeps it per calling thread
        try:
            yield
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = re.sub(r".* at \S+:\d+: ", "", " ".join(str(error).split()))
            raise InvalidInputError(
                f"FAISS cannot {verb} the index {self.factory!r} of {self.dim} dimensions: "
                f"{reason or type(error).__name__}"
            ) from error
        finally:
            faiss.omp_set_num_threads(before)
