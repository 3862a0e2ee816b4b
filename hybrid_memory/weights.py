"""What the merger is set to: one immutable value, which can be saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.limits import fraction

RecencyBy = Literal["age", "rank"]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts for, and how the ranking is made of them; in [0, 1] but for days.

    The weights matter little, the parts do: draws within 50 % of them rank about as well. They
    were found on chats between people and on chats with an assistant together, so that no signal
    costs more on one of them than it knows.
    """

    cosine: float = 0.60
    bm25: float = 0.50
    answer: float = 0.30  # so an answer has half of what its question is nearer
    speaker: float = 0.20
    date: float = 0.20
    time: float = 0.10
    number: float = 0.10
    role: float = 0.15
    # Between people only, taken off; "I moved to Lyon, can you suggest...?" tells an assistant the
    # fact.
    question: float = 0.10
    # Of the best turn of a record's session, between people; with an assistant, which speaks of the
    # same over and over; and none in what one user noted down alone, a day's notes being many.
    session: float = 0.50
    session_with_assistant: float = 0.25
    rerank: float = 0.50  # of the second stage, where there is one, beside:
    cosine_with_rerank: float = 0.30
    # Shares of the best score that the newest, or the oldest, of the first three gains, where the
    # query asks for what is so now, or was so before. Age cannot change who they are.
    newest: float = 1.0
    oldest: float = 0.5
    near_best: float = 0.20  # share of the best score from which a record is among the three
    # Best share of the words below which words and boosts fade out; documents are longer and share
    # more words by chance.
    gate: float = 0.30
    gate_documents: float = 0.60
    # Relevance that the best hit must have, or none enters a prompt (0.14: a cosine of 0.25 without
    # a word in common), and that each must have: 0.14 for each would cost 18 points of recall
    # within 1,000 tokens.
    abstain: float = 0.14
    threshold: float = 0.05
    min_share: float = 0.0  # share of the best score below which a record stays out of a prompt
    # Always on, for those who want it: shares of a record's own score that its age, or its
    # importance, can add at most. On questions about a whole history a decay costs recall.
    recency: float = 0.0
    recency_by: RecencyBy = "age"  # a half-life, or the place in time among the candidates
    recency_floor: float = 0.10  # what the oldest keep of it
    half_life_days: float = 30.0
    importance: float = 0.0

    def __post_init__(self) -> None:
        for name in _FRACTIONS:
            fraction(getattr(self, name), f"weight {name}")
        if self.recency_by not in get_args(RecencyBy):
            raise InvalidInputError(f"recency_by is 'age' or 'rank', not {self.recency_by!r}")
        days = self.half_life_days
        if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < 1e6:
            raise InvalidInputError(f"half_life_days must be above 0 and below 1e6: {days!r}")
        if self.cosine + self.bm25 == 0:
            raise InvalidInputError("the weights of cosine and bm25 are 0; give one of them some")

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> Weights:
        """Read an object of some or all weights; the others have their defaults.

        Raises:
            InvalidInputError: not an object, an unknown weight, or a value out of its range.
        """
        try:
            values = json.loads(source) if isinstance(source, str) else dict(source)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"weights are not a JSON object: {error}") from error
        if not isinstance(values, dict):
            raise InvalidInputError(f"weights must be an object, not {type(values).__name__}")
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                from difflib import get_close_matches

                near = get_close_matches(str(name), names, n=1, cutoff=0)
                raise InvalidInputError(f"there is no weight {name!r}; do you mean {near[0]!r}?")
        return cls(**values)

    @classmethod
    def load(cls, path: Path | str) -> Weights:
        """Read what `save` wrote.

        Raises:
            InvalidInputError: the file cannot be read, or as `from_json`.
        """
        try:
            return cls.from_json(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"cannot read weights from {path}: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write all weights as JSON, for `load`."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


_FRACTIONS = [
    field.name for field in fields(Weights) if field.name not in ("recency_by", "half_life_days")
]
