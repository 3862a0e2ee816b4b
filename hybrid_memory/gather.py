"""Read path, stage 2: candidates from the session, the memories of the scope and its documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.filters import Predicate
from hybrid_memory.limits import microseconds
from hybrid_memory.partition import Pool, Rows, View
from hybrid_memory.protocols import Vector
from hybrid_memory.types import Kind, Query

WIDTH = 100  # candidates by meaning, and as many by words: more changes recall by under a point
SESSION_TURNS = 20  # of the newest turns of the session, always candidates


def gather(
    query: Query,
    vector: Vector,
    view: View,
    *,
    kinds: frozenset[Kind] | None = None,
    where: Predicate | None = None,
    session_id: str | None = None,
    width: int | None = WIDTH,
) -> Pool:
    """Return the rows of a view that may answer, with their cosine and their share of the words.

    Without an index, or without a `width`, every allowed row is a candidate, because one pass
    over the vectors measures them all. With one (or with a document store), the nearest `width`
    are, the best `width` by words, and the session's newest turns. Where a filter leaves fewer
    of them than there are, all rows are compared, so k are found whenever k exist.
    """
    allowed = view.allowed(now=microseconds(query.now), kinds=kinds, where=where)
    words = view.words.scores(query.terms, view.alive)
    near = None if width is None else view.nearest(vector, width)
    if near is not None:
        near = near[allowed[near]]
        if len(near) < min(width or 0, int(np.count_nonzero(allowed))):
            near = None
    if near is None or width is None:
        rows = allowed.nonzero()[0]
        if len(rows) == len(allowed):  # nothing needs to be copied
            cosine = view.cosines(vector, slice(None))
        else:
            cosine, words = view.cosines(vector, rows), words[rows]
        return Pool(view, rows, cosine, words, _asked(view, rows, cosine, vector))
    by_words = np.flatnonzero(allowed & (words > 0))
    if len(by_words) > width:
        by_words = by_words[np.argpartition(-words[by_words], width)[:width]]
    session = np.empty(0, np.int64)
    code = None if session_id is None else view.code(session_id)
    if code is not None:
        session = np.flatnonzero(allowed & (view.columns["session_id"] == code))[-SESSION_TURNS:]
    rows = np.unique(np.concatenate([near, by_words, session]))
    cosine = view.cosines(vector, rows)
    asked = _asked(view, rows, cosine, vector)
    return Pool(view, rows, cosine, words[rows], asked, is_part=True)


def _asked(
    view: View, rows: Rows, cosine: NDArray[np.float32], vector: Vector
) -> NDArray[np.float32]:
    """Return the cosine of the question that each row answers, its own where it answers none."""
    if not view.has_answers:
        return cosine
    questions = view.columns["answers"]
    if len(rows) == len(questions):
        return np.where(questions >= 0, cosine[questions], cosine)
    questions = questions[rows]
    asked, answers = cosine.copy(), questions >= 0
    asked[answers] = view.cosines(vector, questions[answers])
    return asked
