"""What goes into the prompt for one query, in its forms, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hybrid_memory.prompt.rendering import TITLES, system_prompt
from hybrid_memory.types import NOTHING, Gate, Hit, Namespace, Record


@dataclass(frozen=True, slots=True)
class Block:
    """A section of the prompt: its name, one line an item, and its tokens with the title.

    `by_line` has the records that each line tells: one, several chunks of a document that adjoin,
    or none for a line of the profile. Besides hits there are answers to hits that ask.
    """

    name: str
    lines: tuple[str, ...]
    tokens: int
    by_line: tuple[tuple[Record, ...], ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """All records of the block, in the order of the lines."""
        return tuple(record for records in self.by_line for record in records)

    @property
    def title(self) -> str:
        """The line that opens the block."""
        return TITLES[self.name]

    @property
    def text(self) -> str:
        """The block as it stands in the prompt."""
        return "\n".join([self.title, *(f"- {line}" for line in self.lines)])


@dataclass(frozen=True, slots=True)
class Dropped:
    """A hit that was found and left out, and why."""

    hit: Hit
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instruction, a turn of the session or a key of the profile that had no room, and why.

    `block` names where it would have stood. `record` is None for a key, `key` for the others.
    """

    block: str
    reason: str
    record: Record | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What goes into the prompt for one query, and what was left out.

    `tokens` counts `as_system_prompt()` whole and is never over the budget. `rule` is the sentence
    that tells the model how to use the memory, `tag` the name of the block that the memory is in:
    the same for a scope, and unknown to whoever writes into it. `note` says in a sentence what a
    caller may want to know: that no memory was used, or that an instruction had no room.
    `dropped` are hits, `left_out` what is no hit. `confidence`, in [0, 1], is how sure
    the search was.
    """

    query: str
    blocks: tuple[Block, ...] = ()
    tokens: int = 0
    hits: tuple[Hit, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    gate: Gate = field(default_factory=Gate)
    profile: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    rule: str = ""
    tag: str = "memory"
    note: str = ""
    left_out: tuple[LeftOut, ...] = ()
    confidence: float = 0.0

    @property
    def duplicates(self) -> int:
        """How many older repetitions of its hits the search left out."""
        return sum(hit.duplicates for hit in (*self.hits, *(one.hit for one in self.dropped)))

    def block(self, name: str) -> Block | None:
        """Return the block of this name, if it is in the prompt."""
        return next((block for block in self.blocks if block.name == name), None)

    def without(self, record: Record) -> str:
        """Return why a record is not in the prompt; an empty text if it is there."""
        wanted = identity(record)
        if any(identity(one) == wanted for block in self.blocks for one in block.records):
            return ""
        reasons = [one.reason for one in self.dropped if identity(one.hit.record) == wanted]
        reasons += [
            one.reason for one in self.left_out if one.record and identity(one.record) == wanted
        ]
        return reasons[0] if reasons else "not among the hits"

    def as_system_prompt(self) -> str:
        """Return all blocks as one text for the system message; empty if there is nothing."""
        blocks = [(block.name, block.text) for block in self.blocks]
        return system_prompt(blocks, self.rule, self.tag)

    def as_messages(self) -> list[dict[str, Any]]:
        """Return messages for a chat model: a system message, the session's turns, the query.

        The session's turns are messages of their own here, with their tool calls.
        """
        others = [(block.name, block.text) for block in self.blocks if block.name != "session"]
        session = self.block("session")
        messages: list[dict[str, Any]] = []
        if system := system_prompt(others, self.rule, self.tag):
            messages.append({"role": "system", "content": system})
        if session:
            messages += [record.as_message() for record in session.records]
        return [*messages, {"role": "user", "content": self.query}]

    def as_json(self) -> dict[str, Any]:
        """Return the context as one JSON object, with scores, ids, and what was left out.

        Texts are as they were stored; as strings of JSON they cannot end their place in it.
        """
        scores = {identity(hit.record): round(hit.score, 4) for hit in self.hits}

        def items(name: str) -> list[dict[str, Any]]:
            block = self.block(name)
            return [_item(record, scores) for record in block.records] if block else []

        return {
            "query": self.query,
            "gate": {
                "memory_allowed": self.gate.memory_allowed,
                "memory_reasoning_required": self.gate.memory_reasoning_required,
            },
            "confidence": round(self.confidence, 4),
            "note": self.note,
            "tokens": self.tokens,
            "instructions": [item["text"] for item in items("instructions")],
            "profile": dict(self.profile),
            "memories": items("memories"),
            "documents": items("documents"),
            "session": items("session"),
            "dropped": [
                *(_left_out_item(one) for one in self.left_out),
                *(_dropped_item(one) for one in self.dropped),
            ],
            "duplicates": self.duplicates,
        }


def closed(query: str, gate: Gate) -> Context:
    """Return the context of a gate that allows no memory: nothing, and a note that says so."""
    return Context(query=query, gate=gate, note="memory is not allowed by the gate: none was read")


def block_of(record: Record) -> str:
    """Return the name of the block that a hit's record goes to."""
    return "documents" if record.kind == "document" else "memories"


def identity(record: Record) -> tuple[Namespace, str]:
    """Return what tells a record from all others: ids are unique within a namespace only."""
    return record.namespace, record.id


def _item(record: Record, scores: Mapping[tuple[Namespace, str], float]) -> dict[str, Any]:
    item: dict[str, Any] = {"id": record.id, "kind": record.kind, "text": record.text}
    item["at"] = record.at.isoformat()
    if record.kind == "message":
        item["role"] = record.role
    if record.speaker:
        item["speaker"] = record.speaker
    if record.kind == "document":
        data = record.data or NOTHING
        item["source"] = record.source
        item |= {name: data[name] for name in ("title", "headings", "page") if name in data}
    if record.data and record.kind == "fact":
        item["data"] = dict(record.data)
    if (score := scores.get(identity(record))) is not None:
        item["score"] = score
    return item


def _left_out_item(one: LeftOut) -> dict[str, Any]:
    what = {"key": one.key} if one.record is None else {"id": one.record.id}
    return {"block": one.block, **what, "reason": one.reason}


def _dropped_item(one: Dropped) -> dict[str, Any]:
    return {
        "block": block_of(one.hit.record),
        "id": one.hit.record.id,
        "score": round(one.hit.score, 4),
        "reason": one.reason,
    }
