"""The write path of a scope: text -> records -> indexing -> one commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from hybrid_memory import indexing, limits, records, turns
from hybrid_memory.errors import InvalidInputError, TextError
from hybrid_memory.memory.handle import Handle
from hybrid_memory.prompt import without_memory, without_memory_message
from hybrid_memory.types import Kind, Message, OnConflict, Record

if TYPE_CHECKING:
    from hybrid_memory import documents

_CHUNKS_AT_ONCE = 64  # chunks of documents that are encoded and committed together


class WritePath(Handle):
    """The methods of `Scope` that remember, and that change what is remembered."""

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

    def add_many(
        self, items: Iterable[str | Mapping[str, Any]], *, on_conflict: OnConflict = "error"
    ) -> list[Record]:
        """Remember many texts in one commit: all of them or, if one is refused, none.

        An item is a text or a mapping of `add`'s arguments, which may also name a `session_id`
        other than the scope's. Items without a time follow one another by a microsecond.

        Where an id is there with other content, that is an error, or the record is kept ("skip")
        or replaced ("replace"): it keeps its `created_at`, and its version rises by one. Only
        what is new or changed is encoded.

        What a context put into a prompt is taken out of messages; of one that holds nothing else
        no record is made.
        """
        items = limits.several(items, "add_many takes a list of items (for one use add)")
        limits.on_conflict(on_conflict)
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
        return self._memory._insert(self.namespace, made, timed, on_conflict)

    def add_messages(self, messages: Iterable[Message], *, strict: bool = True) -> list[Record]:
        """Remember chat messages in the form of the OpenAI API, in one commit.

        Tool calls and their results are kept as they are and come back from `messages()` as
        `Record.as_message()`. A message may also have an `at`, an `id`, a `speaker`, `metadata`
        and `data`, which is kept beside what `as_message` returns.

        What a context put into a prompt is taken out before; a message that holds nothing else,
        such as the system message of `Context.as_messages`, is passed over.

        Without `strict` no message is refused for what a model or a tool said: what cannot be
        stored is taken out, what is too long is cut and says so, and an empty text is "(no text)".
        """
        messages = limits.several(messages, "add_messages takes a list of messages")
        heard = [
            without_memory_message(message) if isinstance(message, Mapping) else message
            for message in messages
        ]
        turn = turns.from_message if limits.claim(strict, "strict") else turns.fitted
        return self.add_many([turn(one) for one in heard if one is not None])

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
        proposed = {records.PROPOSED: True} if limits.claim(propose, "propose") else {}
        return self.add(
            text,
            kind="instruction",
            data={"priority": priority, **proposed},
            at=at,
            source=source,
            expires_at=expires_at,
            id=id,
        )

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
        return self._memory._update(
            self.namespace, new, expected_version=proposal.version, bound=None
        )

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
        from hybrid_memory import documents

        limits.part(on_progress, "on_progress")
        if metadata is not None:  # it is part of the ids
            metadata = limits.json_object(metadata, "metadata")
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
        if expected_version is not None:
            limits.whole(expected_version, "expected_version", low=0, high=2**63 - 1)
        old = self.get(id)
        new = self._memory._redacted(records.changed(old, changes))
        # What was read is what is changed: another writer in between must not be undone.
        version = old.version if expected_version is None else expected_version
        return self._memory._update(
            self.namespace, new, expected_version=version, bound=self._memory._bound()
        )


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


def _chunk_id(piece: documents.Chunk, metadata: Mapping[str, Any] | None) -> str:
    return uuid.uuid5(
        uuid.NAMESPACE_URL, limits.to_json([piece.source, piece.data, piece.text, metadata])
    ).hex
