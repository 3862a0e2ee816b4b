"""A durable add, against embedding the same text and one raw commit of the same bytes.

The raw side writes the very rows of a store into the same table and indexes, with the sqlite3
module and the same pragmas.

Run: python -m benchmarks.add [--json PATH]
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import WARM_UP, interleaved, options, ratio, report, sentences, summary
from hybrid_memory import HybridMemory
from hybrid_memory.backends.onnx import MiniLMEmbedder
from hybrid_memory.evaluation import CachedEmbedder

ROUNDS = 200
BATCH = 1_000
BATCHES = 8


class Raw:
    """The records of a store, by text, and an empty table of the same making to write them to."""

    def __init__(self, store: Path, to: Path) -> None:
        source = sqlite3.connect(store)
        made = "SELECT sql FROM sqlite_master WHERE tbl_name = 'records' AND sql IS NOT NULL"
        statements = [sql for (sql,) in source.execute(made)]
        rows = source.execute("SELECT text, * FROM records").fetchall()
        source.close()
        self.rows: dict[str, list[Any]] = {text: row for text, *row in rows}
        self.insert = f"INSERT INTO records VALUES ({', '.join('?' * (len(rows[0]) - 1))})"
        self.database = sqlite3.connect(to, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self.database.execute(f"PRAGMA {pragma}")
        for statement in statements:
            self.database.execute(statement)

    def commit(self, texts: list[str]) -> sqlite3.Cursor:
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany(self.insert, [self.rows[text] for text in texts])
        return self.database.execute("COMMIT")


def main() -> None:
    arguments = options(__doc__)
    model = MiniLMEmbedder()
    cached = CachedEmbedder(model)
    singles = ROUNDS + WARM_UP
    texts = sentences(2 * singles + (BATCHES + 1) * BATCH, seed=2)
    fresh, known = texts[:singles], texts[singles : 2 * singles]
    batches = [texts[i : i + BATCH] for i in range(2 * singles, len(texts), BATCH)]

    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        started = time.perf_counter()
        with HybridMemory.open(home / "rows", embedder=cached) as memory:
            memory.scope(user_id="ana").add_many(texts)
        embedded_rate = len(texts) / (time.perf_counter() - started)
        raw = Raw(next((home / "rows").glob("*.db")), home / "raw.db")

        with (
            HybridMemory.open(home / "plain", embedder=model) as plain,
            HybridMemory.open(home / "cached", embedder=cached) as warm,
        ):
            ana, ben = plain.scope(user_id="ana"), warm.scope(user_id="ben")
            times = interleaved(
                {
                    "add": lambda i: ana.add(fresh[i]),
                    "embed + commit": lambda i: (model.embed([fresh[i]]), raw.commit([fresh[i]])),
                    "add, embedded before": lambda i: ben.add(known[i]),
                    "commit": lambda i: raw.commit([known[i]]),
                },
                rounds=ROUNDS,
            )
            bulk_times = interleaved(
                {
                    "add_many, embedded before": lambda i: ben.add_many(batches[i]),
                    "executemany": lambda i: raw.commit(batches[i]),
                },
                rounds=BATCHES,
                warm_up=1,
            )
        raw.database.close()

    found = {name: summary(values) for name, values in times.items()}
    rate = {name: round(1000 * BATCH / summary(ms)["p50"]) for name, ms in bulk_times.items()}
    share = round(rate["add_many, embedded before"] / rate["executemany"], 3)
    report(
        {
            **{f"{name}, ms": values for name, values in found.items()},
            "add / embed + commit": ratio(found, "add", "embed + commit", goal=1.2),
            "without embedding": ratio(found, "add, embedded before", "commit", goal=1.3),
            f"rows/s in batches of {BATCH}": rate | {"add_many": round(embedded_rate)},
            "add_many / executemany, rows/s": {"p50": share, "goal": 0.5},
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
