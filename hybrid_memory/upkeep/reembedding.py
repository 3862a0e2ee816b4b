"""From one vector space to another while work goes on, batch by batch.

The new vectors lie aside until there is one for each record; then they are put in force at once.
So is the way back: the former vectors lie aside after that, and only what was written since has to
be encoded.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_memory import limits, spaces
from hybrid_memory.protocols import Embedder, RecordStore, Vectors
from hybrid_memory.types import Record
from hybrid_memory.upkeep import rows
from hybrid_memory.upkeep.report import OnProgress

BATCH = 128  # texts that are encoded and committed together


def reembed(
    store: RecordStore,
    embedder: Embedder,
    *,
    batch_size: int = BATCH,
    on_progress: OnProgress | None = None,
) -> int:
    """See `HybridMemory.reembed`."""
    batch_size = limits.whole(batch_size, "batch_size", low=1, high=limits.MAX_BATCH)
    mine = spaces.space_of(embedder)
    _settle(store, batch_size)
    space = store.space()
    if space is None:
        store.set_space(mine)
        return 0
    if spaces.is_same(space, mine):
        return 0
    begun = [one for one in store.spaces_aside() if spaces.is_same(one, mine)]
    generation = (begun[0] if begun else store.open_space(mine)).generation
    encoded = 0

    def encode(records: Sequence[Record]) -> Vectors:
        nonlocal encoded
        encoded += len(records)
        return rows.encoded(records, embedder)

    # What is written while a round goes on is for the next; the last few wait for the switch.
    while True:
        done, total = store.count_moved(generation)
        after = 0
        while page := store.unmoved(generation, after=after, limit=batch_size):
            after = page[-1].key
            whole = [(row, row.record) for row in page if row.record is not None]
            vectors = encode([record for _, record in whole])
            pairs = [(row, vector) for (row, _), vector in zip(whole, vectors, strict=True)]
            done += store.move(generation, pairs)
            if on_progress is not None:
                on_progress(done, max(done, total))
        if store.switch_space(generation, encode=encode, limit=batch_size):
            _settle(store, batch_size)
            return encoded


def _settle(store: RecordStore, batch_size: int) -> None:
    """Finish a switch, also one whose process was killed after it."""
    while store.settle_space(limit=max(batch_size, BATCH)):
        pass
