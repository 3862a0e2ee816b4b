"""From one embedder to another: refused by mistake, moved on purpose, while work goes on."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hybrid_memory import HybridMemory
from hybrid_memory.errors import EmbedderMismatchError
from hybrid_memory.protocols import Space
from hybrid_memory.spaces import PROBES, is_same, space_of
from hybrid_memory.testing import HashEmbedder, LineSplitter, MemoryDocumentStore


class Revised(HashEmbedder):
    """The same name and dimension, and other vectors: as another revision of a model would give."""

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.roll(super().embed(texts), 7, axis=1)


class Noted(HashEmbedder):
    """Knows what it encoded, the probes aside; `then` is called before each batch."""

    def __init__(self, dim: int = 48, *, name: str = "new") -> None:
        super().__init__(dim, name=name)
        self.texts: list[str] = []
        self.then = lambda: None

    def embed(self, texts: list[str]) -> np.ndarray:
        if tuple(texts) != PROBES:
            self.texts += texts
            self.then()
        return super().embed(texts)


def opened(path: Path, embedder: HashEmbedder | None = None, **parts: object) -> HybridMemory:
    return HybridMemory.open(
        path / "memory",
        embedder=embedder or HashEmbedder(),
        splitter=LineSplitter(),
        durability="normal",
        **parts,
    )


def texts(count: int) -> list[str]:
    return [f"Turn {number} is about tea of sort {number % 7}." for number in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many([{"text": text, "id": f"t{i}"} for i, text in enumerate(texts(20))])
        ana.add_instruction("Be brief.")
        memory.scope(user_id="bob").add("The canteen serves lentils.", kind="document", source="m")
    return tmp_path


@pytest.fixture
def memory(path: Path) -> Iterator[HybridMemory]:
    with opened(path) as memory:
        yield memory


def dims(path: Path) -> set[int]:
    """The dimensions of all vectors in force."""
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database:
        found = database.execute("SELECT length(vector) / 4 FROM records WHERE vector IS NOT NULL")
        return {dim for (dim,) in found}


# -- what is refused -----------------------------------------------------------------------


def test_another_name_or_dimension_is_refused_on_opening_with_the_way_out(path: Path) -> None:
    for other in (HashEmbedder(name="other"), HashEmbedder(32)):
        with pytest.raises(EmbedderMismatchError, match=r"memory\.reembed.*hybrid-memory reembed"):
            opened(path, other)


def test_other_vectors_under_the_same_name_are_refused_before_anything_is_encoded(
    path: Path,
) -> None:
    with opened(path, Revised()) as memory:
        ana = memory.scope(user_id="ana")
        for call in (
            lambda: ana.search("tea"),
            lambda: ana.add("coffee"),
            lambda: ana.update("t1", text="coffee"),
            lambda: ana.context("tea"),
            lambda: ana.why("tea", "t1"),
            lambda: memory.check(vectors=True),
        ):
            with pytest.raises(EmbedderMismatchError, match=r"other vectors.*hybrid-memory reemb"):
                call()
        # What needs no vector goes on.
        assert ana.get("t1").text == texts(2)[1]
        assert len(ana.instructions()) == 1
        assert ana.delete("t1")
        assert ana.stats().total == 20
    with opened(path) as memory:
        assert memory.check(vectors=True).is_clean


def test_the_check_costs_nothing_on_opening_and_eight_sentences_once(path: Path) -> None:
    calls: list[int] = []

    class Counted(HashEmbedder):
        def embed(self, texts: list[str]) -> np.ndarray:
            calls.append(len(texts))
            return super().embed(texts)

    with opened(path, Counted()) as memory:
        assert calls == []
        ana = memory.scope(user_id="ana")
        ana.search("tea")
        ana.search("rice")
        ana.add("coffee")

    assert sorted(calls) == [1, 1, 1, len(PROBES)]


def test_the_check_is_no_assertion(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_reembedding import *\n"
        "memory = opened(Path(sys.argv[1]), Revised())\n"
        "for call in (memory.scope(user_id='ana').search, memory.scope(user_id='ana').add):\n"
        "    try:\n        call('tea')\n"
        "    except EmbedderMismatchError:\n        print('refused')\n"
        "class Bad(HashEmbedder):\n"
        "    def embed_query(self, text): return np.full(64, np.nan, np.float32)\n"
        "memory = opened(Path(sys.argv[1]), Bad())\n"
        "try:\n    memory.scope(user_id='ana').search('tea')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = run(code, path, "-O")

    assert done.stdout.splitlines() == [
        "refused",
        "refused",
        "vector 0 of 1 holds a NaN or an infinity",
    ]


def test_rounding_is_the_same_space_and_another_direction_is_not() -> None:
    space = space_of(HashEmbedder())
    vectors = np.frombuffer(space.probes or b"", np.float32).reshape(len(PROBES), 64)
    rounded = vectors.astype(np.float16).astype(np.float32)
    one_moved = vectors.copy()
    one_moved[4] = np.roll(one_moved[4], 1)

    def like(array: np.ndarray) -> Space:
        return Space(space.name, space.dim, array.astype(np.float32).tobytes())

    assert is_same(space, like(rounded))
    assert not is_same(space, like(one_moved))
    assert not is_same(space, like(vectors[:4]))
    assert not is_same(space, Space(space.name, space.dim, None))


# -- the move ------------------------------------------------------------------------------


def test_a_memory_moves_with_all_its_namespaces_and_goes_on(
    memory: HybridMemory, path: Path
) -> None:
    new = Noted()
    seen: list[tuple[int, int]] = []

    assert memory.reembed(new, batch_size=6, on_progress=lambda *at: seen.append(at)) == 21

    ana = memory.scope(user_id="ana")
    assert seen == [(6, 21), (12, 21), (18, 21), (21, 21)]
    assert dims(path) == {48}
    assert ana.search("Turn 13", k=1)[0].record.id == "t13"
    assert ana.add("Turn 99 is about coffee.", id="t99")
    assert ana.search("coffee", k=1)[0].record.id == "t99"
    assert memory.scope(user_id="bob").search("lentils")
    assert memory.check(vectors=True).is_clean
    assert memory.reembed(new) == 0
    with opened(path, Noted()) as again:
        assert again.scope(user_id="ana").search("coffee", k=1)[0].record.id == "t99"
    with pytest.raises(EmbedderMismatchError):
        opened(path)


def test_a_store_of_an_embedder_that_is_gone_can_be_moved_on_opening(path: Path) -> None:
    with opened(path, Noted(), reembed=True) as memory:
        assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"
    with opened(path, Revised(48, name="new"), reembed=True) as memory:
        assert memory.check(vectors=True).is_clean


def test_reads_and_writes_meanwhile_are_in_the_old_space_and_nothing_is_lost(
    memory: HybridMemory, path: Path
) -> None:
    ana = memory.scope(user_id="ana")
    new = Noted()
    before = [(hit.record.id, hit.score) for hit in ana.search("Turn 13 of sort 6", k=5)]
    during: list[object] = []

    def work() -> None:
        during.append([(hit.record.id, hit.score) for hit in ana.search("Turn 13 of sort 6", k=5)])
        if len(during) == 2:
            ana.update("t2", text="I changed my mind about green tea.")
            ana.delete("t3")
            ana.add("Words said in the middle of it all.", id="middle")
            assert ana.search("words said in the middle", k=1)[0].record.id == "middle"
            assert dims(path) == {64}

    new.then = work
    memory.reembed(new, batch_size=5)
    new.then = lambda: None

    assert len(during) >= 4
    assert all(found == before for found in during[:2])
    assert dims(path) == {48}
    assert memory.check(vectors=True).is_clean
    assert ana.search("words said in the middle", k=1)[0].record.id == "middle"
    assert ana.search("changed my mind", k=1)[0].record.id == "t2"


def test_searches_in_other_threads_go_on_over_the_switch(memory: HybridMemory) -> None:
    stop, problems, found = threading.Event(), [], []

    def look(user: str) -> None:
        scope = memory.scope(user_id=user)
        while not stop.is_set():
            try:
                found.append(scope.search("Turn 13 of sort 6", k=1)[0].record.id)
                scope.add("Something else entirely.")
            except Exception as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=look, args=("ana",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for embedder in (Noted(), HashEmbedder(), Noted(), HashEmbedder()):
            memory.reembed(embedder, batch_size=50)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert problems == []
    assert set(found) == {"t13"}
    assert memory.check(vectors=True).is_clean


def test_a_write_goes_on_over_as_many_switches_as_there_are_meanwhile(
    memory: HybridMemory,
) -> None:
    embedders = [Noted(dim, name=f"of {dim}") for dim in (16, 24, 32, 48)]

    def move_on(embedder: Noted, to: Noted) -> None:
        if embedder.texts[-1] == "Something new.":
            embedder.then = lambda: None
            memory.reembed(to)

    memory.reembed(embedders[0])
    for embedder, to in pairwise(embedders):
        embedder.then = partial(move_on, embedder, to)
    new = memory.scope(user_id="ana").add("Something new.")

    assert memory.embedder is embedders[-1]
    assert memory.scope(user_id="ana").search("Something new.", k=1)[0].record == new


def test_the_way_back_encodes_only_what_was_written_since(memory: HybridMemory, path: Path) -> None:
    ana = memory.scope(user_id="ana")
    memory.reembed(Noted())
    ana.add("Words said after the move.", id="after")
    ana.update("t2", text="I changed my mind about green tea.")
    former = Noted(64, name="hashed-words")

    assert memory.reembed(former) == 2

    assert sorted(former.texts) == [
        "I changed my mind about green tea.",
        "Words said after the move.",
    ]
    assert dims(path) == {64}
    assert ana.search("said after the move", k=1)[0].record.id == "after"
    assert memory.check(vectors=True).is_clean
    with opened(path) as again:
        assert again.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"


def test_after_a_purge_there_is_no_way_back_but_to_encode_everything(memory: HybridMemory) -> None:
    memory.reembed(Noted())
    assert memory.purge().is_complete

    assert memory.reembed(HashEmbedder()) == 21


def test_the_document_store_is_filled_with_the_new_vectors(path: Path) -> None:
    documents = MemoryDocumentStore()
    with opened(path, documents=documents) as memory:
        bob = memory.scope(user_id="bob")
        assert bob.search("lentils", k=1)[0].signals["cosine"] > 0

        memory.reembed(Noted())

        found = bob.search("The canteen serves lentils.", k=1)[0]
        assert memory.check().is_clean
    with opened(path, Noted()) as without:
        again = without.scope(user_id="bob").search("The canteen serves lentils.", k=1)[0]
    assert found.record == again.record
    assert found.signals == pytest.approx(dict(again.signals))


# -- several processes ---------------------------------------------------------------------


def run(code: str, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )


_OTHER = """
import sys
from pathlib import Path
from hybrid_memory.errors import EmbedderMismatchError
from tests.test_reembedding import Noted, opened
with opened(Path(sys.argv[1])) as memory:
    ana = memory.scope(user_id="ana")
    for line in sys.stdin:
        try:
            if line.startswith("add"):
                ana.add(line.strip(), id=line.strip())
                print("added", flush=True)
            elif line.startswith("get"):
                print(ana.get("t1").text, flush=True)
            else:
                print(*[hit.record.id for hit in ana.search(line, k=1)], flush=True)
        except EmbedderMismatchError as error:
            print(error, flush=True)
