"""What the machine does to a store: full, read-only, busy, on a network, clocks that go wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory
from hybrid_memory.errors import StoreFullError
from hybrid_memory.testing import HashEmbedder
from tests.reliability import sqlite_files
from tests.reliability.sqlite_files import SQLITE_FULL, Fault, Step

watches = pytest.mark.skipif(
    not sqlite_files.can_be_watched(), reason="the driver's SQLite cannot be reached"
)


def opened(path: Path) -> HybridMemory:
    return HybridMemory.open(path, embedder=HashEmbedder())


# -- full ----------------------------------------------------------------------------------


def test_a_store_keeps_a_megabyte_for_deletes_on_a_full_disk(tmp_path: Path) -> None:
    opened(tmp_path).close()
    reserve = tmp_path / "memory.reserve"

    assert reserve.stat().st_size == 2**20
    assert reserve.stat().st_blocks * 512 >= 2**20  # taken, and not a hole
    assert stat.S_IMODE(reserve.stat().st_mode) == 0o600


def test_the_reserve_is_taken_again_when_there_is_space(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "memory.reserve").write_bytes(b"cut short")
    opened(tmp_path).close()

    assert (tmp_path / "memory.reserve").stat().st_size == 2**20


@watches
def test_on_a_full_disk_a_write_is_refused_a_read_goes_on_and_deletes_work(tmp_path: Path) -> None:
    reserve = tmp_path / "memory.reserve"
    refused = []

    def full(step: Step) -> Fault | None:
        if step.action != "write" or not reserve.exists():
            return None
        refused.append(step)
        return Fault(SQLITE_FULL)

    sqlite_files.watch(None)  # so that the files of this store can be watched
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many({"id": name, "text": f"I drink {name}."} for name in ("tea", "milk", "rum"))
        ana.profile["city"] = "Lyon"
        memory.scope(user_id="bob").add("I am Bob.")
        with sqlite_files.watching(full):
            with pytest.raises(StoreFullError, match="free some"):
                ana.add("I drink water.")
            assert ana.search("tea", k=1)[0].record.id == "tea"
            removals = [
                lambda: ana.delete("tea"),
                lambda: ana.forget(where={"$not": {"kind": "fact"}}),
                lambda: ana.profile.pop("city"),
                lambda: memory.scope(user_id="bob").erase(timeout_s=0.1),
            ]
            for remove in removals:
                refused.clear()
                remove()
                assert refused
                assert reserve.exists()  # taken again

        assert ana.stats().total == 0
        assert memory.check().is_clean


@watches
def test_a_purge_on_a_full_disk_says_what_is_unfinished(tmp_path: Path) -> None:
    sqlite_files.watch(None)
    with opened(tmp_path) as memory:
        memory.scope(user_id="ana").add("I drink tea.", id="tea")
        memory.scope(user_id="ana").delete("tea")
        with sqlite_files.watching(lambda _: Fault(SQLITE_FULL)):
            purged = memory.purge(timeout_s=0.1)

        assert not purged.is_complete
        assert len(purged.unfinished) == 2
        assert all("full" in one and "purge again" in one for one in purged.unfinished)
        assert memory.purge().is_complete
