"""Is anything left? Reads the bytes of files, whatever their format, in windows that overlap.

A long text or a vector may lie in pieces: SQLite cuts rows at the ends of its pages. So what is
looked for are pieces of 32 bytes, and whatever is left in 63 bytes or more has a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybrid_memory.errors import InvalidInputError, StorePathError, VectorError
from hybrid_memory.limits import several
from hybrid_memory.types import Trace, Verified

WINDOW = 4 * 2**20
PIECE = 32  # bytes
_FLOATS = PIECE // 4
_GRAM = 8  # bytes by which pieces of texts are looked up
_BITS = 22  # of the table that sorts out most places
_ODD = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, Knuth, vol. 3, 6.4
_CLOSE = 1e-5  # relative: an index makes the norms 1 again, and so moves the last bits
MAX_TRACES = 1000
OUTSIDE_OF_SCAN = "whatever lies elsewhere: backups, exports, snapshots, RAM"


class _Piece(NamedTuple):
    """A piece of what is looked for: `number` says of which, `offset` where in it."""

    what: Any  # "text" or "vector"
    number: int
    form: int  # a text is written in several ways
    offset: int
    size: int  # of the whole
    content: bytes


def verify_erased(
    files: Iterable[Path],
    *,
    texts: Sequence[str] = (),
    vectors: Sequence[ArrayLike] = (),
    outside: Sequence[str] = (),
) -> Verified:
    """See `HybridMemory.verify_erased`."""
    texts = list(several(texts, "texts are a list (put the one text into a list)"))
    arrays = [_vector(vector) for vector in several(vectors, "vectors are a list of arrays")]
    pieces = [piece for number, text in enumerate(texts) for piece in _of_text(text, number)]
    for number, array in enumerate(arrays):
        # What is moved into quarantine is written in hexadecimal digits.
        pieces += _cut(array.tobytes().hex().encode(), "vector", number, 1)
    needles = _Texts(pieces)
    floats = _Vectors(arrays)
    found: list[Trace] = []
    seen: list[str] = []
    size = 0
    for path in files:
        places: dict[tuple[Any, int, int, int], list[int]] = {}
        try:
            for start, window in _windows(path):
                for offset, piece in (*needles.find(window), *floats.find(window)):
                    at = start + offset
                    # Pieces of one whole that lie side by side are one trace.
                    key = (piece.what, piece.number, piece.form, at - piece.offset)
                    end = at + len(piece.content)
                    known = places.setdefault(key, [at, end, piece.size])
                    known[0], known[1] = min(known[0], at), max(known[1], end)
                size += len(window) - (PIECE - 1 if start else 0)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError as error:
            raise StorePathError(f"cannot read {path}: {error.strerror}") from error
        seen.append(str(path))
        found += [
            Trace(str(path), first, what, number, end - first, whole)
            for (what, number, _, _), (first, end, whole) in places.items()
        ]
    found.sort(key=lambda trace: (trace.file, trace.offset))
    return Verified(tuple(seen), size, tuple(found[:MAX_TRACES]), tuple(outside))


def _windows(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        start, rest = 0, b""
        while chunk := file.read(WINDOW):
            window = rest + chunk
            yield start, window
            rest = window[-(PIECE - 1) :]
            start += len(window) - len(rest)


def _vector(vector: ArrayLike) -> NDArray[np.float32]:
    array = np.empty((0, 0), np.float32)
    # Parts of different lengths, and numbers that float32 has not.
    with suppress(TypeError, ValueError), np.errstate(over="ignore"):
        given = np.asarray(vector)
        if given.dtype.kind in "fiu":
            array = given.astype(np.float32)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all() or not array.any():
        raise VectorError("a vector to look for is (dim,), finite, and not zero")
    return array


def _of_text(text: str, number: int) -> Iterator[_Piece]:
    if not isinstance(text, str) or not text:
        raise InvalidInputError("a text to look for must be a string, and not empty")
    plain = text.encode("utf-8", "surrogatepass")
    escaped = json.dumps(text)[1:-1].encode()
    kept = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
    for form, content in enumerate(dict.fromkeys((plain, escaped, kept))):
        yield from _cut(content, "text", number, form)


def _cut(content: bytes, what: str, number: int, form: int) -> list[_Piece]:
    size = len(content)
    if size <= PIECE:
        return [_Piece(what, number, form, 0, size, content)]
    offsets = {*range(0, size - PIECE + 1, PIECE), size - PIECE}
    return [
        _Piece(what, number, form, offset, size, content[offset : offset + PIECE])
        for offset in sorted(offsets)
    ]


class _Texts:
    """Finds pieces of bytes."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._short = [piece for piece in pieces if len(piece.content) < _GRAM]
        self._long: dict[int, list[_Piece]] = {}
        for piece in pieces:
            if len(piece.content) >= _GRAM:
                gram = int.from_bytes(piece.content[:_GRAM], "little")
                self._long.setdefault(gram, []).append(piece)
        self._grams = np.array(sorted(self._long), np.uint64)
        self._table = np.zeros(2**_BITS, np.bool_)
        self._table[_hashed(self._grams)] = True

    def find(self, window: bytes) -> Iterator[tuple[int, _Piece]]:
        for piece in self._short:
            at = window.find(piece.content)
            while at >= 0:
                yield at, piece
                at = window.find(piece.content, at + 1)
        if not len(self._grams):
            return
        for shift in range(_GRAM):
            count = (len(window) - shift) // _GRAM
            if count <= 0:
                return
            grams = np.frombuffer(window, "<u8", count=count, offset=shift)
            likely = np.flatnonzero(self._table[_hashed(grams)])
            likely = likely[np.isin(grams[likely], self._grams)]
            for place, gram in zip(likely.tolist(), grams[likely].tolist(), strict=True):
                at = shift + _GRAM * place
                for piece in self._long[gram]:
                    if window.startswith(piece.content, at):
                        yield at, piece


