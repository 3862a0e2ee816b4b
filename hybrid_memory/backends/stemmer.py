"""English stems, by PyStemmer (the Snowball stemmer, in C)."""

from __future__ import annotations

import threading


class _Local(threading.local):
    """A stemmer a thread: it keeps state between calls and is not safe to share."""

    def __init__(self) -> None:
        import Stemmer

        self.stemmer = Stemmer.Stemmer("english")


_local: _Local | None = None


def stem(word: str) -> str:
    """Return the stem of a word in lower case."""
    global _local  # made at the first use, so that importing this costs nothing
    if _local is None:
        _local = _Local()
    return str(_local.stemmer.stemWord(word))
