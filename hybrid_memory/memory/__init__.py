"""Both paths: `engine.py` has what all scopes share, `scope.py` walks the stages, top to bottom."""

from hybrid_memory.memory.engine import HybridMemory
from hybrid_memory.memory.scope import Answer, Scope

__all__ = ["Answer", "HybridMemory", "Scope"]
