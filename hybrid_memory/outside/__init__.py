"""Read path, stage 2 as well: candidates from outside retrievers, each asked in its own time."""

from hybrid_memory.outside.asking import MAX_AT_ONCE, Outcome, Pending, ask, start
from hybrid_memory.outside.scaling import Candidates, candidates, scaled, told_apart
from hybrid_memory.outside.source import MERGED, SCORED, Source, checked

__all__ = [
    "MAX_AT_ONCE",
    "MERGED",
    "SCORED",
    "Candidates",
    "Outcome",
    "Pending",
    "Source",
    "ask",
    "candidates",
    "checked",
    "scaled",
    "start",
    "told_apart",
]
