"""Nothing left: what was erased, or deleted and purged, is in no byte of any file."""

import ctypes
import random
import sqlite3
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from hybrid_memory import HybridMemory, ItemChange, Scope
from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.cli import main
from hybrid_memory.errors import FilterError, InvalidInputError, VectorError
from hybrid_memory.testing import HashEmbedder, LineSplitter, WordOverlapReranker

DIM = 384


class RandomEmbedder(HashEmbedder):
    """Vectors of the size that is usual, one of its own for each text."""

    def __init__(self) -> None:
        super().__init__(DIM)

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).standard_normal(DIM) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, DIM)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> np.ndarray:
        return self.embed([text])[0]


def secrets(count: int, seed: int = 0) -> list[str]:
    """Texts of 20 to 12,000 characters, some of which JSON escapes."""
    source = random.Random(seed)
    letters = string.ascii_letters + ' "\\\n\u00e9\u8336'
    sizes = [20, 60, 200, 1500, 4000, 12000]
    return [
        "s" + "".join(source.choices(letters, k=sizes[i % len(sizes)])) + "e" for i in range(count)
    ]


def opened(path: Path, *, chroma: bool = True) -> HybridMemory:
    return HybridMemory.open(
        path / "memory",
        embedder=RandomEmbedder(),
        splitter=LineSplitter(),
        documents=ChromaDocumentStore(path / "memory" / "chroma") if chroma else None,
        durability="normal",
    )


def everywhere(path: Path) -> bytes:
    files = [part for part in sorted(path.rglob("*")) if part.is_file()]
    return b"\0".join(part.read_bytes() for part in files)


def left(path: Path, texts: list[str], vectors: np.ndarray) -> tuple[list[int], list[int]]:
    """Scan by brute force, for pieces from the middle of texts and vectors."""
    content = everywhere(path)
    seen = [i for i, text in enumerate(texts) if text.encode()[4:20] in content]
    return seen, [i for i, vector in enumerate(vectors) if vector[100:106].tobytes() in content]


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[HybridMemory]:
    with opened(tmp_path) as memory:
        yield memory


def lived(memory: HybridMemory, texts: list[str]) -> Scope:
    """A life of updates, deletes and repeated adds, in which all texts are stored at some time."""
    scope = memory.scope(user_id="ana-canary-6151", session_id="session-canary-6151")
    bob = memory.scope(user_id="bob")
    third = len(texts) // 3
    for number, text in enumerate(texts[:third]):
        scope.add(
            text,
            id=f"id-canary-{number}",
            speaker="speaker-canary",
            metadata={"city": f"metadata-canary {number}"},
        )
        bob.add(f"Bob says {number}, and it stays.")
    for number, text in enumerate(texts[third : 2 * third]):
        scope.update(f"id-canary-{number}", text=text)
    for number in range(0, third, 2):
        scope.delete(f"id-canary-{number}")
        scope.add(texts[number], id=f"id-canary-{number}")
    for number, text in enumerate(texts[2 * third :]):
        scope.add(text, kind="document", source="menu.md", id=f"chunk-{number}")
    scope.profile["city"] = "profile-canary"
    bob.add("The canteen serves lentils.", kind="document", source="menu.md")
    assert scope.search("tea")
    assert bob.search("tea")
    return scope


DERIVED = [
    "ana-canary-6151",
    "session-canary-6151",
    "id-canary-",
    "speaker-canary",
    "metadata-canary",
    "profile-canary",
]


def test_no_byte_of_an_erased_user_is_left_in_any_file(
    chroma: HybridMemory, tmp_path: Path
) -> None:
    texts = secrets(100)
    vectors = RandomEmbedder().embed(texts)
    scope = lived(chroma, texts)
    before = chroma.verify_erased(texts, vectors)
    assert len({trace.number for trace in before.found if trace.what == "text"}) > 30
    assert len({trace.number for trace in before.found if trace.what == "vector"}) > 30
    assert all(left(tmp_path, texts, vectors))

    erased = scope.erase()

    assert erased.is_complete, erased.unfinished
    assert erased.records == {"message": 33, "document": 34}
    assert (erased.profile_keys, erased.quarantined) == (1, 0)
    assert any("backups" in sentence for sentence in erased.outside)
    assert left(tmp_path, texts, vectors) == ([], [])
    assert not [word for word in DERIVED if word.encode() in everywhere(tmp_path)]
    after = chroma.verify_erased([*texts, *DERIVED], vectors)
    assert after.is_clean, after.found
    assert len(after.files) > 3
    assert after.bytes == sum(Path(file).stat().st_size for file in after.files)
    assert scope.search("tea") == []
    assert dict(scope.profile) == {}
    bob = chroma.scope(user_id="bob")
    assert bob.stats().total == 34
    assert bob.search("lentils", kinds="document")[0].record.text == "The canteen serves lentils."