def _hashed(grams: NDArray[np.uint64]) -> NDArray[np.uint64]:
    hashed: NDArray[np.uint64] = (grams * _ODD) >> np.uint64(64 - _BITS)
    return hashed


class _Vectors:
    """Finds pieces of float32 vectors, also if their last bits have moved."""

    def __init__(self, vectors: Sequence[NDArray[np.float32]]) -> None:
        pieces: list[_Piece] = []
        for number, vector in enumerate(vectors):
            pieces += [
                piece
                for piece in _cut(vector.tobytes(), "vector", number, 0)
                if np.frombuffer(piece.content, np.float32).any()
            ]
        # Whole ones of a few dimensions have fewer floats.
        self._by_count: list[tuple[int, list[_Piece], NDArray[np.float32]]] = []
        for count in {len(piece.content) // 4 for piece in pieces}:
            same = [piece for piece in pieces if len(piece.content) == 4 * count]
            same.sort(key=lambda piece: int(_key(_floats(piece))[0]))
            self._by_count.append((count, same, np.stack([_floats(piece) for piece in same])))
        self._tables = []
        for _, _, floats in self._by_count:
            table = np.zeros(2**24 + 2, np.bool_)
            for step in (-1, 0, 1):
                table[_key(floats[:, 0]) + step] = True
            self._tables.append(table)

    def find(self, window: bytes) -> Iterator[tuple[int, _Piece]]:
        for (count, pieces, floats), table in zip(self._by_count, self._tables, strict=True):
            keys = _key(floats[:, 0])
            for shift in range(4):
                length = (len(window) - shift) // 4
                if length < count:
                    continue
                values = np.frombuffer(window, "<f4", count=length, offset=shift)
                at = np.flatnonzero(table[_key(values[: length - count + 1])])
                if not len(at):
                    continue
                here = _key(values[at])
                low = np.searchsorted(keys, here - 1, side="left")
                high = np.searchsorted(keys, here + 1, side="right")
                wide = high - low
                which = np.repeat(low - np.cumsum(wide) + wide, wide) + np.arange(wide.sum())
                at = np.repeat(at, wide)
                with np.errstate(all="ignore"):
                    # Most places fall out by the last float already.
                    last = floats[which, -1]
                    close = np.abs(values[at + count - 1] - last) <= _CLOSE * np.abs(last) + 1e-9
                    at, which = at[close], which[close]
                    seen = values[at[:, None] + np.arange(count)]
                    near = np.abs(seen - floats[which]) <= _CLOSE * np.abs(floats[which]) + 1e-9
                for row in np.flatnonzero(near.all(axis=1)).tolist():
                    yield shift + 4 * int(at[row]), pieces[which[row]]


def _floats(piece: _Piece) -> NDArray[np.float32]:
    return np.frombuffer(piece.content, np.float32)


def _key(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the upper bits of floats: equal or beside each other for those that are close."""
    bits = np.ascontiguousarray(values).view(np.uint32) >> np.uint32(8)
    keys: NDArray[np.int64] = bits.astype(np.int64) + 1
    return keys
