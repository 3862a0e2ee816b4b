"""Scope: the only way to read or write anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hybrid_memory import limits, turns
from hybrid_memory.errors import InvalidInputError, StoreCorruptError
from hybrid_memory.filters import compile_where, of_record
from hybrid_memory.memory.reading import ReadPath
from hybrid_memory.memory.shelf import part_ids
from hybrid_memory.memory.writing import WritePath
from hybrid_memory.prompt import Context
from hybrid_memory.protocols import OnConflict
from hybrid_memory.types import (
    PURGE_TIMEOUT_S,
    Budget,
    Erased,
    Gate,
    Imported,
    Origin,
    Pruned,
    PrunePolicy,
    Record,
    Target,
    Usage,
    Where,
)

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, the context it was given, and its tokens."""

    text: str
    context: Context
    usage: Usage


class Scope(WritePath, ReadPath):
    """What one user (or team, or agent) remembers; made by `HybridMemory.scope`."""

    def __repr__(self) -> str:
        return f"Scope({self.namespace}, session_id={self.session_id!r}, read={self.read})"

    def ask(
        self,
        question: str,
        *,
        max_tokens: int = 1000,
        now: datetime | None = None,
        gate: Gate | None = None,
        budget: Budget | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer a question with a chat model and the memory, and remember both turns.

        `on_token` gets the pieces of the answer as they come. The question is stored before the
        model is asked, so it is kept whatever happens after.

        Raises:
            ChatModelNotConfiguredError: no model was given and the environment names none.
            ChatModelUnavailableError: the model did not answer.
        """
        limits.part(on_token, "on_token")
        context = self.context(question, max_tokens=max_tokens, now=now, gate=gate, budget=budget)
        self.add_many([{"text": question, "at": now}])
        reply = self._memory._llm.complete(context.as_messages(), on_token=on_token)
        if reply.text.strip("\0 \n\t"):
            # Told at one given time, the answer still follows the question.
            asked = self._now(now)
            answered = asked + min(timedelta(microseconds=1), _LAST - asked)
            self.add_many(
                {"text": part, "role": "assistant", "source": "assistant", "at": answered}
                for part in turns.storable(reply.text)
            )
        return Answer(reply.text, context, reply.usage)

    def delete(self, id: str) -> bool:
        """Delete a record and tell whether it was there."""
        return self.delete_many([id]) > 0

    def delete_many(self, ids: Iterable[str]) -> int:
        """Delete the records of these ids that are there, in one commit; return how many.

        With an item (see `HybridMemory.items`) go the records of its further texts, uncounted.
        """
        ids = limits.ids(ids)
        # They go first: after a kill in between there is still an item that names them.
        if further := self._further_texts(ids) - {*ids}:
            self._store.delete(self.namespace, sorted(further))
        return self._store.delete(self.namespace, ids)

    def _further_texts(self, ids: Sequence[str]) -> set[str]:
        try:
            items = self._store.get(self.namespace, ids)
        except StoreCorruptError:  # of a damaged one nothing is known, and it can be deleted
            return {one for id in ids for one in self._further_texts([id])} if ids[1:] else set()
        return {id for item in items for id in part_ids(item)}

    def forget(
        self,
        *,
        source: str | None = None,
        session_id: str | None = None,
        where: Where | None = None,
    ) -> int:
        """Delete all records, of any kind, within these bounds; return how many there were.

        Of the scope's own namespace, and whatever session the scope is of. Like `delete` it is
        cheap; `HybridMemory.purge` removes from the files what that left behind.

        Raises:
            InvalidInputError: no bound; to remove everything is `erase`.
            FilterError: a malformed `where`.
        """
        if source is None and session_id is None and not where:
            raise InvalidInputError(
                "forget takes at least one of source, session_id and where; "
                "erase() removes all of a user"
            )
        where_matches = compile_where(where)
        further: set[str] = set()

        def matches(record: Record) -> bool:
            is_within = where_matches is None or where_matches(of_record(record))
            if is_within:
                further.update(part_ids(record))
            return is_within

        count = self._store.forget(
            self.namespace,
            source=limits.optional_label(source, "source"),
            session_id=limits.optional_label(session_id, "session_id"),
            # Without it, damaged records go as well; further texts are of the item's source.
            matches=None if where_matches is None else matches,
        )
        if further:  # which need not match themselves
            self._store.delete(self.namespace, sorted(further))
        return count

    def erase(self, *, timeout_s: float = PURGE_TIMEOUT_S) -> Erased:
        """Remove all of this namespace from the store, its files and RAM; return what that was.

        Records, profile, what `repair` had put into quarantine, the name itself, and the vectors
        in a document store; and the same in every store beside (see `HybridMemory.beside`), open
        or not. Then the files are written anew, as `HybridMemory.purge` does. Look at
        `Erased.is_complete`: if something was in the way of the files, `purge` does the rest; a
        store beside that could not be opened is told there too. Who writes meanwhile does so
        before, and it is erased, or after, into a namespace that is new.
        """
        from hybrid_memory import upkeep

        timeout_s = limits.seconds(timeout_s, "timeout_s")
        erased = upkeep.erase(
            self._store,
            self.namespace,
            cache=self._memory._cache,
            documents=self._memory._documents,
            parts=self._memory._keeping(),
            timeout_s=timeout_s,
        )
        self._memory._drop(self.namespace)
        return erased

    def prune(
        self, policy: PrunePolicy, *, dry_run: bool = True, now: datetime | None = None
    ) -> Pruned:
        """Return what a policy removes from the scope's own namespace and, if told so, remove it.

        With `dry_run` nothing is changed. Without, all of it goes in one transaction, which looks
        again: what others have written since a dry run is judged like the rest.
        """
        if not isinstance(policy, PrunePolicy):
            raise InvalidInputError(
                f"prune takes a PrunePolicy, such as PrunePolicy(max_records=1000), "
                f"not {type(policy).__name__}"
            )
        limits.claim(dry_run, "dry_run")
        return self._store.prune(self.namespace, policy, now=self._now(now), dry_run=dry_run)

    def export(
        self,
        path: Target,
        *,
        vectors: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write the records and the profile of the scope's own namespace as JSON Lines.

        See `HybridMemory.export`.
        """
        return self._memory.export(
            path, namespaces=[self.namespace], vectors=vectors, on_progress=on_progress
        )

    def import_(
        self,
        path: Origin,
        *,
        on_conflict: OnConflict = "error",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Imported:
        """Store an export in the scope's own namespace, whatever namespaces the file names.

        See `HybridMemory.import_`.
        """
        return self._memory.import_(
            path, namespace=self.namespace, on_conflict=on_conflict, on_progress=on_progress
        )
