"""Both paths, top to bottom.

```
engine.py    HybridMemory: what all scopes share      scope.py     Scope: both paths in one
writing.py   text -> a commit                         reading.py   query -> hits -> a context
handle.py    what both paths stand on                 recall.py    analyze, gather, score, merge
items.py     what programs keep under keys            profile.py   fetched by key, never ranked
shelf.py     one namespace of it
```
"""

from hybrid_memory.memory.engine import HybridMemory
from hybrid_memory.memory.items import Items
from hybrid_memory.memory.recall import search_sources
from hybrid_memory.memory.scope import Answer, Scope

__all__ = ["Answer", "HybridMemory", "Items", "Scope", "search_sources"]
