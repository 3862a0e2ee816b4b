"""Upkeep: is what is stored whole, and is what is derived of it right? And if not, make it so."""

from hybrid_memory.upkeep.checking import check, look_over
from hybrid_memory.upkeep.repairing import repair
from hybrid_memory.upkeep.report import Problem, Report

__all__ = ["Problem", "Report", "check", "look_over", "repair"]
