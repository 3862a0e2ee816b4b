"""What a memory encodes with, and the guard that keeps the vectors of two spaces apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from hybrid_memory import indexing, limits, spaces
from hybrid_memory.errors import StoreError
from hybrid_memory.partition import PartitionCache
from hybrid_memory.protocols import Draft, Embedder, RecordStore, Space, Vector, Vectors
from hybrid_memory.types import Record


class Encoding:
    """An Embedder that is known to be of the store's vector space before it encodes anything.

    `cache` has the partitions with its vectors. To compare eight vectors takes as long as to
    encode eight sentences, so it is done once, before the first text. A memory that is moved to
    another space takes another one of these, as a whole.

    Raises, wherever a vector is needed:
        EmbedderMismatchError: the store is of another space.
    """

    def __init__(
        self,
        store: RecordStore,
        embedder: Embedder,
        *,
        cache: Callable[[Callable[[int], None]], PartitionCache],
    ) -> None:
        self.embedder = embedder
        self.cache = cache(self._accept)
        self._store = store
        self._lock = threading.Lock()
        self._mine: Space | None = None
        self._generation: int | None = None  # of the store's space, once it is known to be ours

    @property
    def name(self) -> str:
        """What identifies the vector space."""
        return self.embedder.name

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self.embedder.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        if texts:
            self.check()
        return self.embedder.embed(texts)

    def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`; of norm 1, or zero."""
        self.check()
        return limits.unit_vector(self.embedder.embed_query(text), dim=self.dim)

    def drafts(self, records: Sequence[Record], *, at_given: Sequence[bool]) -> list[Draft]:
        """Return the records ready to be stored, encoded in one batch; see `indexing.drafts`."""
        return self.claimed(indexing.drafts(records, self, at_given=at_given))

    def claimed(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return drafts that the store takes in our space alone; a new store is made ours."""
        if drafts and self._store.rules() is None:
            self._store.set_rules(indexing.RULES)
        if all(draft.vector is None for draft in drafts):
            return list(drafts)
        generation = self._claim()
        return [replace(draft, generation=generation) for draft in drafts]

    def _claim(self) -> int:
        with self._lock:
            if self._generation is None:
                if (space := self._store.space()) is not None:
                    self._refuse_unproven(space)
                self._generation = self._compared(self._store.set_space(self._own()))
            return self._generation

    def check(self) -> None:
        """Refuse to go on if the store is of another space."""
        if self._generation is not None:
            return
        with self._lock:
            space = self._store.space()
            if space is None or self._generation is not None:
                return
            if space.probes is None:  # of a store that is older than they are
                self._refuse_unproven(space)
                with suppress(StoreError):  # the disk may be full, and it can be read all the same
                    space = self._store.set_space(self._own())
            self._generation = self._compared(space)

    def check_again(self) -> None:
        """Look whether the store, which was moved meanwhile, is of this space again."""
        with self._lock:
            self._generation = None
        self.check()

    def _accept(self, generation: int) -> None:
        """Refuse vectors of a generation that is not ours, before a partition holds them."""
        if generation in (0, self._generation):
            return
        self.check_again()

    def _refuse_unproven(self, space: Space) -> None:
        """Refuse to take a space of which no more than the name is known for ours by that alone."""
        spaces.refuse_other_name(space, self.embedder)
        if space.probes is None:
            from hybrid_memory.upkeep import rows

            if not rows.are_of(self._store, self.embedder):
                raise spaces.other_vectors(self.embedder)

    def _own(self) -> Space:
        if self._mine is None:
            self._mine = spaces.space_of(self.embedder)
        return self._mine

    def _compared(self, space: Space) -> int:
        spaces.refuse_other_name(space, self.embedder)
        spaces.refuse_other_vectors(space, self._own())
        return space.generation
