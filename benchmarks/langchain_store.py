"""HybridStore beside LangGraph's own stores, of 10,000 items, and beside the core it stands on.

Run: python -m benchmarks.langchain_store [--json PATH]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from langchain_hybrid_memory import HybridStore
from langchain_hybrid_memory.store import SOURCE
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.memory import InMemoryStore

from benchmarks.common import interleaved, options, questions, report, sentences, summary
from benchmarks.langgraph_stores import sqlite_store
from hybrid_memory import HybridMemory, ItemChange, Items
from hybrid_memory.protocols import Vector, Vectors
from hybrid_memory.testing import HashEmbedder

ITEMS = 10_000
DIM = 384
BATCH = 500
ROUNDS = 40
OVERHEAD_MS = 0.3  # of a call, over that of the core
SPACE = ("users", "ana")


class KnownTexts(HashEmbedder):
    """An embedder that has all texts at hand: what is timed are the stores."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(DIM)
        self._known = dict(zip(texts, super().embed(texts), strict=True))
        self._lists = {text: vector.tolist() for text, vector in self._known.items()}

    def embed(self, texts: Sequence[str]) -> Vectors:
        if all(text in self._known for text in texts):
            return np.array([self._known[text] for text in texts])
        return super().embed(texts)

    def embed_query(self, text: str) -> Vector:
        vector: Vector = self.embed([text])[0]
        return vector

    def lists(self, texts: Sequence[str]) -> list[list[float]]:
        """Return vectors as the other stores take them."""
        return [self._lists[text] for text in texts]


def operations(store: BaseStore, told: Sequence[str], asked: Sequence[str]) -> dict[str, Any]:
    """Return the calls that are timed, by name; each takes the number of its round."""
    return {
        "get": lambda i: store.get(SPACE, str(i + 100)),
        "put": lambda i: store.put(SPACE, f"new {i}", {"text": told[i], "n": i}),
        "search": lambda i: store.search(SPACE, query=asked[i]),
        "search, filtered to 1 in 100": lambda i: store.search(
            SPACE, query=asked[i], filter={"n": i % 100}
        ),
        "list by a filter": lambda i: store.search(SPACE, filter={"n": i % 100}),
    }


def core(items: Items, told: Sequence[str], asked: Sequence[str]) -> dict[str, Any]:
    """Return what the adapter asks of the core in some of these."""
    return {
        "get": lambda i: items.get(SPACE, str(i + 100), refresh=True, with_expired=True),
        "put": lambda i: items.write(
            [ItemChange(SPACE, f"new {i}", {"text": told[i], "n": i}, [told[i]])]
        ),
        "search": lambda i: items.search(SPACE, query=asked[i], refresh=True, with_expired=True),
    }


def measured(
    sides: Mapping[str, Mapping[str, Callable[[int], object]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the summaries of all sides, by operation and side."""
    names = list(next(iter(sides.values())))
    found = {}
    for name in names:
        calls = {side: those[name] for side, those in sides.items()}
        found[name] = {
            side: summary(times) for side, times in interleaved(calls, rounds=ROUNDS).items()
        }
    return found


def main() -> None:
    arguments = options(__doc__)
    told = sentences(ITEMS, seed=0)
    asked = questions(ROUNDS + 10, seed=1)
    embedder = KnownTexts([*told, *asked])
    index: Any = {"dims": DIM, "embed": embedder.lists, "fields": ["text"]}
    fields: Any = {"fields": ["text"]}

    with (
        TemporaryDirectory() as directory,
        HybridMemory.open(Path(directory) / "memory", embedder=embedder) as memory,
        sqlite_store(str(Path(directory) / "store.db"), index=index) as sqlite,
    ):
        store = HybridStore(memory, index=fields)
        stores: dict[str, BaseStore] = {
            "HybridStore": store,
            "InMemoryStore": InMemoryStore(index=index),
            "SqliteStore": sqlite,
        }
        for each in stores.values():
            for start in range(0, ITEMS, BATCH):
                each.batch(
                    PutOp(SPACE, str(n), {"text": told[n], "n": n % 100})
                    for n in range(start, start + BATCH)
                )
        beside = measured({name: operations(each, told, asked) for name, each in stores.items()})
        ours = operations(store, told, asked)
        own = core(memory.items(source=SOURCE), told, asked)
        over = measured({"adapter": {name: ours[name] for name in own}, "core": own})

    figures: dict[str, Any] = {}
    for name, sides in beside.items():
        for side, found in sides.items():
            figures[f"{name}: {side}"] = found
        figures[f"{name}: ours, in theirs"] = {
            side: round(sides["HybridStore"]["cpu p50"] / found["cpu p50"], 3)
            for side, found in sides.items()
            if side != "HybridStore"
        }
    for name, sides in over.items():
        more = sides["adapter"]["cpu p50"] - sides["core"]["cpu p50"]
        figures[f"{name}: over the core, ms"] = {"cpu p50": round(more, 3), "goal": OVERHEAD_MS}
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
