"""The contract of RecordStore, as tests: many writers and readers at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal

import pytest

from hybrid_memory.errors import ConflictError, QuotaExceededError
from hybrid_memory.protocols import Bound, IndexRow, RecordStore
from hybrid_memory.testing.record_stores.given import (
    ANA,
    NOON,
    RecordStoreFixtures,
    make_draft,
    read,
    texts,
)
from hybrid_memory.types import Quota


class ThreadsSuite(RecordStoreFixtures):
    """What threads do at once is as if one had done it after the other."""

    @pytest.mark.parametrize("when_full", ["refuse", "prune"])
    def test_threads_that_write_at_once_never_exceed_a_quota(
        self, store: RecordStore, when_full: Literal["refuse", "prune"]
    ) -> None:
        bound = Bound(Quota(records=20, when_full=when_full), NOON)

        def write(writer: int) -> int:
            stored = 0
            for i in range(10):
                with suppress(QuotaExceededError):
                    store.insert(ANA, [make_draft(f"{writer}.{i}")], bound=bound)
                    stored += 1
                assert store.stats(ANA).total <= 20
            return stored

        with ThreadPoolExecutor(4) as pool:
            stored = sum(pool.map(write, range(4)))

        assert stored == (20 if when_full == "refuse" else 40)
        assert 19 <= store.stats(ANA).total <= 20

    def test_what_eight_threads_insert_is_all_there(self, store: RecordStore) -> None:
        def write(writer: int) -> None:
            for i in range(20):
                id_ = f"{writer}.{i}"
                store.insert(ANA, [make_draft(id_, f"text {id_}"), make_draft(f"{id_}b")])
                assert texts(store.get(ANA, [id_])) == [f"text {id_}"]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))

        ids = [f"{writer}.{i}{b}" for writer in range(8) for i in range(20) for b in ("", "b")]
        assert len(store.get(ANA, ids)) == len(read(store, ANA)[1]) == 320

    def test_of_threads_that_insert_one_id_one_wins(self, store: RecordStore) -> None:
        def write(writer: int) -> bool:
            with suppress(ConflictError):
                store.insert(ANA, [make_draft("a", f"writer {writer}")])
                return True
            return False

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))

        assert sum(won) == 1
        assert texts(store.get(ANA, ["a"])) == [f"writer {won.index(True)}"]

    def test_a_reader_that_catches_up_during_writes_misses_nothing(
        self, store: RecordStore
    ) -> None:
        done = threading.Event()

        def write(writer: int) -> None:
            for i in range(15):
                store.insert(ANA, [make_draft(f"{writer}.{i}")])
                if i % 3 == 2:
                    store.delete(ANA, [f"{writer}.{i - 1}"])
                    store.update(ANA, make_draft(f"{writer}.{i}", "I drink coffee."))

        def follow() -> tuple[int, dict[int, IndexRow]]:
            position = 0
            rows: dict[int, IndexRow] = {}
            while not done.is_set():
                position, rows = read(store, ANA, position, rows)
            return read(store, ANA, position, rows)

        with ThreadPoolExecutor(5) as pool:
            following = pool.submit(follow)
            try:
                list(pool.map(write, range(4)))
            finally:
                done.set()
            followed = following.result()

        assert followed == read(store, ANA)
        assert len(followed[1]) == 4 * (15 - 5)

    def test_it_can_be_closed_twice(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])
        store.close()
        store.close()
