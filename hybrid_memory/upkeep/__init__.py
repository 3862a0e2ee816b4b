"""Upkeep: is what is stored whole, and is what is derived of it right? And if not, make it so."""

from hybrid_memory.report import Problem, Report
from hybrid_memory.upkeep.beside import Held
from hybrid_memory.upkeep.checking import check, look_over
from hybrid_memory.upkeep.erasing import count, erase, purge
from hybrid_memory.upkeep.reembedding import BATCH, reembed
from hybrid_memory.upkeep.repairing import repair
from hybrid_memory.upkeep.scanning import OUTSIDE_OF_SCAN, verify_erased

__all__ = [
    "BATCH",
    "OUTSIDE_OF_SCAN",
    "Held",
    "Problem",
    "Report",
    "check",
    "count",
    "erase",
    "look_over",
    "purge",
    "reembed",
    "repair",
    "verify_erased",
]
