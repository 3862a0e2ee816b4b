"""Beside the read path: how much of the evidence a search finds, on files of several formats.

A file is loaded into cases, each gets a namespace of its own, and its questions are asked at the
end of its last session. Nothing but turns goes in, nothing but the question is asked.

```
cases.py      what is put in and asked      loading.py    files into cases
metrics.py    what a ranking is worth       running.py    cases through a memory, into a report
comparing.py  a report beside stock retrieval, what each signal is worth, what is missed
```
"""

from hybrid_memory.evaluation.cases import Case, Question, Turn, line
from hybrid_memory.evaluation.comparing import (
    BASELINES,
    HEADLINES,
    PRODUCT,
    Comparison,
    Difference,
    Miss,
    ablate,
    answerability,
    baselines,
    compare,
    misses,
)
from hybrid_memory.evaluation.loading import (
    CATEGORIES,
    documents_case,
    load_beir,
    load_locomo,
    load_longmemeval,
    load_pairs,
)
from hybrid_memory.evaluation.metrics import (
    METRICS,
    RANKS,
    RIGHT_FIRST,
    TOKEN_BUDGETS,
    auroc,
    bootstrap,
    ndcg_at,
    pack,
    recall_at,
    reciprocal_rank,
    right_first,
    score,
)
from hybrid_memory.evaluation.running import (
    CachedEmbedder,
    Report,
    Result,
    evaluate,
    temporary_memory,
)

__all__ = [
    "BASELINES",
    "CATEGORIES",
    "HEADLINES",
    "METRICS",
    "PRODUCT",
    "RANKS",
    "RIGHT_FIRST",
    "TOKEN_BUDGETS",
    "CachedEmbedder",
    "Case",
    "Comparison",
    "Difference",
    "Miss",
    "Question",
    "Report",
    "Result",
    "Turn",
    "ablate",
    "answerability",
    "auroc",
    "baselines",
    "bootstrap",
    "compare",
    "documents_case",
    "evaluate",
    "line",
    "load_beir",
    "load_locomo",
    "load_longmemeval",
    "load_pairs",
    "misses",
    "ndcg_at",
    "pack",
    "recall_at",
    "reciprocal_rank",
    "right_first",
    "score",
    "temporary_memory",
]
