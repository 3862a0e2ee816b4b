"""The memory that LLM applications are missing.

`HybridMemory.open(path)` opens a memory, `memory.scope(user_id=...)` is a user's part of it.

```
                      memory/  (walks both paths, top to bottom)
write   text   -> records -> indexing -> one commit -> partition catches up
read    query  -> analyze -> gather -> score -> merge -> prompt

memory/        HybridMemory (engine.py), Scope with both paths (writing.py, reading.py), the
               profile, and what programs keep under keys (items.py, shelf.py)
records.py     write: arguments into records, each checked
redaction.py   write, if asked for: secrets out of texts
documents.py   write: documents into chunks
indexing.py    write: what a record is found by
analyze.py     read 1: a question's words, names, dates and intent
gather.py      read 2: candidates from session, memories and documents
outside/       read 2: candidates from outside retrievers
score.py       read 3: signals in [0, 1], one function each
merge.py       read 4: one ranking: weigh, boost by session, recency, repetitions, variety
weights.py     what that is set to, as one value
prompt/        read 5: gate, pack into the budget, put into the prompt; take it out of transcripts
partition/     the hot copy of a namespace: vectors, postings, columns
upkeep/        is all of it whole? and made whole      report.py    what it found, as values
spaces.py      what a vector space is known by
transfer/      export and import                       restoring.py an import and what is there
words.py       words of a text and BM25 over them     turns.py     chat messages
pruning.py     what has to go, of a policy or for a full namespace
headings.py    titles and headings of documents
filters.py     `where`                                 language.py  English, as one table
protocols.py   every seam      types.py  the values    errors.py    the tree of errors
limits.py      the door        testing/  fakes and conformance suites, for users too
backends/      one file per third-party library, the only place that imports it
evaluation/    recall, measured    cli/, terminal.py, demo/  the command `hybrid-memory`
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid_memory.errors import HybridMemoryError
    from hybrid_memory.memory import Answer, HybridMemory, Items, Scope, search_sources
    from hybrid_memory.outside import Source
    from hybrid_memory.prompt import Block, Context, Dropped, LeftOut
    from hybrid_memory.report import Problem, Report
    from hybrid_memory.types import (
        Budget,
        Completion,
        Erased,
        Found,
        Gate,
        Hit,
        Imported,
        Item,
        ItemChange,
        Kind,
        Pruned,
        PrunePolicy,
        Quota,
        Record,
        Role,
        Stats,
        Trace,
        Usage,
        Verified,
        Victim,
        Why,
    )
    from hybrid_memory.weights import Weights

_HOMES = {
    "Answer": "memory",
    "Block": "prompt",
    "Budget": "types",
    "Completion": "types",
    "Context": "prompt",
    "Dropped": "prompt",
    "Erased": "types",
    "Found": "types",
    "Gate": "types",
    "Hit": "types",
    "HybridMemory": "memory",
    "HybridMemoryError": "errors",
    "Imported": "types",
    "Item": "types",
    "ItemChange": "types",
    "Items": "memory",
    "Kind": "types",
    "LeftOut": "prompt",
    "Problem": "report",
    "PrunePolicy": "types",
    "Pruned": "types",
    "Quota": "types",
    "Record": "types",
    "Report": "report",
    "Role": "types",
    "Scope": "memory",
    "Source": "outside",
    "Stats": "types",
    "Trace": "types",
    "Usage": "types",
    "Verified": "types",
    "Victim": "types",
    "Weights": "weights",
    "Why": "types",
    "search_sources": "memory",
}

__all__ = [
    "Answer",
    "Block",
    "Budget",
    "Completion",
    "Context",
    "Dropped",
    "Erased",
    "Found",
    "Gate",
    "Hit",
    "HybridMemory",
    "HybridMemoryError",
    "Imported",
    "Item",
    "ItemChange",
    "Items",
    "Kind",
    "LeftOut",
    "Problem",
    "PrunePolicy",
    "Pruned",
    "Quota",
    "Record",
    "Report",
    "Role",
    "Scope",
    "Source",
    "Stats",
    "Trace",
    "Usage",
    "Verified",
    "Victim",
    "Weights",
    "Why",
    "search_sources",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Names load when they are asked for: `hybrid-memory --help` needs none of them.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
