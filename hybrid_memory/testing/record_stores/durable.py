"""The contract of RecordStore, as tests: what outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory.errors import ConflictError, StorePathError
from hybrid_memory.protocols import RecordStore, Space
from hybrid_memory.testing.record_stores.given import (
    ANA,
    BOB,
    CANARY,
    NOON,
    Damage,
    keys_of,
    make_draft,
    read,
    texts,
)
from hybrid_memory.testing.record_stores.suite import RecordStoreSuite
from hybrid_memory.types import KINDS


class DurableRecordStoreSuite(RecordStoreSuite):
    """For stores that outlive the process.

    Override `reopen`: each call opens the same store; and `open_copy`, which opens a backup.
    """

    @pytest.fixture
    def reopen(self) -> Callable[[], RecordStore]:
        """Return what opens the store under test, which is empty at first."""
        raise NotImplementedError("override the fixture reopen")

    @pytest.fixture
    def open_copy(self) -> Callable[[Path], RecordStore]:
        """Return what opens the store of a directory that `backup` wrote."""
        raise NotImplementedError("override the fixture open_copy")

    @pytest.fixture
    def store(self, reopen: Callable[[], RecordStore]) -> RecordStore:
        """Return an empty record store."""
        return reopen()

    def test_everything_is_there_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a", metadata={"n": 1}), make_draft("b"), make_draft("c")])
        store.update(ANA, make_draft("b", "I drink coffee."))
        store.delete(ANA, ["c"])
        store.insert(BOB, [make_draft("a", "Bob's.", namespace=BOB)])
        store.set_profile(ANA, {"city": "Lyon"})
        store.set_space(Space("words", 64))

        def everything(store: RecordStore) -> list[Any]:
            return [
                [store.get(n, ["a", "b", "c"]), read(store, n), store.profile(n), store.stats(n)]
                for n in (ANA, BOB)
            ] + [store.space()]

        before = everything(store)
        store.close()

        assert everything(reopen()) == before

    def test_upkeep_goes_on_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore], damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.set_rules(2)
        damage(ANA, id="a")
        store.quarantine(ANA, keys=keys_of(store, ANA), at=NOON)
        store.close()

        again = reopen()

        assert not again.was_interrupted
        assert (again.rules(), again.quarantined(), again.namespaces()) == (2, 1, {ANA: 1})
        assert again.integrity("full") == []

    def test_keys_are_not_used_twice_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        keys, position = keys_of(store, ANA), store.position(ANA)
        store.delete(ANA, ["a", "b"])
        store.close()

        again = reopen()
        again.insert(ANA, [make_draft("a")])

        assert min(keys_of(again, ANA)) > max(keys)
        assert again.position(ANA) > position

    def test_a_removal_is_caught_up_with_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        position, rows = read(store, ANA)
        store.delete(ANA, ["a"])
        store.close()

        again = reopen()

        assert read(again, ANA, position, rows) == read(again, ANA)
        assert len(read(again, ANA)[1]) == 1

    def test_two_that_are_open_see_each_other_at_once(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()
        store.insert(ANA, [make_draft("a")])
        assert texts(other.get(ANA, ["a"])) == ["I drink tea."]

        other.update(ANA, make_draft("a", "I drink coffee."), expected_version=1)
        with pytest.raises(ConflictError):
            store.update(ANA, make_draft("a", "Lost."), expected_version=1)
        with pytest.raises(ConflictError):
            store.insert(ANA, [make_draft("a")])
        other.insert(ANA, [make_draft("b")])
        store.set_space(Space("words", 64))

        assert store.position(ANA) == other.position(ANA)
        assert read(store, ANA) == read(other, ANA)
        assert other.set_space(Space("others", 3))[:2] == ("words", 64)
        other.close()
        assert len(store.get(ANA, ["a", "b"])) == 2

    def test_what_two_write_at_once_is_all_there(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        stores = [store, reopen()]

        def write(writer: int) -> None:
            for i in range(10):
                stores[writer % 2].insert(ANA, [make_draft(f"{writer}.{i}")])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))

        assert len(read(store, ANA)[1]) == 40
        assert read(store, ANA) == read(stores[1], ANA)

    # -- erasure ---------------------------------------------------------------------------

    def test_another_that_is_open_sees_an_erasure_and_what_comes_after(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()
        store.insert(ANA, [make_draft(f"{i}") for i in range(4)])
        position, rows = read(other, ANA)
        assert len(other.get(ANA, ["1"])) == 1

        store.erase(ANA)
        self.test_a_new_namespace_is_empty(other)
        store.insert(ANA, [make_draft(f"{i}", f"New {i}.") for i in range(9)])

        assert read(other, ANA, position, rows) == read(store, ANA)
        assert texts(other.get(ANA, ["1"])) == ["New 1."]
        assert len(other.fetch(ANA, keys_of(other, ANA))) == 9
        assert other.delete(ANA, ["1"]) == 1
        store.erase(ANA)
        other.insert(ANA, [make_draft("last")])
        assert texts(store.get(ANA, ["last"])) == ["I drink tea."]

    def test_a_writer_comes_before_or_after_an_erasure(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()

        def write(number: int) -> None:
            store.insert(ANA, [make_draft(f"{number}.{i}") for i in range(3)])

        def erase(_: int) -> None:
            other.erase(ANA)

        with ThreadPoolExecutor(4) as pool:
            for number in range(10):
                writing, erasing = pool.submit(write, number), pool.submit(erase, number)
                writing.result()
                erasing.result()
                assert len(keys_of(store, ANA)) in (0, 3)
                assert read(store, ANA) == read(other, ANA)
                store.erase(ANA)

    def test_no_file_has_what_was_erased_or_purged(self, store: RecordStore) -> None:
        texts = [f"{CANARY} {i} " + "tea and rice " * (i % 40 * 30) for i in range(80)]
        store.insert(ANA, [make_draft(f"a{i}", text) for i, text in enumerate(texts)])
        store.insert(BOB, [make_draft(f"{i}", namespace=BOB) for i in range(80)])
        store.insert(BOB, [make_draft("x", CANARY, namespace=BOB)])
        store.update(BOB, make_draft("x", "Other.", namespace=BOB))
        assert any(CANARY.encode() in path.read_bytes() for path in store.files())

        store.erase(ANA)
        purged = store.purge(timeout_s=5)

        assert purged.is_complete
        assert purged.files
        assert not any(CANARY.encode() in path.read_bytes() for path in store.files())

    # -- backup ----------------------------------------------------------------------------

    def test_a_backup_is_a_store_of_its_own(
        self, store: RecordStore, open_copy: Callable[[Path], RecordStore], tmp_path: Path
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        store.delete(ANA, ["b"])
        store.set_profile(ANA, {"city": "Lyon"})
        store.set_space(Space("words", 64))
        seen: list[tuple[int, int]] = []

        store.backup(tmp_path / "copies" / "one", on_progress=lambda *done: seen.append(done))
        before = read(store, ANA), store.get(ANA, ["a", "b"]), store.profile(ANA), store.space()
        store.insert(ANA, [make_draft("c")])

        copy = open_copy(tmp_path / "copies" / "one")
        assert before == (
            read(copy, ANA),
            copy.get(ANA, ["a", "b"]),
            copy.profile(ANA),
            copy.space(),
        )
        assert copy.get(ANA, ["c"]) == []
        assert copy.id != store.id
        assert seen[-1][0] == seen[-1][1] > 0
        copy.close()

    def test_a_backup_has_the_stores_beside_as_well(
        self, store: RecordStore, open_copy: Callable[[Path], RecordStore], tmp_path: Path
    ) -> None:
        store.insert(ANA, [make_draft("a")])
        with closing(store.beside("closed")) as beside:
            beside.insert(ANA, [make_draft("b", "Beside.")])
        with closing(store.beside("open")) as beside, closing(beside.beside("within")) as within:
            within.insert(ANA, [make_draft("c", "Within.")])
            seen: list[tuple[int, int]] = []

            store.backup(tmp_path / "copy", on_progress=lambda *done: seen.append(done))

        with closing(open_copy(tmp_path / "copy")) as copy:
            assert copy.besides() == ["closed", "open"]
            with closing(copy.beside("closed")) as beside, closing(copy.beside("open")) as other:
                assert texts(beside.get(ANA, ["b"])) == ["Beside."]
                with closing(other.beside("within")) as within:
                    assert texts(within.get(ANA, ["c"])) == ["Within."]
            assert texts(copy.get(ANA, ["a"])) == ["I drink tea."]
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 0

    def test_a_backup_overwrites_nothing(self, store: RecordStore, tmp_path: Path) -> None:
        store.insert(ANA, [make_draft("a")])
        folder, file = tmp_path / "folder", tmp_path / "file"
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
        file.write_text("mine")

        for target in (folder, file):
            with pytest.raises(StorePathError):
                store.backup(target)

        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [
            ("mine.txt", "mine")
        ]
        assert file.read_text() == "mine"

    def test_a_backup_holds_the_first_of_the_writes_that_go_on_meanwhile(
        self, store: RecordStore, open_copy: Callable[[Path], RecordStore], tmp_path: Path
    ) -> None:
        store.insert(ANA, [make_draft(f"old {i}", "tea " * 2000) for i in range(500)])
        acknowledged: list[int] = []
        started, done = threading.Event(), threading.Event()

        def write() -> None:
            while not done.is_set():
                number = len(acknowledged)
                store.insert(BOB, [make_draft(f"{number}", "rice " * 500, namespace=BOB)])
                acknowledged.append(number)
                started.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                assert started.wait(60)
                spans = []
                for number in range(3):
                    first = len(acknowledged)
                    store.backup(tmp_path / f"copy {number}")
                    spans.append((first, len(acknowledged) + 1))
            finally:
                done.set()
            writing.result()

        for number, (first, last) in enumerate(spans):
            copy = open_copy(tmp_path / f"copy {number}")
            found = sorted(int(one.id) for one in copy.newest(BOB, kinds=KINDS))
            assert found == list(range(len(found)))
            assert first <= len(found) <= last
            assert len(keys_of(copy, ANA)) == 500
            assert copy.integrity("full") == []
            copy.close()
