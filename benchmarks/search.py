"""A warm search of 5,000 memories, against embedding the question and one numpy product.

Run: python -m benchmarks.search [--json PATH]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.common import interleaved, options, questions, ratio, report, sentences, summary
from hybrid_memory.backends.onnx import MiniLMEmbedder
from hybrid_memory.evaluation import temporary_memory
from hybrid_memory.protocols import Embedder, Vector, Vectors

MEMORIES = 5_000
SMALL = 100
ROUNDS = 300
K = 10


class KnownQuestions:
    """An embedder that has `known` questions at hand and counts those it had to embed."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self.known: dict[str, Vector] = {}
        self.embedded = 0
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed(texts)

    def embed_query(self, text: str) -> Vector:
        if text in self.known:
            return self.known[text]
        self.embedded += 1
        return self._embedder.embed_query(text)


def top_k(vectors: Vectors, vector: Vector) -> list[int]:
    """Return the rows of the K greatest products, best first."""
    # `vectors @ vector` is as fast on an idle machine; beside a busy neighbour its threads wait
    # for one another, which took 10 ms and would flatter the search.
    scores = np.vecdot(vectors, vector)
    best = np.argpartition(scores, -K)[-K:]
    rows: list[int] = best[np.argsort(-scores[best])].tolist()
    return rows


def main() -> None:
    arguments = options(__doc__)
    model = MiniLMEmbedder()
    embedder = KnownQuestions(model)
    asked = questions(ROUNDS, seed=1)
    vectors = model.embed(sentences(MEMORIES, seed=0))
    asked_vectors = {question: model.embed_query(question) for question in asked}

    with temporary_memory(embedder) as memory:
        large = memory.scope(namespace=("large",))
        large.add_many(sentences(MEMORIES, seed=0))
        small = memory.scope(namespace=("small",))
        small.add_many(sentences(SMALL, seed=0))

        times = interleaved(
            {
                "search": lambda i: large.search(asked[i], k=K),
                "embed + product": lambda i: top_k(vectors, model.embed_query(asked[i])),
                "embed": lambda i: model.embed_query(asked[i]),
            },
            rounds=ROUNDS,
        )
        embedder.known, embedder.embedded = asked_vectors, 0
        times |= interleaved(
            {
                "search, embedded before": lambda i: large.search(asked[i], k=K),
                "product": lambda i: top_k(vectors, asked_vectors[asked[i]]),
                "search of 100, embedded before": lambda i: small.search(asked[i], k=K),
            },
            rounds=ROUNDS,
        )
        if embedder.embedded:
            raise SystemExit("a question was embedded where the search alone was to be timed")

    found = {name: summary(values) for name, values in times.items()}
    report(
        {
            "memories": MEMORIES,
            **{f"{name}, ms": values for name, values in found.items()},
            "search / embed + product": ratio(found, "search", "embed + product", goal=1.25),
            "without embedding": ratio(found, "search, embedded before", "product", goal=2.5),
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
