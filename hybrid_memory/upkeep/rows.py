"""Are the rows of the store as they were written, and found by what the rules would derive?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hybrid_memory import indexing
from hybrid_memory.limits import unit_vectors
from hybrid_memory.partition import are_units
from hybrid_memory.protocols import Draft, Embedder, RecordStore, Stored, Vector, Vectors
from hybrid_memory.report import Damage
from hybrid_memory.types import Namespace, Record

SAME = 0.99  # cosine of two vectors of one text: batches and servers round differently
PROOFS = 8  # records whose vectors show whose they are


def pages(store: RecordStore, namespace: Namespace, *, size: int) -> Iterator[list[Stored]]:
    """Yield all rows of a namespace, each page a read of its own, so that no writer waits."""
    after = 0
    while page := store.stored(namespace, after=after, limit=size):
        yield page
        if len(page) < size:
            return  # what is written meanwhile could go on for ever
        after = page[-1].key


def differences(row: Stored, draft: Draft) -> list[Damage]:
    """Return what a record is found by that is not what its draft says; not its vector."""
    same: dict[Damage, bool] = {
        "terms": row.terms == draft.terms.tobytes(),
        "digest": row.digest == draft.digest,
        "traits": row.traits == draft.traits,
    }
    return [kind for kind, is_same in same.items() if not is_same]


def bad_vectors(rows: Sequence[tuple[Stored, Record]], *, dim: int) -> set[int]:
    """Return the keys of rows whose vector is missing, misshapen, not finite or not of norm 1.

    So are those that have one and are not ranked.
    """
    bad: set[int] = set()
    shaped: dict[int, bytes] = {}
    for row, record in rows:
        if not indexing.is_ranked(record):
            fine = row.vector is None
        else:
            # By its type too: a flipped bit makes a text of it.
            fine = isinstance(row.vector, bytes) and len(row.vector) == 4 * dim
            fine = fine and row.vector_is_intact is not False
            if fine and row.vector is not None:
                shaped[row.key] = row.vector
        if not fine:
            bad.add(row.key)
    if shaped:
        units = are_units(_array([*shaped.values()], dim))
        bad |= {key for key, is_unit in zip(shaped, units, strict=True) if not is_unit}
    return bad


def strange_vectors(rows: Sequence[tuple[Stored, Record]], embedder: Embedder) -> set[int]:
    """Return the keys of rows whose vector is not what the embedder makes of their text now."""
    ranked = [(row, record) for row, record in rows if row.vector and indexing.is_ranked(record)]
    if not ranked:
        return set()
    stored = _array([row.vector or b"" for row, _ in ranked], embedder.dim)
    fresh = encoded([record for _, record in ranked], embedder)
    cosines = np.vecdot(stored, fresh)
    return {row.key for (row, _), cosine in zip(ranked, cosines, strict=True) if cosine < SAME}


def are_of(store: RecordStore, embedder: Embedder) -> bool:
    """Tell whether the vectors of a store can be this embedder's, by a few of them.

    One is proof, for some may be damaged; without any there is nothing to say against it. Chunks of
    documents are passed over: older rules encoded them otherwise.
    """
    some: list[tuple[Stored, Record]] = []
    for namespace in store.namespaces():
        told = [
            (row, row.record)
            for row in store.stored(namespace, limit=PROOFS)
            if row.vector is not None and row.record is not None and row.record.kind != "document"
        ]
        bad = bad_vectors(told, dim=embedder.dim)
        some += [(row, record) for row, record in told if row.key not in bad]
        if len(some) >= PROOFS:
            break
    some = some[:PROOFS]
    return not some or len(strange_vectors(some, embedder)) < len(some)


def encoded(records: Sequence[Record], embedder: Embedder) -> Vectors:
    """Return the vectors of ranked records."""
    texts = [indexing.index_text(record) for record in records]
    return unit_vectors(embedder.embed(texts), count=len(texts), dim=embedder.dim)


def vector_of(row: Stored) -> Vector | None:
    """Return a vector that is known to be sound."""
    return None if row.vector is None else np.frombuffer(row.vector, np.float32)


def _array(vectors: Sequence[bytes], dim: int) -> Vectors:
    return np.frombuffer(b"".join(vectors), np.float32).reshape(-1, dim)
