"""A scan of files for texts and vectors that shares no code with `verify_erased`.

Of each needle every 16th byte begins a piece of 16; a file is looked through at every offset, so
whatever is left of a needle in 31 bytes or more is found, and a shorter needle as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

PIECE = 16  # bytes


def of_text(text: str) -> set[bytes]:
    """Return the pieces of a text in UTF-8, UTF-16 and both kinds of JSON."""
    written = [
        text.encode(),
        text.encode("utf-16-le"),
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(),
    ]
    return {piece for form in written for piece in _cut(form)}


def of_vector(vector: np.ndarray) -> set[bytes]:
    """Return the pieces of a vector as float32, as float64 and as hexadecimal digits.

    Whoever makes a norm 1 once more moves the last bits, so neighbours are looked for as well.
    """
    single = np.ascontiguousarray(vector, "<f4")
    scales = 1 + np.arange(-2, 3) * 2.0**-24
    written = [(single * scale).astype("<f4").tobytes() for scale in scales]
    written += [single.astype("<f8").tobytes(), single.tobytes().hex().encode()]
    return {piece for form in written for piece in _cut(form) if piece.strip(b"\0")}


def found(needles: Sequence[set[bytes]], folder: Path) -> set[int]:
    """Return the numbers of the needles of which a piece stands in a file below a folder."""
    wanted: dict[int, set[bytes]] = {}
    for piece in set().union(*needles):
        wanted.setdefault(len(piece), set()).add(piece)
    seen: set[bytes] = set()
    for content in _contents(folder):
        for size, pieces in wanted.items():
            seen |= pieces.intersection(
                content[start : start + size] for start in range(len(content) - size + 1)
            )
    return {number for number, pieces in enumerate(needles) if pieces & seen}


def _cut(content: bytes) -> Iterator[bytes]:
    if len(content) <= PIECE:
        yield content
    for start in range(0, len(content) - PIECE + 1, PIECE):
        yield content[start : start + PIECE]


def _contents(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        # The path too: a name can tell as much as a content.
        yield str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.read_bytes()
