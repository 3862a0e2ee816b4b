"""What a reliability program found: the same form for all, so that they make one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """`trials` of `what`, how many of them failed, and how long that took.

    `details` are further figures, by what they count.
    """

    what: str
    trials: int
    failures: int
    seconds: float
    details: Mapping[str, float | int | str] = field(default_factory=dict)
