"""Evaluation: what is put into a memory, and what is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hybrid_memory.types import NOTHING, Kind, Record, Role


@dataclass(frozen=True, slots=True)
class Turn:
    """One memory of a case, mostly a turn, in the words of `Scope.add`; `id` is unique in its case.

    `more` are further arguments of `Scope.add`, such as a `source` and `metadata`.
    """

    id: str
    text: str
    session_id: str | None
    at: datetime
    speaker: str | None = None
    role: Role = "user"
    kind: Kind = "message"
    more: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    def as_item(self) -> dict[str, Any]:
        """Return the turn as an item of `Scope.add_many`."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "more"}
        return {**self.more, **own}

    @property
    def is_searched(self) -> bool:
        """Whether a search can find it: not an instruction or a message of the system."""
        is_system_message = self.kind == "message" and self.role == "system"
        return self.kind != "instruction" and not is_system_message


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the ids of the turns that answer it: at least one, none twice.

    `grades` tells how good each of them is, where they are not all the same. `other` is the turn
    that must rank below the best of them, such as what was so before an update.
    """

    text: str
    evidence: tuple[str, ...]
    category: str
    grades: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A transcript, in order, and what is asked about it at `now`, by default after its last turn.

    `left_out` counts what the file has and the case has not, by reason; `sha256` is the file's.
    """

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    now: datetime
    left_out: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""


def line(said: Turn | Record) -> str:
    """Return the line that a turn costs in a prompt: `[08 May 2023] Speaker: text`."""
    return f"[{said.at:%d %b %Y}] {said.speaker or said.role}: {said.text}"
