"""The same seven attacks on this library and on the stacks of `rivals`, side by side.

Everything a stack does happens in processes of its own, so that it may crash. Figures are of bad
ends: what was lost, left behind, wrong without a word, or accepted and should not have been.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_memory.testing import HashEmbedder
from tests.reliability import byte_scan
from tests.reliability.rivals import Stack, stacks

DIM = 64
PATIENCE_S = 60
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.reliability.preloaded"])

Make = type[Stack]


@dataclass(frozen=True)
class Row:
    """An attack, and by stack how many of its trials ended badly; None where it does not apply."""

    attack: str
    trials: int
    bad: dict[str, int | None]


def compare(
    scale: float = 1.0,
    told: Callable[[str], None] | None = None,
    *,
    among: Mapping[str, Make] | None = None,
) -> list[Row]:
    """Attack stacks (all that are installed); `told` gets the name of each attack as it begins."""
    rows = []
    for attack, (function, trials) in _ATTACKS.items():
        if told is not None:
            told(attack)
        count = max(2, round(trials * scale))
        bad: dict[str, int | None] = {}
        for name, make in (among or stacks()).items():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
                count_of_it, bad[name] = function(make, Path(home), count)
        rows.append(Row(attack, count_of_it, bad))
    return rows


# -- processes -----------------------------------------------------------------------------------


def _child(end: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    logging.disable()  # of records that are damaged on purpose
    try:
        end.send((True, work(*arguments)))
    except BaseException as error:
        end.send((False, f"{type(error).__name__}: {error}"))


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own; raise RuntimeError if it dies."""
    mine, its = _processes.Pipe()
    process = _processes.Process(target=_child, args=(its, work, arguments))
    process.start()
    its.close()
    try:
        fine, value = mine.recv() if mine.poll(PATIENCE_S) else (False, "it hangs")
    except EOFError:
        fine, value = False, "it crashed"
    finally:
        process.kill()
        process.join()
    if not fine:
        raise RuntimeError(value)
    return value


def _texts(make: Make, path: Path) -> list[str]:
    stack = make(path, HashEmbedder(DIM))
    try:
        return stack.texts()
    finally:
        stack.close()


def _texts_or_none(make: Make, path: Path) -> set[str]:
    """Return what a new process finds; nothing if it cannot even load it."""
    try:
        return set(_apart(_texts, make, path))
    except RuntimeError:
        return set()


# -- kill -9 -------------------------------------------------------------------------------------


def _write(end: Connection, make: Make, path: Path, name: str, count: int) -> None:
    stack = make(path, HashEmbedder(DIM))
    end.send("ready")
    end.recv()
    for number in range(count):
        text = f"memory {number} of {name}: " + "tea and trains " * 10
        stack.add("ana", [text])
        end.send(text)
    stack.close()
    end.send("done")


def _writer(make: Make, path: Path, name: str, count: int) -> tuple[Any, Connection]:
    mine, its = _processes.Pipe()
    process = _processes.Process(target=_write, args=(its, make, path, name, count))
    process.start()
    its.close()
    assert mine.recv() == "ready"
    return process, mine


def _kill(make: Make, home: Path, count: int) -> tuple[int, int]:
    source = random.Random(7)
    bad = 0
    for number in range(count):
        path = home / str(number)
        process, end = _writer(make, path, f"life {number}", 10_000)
        end.send("go")
        told = [end.recv() for _ in range(source.randint(5, 25))]
        time.sleep(source.random() * 0.01)
        process.kill()
        process.join()
        while end.poll():  # acknowledged before it died
            try:
                told.append(end.recv())
            except EOFError:
                break
        bad += not set(told) <= _texts_or_none(make, path)
    return count, bad


