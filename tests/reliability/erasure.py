"""Erased is erased: no byte of a secret in any file, while another process has the store open.

300 secrets live through adds, updates, deletes, a profile, facts, documents whose vectors lie in
Chroma, and backups. A second process searches all the while. Then the files are scanned by
`byte_scan`, and not by the library's own `verify_erased`.
"""

from __future__ import annotations

import random
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hybrid_memory import HybridMemory
from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.testing import HashEmbedder, LineSplitter
from tests.reliability import byte_scan
from tests.reliability.outcome import Outcome

SECRETS = 300
DIM = 384
_LETTERS = string.ascii_letters + ' "\\\n\u00e9\u8336'
_SIZES = (20, 60, 200, 1500, 4000, 12000)  # characters: from a part of a page to several pages


class RandomEmbedder(HashEmbedder):
    """Vectors of the usual size, one of its own for each text; `seen` has all it was given."""

    def __init__(self) -> None:
        super().__init__(DIM)
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        self.seen += texts
        rows = [np.random.default_rng(list(text.encode())).standard_normal(DIM) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, DIM)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def opened(store: Path, *, chroma: bool, embedder: RandomEmbedder | None = None) -> HybridMemory:
    """Open the store under test. Chroma's directory belongs to one process."""
    return HybridMemory.open(
        store,
        embedder=embedder or RandomEmbedder(),
        splitter=LineSplitter(),
        documents=ChromaDocumentStore(store / "chroma") if chroma else None,
        durability="normal",
    )


def secrets(count: int, *, seed: int) -> list[str]:
    """Return texts of 20 to 12,000 characters, some of which JSON escapes."""
    source = random.Random(seed)
    return [
        "s" + "".join(source.choices(_LETTERS, k=_SIZES[i % len(_SIZES)])) + "e"
        for i in range(count)
    ]


def run(scale: float = 1.0) -> Outcome:
    """Erase secrets in two ways, by what was deleted and by user, and count those left in files."""
    started = time.perf_counter()
    count = max(30, round(SECRETS * scale))
    trials = failures = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for seed in range(max(1, round(scale))):
            tried, left = _life(home / str(seed), secrets(min(count, SECRETS), seed=seed))
            trials, failures = trials + tried, failures + left
    return Outcome(
        "secrets left in the files after purge, erase and backup",
        trials,
        failures,
        time.perf_counter() - started,
        {"secrets": count, "vectors": count},
    )


def _life(home: Path, texts: list[str]) -> tuple[int, int]:
    """Return how many looks there were for a secret or a promise, and how many went wrong."""
    store = home / "memory"
    embedder = RandomEmbedder()
    count = len(texts)
    looks: list[set[int]] = []
    broken = 0
    with opened(store, chroma=True, embedder=embedder) as memory:
        memory.scope(user_id="bob").add("The canteen serves lentils.", kind="document")
        deleted = _written(memory, texts)
        needles = [byte_scan.of_text(text) for text in texts]
        derived = [byte_scan.of_text(word) for word in DERIVED]
        needles += [_vectors_made_of(text, embedder) for text in texts]
        kept = memory.scope(user_id="ana-canary-6151")
        with _reader(store):
            before = byte_scan.found(needles, store)
            # A scanner that sees nothing proves nothing: what is stored now has to be found.
            held = {number for number in range(count) if number not in deleted}
            broken += len(held - before) + len({number + count for number in held} - before)
            broken += len(derived) - len(byte_scan.found(derived, store))
            memory.backup(home / "backup of then")

            purged = memory.purge()
            broken += not purged.is_complete
            gone = deleted | {number + count for number in deleted}
            looks.append(byte_scan.found(needles, store) & gone)

            erased = kept.erase()
            broken += not erased.is_complete
            broken += not any("backups" in sentence for sentence in erased.outside)
            looks.append(byte_scan.found(needles, store))
            memory.backup(home / "backup of now")
            looks.append(byte_scan.found(needles, home / "backup of now"))
            broken += not byte_scan.found(needles, home / "backup of then")
        broken += memory.scope(user_id="bob").stats().total != 1
    looks.append(byte_scan.found(needles, store))
    looks.append(byte_scan.found(derived, store))
    trials = 2 * len(deleted) + 3 * len(needles) + len(derived)
    return trials, broken + sum(map(len, looks))


def _vectors_made_of(text: str, embedder: RandomEmbedder) -> set[bytes]:
    """Return the pieces of the vectors of all texts with this one in it, as with its speaker."""
    told = [whole for whole in dict.fromkeys(embedder.seen) if text in whole]
    return set().union(*(byte_scan.of_vector(vector) for vector in embedder.embed(told)))


# Names and values that are stored beside a text, or made of it.
DERIVED = (
    "ana-canary-6151",
    "session-canary-6151",
    "id-canary-",
    "speaker-canary",
    "metadata-canary",
    "profile-canary",
    "slot-canary",
    "heading-canary",
)


def _written(memory: HybridMemory, texts: list[str]) -> set[int]:
    """Store all texts at some time; return the numbers of those that are deleted or replaced."""
    ana = memory.scope(user_id="ana-canary-6151", session_id="session-canary-6151")
    third = len(texts) // 3
    turns = texts[:third]
    ana.add_many(
        {
            "text": text,
            "id": f"id-canary-{number}",
            "speaker": "speaker-canary",
            "metadata": {"city": f"metadata-canary {number}"},
        }
        for number, text in enumerate(turns)
    )
    ana.profile["city"] = "profile-canary"
    ana.add_fact({"intent": "slot-canary", "likes": ["profile-canary"]})
    ana.add_documents(["# heading-canary\n\nThe chapter."], source="menu.md")
    for number, text in enumerate(texts[third : 2 * third]):
        ana.update(f"id-canary-{number}", text=text)
    ana.add_many(
        {"text": text, "kind": "document", "source": "menu.md", "id": f"chunk-{number}"}
        for number, text in enumerate(texts[2 * third :])
    )
    assert ana.search("the chapter")  # everything is in RAM, and the documents in Chroma
    deleted = set(range(third))  # replaced by the updates
    for number in range(0, third, 2):
        ana.delete(f"id-canary-{number}")
        deleted.add(third + number)
    for number in range(0, len(texts) - 2 * third, 3):
        ana.delete(f"chunk-{number}")
        deleted.add(2 * third + number)
    return deleted


_READER = """
import sys, threading
from pathlib import Path
from tests.reliability.erasure import opened
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
with opened(Path(sys.argv[1]), chroma=False) as memory:
    ana = memory.scope(user_id="ana-canary-6151")
    ana.search("the chapter")
    print("reading", flush=True)
    while not done.wait(0.02):
        ana.search("the chapter")
        ana.stats()
"""


@contextmanager
def _reader(store: Path) -> Iterator[None]:
    """Let a second process search the store, and be sure that it did not fail."""
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "reading\n"
        yield
        process.stdin.close()
        assert process.wait() == 0