"""


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])},
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def told(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin
    assert process.stdout
    print(line, file=process.stdin, flush=True)
    return process.stdout.readline().strip()


def test_another_process_works_on_until_the_switch_and_is_refused_after_it(
    memory: HybridMemory, path: Path, other: subprocess.Popen[str]
) -> None:
    new = Noted()
    during: list[str] = []

    def ask() -> None:
        if len(during) < 4:  # the last batch is encoded within the switch, where writers wait
            during.append(told(other, f"add something {len(during)}"))
            during.append(told(other, "Turn 13"))

    assert told(other, "Turn 13") == "t13"
    new.then = ask
    memory.reembed(new, batch_size=10)

    assert during == ["added", "t13", "added", "t13"]
    assert dims(path) == {48}
    total = memory.scope(user_id="ana").stats().total
    for line in ("Turn 13", "add one more", "Turn 13"):
        answer = told(other, line)
        assert "reembed" in answer
        assert "new" in answer
    assert told(other, "get") == texts(2)[1]
    assert memory.scope(user_id="ana").stats().total == total
    assert memory.check(vectors=True).is_clean

    memory.reembed(HashEmbedder())

    assert told(other, "Turn 13") == "t13"
    assert told(other, "add one more") == "added"


_MOVE = """
import sys
from pathlib import Path
from tests.test_reembedding import Noted, opened
with opened(Path(sys.argv[1])) as memory:
    new = Noted()
    new.then = lambda: print(len(new.texts), flush=True) or sys.stdin.readline()
    memory.reembed(new, batch_size=2)
