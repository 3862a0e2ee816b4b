"""Words of a text, and BM25 over them: the half of recall that knows names and rare words.

Writing and reading share this module, so that both cut a text in the same way.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.backends.stemmer import stem
from hybrid_memory.language import ENGLISH
from hybrid_memory.protocols import Terms

K1 = 0.9  # BM25 saturation and length normalisation, best on chats with long turns
B = 0.75
MAX_QUERY_TERMS = 32

# Scripts without spaces, and those whose vowel signs `\w` does not hold.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_SIGNS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f"
    "\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
)
_LETTER = f"(?![{_UNSPACED}])(?:[^\\W_]|[{_SIGNS}])"
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:{_LETTER})+(?:['’](?:{_LETTER})+)?")
_ASCII_WORD = re.compile("[a-z0-9]+(?:'[a-z0-9]+)?")  # the same, five times as fast
_RUN = re.compile(f"[{_UNSPACED}]")


def content_words(text: str) -> list[str]:
    """Return the stems of a text's words, in order, without stop words.

    A word is a run of letters and digits in lower case, in Unicode's NFKC form; what follows an
    apostrophe is dropped. Runs of scripts without spaces (Chinese, Japanese, Thai...) become
    pairs of characters. A text of stop words only keeps them all, so that "The Who" can be found.
    """
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        found = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    words = [word.partition("'")[0].partition("’")[0] for word in found]
    kept = [word for word in words if word not in ENGLISH.stop_words] or words
    return [part for word in kept for part in _parts(word)]


def terms(text: str) -> Terms:
    """Return the codes of `content_words`, (n,) uint32, in order, repetitions included."""
    return encode(content_words(text))


def encode(stems: Iterable[str]) -> Terms:
    """Return a code for each stem: its CRC-32.

    Two words of one namespace share a code about once in 4e9 pairs, which costs a ranking, not
    a record.
    """
    return np.fromiter((_code(stem) for stem in stems), dtype=np.uint32)


@lru_cache(maxsize=65536)
def _code(stem: str) -> int:
    return zlib.crc32(stem.encode())


@lru_cache(maxsize=65536)
def _parts(word: str) -> tuple[str, ...]:
    if _RUN.match(word):
        return tuple(word[i : i + 2] for i in range(max(1, len(word) - 1)))
    return (stem(word),)


class Postings:
    """BM25 over the rows of one partition, appended to and never changed in place.

    Rows are numbered from 0 in the order added. Statistics (number of rows, document
    frequencies, mean length) are those of the rows alive at the time of the query, so a deleted
    row leaves no trace in a score.
    """

    _MERGE_AT = 4096  # new postings that are looked through one by one before they are sorted in

    def __init__(self) -> None:
        self._codes = np.empty(0, np.uint32)  # sorted, distinct
        self._starts = np.zeros(1, np.int64)  # of each code's slice in the two below
        self._rows = np.empty(0, np.int32)
        self._counts = np.empty(0, np.float32)
        self._fresh: dict[int, list[tuple[int, int]]] = {}
        self._fresh_size = 0
        self.lengths = np.empty(0, np.float32)

    @property
    def nbytes(self) -> int:
        """The size in bytes, about."""
        sorted_in = self._codes.nbytes + self._starts.nbytes + self._rows.nbytes
        return sorted_in + self._counts.nbytes + self.lengths.nbytes + 120 * self._fresh_size

    def extended(self, documents: Sequence[Terms]) -> Postings:
        """Return postings with these documents as further rows; readers of the old keep it."""
        first = len(self.lengths)
        grown = Postings()
        grown.lengths = np.concatenate(
            [self.lengths, np.array([len(document) for document in documents], np.float32)]
        )
        size = sum(len(document) for document in documents)
        if self._fresh_size + size > self._MERGE_AT:
            grown._sort_in(self, documents, first)
            return grown
        grown._codes, grown._starts = self._codes, self._starts
        grown._rows, grown._counts = self._rows, self._counts
        grown._fresh = dict(self._fresh)
        grown._fresh_size = self._fresh_size + size
        for row, document in enumerate(documents, first):
            codes, counts = np.unique(document, return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                grown._fresh[code] = [*grown._fresh.get(code, ()), (row, count)]
        return grown

    def _sort_in(self, old: Postings, documents: Sequence[Terms], first: int) -> None:
        fresh = [(code, *posting) for code, found in old._fresh.items() for posting in found]
        table = np.array(fresh, np.int64).reshape(-1, 3)
        lengths = [len(document) for document in documents]
        new_codes = np.concatenate([np.empty(0, np.uint32), *documents]).astype(np.uint64)
        new_rows = np.repeat(np.arange(first, first + len(documents), dtype=np.uint64), lengths)
        # One number a (code, row) pair, unsigned because codes fill 32 bits.
        shift = np.uint64(32)
        pairs, counts = np.unique((new_codes << shift) | new_rows, return_counts=True)
        codes = np.concatenate(
            [
                np.repeat(old._codes, np.diff(old._starts)).astype(np.int64),
                table[:, 0],
                (pairs >> shift).astype(np.int64),
            ]
        )
        new_rows = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
        rows = np.concatenate([old._rows, table[:, 1], new_rows])
        counts = np.concatenate([old._counts, table[:, 2], counts])
        order = np.lexsort((rows, codes))
        codes = codes[order]
        heads = np.flatnonzero(np.diff(codes, prepend=-1))
        self._codes = codes[heads].astype(np.uint32)
        self._starts = np.append(heads, len(codes))
        self._rows = rows[order].astype(np.int32)
        self._counts = counts[order].astype(np.float32)

    def _find(self, code: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rows, counts = self._rows[:0], self._counts[:0]
        at = int(np.searchsorted(self._codes, code))
        if at < len(self._codes) and self._codes[at] == code:
            span = slice(self._starts[at], self._starts[at + 1])
            rows, counts = self._rows[span], self._counts[span]
        if fresh := self._fresh.get(code):
            more = np.array(fresh, np.int32)
            rows = np.concatenate([rows, more[:, 0]])
            counts = np.concatenate([counts, more[:, 1].astype(np.float32)])
        return rows, counts

    def scores(self, query: Iterable[int], alive: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return each row's share of what the query asks for, (rows,) in [0, 1].

        The share is BM25 divided by the most that a row could get: (k1 + 1) times the sum of the
        idf of the query's distinct terms, a term that no row has counting as the rarest. So a
        worthless best row stays near 0, which dividing by the best row's score would hide.

        Source of BM25: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009.
        """
        count = int(np.count_nonzero(alive))
        found = [self._find(code) for code in set(query)]
        if count < len(alive):
            found = [(rows[mask], counts[mask]) for rows, counts in found for mask in [alive[rows]]]
        # The rarest known words say most; a pasted page must not cost more than a question.
        found.sort(key=lambda posting: (not len(posting[0]), len(posting[0])))
        found = found[:MAX_QUERY_TERMS]
        if not found or not count:
            return np.zeros(len(self.lengths), np.float32)
        sizes = np.array([len(rows) for rows, _ in found])
        idf = np.log1p((count - sizes + 0.5) / (sizes + 0.5))
        rows = np.concatenate([rows for rows, _ in found])
        counts = np.concatenate([counts for _, counts in found])
        mean = float(self.lengths.mean(where=alive)) or 1.0
        norm = K1 * (1 - B + B * self.lengths[rows] / mean)
        weights = np.repeat(idf, sizes) * counts / (counts + norm)
        total = np.bincount(rows, weights, minlength=len(self.lengths)) / idf.sum()
        shares: NDArray[np.float32] = np.minimum(total, 1).astype(np.float32)
        return shares
