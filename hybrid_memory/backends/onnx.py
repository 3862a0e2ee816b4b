"""The bundled all-MiniLM-L6-v2 on ONNX Runtime: the default embedder, and a reranker."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_memory import limits
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
# The first word of the vocabulary, "the"; below it are special tokens, punctuation and characters.
FIRST_WORD = 1996
ENTRY_BYTES = 500  # what Python takes for a cached text, beside the values


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
        self._last = threading.local()  # each thread's last query and its tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), 384) float32 array whose rows have norm 1."""
        _refuse_one_text(texts)
        if not texts:
            return np.empty((0, DIM), dtype=np.float32)
        windows = [self._windows(text) for text in texts]
        rows = self._encode([part for parts in windows for part in parts], threads=self._threads)
        ends = np.cumsum([len(parts) for parts in windows])
        return np.stack([_pool(part) for part in np.split(rows, ends[:-1])])

    def embed_query(self, text: str) -> Vector:
        """Return the (384,) vector of a question, in the space of `embed`; takes one thread."""
        windows = self._windows(text)
        if len(windows) > 1:
            return _pool(self._encode(windows, threads=1))
        vectors, states = self._run(windows, "sentence_embedding", "token_embeddings")
        # A search that looks a second time asks for them next; they cost nothing here.
        self._last.query = text, _words(windows[0], states[0])
        return _pool(vectors)

    def embed_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        """Return for each text an (n, 384) float32 array, a row for each word piece in its context.

        The rows are not of norm 1. Punctuation, single characters and special tokens have none,
        unless there is nothing else: n is never 0. Of a text of more than 254 word pieces only the
        first 254 are read.
        """
        _refuse_one_text(texts)
        if not texts:
            return []
        last: tuple[str, Vectors] | None = getattr(self._last, "query", None)
        if last is not None and list(texts) == [last[0]]:
            return [last[1].copy()]
        windows = [self._windows(text)[0] for text in texts]
        found: list[Vectors] = [np.empty(0, dtype=np.float32)] * len(windows)

        def run(batch: list[int]) -> None:
            [states] = self._run([windows[i] for i in batch], "token_embeddings")
            for i, rows in zip(batch, states, strict=True):
                found[i] = _words(windows[i], rows)

        self._in_batches(windows, run, threads=self._threads)
        return found

    def forget(self) -> None:
        """Drop the last query of each thread."""
        self._last = threading.local()

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
            [rows[batch]] = self._run([windows[i] for i in batch], "sentence_embedding")

        self._in_batches(windows, run, threads=threads)
        return rows

    def _in_batches(
        self, windows: list[list[int]], run: Callable[[list[int]], None], *, threads: int
    ) -> None:
        """Call `run` with the places of a batch at a time, on as many threads."""
        batches = _batches([len(window) for window in windows], threads=threads)
        if threads == 1 or len(batches) == 1:
            for batch in batches:
                run(batch)
        else:
            # Batches side by side on the session of one thread take less than one after the other
            # on a session of many (8.1 CPU seconds against 9.5), which would copy the weights too.
            with ThreadPoolExecutor(min(threads, len(batches))) as pool:
                list(pool.map(run, batches))

    def _run(self, windows: list[list[int]], *outputs: str) -> list[NDArray[np.float32]]:
        ids = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, window in enumerate(windows):
            ids[i, : len(window)] = window
            mask[i, : len(window)] = 1
        with self._lock:
            if self._session is None:
                self._session = _session(self._folder / "model.onnx")
        found: list[NDArray[np.float32]]
        found = self._session.run(outputs, {"input_ids": ids, "attention_mask": mask})
        return found