def _two_writers(make: Make, home: Path, count: int) -> tuple[int, int]:
    told: list[str] = []
    _texts_or_none(make, home / "shared")  # it exists before both come
    both = [_writer(make, home / "shared", name, count // 2) for name in ("one", "two")]
    for _, end in both:
        end.send("go")
    for process, end in both:
        try:
            while (text := end.recv()) != "done":
                told.append(text)
        except EOFError:
            pass  # it died of the other
        process.join()
    lost = set(told) - _texts_or_none(make, home / "shared")
    return 2 * (count // 2), len(lost) + 2 * (count // 2) - len(told)


# -- users ---------------------------------------------------------------------------------------


def _short_answers(make: Make, path: Path, users: int) -> int:
    stack = make(path, HashEmbedder(DIM))
    words = [
        "tea",
        "train",
        "violin",
        "Lyon",
        "garden",
        "lease",
        "Rust",
        "coffee",
        "river",
        "bread",
    ]
    source = random.Random(3)

    def said(user: str, number: int) -> str:
        return f"{' '.join(source.choices(words, k=5))} {user} {number}"

    stack.add("big", [said("big", number) for number in range(3000)])
    for user in range(users):
        stack.add(f"user{user}", [said(f"user{user}", number) for number in range(10)])
    bad = 0
    for user in range(users):
        found = stack.search(f"user{user}", " ".join(source.choices(words, k=3)), 5)
        bad += len(found) < 5 or any(f"user{user} " not in text for text in found)
    stack.close()
    return bad


def _small_users(make: Make, home: Path, count: int) -> tuple[int, int]:
    return count, _apart(_short_answers, make, home / "users", count)


# -- deletion ------------------------------------------------------------------------------------


def _delete(make: Make, path: Path, texts: Sequence[str]) -> None:
    stack = make(path, HashEmbedder(DIM))
    stack.add("bob", ["Bob's memory stays."])
    stack.add("ana", texts)
    stack.close()
    stack = make(path, HashEmbedder(DIM))
    stack.erase("ana")
    stack.close()


def _left(make: Make, home: Path, count: int) -> tuple[int, int | None]:
    source = random.Random(5)
    texts = [f"secret {source.getrandbits(256):064x} of number {i}" for i in range(count)]
    try:
        _apart(_delete, make, home / "store", texts)
    except RuntimeError as error:
        if "no way to delete" in str(error):
            return count, None
        raise
    return count, len(byte_scan.found([byte_scan.of_text(text) for text in texts], home))


# -- damaged files -------------------------------------------------------------------------------


def _texts_to_keep() -> list[str]:
    source = random.Random(13)
    return [" ".join(f"{source.getrandbits(20):05x}" for _ in range(8)) for _ in range(40)]


def _fill(make: Make, path: Path) -> None:
    stack = make(path, HashEmbedder(DIM))
    stack.add("ana", _texts_to_keep())
    stack.close()


def _answers(make: Make, path: Path) -> tuple[list[str], list[list[str]], bool]:
    """Return all texts, the nearest to each of them, and whether the stack has noticed a fault."""
    stack = make(path, HashEmbedder(DIM))
    try:
        found = [stack.search("ana", text, 1) for text in _texts_to_keep()]
        return sorted(stack.texts()), found, stack.notices()
    finally:
        stack.close()


def _flips(make: Make, home: Path, count: int) -> tuple[int, int | None]:
    source = random.Random(11)
    _apart(_fill, make, home / "good")
    # Settled: a log that is copied into the file at opening is no damage.
    texts, found, _ = _apart(_answers, make, home / "good")
    if not texts:
        return count, None  # nothing was kept that could be damaged
    bad = 0
    for number in range(-1, count):
        path = home / str(number)
        shutil.copytree(home / "good", path)
        if number < 0:  # a copy that nothing was done to
            assert _apart(_answers, make, path) == (texts, found, False)
            continue
        files = [file for file in path.rglob("*") if file.is_file() and file.stat().st_size]
        file = source.choices(files, [one.stat().st_size for one in files])[0]
        content = bytearray(file.read_bytes())
        if number % 4 == 0:  # torn: the end is missing
            content = content[: source.randrange(len(content))]
        else:
            content[source.randrange(len(content))] ^= 1 << source.randrange(8)
        file.write_bytes(content)
        try:
            now = _apart(_answers, make, path)
        except RuntimeError as error:
            bad += str(error) in ("it crashed", "it hangs")
        else:
            bad += now[:2] != (texts, found) and not now[2]
        shutil.rmtree(path, ignore_errors=True)
    return count, bad


# -- vectors -------------------------------------------------------------------------------------


class _Bad(HashEmbedder):
    """An embedder that gives a vector that cannot be, for texts that say so."""

    def __init__(self, make: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(DIM)
        self._make = make

    def embed(self, texts: Sequence[str]) -> Any:
        rows = super().embed(texts)
        return np.stack([self._make(row) for row in rows]) if "bad" in texts[0] else rows


def _not_a_number(row: np.ndarray) -> np.ndarray:
    return row * np.float32("nan")


def _infinite(row: np.ndarray) -> np.ndarray:
    return row + np.float32("inf")


def _too_short(row: np.ndarray) -> np.ndarray:
    return row[:-1]


def _too_long(row: np.ndarray) -> np.ndarray:
    return np.append(row, np.float32(0))


def _accepts(make: Make, path: Path, spoil: Callable[[np.ndarray], np.ndarray]) -> bool:
    stack = make(path, _Bad(spoil))
    stack.add("ana", ["tea and trains"])
    stack.add("ana", ["a bad vector"])
    return True


_SPOILED = (_not_a_number, _infinite, _too_short, _too_long)


def _bad_vectors(make: Make, home: Path, _: int) -> tuple[int, int]:
    bad = 0
    for number, spoil in enumerate(_SPOILED):
        try:
            bad += _apart(_accepts, make, home / str(number), spoil)
        except RuntimeError as error:
            bad += str(error) in ("it crashed", "it hangs")
    return len(_SPOILED), bad


class _Other(HashEmbedder):
    """Another model of the same dimension: its axes are in another order."""

    def __init__(self) -> None:
        super().__init__(DIM, name="another-model")

    def embed(self, texts: Sequence[str]) -> Any:
        return super().embed(texts)[:, ::-1].copy()


def _searches(make: Make, path: Path, embedder: HashEmbedder) -> bool:
    stack = make(path, embedder)
    if not stack.texts():
        raise RuntimeError("nothing was kept")
    stack.search("ana", "tea and trains", 5)
    stack.add("ana", ["by another model"])
    return True


def _other_embedders(make: Make, home: Path, _: int) -> tuple[int, int | None]:
    bad = 0
    for number, embedder in enumerate([HashEmbedder(DIM // 2), _Other()]):
        path = home / str(number)
        _apart(_fill, make, path)
        try:
            bad += _apart(_searches, make, path, embedder)
        except RuntimeError as error:
            if "nothing was kept" in str(error):
                return 2, None
    return 2, bad


_ATTACKS: dict[str, tuple[Callable[[Make, Path, int], tuple[int, int | None]], int]] = {
    "killed while writing: kills that lose what was acknowledged": (_kill, 8),
    "two processes write: texts lost": (_two_writers, 60),
    "small user beside a large one: fewer hits than exist": (
        _small_users,
        30,
    ),
    "a user deleted: texts left in the files": (_left, 50),
    "flipped bit, cut file: silently wrong, or a crash": (_flips, 24),
    "NaN, infinity, other dimensions: accepted": (_bad_vectors, 4),
    "another embedder: used in silence": (_other_embedders, 2),
}
