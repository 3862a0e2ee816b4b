"""What both paths of a scope stand on: its namespaces, its session, and a record by its id."""

from __future__ import annotations

from collections.abc import Generator, Iterable, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hybrid_memory import limits
from hybrid_memory.errors import NotFoundError
from hybrid_memory.memory.profile import Profile
from hybrid_memory.memory.recall import Recall
from hybrid_memory.outside import Source
from hybrid_memory.types import Kind, Namespace, Record, Stats

if TYPE_CHECKING:
    from hybrid_memory.memory.engine import HybridMemory


class Handle:
    """A memory as seen from one namespace, and from a session if there is one."""

    def __init__(
        self,
        memory: HybridMemory,
        namespace: Namespace,
        read: tuple[Namespace, ...],
        session_id: str | None,
        sources: tuple[Source, ...],
    ) -> None:
        self._memory = memory
        self._store = memory._store
        self.namespace = namespace
        self.read = read
        self.session_id = session_id
        self._recall = Recall(memory, (namespace, *read), session_id, sources)
        self.profile: MutableMapping[str, Any] = Profile(self._store, namespace, memory._redact)

    def get(self, id: str) -> Record:
        """Return a record of this namespace.

        Raises:
            NotFoundError: no such record here; one of another namespace answers the same.
        """
        found = self.get_many([id])
        if not found:
            raise NotFoundError(f"no record {id!r} in this scope")
        return found[0]

    def get_many(self, ids: Iterable[str]) -> list[Record]:
        """Return the records of these ids that are there, in the order of the ids."""
        return self._store.get(self.namespace, limits.ids(ids))

    def _newest(
        self,
        kind: Kind,
        now: datetime | None,
        session_id: str | None = None,
        limit: int | None = None,
    ) -> Generator[Record, None, None]:
        return self._store.newest(
            self.namespace,
            kinds=[kind],
            session_id=session_id,
            limit=limit,
            unexpired_at=self._now(now),
        )

    def stats(self) -> Stats:
        """Return what the scope's own namespace holds."""
        return self._store.stats(self.namespace)

    def _now(self, now: datetime | None = None) -> datetime:
        return limits.when(self._memory._clock() if now is None else now, "now")
