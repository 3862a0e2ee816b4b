"""Packs what is remembered into a budget of tokens: what is kept, what is not, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hybrid_memory.limits import to_json
from hybrid_memory.prompt.context import Block, Context, Dropped, LeftOut, block_of, identity
from hybrid_memory.prompt.rendering import (
    BARE,
    HELPING,
    REQUIRED,
    TITLES,
    Line,
    clean,
    fence,
    memory_line,
    passage_line,
    passage_parts,
    passages,
    profile_line,
)
from hybrid_memory.protocols import TokenCounter
from hybrid_memory.turns import exchanges
from hybrid_memory.types import NOTHING, Budget, Gate, Hit, Namespace, Record

_IN_SESSION = "already in the session block"
_SHOWN = "already in the prompt"
_OVER_BUDGET = "over the token budget"
_OLDER = "older than a turn without room"


def pack(
    query: str,
    *,
    hits: Sequence[Hit],
    instructions: Sequence[Record],
    profile: Mapping[str, Any],
    session: Sequence[Record],
    gate: Gate,
    max_tokens: int,
    threshold: float,
    count_tokens: TokenCounter,
    key: bytes,
    budget: Budget | None = None,
    abstain: float = 0.0,
    confidence: float = 0.0,
    problems: Sequence[str] = (),
    shown: Collection[tuple[Namespace, str]] = (),
) -> Context:
    """Return a context of at most `max_tokens`, of which each block has at most its share.

    Instructions come first, in the order given, then the profile by its keys, the newest turns of
    the session, and the hits, best first; a line that does not fit whole is left out and the next
    one tried. Hits of a relevance below the `threshold` stay out, and all of them where the best
    is below `abstain`. Kept lines are shown in the order of time, chunks in the order of their
    documents and as one line where they adjoin, so that the same memories give the same prompt.
    The `key`, at most 64 bytes and unknown to those who write, gives the block of the memory its
    name. `problems` are sentences for the note. Hits and turns that are `shown` stay out.
    """
    session = [
        turn
        for turns in exchanges(session)
        if not any(identity(one) in shown for one in turns)
        for turn in turns
    ]
    room, attempt = max_tokens, 0
    while True:
        tag = fence(key, attempt)
        rule = REQUIRED if gate.memory_reasoning_required else HELPING
        packer = _Packer(
            room,
            shares=budget or Budget(),
            rule=rule.format(tag=tag),
            tag=tag,
            count_tokens=count_tokens,
        )
        left_out, shown_profile = _add_what_is_told_always(
            packer, instructions=instructions, profile=profile, session=session
        )
        kept, dropped = _add_hits(packer, hits, threshold=threshold, abstain=abstain, shown=shown)
        context = Context(
            query=query,
            blocks=packer.blocks(),
            hits=tuple(kept),
            dropped=tuple(dropped),
            gate=gate,
            profile=shown_profile,
            rule=packer.rule,
            tag=tag,
            left_out=tuple(left_out),
            confidence=confidence,
        )
        if all(block.name == "instructions" for block in context.blocks):
            bare = gate.memory_reasoning_required and packer.has_room(BARE)
            context = replace(context, rule=BARE if bare else "")
        if any(tag in line.casefold() for block in context.blocks for line in block.lines):
            attempt += 1  # somebody has seen the name, and stored it
            continue
        prompt = context.as_system_prompt()
        tokens = count_tokens(prompt) if prompt else 0
        if tokens <= max_tokens:
            note = "; ".join([*_notes(context, len(instructions)), *problems])
            return replace(context, tokens=tokens, note=note)
        # Lines counted one by one may be more in one piece: leave out as much as that was.
        room -= max(1, tokens - max_tokens)


def _add_what_is_told_always(
    packer: _Packer,
    *,
    instructions: Sequence[Record],
    profile: Mapping[str, Any],
    session: Sequence[Record],
) -> tuple[list[LeftOut], dict[str, Any]]:
    """Add instructions, profile and session; return what had no room, and the profile shown."""
    given = [
        (one, packer.add("instructions", Line(clean(one.text), (one,)))) for one in instructions
    ]
    left_out = [LeftOut("instructions", refused, record=one) for one, refused in given if refused]
    shown_profile = {}
    for key, value in sorted(profile.items()):
        if refused := packer.add("profile", profile_line(key, value)):
            left_out.append(LeftOut("profile", refused, key=key))
        else:
            shown_profile[key] = value
    refused = None
    unheard: list[LeftOut] = []
    for turns in reversed(exchanges(session)):
        refused = _OLDER if refused else packer.add_exchange(turns)
        if refused:
            unheard = [*(LeftOut("session", refused, record=turn) for turn in turns), *unheard]
    return [*left_out, *unheard], shown_profile


def _add_hits(
    packer: _Packer,
    hits: Sequence[Hit],
    *,
    threshold: float,
    abstain: float,
    shown: Collection[tuple[Namespace, str]],
) -> tuple[list[Hit], list[Dropped]]:
    in_session = {identity(record) for record in packer.records("session")}
    best = max((hit.relevance for hit in hits), default=0.0)
    kept, dropped = [], []
    for hit in hits:
        reason: str | None
        if identity(hit.record) in in_session:
            reason = _IN_SESSION
        elif identity(hit.record) in shown:
            reason = _SHOWN
        elif best < abstain:
            reason = f"no hit reaches the relevance of {abstain:.2f} that the best must have"
        elif hit.relevance < threshold:
            reason = f"relevance below the threshold of {threshold:.2f}"
        elif block_of(hit.record) == "documents":
            reason = packer.add_chunk(hit.record)
        else:
            reason = packer.add("memories", memory_line(hit.record))
        if reason:
            dropped.append(Dropped(hit, reason))
        else:
            kept.append(hit)
    return kept, dropped


def _notes(context: Context, instructions: int) -> list[str]:
    remembered = any(block.name != "instructions" for block in context.blocks)
    notes = [] if remembered else ["nothing relevant is remembered"]
    if unheard := sum(one.block == "instructions" for one in context.left_out):
        notes.append(f"{unheard} of {instructions} instructions had no room")
    return notes


class _Packer:
    """Adds lines to blocks while the prompt they make stays within the budget.

    What adds returns why there was no room, or None.
    """

    _ORDER = ("instructions", "profile", "memories", "documents", "session")

    def __init__(
        self,
        max_tokens: int,
        *,
        shares: Budget,
        rule: str,
        tag: str,
        count_tokens: TokenCounter,
    ) -> None:
        self.rule = rule
        self._max_tokens = max_tokens
        self._shares = shares
        self._count = count_tokens
        # Titles, rules and tags are paid for when the first line needs them.
        self._frame = count_tokens(f"\n\n{rule}\n\n<{tag}>\n\n</{tag}>")
        self._used = 0
        self._framed = False
        self._spent: dict[str, int] = {}
        self._lines: dict[str, list[Line]] = {}
        self._chunks: list[Record] = []
        self._passages = 0  # what the lines of the chunks cost, put together
        # A passage is counted anew with each chunk that joins it, and its parts are the same.
        self._count_clean = cache(lambda text: count_tokens(clean(text)))

    def add(self, name: str, line: Line) -> str | None:
        """Add a line at the end of its block."""
        refused = self._pay(name, self._count(f"- {line.text}\n"))
        if not refused:
            self._lines.setdefault(name, []).append(line)
        return refused

    def add_exchange(self, turns: Sequence[Record]) -> str | None:
        """Add turns before those of the session that are there: all of them or none."""
        lines = [memory_line(turn) for turn in turns]
        # As a message a turn has all that it was stored with: tool calls, parts of content.
        kept = [to_json(message) for turn in turns if (message := _message(turn))]
        cost = sum(self._count(f"- {line.text}\n") for line in lines) + sum(map(self._count, kept))
        refused = self._pay("session", cost)
        if not refused:
            self._lines["session"] = [*lines, *self._lines.get("session", ())]
        return refused

    def add_chunk(self, chunk: Record) -> str | None:
        """Add a chunk of a document, to the line of those it adjoins."""
        together = [*self._chunks, chunk]
        cost = sum(self._passage_cost(passage) for passage in passages(together))
        refused = self._pay("documents", cost - self._passages)
        if not refused:
            self._chunks, self._passages = together, cost
        return refused

    def has_room(self, text: str) -> bool:
        """Tell whether a further paragraph fits the budget."""
        return self._used + self._count(f"\n\n{text}") <= self._max_tokens

    def records(self, name: str) -> list[Record]:
        """Return the records that were added to a block."""
        return [record for line in self._lines.get(name, ()) for record in line.records]

    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks that hold something, each in its order."""
        lines = dict(self._lines)
        if "memories" in lines:
            lines["memories"] = sorted(lines["memories"], key=_moment)
        if self._chunks:
            lines["documents"] = [passage_line(passage) for passage in passages(self._chunks)]
        return tuple(
            Block(
                name=name,
                lines=tuple(line.text for line in lines[name]),
                tokens=self._spent[name],
                by_line=tuple(line.records for line in lines[name]),
            )
            for name in self._ORDER
            if name in lines
        )

    def _pay(self, name: str, cost: int) -> str | None:
        frame = 0 if self._framed or name == "instructions" else self._frame
        if name not in self._spent:
            cost += self._count(f"{TITLES[name]}\n")
        spent = self._spent.get(name, 0) + cost
        if self._used + frame + cost > self._max_tokens:
            return _OVER_BUDGET
        if spent > getattr(self._shares, name) * self._max_tokens:
            return f"over the share of the token budget for {name}"
        self._used += frame + cost
        self._framed = self._framed or name != "instructions"
        self._spent[name] = spent
        return None

    def _passage_cost(self, passage: Sequence[Record]) -> int:
        return self._count("- \n") + sum(map(self._count_clean, passage_parts(passage)))


def _message(turn: Record) -> Mapping[str, Any] | None:
    message = (turn.data or NOTHING).get("message")
    return message if isinstance(message, Mapping) else None


def _moment(line: Line) -> tuple[Any, ...]:
    [record] = line.records
    return record.at, line.text, record.namespace, record.id
