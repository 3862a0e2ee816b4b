"""The memory that LLM applications are missing.

```
                          hybrid_memory/memory.py  (walks both paths, top to bottom)
   write   text   -> embed -> record (one commit) -> partition catches up
   read    query  -> analyze -> gather -> score -> merge -> prompt
```

`HybridMemory.open(path)` opens a memory, `memory.scope(user_id=...)` is a user's part of it.
"""

from hybrid_memory.errors import HybridMemoryError
from hybrid_memory.memory import Answer, HybridMemory, Scope
from hybrid_memory.merge import Weights
from hybrid_memory.prompt import Block, Context, Dropped
from hybrid_memory.types import Completion, Gate, Hit, Kind, Record, Role, Stats, Usage

__all__ = [
    "Answer",
    "Block",
    "Completion",
    "Context",
    "Dropped",
    "Gate",
    "Hit",
    "HybridMemory",
    "HybridMemoryError",
    "Kind",
    "Record",
    "Role",
    "Scope",
    "Stats",
    "Usage",
    "Weights",
]
__version__ = "0.1.0"