"""


def test_a_move_that_is_killed_goes_on_where_it_stopped(path: Path) -> None:
    moved = 0
    for batches in (3, 4):
        with subprocess.Popen(
            [sys.executable, "-c", _MOVE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])},
        ) as process:
            assert process.stdin
            assert process.stdout
            for _ in range(batches):
                assert process.stdout.readline()
                print(file=process.stdin, flush=True)
            assert process.stdout.readline()  # the batch before the kill is committed
            process.send_signal(signal.SIGKILL)
            moved += batches * 2
        assert dims(path) == {64}
        with opened(path) as memory:
            assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"
            memory.scope(user_id="ana").add("Between two kills.")

    new = Noted()
    with opened(path) as memory:
        assert memory.reembed(new) == 21 + 2 - moved
        assert memory.check(vectors=True).is_clean
    assert dims(path) == {48}


# -- stores of before ----------------------------------------------------------------------


def test_a_space_without_probes_gets_them_with_the_first_text_that_is_encoded(path: Path) -> None:
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database, database:
        database.execute("UPDATE generations SET probes = NULL")

    with opened(path) as memory:
        assert memory._store.space() == Space("hashed-words", 64, None, 1)
        assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"
        assert is_same(memory._store.space() or Space("", 0), space_of(HashEmbedder()))


@pytest.mark.parametrize("first", ["search", "add"])
def test_a_space_without_probes_is_not_taken_over_by_an_embedder_that_has_only_its_name(
    path: Path, first: str
) -> None:
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database, database:
        database.execute("UPDATE generations SET probes = NULL")

    with opened(path, Revised()) as memory:
        with pytest.raises(EmbedderMismatchError, match="gives other vectors"):
            getattr(memory.scope(user_id="ana"), first)("Turn 13")
        assert memory._store.space() == Space("hashed-words", 64, None, 1)
    with opened(path) as memory:
        assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"


def test_damaged_vectors_are_no_proof_against_an_embedder(path: Path) -> None:
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database, database:
        database.execute("UPDATE generations SET probes = NULL")
        database.execute(
            "UPDATE records SET vector = randomblob(256), vector_crc = NULL "
            "WHERE id IN ('t0', 't1', 't2')"
        )

    with opened(path) as memory:
        assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"


def test_damage_to_vectors_aside_is_found_and_mended(memory: HybridMemory, path: Path) -> None:
    memory.reembed(Noted())
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database, database:
        database.execute(
            "UPDATE aside SET vector = zeroblob(256) WHERE key = (SELECT min(key) FROM aside)"
        )
        database.execute("INSERT INTO aside VALUES (7, 1, zeroblob(256), NULL)")

    report = memory.check()

    assert [problem.kind for problem in report.problems] == ["database"]
    assert "2 vectors" in report.problems[0].detail
    assert memory.repair().is_clean
    assert memory.check().is_clean
    assert memory.reembed(HashEmbedder()) == 1
    assert memory.check(vectors=True).is_clean


def test_a_damaged_record_does_not_stop_a_move_and_is_put_away_after_it(
    memory: HybridMemory, path: Path
) -> None:
    with closing(sqlite3.connect(path / "memory" / "memory.db")) as database, database:
        database.execute("UPDATE records SET text = 'broken' WHERE id = 't5'")

    assert memory.reembed(Noted()) == 20

    assert dims(path) == {48}
    assert memory.scope(user_id="ana").search("Turn 13", k=1)[0].record.id == "t13"
    assert memory.repair().counts["record"] == 1
    assert memory.check(vectors=True).is_clean