def test_an_index_that_is_written_holds_nothing_of_what_was_freed_before(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("not the GNU C library")
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    size = 100 * (DIM * 4 + 140)  # of an index with room for a hundred
    freed = (b"what was freed " * size)[:size]
    all_there = threading.Barrier(32)

    def leave_remains() -> None:
        all_there.wait()  # so that each has memory of its own, which the threads of Chroma inherit
        for _ in range(2):  # the library keeps pieces of this size only after it has seen one
            pieces = [libc.malloc(size) for _ in range(8)]
            for piece in pieces:
                ctypes.memmove(piece, freed, size)
            for piece in pieces[::2]:  # beside those that are kept, so that they are kept too
                libc.free(piece)

    threads = [threading.Thread(target=leave_remains) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vectors = RandomEmbedder().embed(["Lentils.", "Rice."])

    with closing(ChromaDocumentStore(tmp_path)) as documents:
        for number in range(20):
            documents.apply(
                (f"user {number}",),
                keys=np.array([1, 2]),
                vectors=vectors,
                removed=np.empty(0, np.int64),
                position=1,
            )

    assert b"what was freed " not in everywhere(tmp_path)


def test_no_byte_of_what_was_deleted_or_updated_is_left_after_a_purge(
    chroma: HybridMemory, tmp_path: Path
) -> None:
    texts = secrets(99)
    scope = lived(chroma, texts)
    scope.delete("chunk-0")
    assert scope.forget(session_id="session-canary-6151", where={"kind": "document"}) == 32
    # Of the messages one in two was added again; of the others the second version stays.
    kept = {texts[number] for number in range(0, 33, 2)} | {
        texts[33 + number] for number in range(1, 33, 2)
    }
    gone = [text for text in texts if text not in kept]
    vectors = RandomEmbedder().embed(gone)

    purged = chroma.purge()

    assert purged.is_complete
    assert purged.bytes > 0
    assert left(tmp_path, gone, vectors) == ([], [])
    assert chroma.verify_erased(gone, vectors).is_clean
    held = chroma.verify_erased([*kept])
    assert {trace.number for trace in held.found} == set(range(len(kept)))
    assert scope.stats().total == 33
    assert chroma.scope(user_id="bob").search("lentils", kinds="document")


class OtherEmbedder(RandomEmbedder):
    """Another space, of the same size."""

    name = "other"

    def embed(self, texts: list[str]) -> np.ndarray:
        return super().embed([f"other {text}" for text in texts])


@pytest.mark.parametrize("is_moved", [True, False], ids=["after", "within"])
def test_no_vector_that_a_move_to_another_embedder_keeps_aside_outlives_its_record(
    tmp_path: Path, is_moved: bool
) -> None:
    texts = secrets(32)
    former, other = RandomEmbedder().embed(texts), OtherEmbedder().embed(texts)
    with opened(tmp_path, chroma=False) as memory:
        ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")
        ana.add_many([{"text": text, "id": str(i)} for i, text in enumerate(texts[:16])])
        bob.add_many([{"text": text, "id": str(i)} for i, text in enumerate(texts[16:])])
        killed = OtherEmbedder()
        if not is_moved:
            killed.embed = lambda batch: (
                OtherEmbedder().embed(batch) if batch != texts[24:] else 1 / 0
            )
            with pytest.raises(ZeroDivisionError):
                memory.reembed(killed, batch_size=8)
        else:
            memory.reembed(killed, batch_size=8)
        aside = former if is_moved else other
        assert {trace.number for trace in memory.verify_erased([], aside).found} >= set(range(24))

        for i in range(4):
            bob.update(str(i), text=f"Something else, of no matter to anyone: {i}.")
        bob.delete("4")
        assert bob.forget(where={"kind": "message"}) == 15
        assert ana.erase().is_complete

        assert memory.verify_erased(texts, former).is_clean
        assert memory.verify_erased([], other).is_clean


def test_a_purge_removes_the_vectors_of_the_former_embedder(tmp_path: Path) -> None:
    texts = secrets(12)
    with opened(tmp_path, chroma=False) as memory:
        memory.scope(user_id="ana").add_many(texts)
        memory.reembed(OtherEmbedder())
        former = RandomEmbedder().embed(texts)
        assert not memory.verify_erased([], former).is_clean

        assert memory.purge().is_complete

        assert memory.verify_erased([], former).is_clean
        assert len(memory.scope(user_id="ana").search("tea", k=20)) == 12


_READER = """
import sys
from pathlib import Path
from tests.test_erasure import opened
with opened(Path(sys.argv[1]), chroma=False) as memory:
    ana = memory.scope(user_id="ana")
    for line in sys.stdin:
        hits = ana.search("tea")
        print(len(hits), ana.stats().total, *sorted({h.record.id for h in hits}), flush=True)
"""


def test_another_process_reads_nothing_of_an_erased_user_and_then_what_is_new(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, chroma=False) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many([{"text": f"tea {i}", "id": f"old-{i}"} for i in range(5)])
        with subprocess.Popen(
            [sys.executable, "-c", _READER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader:
            assert reader.stdin
            assert reader.stdout

            def ask() -> str:
                print("?", file=reader.stdin, flush=True)
                return reader.stdout.readline().strip()

            assert ask() == "5 5 old-0 old-1 old-2 old-3 old-4"
            assert ana.erase().is_complete
            assert ask() == "0 0"
            ana.add_many([{"text": f"tea {i}", "id": f"old-{i}"} for i in range(2)])
            assert ask() == "2 2 old-0 old-1"
            ana.erase()
            # More than there were, before it reads again.
            ana.add_many([{"text": f"green tea {i}", "id": f"new-{i}"} for i in range(3)])
            assert ask() == "3 3 new-0 new-1 new-2"
            reader.stdin.close()


def test_a_reader_in_the_way_is_told_and_a_purge_finishes_the_work(tmp_path: Path) -> None:
    with opened(tmp_path, chroma=False) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("a secret of canary-9273")
        with closing(sqlite3.connect(tmp_path / "memory" / "memory.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM records").fetchone()

            erased = ana.erase(timeout_s=0.1)

            assert erased.total == 1
            assert not erased.is_complete
            assert "purge again" in erased.unfinished[0]
            assert ana.search("secret") == []
            found = memory.verify_erased(["canary-9273"]).found
            assert {Path(trace.file).name for trace in found} <= {"memory.db", "memory.db-wal"}
            assert found
        assert memory.purge().is_complete
        assert memory.verify_erased(["canary-9273"]).is_clean


def test_writers_during_an_erasure_come_before_or_after(tmp_path: Path) -> None:
    with opened(tmp_path, chroma=False) as memory, opened(tmp_path, chroma=False) as other:
        ana, writer = memory.scope(user_id="ana"), other.scope(user_id="ana")
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                writer.add_many(["tea one", "tea two"])

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(5):
                assert ana.erase().total % 2 == 0
                assert len(ana.search("tea")) % 2 == 0
        finally:
            done.set()
            thread.join()
        total = writer.stats().total
        assert ana.stats().total == total
        assert total % 2 == 0
        ana.erase()
        assert writer.search("tea") == []


def test_a_search_in_another_thread_puts_nothing_back_into_chroma(
    chroma: HybridMemory, tmp_path: Path
) -> None:
    ana = chroma.scope(user_id="ana")
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            ana.search("tea")

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for number in range(4):
            texts = [f"tea {number}.{i}" for i in range(20)]
            ana.add_many(
                [{"text": text, "kind": "document", "source": "menu.md"} for text in texts]
            )
            ana.erase()
            vectors = RandomEmbedder().embed(texts)
            assert chroma.verify_erased(vectors=vectors).is_clean
    finally:
        done.set()
        thread.join()


def test_a_chroma_with_collections_of_others_is_left_alone_and_told(tmp_path: Path) -> None:
    import chromadb

    client = chromadb.PersistentClient(tmp_path / "chroma")
    client.create_collection("mine", embedding_function=None).add(ids=["a"], embeddings=[[1.0]])
    client.close()
    store = ChromaDocumentStore(tmp_path / "chroma")

    [sentence] = store.purge()

    assert "directory of their own" in sentence
    store.close()
    client = chromadb.PersistentClient(tmp_path / "chroma")
    assert client.get_collection("mine", embedding_function=None).count() == 1
    client.close()


def test_forget_takes_a_bound_and_stays_in_its_namespace(memory: HybridMemory) -> None:
    ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")
    ana.add("Planted by a page.", source="tool", metadata={"page": 1})
    ana.add("Planted by another page.", source="tool", metadata={"page": 2})
    ana.add("I drink tea.")
    ana.add_instruction("Be brief.")
    bob.add("Bob's.", source="tool")

    for bounds in ({}, {"where": {}}):
        with pytest.raises(InvalidInputError, match="at least one"):
            ana.forget(**bounds)
    with pytest.raises(FilterError):
        ana.forget(where={"page": {"$lik": 1}})
    assert ana.forget(source="tool", where={"page": 2}) == 1
    assert ana.forget(source="tool") == 1
    assert ana.forget(where={"kind": "instruction"}) == 1
    assert [hit.record.text for hit in ana.search("planted tea")] == ["I drink tea."]
    assert bob.stats().total == 1


# -- stores beside -------------------------------------------------------------------------

SECRET = "The secret of canary-5518, which is told to nobody."
OTHERS = "What Bob keeps, of canary-7731, is his own and stays."


def kept_beside(memory: HybridMemory, *names: str) -> HybridMemory:
    """A memory beside, in the store beside of the first name, and so on."""
    for name in names:
        memory = memory.beside(name, embedder=OtherEmbedder())
    for namespace, text in (("ana", SECRET), ("ana", SECRET[::-1]), ("bob", OTHERS)):
        memory.scope(user_id=namespace).add(text)
    memory.items().write([ItemChange(("ana",), "k", {"content": SECRET})])
    return memory


def assert_erased(path: Path) -> None:
    vectors = OtherEmbedder().embed([SECRET, OTHERS])
    assert left(path, [SECRET, SECRET[::-1], OTHERS], vectors) == ([2], [1])


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_no_byte_of_an_erased_user_is_left_in_the_stores_beside(
    tmp_path: Path, is_open: bool
) -> None:
    with opened(tmp_path, chroma=False) as memory:
        kept_beside(memory, "other")
        kept_beside(memory, "other", "within")
        kept_beside(memory, "third")
        if is_open:
            erased = memory.scope(user_id="ana").erase()
    if not is_open:
        with opened(tmp_path, chroma=False) as memory:
            erased = memory.scope(user_id="ana").erase()

    assert erased.is_complete, erased.unfinished
    assert erased.records == {"message": 6, "fact": 3}
    places = {Path(file).parent for file in erased.files}
    store = tmp_path / "memory"
    beside = store / "beside"
    assert places == {store, beside / "other", beside / "other/beside/within", beside / "third"}
    assert_erased(tmp_path)


def test_a_memory_beside_holds_nothing_of_an_erased_user_in_ram(tmp_path: Path) -> None:
    with opened(tmp_path, chroma=False) as memory:
        beside = kept_beside(memory, "other")
        again = memory.beside("other", embedder=OtherEmbedder())
        for one in (beside, again):
            assert one.scope(user_id="ana").search("secret")
            assert one.items().get(("ana",), "k") is not None
            assert one.items().search(("ana",))
            assert one.scope(user_id="bob").search("his own")

        memory.scope(user_id="ana").erase()

        for one in (beside, again):
            assert one._cache.held() == [("bob",)]
            assert not [name for shelves in one._shelves.values() for name in shelves._held]
            assert one.scope(user_id="ana").search("secret") == one.items().search(("ana",)) == []
        hits = beside.scope(user_id="bob").search("his own")
        assert [hit.record.text for hit in hits] == [OTHERS]
        beside.scope(user_id="ana").add("New.")
        assert len(again.scope(user_id="ana").search("New.")) == 1


def test_a_purge_reaches_the_stores_beside(tmp_path: Path) -> None:
    with opened(tmp_path, chroma=False) as memory:
        ana = kept_beside(memory, "other").scope(user_id="ana")
        ana.forget(where={"kind": {"$in": ["message", "fact"]}})
        assert ana.stats().total == 0

        purged = memory.purge()

        assert purged.is_complete
        assert any("other" in file for file in purged.files)
    assert_erased(tmp_path)


_HOLDING = """
import sys
from pathlib import Path
from tests.test_erasure import OtherEmbedder, opened
with opened(Path(sys.argv[1]), chroma=False) as memory:
    beside = memory.beside("other", embedder=OtherEmbedder())
    for line in sys.stdin:
        print(len(beside.scope(user_id="ana").search("secret")), flush=True)
"""


def test_the_command_erases_beside_what_another_process_has_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path, chroma=False) as memory:
        kept_beside(memory, "other")
    store = str(tmp_path / "memory")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holding:
        assert holding.stdin
        assert holding.stdout
        print("?", file=holding.stdin, flush=True)
        assert int(holding.stdout.readline()) > 0

        assert main(["erase", "--user", "ana", "--store", store]) == 2
        assert "3 records" in capsys.readouterr().err
        assert main(["erase", "--user", "ana", "--yes", "--store", store]) == 0

        assert "erased 3 records" in capsys.readouterr().out
        assert_erased(tmp_path)
        print("?", file=holding.stdin, flush=True)
        assert int(holding.stdout.readline()) == 0
        holding.stdin.close()


def test_the_command_purges_the_stores_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path, chroma=False) as memory:
        kept_beside(memory, "other").scope(user_id="ana").forget(where={"kind": {"$ne": "event"}})

    assert main(["purge", "--json", "--store", str(tmp_path / "memory")]) == 0

    assert str(tmp_path / "memory/beside/other/memory.db") in capsys.readouterr().out
    assert_erased(tmp_path)


def test_a_store_beside_that_cannot_be_opened_is_told_and_the_others_are_erased(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, chroma=False) as memory:
        memory.scope(user_id="ana").add(SECRET)
        kept_beside(memory, "broken")
        kept_beside(memory, "whole")
    (tmp_path / "memory" / "beside" / "broken" / "memory.db").write_bytes(b"no database" * 999)

    with opened(tmp_path, chroma=False) as memory:
        erased = memory.scope(user_id="ana").erase()

    assert not erased.is_complete
    assert "'broken'" in erased.unfinished[0]
    assert erased.records == {"message": 3, "fact": 1}
    assert_erased(tmp_path)


def test_a_store_of_others_in_the_directory_is_not_touched(tmp_path: Path) -> None:
    with (
        opened(tmp_path, chroma=False) as memory,
        opened(tmp_path / "memory", chroma=False) as stranger,
    ):
        stranger.scope(user_id="ana").add("Another program's.")

        assert memory.scope(user_id="ana").erase().total == 0
        memory.purge()

        assert stranger.scope(user_id="ana").stats().total == 1


def test_what_keeps_texts_in_ram_is_asked_to_forget(tmp_path: Path) -> None:
    class Keeping(WordOverlapReranker):
        forgot = 0

        def forget(self) -> None:
            self.forgot += 1

    keeping = Keeping()
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(), rerank=keeping) as memory:
        memory.scope(user_id="ana").erase()
        memory.purge()

    assert keeping.forgot == 2


def test_a_scan_finds_a_text_in_pieces_and_in_json_and_a_vector_that_moved(
    memory: HybridMemory, tmp_path: Path
) -> None:
    [text] = secrets(6)[4:5]
    vector = RandomEmbedder().embed([text])[0]
    content = text.encode()
    folder = tmp_path / "memory"
    (folder / "a.bin").write_bytes(bytes(4 * 2**20 - 40) + content[100:163] + b"\0")
    (folder / "b.json").write_text(f'{{"text": "{secrets(1)[0]}\\u8336\\n"}}')
    (folder / "c.bin").write_bytes(b"xyz" + (vector * np.float32(1 + 2e-7))[40:60].tobytes())
    (folder / "d.txt").write_bytes(vector.tobytes().hex().encode())

    found = memory.verify_erased([text, "\u8336\n"], [vector]).found

    where = {(Path(trace.file).name, trace.what, trace.number) for trace in found}
    assert where == {
        ("a.bin", "text", 0),
        ("b.json", "text", 1),
        ("c.bin", "vector", 0),
        ("d.txt", "vector", 0),
    }
    [piece] = [trace for trace in found if trace.file.endswith("a.bin")]
    assert 4 * 2**20 - 40 <= piece.offset < 4 * 2**20 - 8
    assert (piece.length >= 32, piece.size) == (True, len(content))
    for texts, vectors in (("bare", ()), ([""], ()), ((), [[0.0, 0.0]]), ((), [[[1.0]]])):
        with pytest.raises((InvalidInputError, VectorError)):
            memory.verify_erased(texts, vectors)


def test_the_command_erases_when_told_so_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "memory")
    with HybridMemory.open(store, embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add("a secret of canary-4410")
        memory.scope(user_id="bob").add("Bob's.")

    assert main(["erase", "--user", "ana", "--store", store]) == 2
    assert "1 records" in capsys.readouterr().err
    assert main(["erase", "--user", "ana", "--yes", "--store", store]) == 0
    assert "erased 1 records" in capsys.readouterr().out
    assert main(["erase", "--yes", "--store", store]) == 2
    assert main(["purge", "--json", "--store", store]) == 0
    assert '"is_complete": true' in capsys.readouterr().out
    assert b"canary-4410" not in everywhere(tmp_path)
