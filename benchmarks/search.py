"""A warm search, against embedding the question and one numpy product; what a second look adds.

Run: python -m benchmarks.search [--json PATH]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.common import interleaved, options, questions, ratio, report, sentences, summary
from hybrid_memory import Scope
from hybrid_memory.backends.onnx import MaxSim, MiniLMEmbedder
from hybrid_memory.evaluation import temporary_memory
from hybrid_memory.protocols import Embedder, Vector, Vectors

MEMORIES = 5_000  # where a search is held against one product
SMALL, LARGE = 700, 10_000
GOALS = {100: 0.4, SMALL: 0.5, LARGE: 1.5}  # ms of CPU without embedding, by number of memories
ROUNDS = 300
K = 10


class KnownTexts:
    """An embedder that has `known` texts at hand and counts the questions it had to embed."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self.known: dict[str, Vector] = {}
        self.embedded = 0
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in texts if text not in self.known]
        self.known.update(zip(new, self._embedder.embed(new), strict=True))
        return np.array([self.known[text] for text in texts])

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


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return by how much one summary is above the other."""
    return {name: round(one[name] - other[name], 4) for name in one}


def main() -> None:
    arguments = options(__doc__)
    model = MiniLMEmbedder()
    embedder = KnownTexts(model)
    told = sentences(LARGE, seed=0)
    # Of 17 to 20 words.
    asked = [f"Tell me again: {question}" for question in questions(ROUNDS, seed=1)]
    vectors = embedder.embed(told)[:MEMORIES]
    asked_vectors = {question: model.embed_query(question) for question in asked}
    second_look = MaxSim(model)
    second_look.scores(asked[0], told[:SMALL])  # so that it has seen the texts

    with (
        temporary_memory(embedder) as memory,
        temporary_memory(embedder, rerank=second_look) as looking_twice,
    ):
        scopes = {size: memory.scope(namespace=(str(size),)) for size in (*GOALS, MEMORIES)}
        for size, scope in scopes.items():
            scope.add_many(told[:size])
        twice = looking_twice.scope(namespace=("twice",))
        twice.add_many(told[:SMALL])

        def searching(scope: Scope) -> Callable[[int], object]:
            return lambda i: scope.search(asked[i], k=K)

        def embed(i: int) -> Vector:
            return model.embed_query(asked[i])

        times = interleaved(
            {
                "search": searching(scopes[MEMORIES]),
                "embed + product": lambda i: top_k(vectors, embed(i)),
                "embed": embed,
            },
            rounds=ROUNDS,
        )
        times |= interleaved(
            {
                "embed, beside 700": embed,
                "search of 700": searching(scopes[SMALL]),
                "search of 700, two looks": searching(twice),
            },
            rounds=ROUNDS,
        )
        embedder.known.update(asked_vectors)
        embedder.embedded = 0
        times |= interleaved(
            {
                "product": lambda i: top_k(vectors, asked_vectors[asked[i]]),
                "search, embedded before": searching(scopes[MEMORIES]),
            },
            rounds=ROUNDS,
        )
        for size in GOALS:  # each by itself: the vectors of the largest fill the caches
            name = f"search of {size}, embedded before"
            times |= interleaved({name: searching(scopes[size])}, rounds=ROUNDS)
        if embedder.embedded:
            raise SystemExit("a question was embedded where the search alone was to be timed")

    found = {name: summary(values) for name, values in times.items()}
    embedding, one_look, two_looks = (
        found[name] for name in ("embed, beside 700", "search of 700", "search of 700, two looks")
    )
    report(
        {
            "memories": MEMORIES,
            **{f"{name}, ms": values for name, values in found.items()},
            "search / embed + product": ratio(found, "search", "embed + product", goal=1.25),
            "without embedding": ratio(found, "search, embedded before", "product", goal=2.5),
            **{f"goal of {size}, ms of CPU": goal for size, goal in GOALS.items()},
            "search of 700 behind embedding, ms": difference(one_look, embedding),
            "second look of 700, ms": difference(two_looks, one_look) | {"goal": 3},
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
