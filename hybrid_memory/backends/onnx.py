"""The default embedder: all-MiniLM-L6-v2 on ONNX Runtime, from the files in this package."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_memory.errors import InvalidInputError, ModelFileError
from hybrid_memory.protocols import Vector, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUNDLED = Path(__file__).parents[1] / "models" / "all-MiniLM-L6-v2"
DIM = 384
WINDOW = 256  # word pieces the model reads at once, two of them special
# Tokens of a batch, padding included. 600 texts of mixed lengths took 7.9 CPU seconds in batches
# of 512, as in 256, but 9.7 in batches of 3,200, which fall out of the processor's cache.
MAX_BATCH, MIN_BATCH = 512, 64


class MiniLMEmbedder:
    """An Embedder on the bundled all-MiniLM-L6-v2; loads at first use. Thread-safe.

    A text of more than 254 word pieces is read in windows, spread evenly over it; its vector is
    the normalised sum of the first window's and the mean of all. The head of a long turn carries
    its subject (the best of its passages finds 12 points less than the head alone), and what
    stands further down must still be found.

    `path` is a folder with `model.onnx` and `tokenizer.json` as `scripts/export_minilm.py` makes
    them. `threads` is how many batches `embed` computes at once, by default one for each core
    that the process may use.

    Raises:
        ModelFileError: at first use, if a file of the model is missing or damaged.
    """

    name = "all-MiniLM-L6-v2/head-and-mean-of-windows"  # the model, and how long texts are pooled
    dim = DIM

    def __init__(self, *, path: Path | None = None, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError(f"threads must be at least 1, not {threads}")
        self._folder = path or BUNDLED
        self._threads = threads or _usable_cores()
        self._lock = threading.Lock()
        self._session: Any = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), 384) float32 array whose rows have norm 1."""
        if isinstance(texts, str):
            raise InvalidInputError("embed takes a list of texts; put the one text into a list")
        if not texts:
            return np.empty((0, DIM), dtype=np.float32)
        windows = [self._windows(text) for text in texts]
        rows = self._encode([part for parts in windows for part in parts], threads=self._threads)
        ends = np.cumsum([len(parts) for parts in windows])
        return np.stack([_pool(part) for part in np.split(rows, ends[:-1])])

    def embed_query(self, text: str) -> Vector:
        """Return the (384,) vector of a question, in the space of `embed`; takes one thread."""
        return _pool(self._encode(self._windows(text), threads=1))

    def _windows(self, text: str) -> list[list[int]]:
        """Return the token ids of each window, the special ones included."""
        first, *pieces, last = _tokenizer(self._folder).encode(text).ids
        size = WINDOW - 2
        if len(pieces) <= size:
            return [[first, *pieces, last]]
        count = -(-len(pieces) // size)
        # Windows of one length, so that a short rest does not weigh as much as a full window.
        starts = [(len(pieces) - size) * i // (count - 1) for i in range(count)]
        return [[first, *pieces[start : start + size], last] for start in starts]

    def _encode(self, windows: list[list[int]], *, threads: int) -> Vectors:
        """Return the (len(windows), 384) vectors of windows, whatever their order."""
        rows = np.empty((len(windows), DIM), dtype=np.float32)

        def run(batch: list[int]) -> None:
            rows[batch] = self._run([windows[i] for i in batch])

        batches = _batches([len(window) for window in windows], threads=threads)
        if threads == 1 or len(batches) == 1:
            for batch in batches:
                run(batch)
        else:
            # Batches side by side on the session of one thread take less than one after the other
            # on a session of many (8.1 CPU seconds against 9.5), which would copy the weights too.
            with ThreadPoolExecutor(min(threads, len(batches))) as pool:
                list(pool.map(run, batches))
        return rows

    def _run(self, windows: list[list[int]]) -> Vectors:
        ids = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, window in enumerate(windows):
            ids[i, : len(window)] = window
            mask[i, : len(window)] = 1
        with self._lock:
            if self._session is None:
                self._session = _session(self._folder / "model.onnx")
        vectors: Vectors
        feed = {"input_ids": ids, "attention_mask": mask}
        [vectors] = self._session.run(["sentence_embedding"], feed)
        return vectors


def count_tokens(text: str) -> int:
    """Return how many word pieces of the bundled model the text has, special ones not counted.

    Raises:
        ModelFileError: the bundled tokenizer is missing or damaged.
    """
    return len(_tokenizer(BUNDLED).encode(text, add_special_tokens=False))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batches(lengths: list[int], *, threads: int) -> list[list[int]]:
    """Return places in batches of like length, longest first, and work for each thread."""
    room = min(MAX_BATCH, max(MIN_BATCH, sum(lengths) // threads))
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # The first of a batch is its longest, to which the others are padded.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= room:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _pool(windows: Vectors) -> Vector:
    """Return one vector of norm 1 for the (n, 384) vectors of a text's windows."""
    mixed: Vector = windows[0] + windows.mean(axis=0)
    return mixed / np.linalg.norm(mixed)


@lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ModelFileError(_advice(path)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _session(path: Path) -> Any:
    # Before the import, which otherwise writes an id of this device and calls home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    # Processors that it does not know are reported on stderr, by a logger of the whole process.
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Lets the int8 weights be unfolded to float32 once, here, instead of at every call.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no narrower base
        raise ModelFileError(_advice(path)) from error


def _advice(path: Path) -> str:
    return f"{path} is missing or damaged; install the package again, or give another path="
