"""Scope: the write path and the read path, from top to bottom."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from hybrid_memory import documents, indexing, limits, records, transfer, turns, upkeep
from hybrid_memory.errors import InvalidInputError, NotFoundError, TextError
from hybrid_memory.filters import compile_where, of_record
from hybrid_memory.memory.profile import Profile
from hybrid_memory.memory.recall import Asked, Recall
from hybrid_memory.merge import Cut
from hybrid_memory.outside import Source
from hybrid_memory.prompt import (
    Context,
    closed,
    pack,
    without_memory,
    without_memory_message,
)
from hybrid_memory.protocols import OnConflict
from hybrid_memory.types import (
    Budget,
    Erased,
    Gate,
    Hit,
    Imported,
    Kind,
    Message,
    Namespace,
    Pruned,
    PrunePolicy,
    Record,
    Stats,
    Usage,
    Where,
    Why,
)

if TYPE_CHECKING:
    from hybrid_memory.memory.engine import HybridMemory

SESSION_TURNS = 6  # the newest turns that a context may show
_CHUNKS_AT_ONCE = 64  # chunks of documents that are encoded and committed together


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, the context it was given, and its tokens."""

    text: str
    context: Context
    usage: Usage


class Scope:
    """What one user (or team, or agent) remembers; made by `HybridMemory.scope`."""

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

    def __repr__(self) -> str:
        return f"Scope({self.namespace}, session_id={self.session_id!r}, read={self.read})"

    # -- the write path: text -> embed -> record ---------------------------------------------

    def add(
        self,
        text: str,
        *,
        kind: Kind = "message",
        role: str = "user",
        speaker: str | None = None,
        at: datetime | None = None,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        importance: float = 0.5,
        source: str | None = None,
        expires_at: datetime | None = None,
    ) -> Record:
        """Remember a text; it is on disk when this returns.

        `at` is when it happened (now, if None). With an `id`, a repeated call with the same
        content changes nothing, so a retry is safe. `source` is where the text comes from: `user`,
        `assistant`, `tool`, `document`, `developer`, `import`, or the name of a document or tool.
        Without one it is who speaks in the `role`.

        Raises:
            InvalidInputError: one of its kinds names what cannot be accepted.
            SourceError: an instruction, or the role `system`, from another source than `user` and
                `developer`.
            TextError: a message that holds nothing but what a context put into a prompt.
            ConflictError: the id is there with other content.
            QuotaExceededError: the namespace is full; nothing is stored.
        """
        arguments = {
            "text": text,
            "kind": kind,
            "role": role,
            "speaker": speaker,
            "at": at,
            "id": id,
            "metadata": metadata,
            "data": data,
            "importance": importance,
            "source": source,
            "expires_at": expires_at,
        }
        stored = self.add_many([arguments])
        if not stored:
            raise TextError(
                "text is only what the memory put into a prompt; it is not stored again"
            )
        return stored[0]

    def add_many(self, items: Iterable[str | Mapping[str, Any]]) -> list[Record]:
        """Remember many texts in one commit: all of them or, if one is refused, none.

        An item is a text or a mapping of `add`'s arguments, which may also name a `session_id`
        other than the scope's. Items without a time follow one another by a microsecond.

        What a context put into a prompt is taken out of messages; of one that holds nothing else
        no record is made.
        """
        if isinstance(items, str | Mapping):
            raise InvalidInputError("add_many takes a list of items; for one use add")
        now = self._now()
        given = [new for item in items for new in _without_echo(item)]
        made = [
            self._memory._redacted(
                records.record(
                    item,
                    namespace=self.namespace,
                    session_id=self.session_id,
                    now=now,
                    number=number,
                )
            )
            for number, item in enumerate(given)
        ]
        timed = [isinstance(item, Mapping) and item.get("at") is not None for item in given]
        return self._memory._insert(self.namespace, made, timed)

    def add_messages(self, messages: Iterable[Message]) -> list[Record]:
        """Remember chat messages in the form of the OpenAI API, in one commit.

        Tool calls and their results are kept as they are and come back from `messages()` as
        `Record.as_message()`. A message may also have an `at`, an `id`, a `speaker` and
        `metadata`.

        What a context put into a prompt is taken out before; a message that holds nothing else,
        such as the system message of `Context.as_messages`, is passed over.
        """
        if isinstance(messages, str | Mapping):
            raise InvalidInputError("add_messages takes a list of messages")
        heard = [
            without_memory_message(message) if isinstance(message, Mapping) else message
            for message in messages
        ]
        return self.add_many([turns.from_message(one) for one in heard if one is not None])

    def add_fact(
        self,
        fact: str | Mapping[str, Any],
        *,
        at: datetime | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        importance: float = 0.5,
        source: str = "user",
    ) -> Record:
        """Remember what is meant, as structure: `{"intent": ..., slot: value, ...}`, or as text.

        A fact holds from `valid_from` (`at`, if None) to `valid_to` (open, if None).
        """
        if isinstance(fact, Mapping):
            data = limits.json_object(fact, "fact")
            text = indexing.fact_text(data)
            if not text:
                raise InvalidInputError("a fact needs at least one slot with a value")
        else:
            data, text = None, fact
        return self.add_many(
            [
                {
                    "text": text,
                    "kind": "fact",
                    "data": data,
                    "at": at,
                    "valid_from": valid_from,
                    "valid_to": valid_to,
                    "id": id,
                    "metadata": metadata,
                    "importance": importance,
                    "source": source,
                }
            ]
        )[0]

    def add_event(self, text: str, *, at: datetime | None = None, **others: Any) -> Record:
        """Remember what happened, and when. `others` are arguments of `add`."""
        return self.add(text, kind="event", at=at, **others)

    def add_instruction(
        self,
        text: str,
        *,
        priority: int = 0,
        at: datetime | None = None,
        source: str = "user",
        expires_at: datetime | None = None,
        id: str | None = None,
        propose: bool = False,
    ) -> Record:
        """Remember a rule for the answers; it is in every context while it is in force.

        With `propose` it is not in force, and in no context, until `confirm` is called: so may any
        source give one. `delete` refuses it.

        Raises:
            SourceError: the source is neither `user` nor `developer`, and it is no proposal: what
                a document or a tool says is data and never an order.
        """
        limits.whole(priority, "priority", low=-1000, high=1000)
        proposed = {records.PROPOSED: True} if propose else {}
        return self.add(
            text,
            kind="instruction",
            data={"priority": priority, **proposed},
            at=at,
            source=source,
            expires_at=expires_at,
            id=id,
        )

    def proposals(self, *, now: datetime | None = None) -> list[Record]:
        """Return the instructions that wait to be confirmed, the newest first."""
        return [one for one in self._newest("instruction", now) if records.is_proposed(one)]

    def confirm(self, id: str, *, source: Literal["user", "developer"] = "user") -> Record:
        """Put a proposed instruction in force and return it; `source` is who confirms it.

        Raises:
            NotFoundError: no such record here.
            InvalidInputError: it is not a proposal.
            ConflictError: it was changed meanwhile.
        """
        proposal = self.get(id)
        if proposal.kind != "instruction" or not records.is_proposed(proposal):
            raise InvalidInputError(f"record {id!r} is not a proposed instruction")
        new = records.confirmed(proposal, source)
        [draft] = indexing.drafts([new], self._memory._embedder, at_given=[True])
        return self._store.update(self.namespace, draft, expected_version=proposal.version)

    def add_documents(
        self,
        items: str | Path | Iterable[str | Path],
        *,
        source: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Record]:
        """Remember documents as chunks: texts, and paths of files and folders (.txt .md .pdf).

        A text needs a `source`; a path has its name. `record.data` tells a chunk's place: its
        number, `start` and `end` in characters, the page, the file, the `title` of the document
        and the `headings` over the chunk; it is found by these two as well. Learning a file again
        replaces what it said before. `on_progress(done, total)` is called as chunks are stored.

        Raises:
            DocumentError: a path that is missing, of an unknown format, or has no text.
        """
        # Redacted whole: a key may stand across the end of a chunk.
        wanted = [
            replace(one, pages=tuple(map(self._memory._redact_text, one.pages)))
            for one in documents.documents(items, source=source, readers=self._memory._readers)
        ]
        pieces = list(documents.chunks(wanted, self._memory._splitter))
        stored: list[Record] = []
        for start in range(0, len(pieces), _CHUNKS_AT_ONCE):
            stored += self.add_many(
                {
                    "text": piece.text,
                    "kind": "document",
                    "source": piece.source,
                    "data": piece.data,
                    "metadata": metadata,
                    # The same chunk again is the same record: learning twice changes nothing.
                    "id": _chunk_id(piece, metadata),
                }
                for piece in pieces[start : start + _CHUNKS_AT_ONCE]
            )
            if on_progress is not None:
                on_progress(len(stored), len(pieces))
        self._forget_old_chunks(wanted, keep={record.id for record in stored})
        return stored

    def _forget_old_chunks(self, learned: list[documents.Document], *, keep: set[str]) -> None:
        sources = {document.file: document.source for document in learned if document.file}
        if not sources:
            return
        _, view = self._memory._cache.views(self.namespace)
        codes = [code for name in sources.values() if (code := view.code(name)) is not None]
        keys = view.columns["key"][view.alive & np.isin(view.columns["source"], codes)]
        chunks = self._store.fetch(self.namespace, keys.tolist()).values()
        # Two files may have one name.
        old = [one.id for one in chunks if (one.data or {}).get("file") in sources]
        self._store.delete(self.namespace, [id for id in old if id not in keep])

    def update(
        self, id: str, *, expected_version: int | None = None, **changes: Unpack[records.Changes]
    ) -> Record:
        """Change a record and return it with its next version.

        Raises:
            NotFoundError: no such record here.
            ConflictError: it is at another version than expected.
            InvalidInputError: a field that cannot be changed, or a value that cannot be accepted.
        """
        old = self.get(id)
        new = self._memory._redacted(records.changed(old, changes))
        [draft] = indexing.drafts([new], self._memory._embedder, at_given=[True])
        # What was read is what is changed: another writer in between must not be undone.
        version = old.version if expected_version is None else expected_version
        return self._store.update(
            self.namespace, draft, expected_version=version, bound=self._memory._bound()
        )

    def delete(self, id: str) -> bool:
        """Delete a record and tell whether it was there."""
        return self._store.delete(self.namespace, [limits.label(id, "id")]) > 0

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
        matches = compile_where(where)
        return self._store.forget(
            self.namespace,
            source=limits.optional_label(source, "source"),
            session_id=limits.optional_label(session_id, "session_id"),
            matches=None if matches is None else lambda record: matches(of_record(record)),
        )

    def erase(self, *, timeout_s: float = upkeep.TIMEOUT_S) -> Erased:
        """Remove all of this namespace from the store, its files and RAM; return what that was.

        Records, profile, what `repair` had put into quarantine, the name itself, and the vectors
        in a document store. Then the files are written anew, as `HybridMemory.purge` does. Look
        at `Erased.is_complete`: if something was in the way, the records are gone all the same,
        and `purge` does the rest. Who writes meanwhile does so before, and it is erased, or after,
        into a namespace that is new.
        """
        return upkeep.erase(
            self._store,
            self.namespace,
            cache=self._memory._cache,
            documents=self._memory._documents,
            parts=(self._memory._embedder, self._memory._reranker),
            timeout_s=timeout_s,
        )

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
        return self._store.prune(self.namespace, policy, now=self._now(now), dry_run=dry_run)

    # -- reading by name ---------------------------------------------------------------------

    def get(self, id: str) -> Record:
        """Return a record of this namespace.

        Raises:
            NotFoundError: no such record here; one of another namespace answers the same.
        """
        found = self._store.get(self.namespace, [limits.label(id, "id")])
        if not found:
            raise NotFoundError(f"no record {id!r} in this scope")
        return found[0]

    def messages(
        self,
        last: int | None = None,
        max_tokens: int | None = None,
        *,
        now: datetime | None = None,
    ) -> list[Record]:
        """Return the newest turns of the session that fit, oldest first.

        Of all sessions, if the scope has none. A tool's result is never without its call: if the
        bound falls between them, neither is returned. Tokens are counted by `count_tokens`, one
        more a turn.
        """
        if last is not None:
            limits.whole(last, "last", low=1)
        if max_tokens is not None:
            limits.whole(max_tokens, "max_tokens", low=1)
        kept: list[Record] = []
        with closing(self._newest("message", now, self.session_id, limit=last)) as newest:
            for turn in newest:
                if max_tokens is not None:
                    max_tokens -= self._memory._count_tokens(turn.text) + 1
                    if max_tokens < 0:
                        break
                kept.append(turn)
        return turns.whole(kept[::-1])

    def instructions(self, *, now: datetime | None = None) -> list[Record]:
        """Return the instructions in force, highest priority first, then the newest first."""
        told = (one for one in self._newest("instruction", now) if not records.is_proposed(one))
        return sorted(told, key=lambda one: -_priority(one))

    def facts(self, slot: str | None = None, as_of: datetime | None = None) -> list[Record]:
        """Return the facts that hold now, or held at a time, in the order they were learned.

        `slot` is `intent.key` as in `user_preference.language_like`, or an intent alone.
        """
        moment = self._now(as_of)
        facts = [fact for fact in self._newest("fact", as_of) if _holds(fact, moment)]
        if slot is not None:
            facts = [fact for fact in facts if _fills(fact, slot)]
        return facts[::-1]

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

    # -- out and in --------------------------------------------------------------------------

    def export(
        self,
        path: transfer.Target,
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
        path: transfer.Origin,
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

    # -- the read path: query -> analyze -> gather -> score -> merge -> prompt ---------------

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        now: datetime | None = None,
        min_score: float = 0.0,
        min_share: float = 0.0,
        mmr_lambda: float | None = None,
        max_per_source: int | None = None,
    ) -> list[Hit]:
        """Return the best k records for a question, of the scope and what it may read.

        `where` filters before anything is ranked (see `filters.py`): k hits come back whenever
        k records match. `min_score` bounds the score from below, `min_share` its share of the
        best hit's. `mmr_lambda` in [0, 1] trades relevance (1) for variety. At most
        `max_per_source` come from one document, tool or outside retriever.

        Raises:
            FilterError: a malformed `where`.
            InvalidInputError: k not in 1 to 200, an unknown kind, or a kind that is not ranked.
        """
        cut = Cut(k, min_score, min_share, mmr_lambda, max_per_source)
        return list(self._recall.ask(self._asked(query, now, kinds, where), cut).hits)

    def why(
        self,
        query: str,
        id: str,
        *,
        k: int = 10,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        now: datetime | None = None,
        min_score: float = 0.0,
        min_share: float = 0.0,
        mmr_lambda: float | None = None,
        max_per_source: int | None = None,
        max_tokens: int = 1000,
    ) -> Why:
        """Explain why `search` finds a record, or why it does not, and so for `context`.

        The bounds are those of the search that is asked about.

        Raises:
            NotFoundError: no such record in the scope or in what it may read.
        """
        cut = Cut(k, min_score, min_share, mmr_lambda, max_per_source)
        asked = self._asked(query, now, kinds, where)
        for namespace in (self.namespace, *self.read):
            for record in self._store.get(namespace, [limits.label(id, "id")]):
                why = self._recall.why(record, asked, cut)
                context = self.context(
                    query, max_tokens=max_tokens, kinds=kinds, where=where, now=asked.now
                )
                return replace(why, prompt=context.without(record))
        raise NotFoundError(f"no record {id!r} in this scope")

    def _asked(
        self,
        query: str,
        now: datetime | None,
        kinds: Iterable[Kind] | Kind | None,
        where: Where | None,
    ) -> Asked:
        moment = self._memory._clock() if now is None else now
        return Asked.of(query, now=moment, kinds=kinds, where=where)

    def context(
        self,
        query: str,
        *,
        max_tokens: int = 1000,
        now: datetime | None = None,
        gate: Gate | None = None,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        budget: Budget | None = None,
    ) -> Context:
        """Return what to put into the prompt for a question, within a budget of tokens.

        Instructions in force, the profile, the newest turns of the session, and the best hits,
        questions among them with what a person said next. `budget` bounds the share of each;
        `Context.dropped` and `left_out` tell what had to go. With a gate that does not allow
        memory nothing is read and the context is empty.
        """
        limits.whole(max_tokens, "max_tokens", low=1)
        asked = self._asked(query, now, kinds, where)
        gate = gate or Gate()
        if not gate.memory_allowed:
            return closed(query, gate)
        weights = self._memory._weights
        # A line is at least ten tokens, so no more hits than this can fit.
        k = min(limits.MAX_K, max(10, max_tokens // 10))
        recalled = self._recall.ask(asked, Cut(k, min_share=weights.min_share))
        return pack(
            query,
            hits=recalled.hits,
            instructions=self.instructions(now=now),
            profile=dict(self.profile),
            session=self.messages(last=SESSION_TURNS, now=now) if self.session_id else (),
            gate=gate,
            max_tokens=max_tokens,
            threshold=weights.threshold,
            abstain=weights.abstain,
            count_tokens=self._memory._count_tokens,
            key=self._memory._fence_key(self.namespace, self.session_id),
            budget=budget,
            confidence=recalled.confidence,
            problems=recalled.problems,
        )

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
        context = self.context(question, max_tokens=max_tokens, now=now, gate=gate, budget=budget)
        self.add_many([{"text": question, "at": now}])
        reply = self._memory._llm.complete(context.as_messages(), on_token=on_token)
        if reply.text.strip("\0 \n\t"):
            # Told at one given time, the answer still follows the question.
            answered = self._now(now) + timedelta(microseconds=1)
            self.add_many(
                {"text": part, "role": "assistant", "source": "assistant", "at": answered}
                for part in turns.storable(reply.text)
            )
        return Answer(reply.text, context, reply.usage)

    def _now(self, now: datetime | None = None) -> datetime:
        return limits.when(self._memory._clock() if now is None else now, "now")


def _without_echo(item: str | Mapping[str, Any]) -> list[str | Mapping[str, Any]]:
    """Return an item without what a context put into a prompt; no item if nothing else is in it."""
    text = item.get("text") if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        return [item]
    if isinstance(item, Mapping) and item.get("kind", "message") != "message":
        return [item]
    kept = without_memory(text)
    if kept == text:
        return [item]
    if not kept:
        return []
    if not isinstance(item, Mapping):
        return [kept]
    return [{**item, "text": kept, "data": turns.without_content(item.get("data"))}]


def _priority(instruction: Record) -> int:
    priority = (instruction.data or {}).get("priority")
    return priority if isinstance(priority, int) else 0


def _holds(fact: Record, moment: datetime) -> bool:
    started = fact.valid_from is None or fact.valid_from <= moment
    return started and (fact.valid_to is None or fact.valid_to > moment)


def _fills(fact: Record, slot: str) -> bool:
    filled = indexing.slots(fact.data or {})
    return slot in filled or any(one.startswith(f"{slot}.") for one in filled)


def _chunk_id(piece: documents.Chunk, metadata: Mapping[str, Any] | None) -> str:
    return uuid.uuid5(
        uuid.NAMESPACE_URL, limits.to_json([piece.source, piece.data, piece.text, metadata])
    ).hex
