"""Words of a text, and BM25 over them: the half of recall that knows names and rare words.

Writing and reading share this module, so that both cut a text in the same way.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

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
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:{_LETTER})+(?:'(?:{_LETTER})+)?")
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
        plain = unicodedata.normalize("NFKC", text).replace("’", "'")
        found = _WORD.findall(plain.lower())
    # "won't" is none of "won", which is a word.
    forms = ENGLISH.base_forms
    words = [
        forms[word] if "'" in word and word in forms else word.partition("'")[0] for word in found
    ]
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
    return (stem(ENGLISH.base_forms.get(word, word)),)


def forget() -> None:
    """Drop the words that this process has met: one of them may have been erased."""
    _code.cache_clear()
    _parts.cache_clear()


class _Run(NamedTuple):
    """Postings by code, then row: those of `codes[i]` lie at `starts[i]:starts[i + 1]`."""

    codes: NDArray[np.uint32]  # distinct
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.float32]

    @classmethod
    def of(cls, documents: Sequence[Terms], first: int) -> _Run:
        """Return the postings of documents, whose rows are numbered from `first`."""
        lengths = [len(document) for document in documents]
        codes = np.concatenate([_NO_CODES, *documents]).astype(np.uint64)
        rows = np.repeat(np.arange(first, first + len(documents), dtype=np.uint64), lengths)
        # One number a (code, row) pair, unsigned because codes fill 32 bits.
        pairs, counts = np.unique((codes << np.uint64(32)) | rows, return_counts=True)
        low = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int32)
        return cls._sorted((pairs >> np.uint64(32)).astype(np.uint32), low, counts)

    @classmethod
    def _sorted(
        cls, codes: NDArray[np.uint32], rows: NDArray[np.int32], counts: NDArray[Any]
    ) -> _Run:
        heads = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        starts = np.concatenate([[0], heads, [len(codes)]]) if len(codes) else _START
        return cls(codes[starts[:-1]], starts, rows, counts.astype(np.float32))

    def joined(self, later: _Run) -> _Run:
        """Return the postings of both; no row of `later` may be among these or before them."""
        if not len(self.rows):
            return later
        codes = np.concatenate([np.repeat(run.codes, np.diff(run.starts)) for run in (self, later)])
        order = np.argsort(codes, kind="stable")
        rows = np.concatenate([self.rows, later.rows])[order]
        return self._sorted(codes[order], rows, np.concatenate([self.counts, later.counts])[order])

    def find(
        self, codes: NDArray[np.uint32]
    ) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Return the rows that have each code, and how often; none for one that is not there."""
        first = self.starts[self.codes.searchsorted(codes)]
        end = self.starts[self.codes.searchsorted(codes, "right")]
        spans = map(slice, first.tolist(), end.tolist())
        return [(self.rows[span], self.counts[span]) for span in spans]


_NO_CODES = np.empty(0, np.uint32)
_START = np.zeros(1, np.int64)
_NO_POSTINGS = _Run(_NO_CODES, _START, np.empty(0, np.int32), np.empty(0, np.float32))


class Postings:
    """BM25 over the rows of one partition, appended to and never changed in place.

    Rows are numbered from 0 in the order added. Statistics (number of rows, document
    frequencies, mean length) are those of the rows alive at the time of the query, so a deleted
    row leaves no trace in a score.
    """

    _JOIN_AT = 4096  # new postings that are kept apart before they are sorted in with the others

    def __init__(self) -> None:
        self._old = self._new = _NO_POSTINGS
        self.lengths = np.empty(0, np.float32)

    @property
    def nbytes(self) -> int:
        """The size in bytes, about."""
        return sum(array.nbytes for array in (*self._old, *self._new, self.lengths))

    def extended(self, documents: Sequence[Terms]) -> Postings:
        """Return postings with these documents as further rows; readers of the old keep it."""
        grown = Postings()
        grown.lengths = np.concatenate(
            [self.lengths, np.array([len(document) for document in documents], np.float32)]
        )
        grown._old, new = self._old, self._new.joined(_Run.of(documents, len(self.lengths)))
        if len(new.rows) > self._JOIN_AT or not len(self._old.rows):
            grown._old = self._old.joined(new)
        else:
            grown._new = new
        return grown

    def _find(self, codes: NDArray[np.uint32]) -> list[tuple[NDArray[np.int32], NDArray[Any]]]:
        found = self._old.find(codes)
        if not len(self._new.rows):
            return found
        return [
            (np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]]))
            for old, new in zip(found, self._new.find(codes), strict=True)
        ]

    def scores(self, query: Iterable[int], alive: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return each row's share of what the query asks for, (rows,) in [0, 1].

        The share is BM25 divided by the most that a row could get: (k1 + 1) times the sum of the
        idf of the query's distinct terms, a term that no row has counting as the rarest. So a
        worthless best row stays near 0, which dividing by the best row's score would hide.

        Source of BM25: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009.
        """
        count, lengths = int(np.count_nonzero(alive)), self.lengths
        found = self._find(np.fromiter(set(query), np.uint32))
        if count < len(alive):
            found = [(rows[mask], counts[mask]) for rows, counts in found for mask in [alive[rows]]]
            lengths = lengths[alive]
        if len(found) > MAX_QUERY_TERMS:
            # The rarest known words say most; a pasted page must not cost more than a question.
            found.sort(key=lambda posting: (not len(posting[0]), len(posting[0])))
            found = found[:MAX_QUERY_TERMS]
        if not found or not count:
            return np.zeros(len(alive), np.float32)
        sizes = [len(rows) for rows, _ in found]
        idf = [math.log1p((count - size + 0.5) / (size + 0.5)) for size in sizes]
        most = sum(idf)
        rows = np.concatenate([rows for rows, _ in found])
        counts = np.concatenate([counts for _, counts in found])
        mean = float(lengths.sum()) / count or 1.0
        norms = K1 * (1 - B) + K1 * B / mean * self.lengths[rows]
        weights = np.repeat([value / most for value in idf], sizes) * counts / (counts + norms)
        total = np.bincount(rows, weights, minlength=len(alive))
        shares: NDArray[np.float32] = np.minimum(total, 1).astype(np.float32)
        return shares