class MaxSim:
    """A Reranker by late interaction: how near each word of the query has one in the text.

    The score is the mean over the query's word pieces of the largest cosine that any word piece of
    the text has to it, both in their contexts, as `MiniLMEmbedder.embed_tokens` gives them; so of
    a text over 254 word pieces only the first 254 count. Thread-safe.

    With the `embedder` that also embeds the queries, the model is loaded once and a query is
    encoded once. Texts are encoded when they are first scored, which takes as long as embedding
    them; the vectors of those scored last are kept in memory, under digests of the texts, in
    `max_cache_bytes`: 12 kB for a text of 30 words.

    Source: the scoring is that of ColBERT (Khattab and Zaharia, SIGIR 2020), without its training.
    """

    def __init__(
        self, embedder: MiniLMEmbedder | None = None, *, max_cache_bytes: int = 64 * 2**20
    ) -> None:
        self._embedder = embedder or MiniLMEmbedder()
        self._room = limits.whole(max_cache_bytes, "max_cache_bytes", low=0)
        self._bytes = 0
        self._cache: OrderedDict[bytes, _Tokens] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts),) values in [0, 1], higher is better, whatever the order of texts.

        Raises:
            ModelFileError: at first use, if a file of the model is missing or damaged.
        """
        _refuse_one_text(texts)
        if not texts:
            return np.empty(0, dtype=np.float32)
        [asked] = self._embedder.embed_tokens([query])
        asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
        tokens = self._tokens(texts)
        values = np.concatenate([one.values for one in tokens]).astype(np.float32)
        norms = np.concatenate([one.norms for one in tokens])
        starts = np.cumsum([0, *(len(one.norms) for one in tokens[:-1])])
        # One pair at a time, because a product of matrices wakes the threads of BLAS.
        cosines = np.vecdot(values[:, None], asked) / norms[:, None]
        nearest = np.maximum.reduceat(cosines, starts)  # (texts, tokens of the query)
        scores: NDArray[np.float32] = nearest.mean(axis=1).clip(0, 1)
        return scores

    def forget(self) -> None:
        """Drop the vectors of all texts that were scored."""
        with self._lock:
            self._cache.clear()
            self._bytes = 0
        self._embedder.forget()

    def _tokens(self, texts: Sequence[str]) -> list[_Tokens]:
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            found = {key: self._cache[key] for key in digests if key in self._cache}
            for key in found:
                self._cache.move_to_end(key)
        missing = {key: text for key, text in zip(digests, texts, strict=True) if key not in found}
        if missing:
            states = self._embedder.embed_tokens(list(missing.values()))
            new = dict(zip(missing, map(_rounded, states), strict=True))
            self._keep(new)
            found |= new
        return [found[key] for key in digests]

    def _keep(self, new: dict[bytes, _Tokens]) -> None:
        with self._lock:
            for key, tokens in new.items():
                if key not in self._cache:  # another thread may have been here
                    self._cache[key] = tokens
                    self._bytes += tokens.nbytes
            while self._bytes > self._room:
                _, tokens = self._cache.popitem(last=False)
                self._bytes -= tokens.nbytes


class _Tokens(NamedTuple):
    """The (n, 384) vectors of a text's words in the direction of the exact ones, and (n,) norms.

    8 bits move a score by 0.00012 on average, 0.0009 at most on 18,000 pairs. float16 takes twice
    the room and 15 times as long to unfold, as long as all the rest of a score.
    """

    values: NDArray[np.int8]
    norms: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.norms.nbytes + ENTRY_BYTES


def _refuse_one_text(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InvalidInputError("texts are a list; put the one text into a list")


def _rounded(states: Vectors) -> _Tokens:
    values = np.rint(states * (127 / np.abs(states).max(axis=1, keepdims=True))).astype(np.int8)
    return _Tokens(values, np.linalg.norm(values.astype(np.float32), axis=1))


def _words(window: list[int], states: Vectors) -> Vectors:
    """Return the rows of `states` that stand for words; padding stands behind the window."""
    ids = np.array(window)
    words: Vectors = states[: len(window)][ids >= FIRST_WORD]
    return words if len(words) else states[: len(window)].copy()


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
