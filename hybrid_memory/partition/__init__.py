"""The hot copy of a namespace: vectors, postings and columns in RAM, caught up before each read.

A partition is a cache of the record store. It has two shelves, one for what a user's life is made
of (messages, facts, events) and one for documents, whose lengths and words would distort the
statistics of the first. Records without a vector, such as instructions, are on neither.

```
view.py       what a reader gets: rows that nobody changes any more, and candidates among them
shelf.py      the growing side of it      partition.py   both shelves, caught up with the store
filling.py    the document store, too     cache.py       the partitions in RAM, within a bound
```
"""

from hybrid_memory.partition.cache import PartitionCache
from hybrid_memory.partition.filling import collection_of, fill
from hybrid_memory.partition.partition import Partition
from hybrid_memory.partition.shelf import are_units, sound, view_of
from hybrid_memory.partition.view import NAMED, Pool, Rows, View

__all__ = [
    "NAMED",
    "Partition",
    "PartitionCache",
    "Pool",
    "Rows",
    "View",
    "are_units",
    "collection_of",
    "fill",
    "sound",
    "view_of",
]
