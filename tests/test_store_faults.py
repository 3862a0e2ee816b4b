"""What the machine does to a store: full, read-only, busy, on a network, clocks that go wrong."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory import HybridMemory
from hybrid_memory.backends.sql import SQLRecordStore, connections, disk
from hybrid_memory.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StorePathError,
    StoreReadOnlyError,
)
from hybrid_memory.testing import HashEmbedder, ManualClock
from hybrid_memory.types import ItemChange
from tests.reliability import sqlite_files
from tests.reliability.sqlite_files import SQLITE_FULL, SQLITE_IOERR_WRITE, Fault, Step

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
        memory.items().write([ItemChange(("ana",), "rice", {}, ["Rice.", "More rice."])])
        memory.scope(user_id="bob").add("I am Bob.")
        with sqlite_files.watching(full):
            with pytest.raises(StoreFullError, match="free some"):
                ana.add("I drink water.")
            assert ana.search("tea", k=1)[0].record.id == "tea"
            removals = [
                lambda: ana.delete("tea"),
                lambda: memory.items().write([ItemChange(("ana",), "rice", None)]),
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


# -- broken, busy, and clocks ---------------------------------------------------------------


@watches
def test_a_disk_that_fails_to_write_is_told_and_the_store_goes_on(tmp_path: Path) -> None:
    sqlite_files.watch(None)
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.", id="tea")
        with sqlite_files.watching(lambda _: Fault(SQLITE_IOERR_WRITE)):
            with pytest.raises(StoreError, match=r"SQLITE_IOERR_WRITE.*repeat") as caught:
                ana.add("My secret is 4711.", id="secret")
            assert ana.search("tea", k=1)[0].record.id == "tea"
        ana.add("My secret is 4711.", id="secret")

        assert "4711" not in str(caught.value)
        assert memory.check().is_clean


def test_a_store_that_others_keep_locked_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.1)
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.", id="tea")
        with closing(sqlite3.connect(tmp_path / "memory.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusyError, match="try again"):
                ana.add("I drink milk.")
            assert ana.search("tea", k=1)[0].record.id == "tea"

        assert ana.add("I drink milk.").text == "I drink milk."


def test_without_file_descriptors_a_store_is_refused_and_one_that_is_open_works(
    tmp_path: Path,
) -> None:
    resource = pytest.importorskip("resource")
    with opened(tmp_path / "open") as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.")
        ana.search("tea")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            with pytest.raises(StorePathError):
                opened(tmp_path / "open")
            ana.add("I drink milk.")
            found = len(ana.search("drink"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        assert found == 2
        assert memory.check().is_clean


def test_a_clock_that_goes_backwards_or_ahead_changes_neither_order_nor_scores(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(), clock=clock) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        for number, days in enumerate((0, 4000, -8000, 10)):
            clock.advance(days=days)
            ana.add(f"I drink tea number {number}.", id=str(number))
        ana.add("I shall drink tea.", id="future", at=clock() + timedelta(days=90_000))
        hits = [hit for query in ("tea", "tea now") for hit in ana.search(query, k=9)]

        assert [turn.id for turn in ana.messages()] == ["0", "1", "2", "3", "future"]
        assert len(hits) == 10
        assert all(0 <= hit.score <= 1 for hit in hits)
        assert all(0 <= signal <= 1 for hit in hits for signal in hit.signals.values())
        assert memory.check().is_clean


# -- files that are gone -------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_nothing_is_written_to_a_file_that_nobody_can_open_again(
    tmp_path: Path, replaced: bool
) -> None:
    with opened(tmp_path / "other"):
        pass
    with opened(tmp_path / "store") as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.")
        (tmp_path / "store" / "memory.db").unlink()
        if replaced:
            (tmp_path / "other" / "memory.db").rename(tmp_path / "store" / "memory.db")

        with pytest.raises(StoreCorruptError, match="while it was open"):
            ana.add("I drink milk.")


def test_a_database_that_is_gone_is_not_made_anew_over_its_log(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as memory:
        memory.scope(user_id="ana").add("I drink tea.")
        copy = Path(shutil.copytree(tmp_path / "store", tmp_path / "copy"))
    (copy / "memory.db").unlink()
    log = (copy / "memory.db-wal").read_bytes()

    with pytest.raises(StoreCorruptError, match=r"is gone.*backup"):
        opened(copy)

    assert (copy / "memory.db-wal").read_bytes() == log


# -- read-only -----------------------------------------------------------------------------


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A closed store in which ana said two things."""
    path = tmp_path / "store"
    with opened(path) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        ana.add_many({"id": drink, "text": f"I drink {drink}."} for drink in ("tea", "milk"))
        ana.profile["city"] = "Lyon"
    return path


def unclosed(path: Path, into: Path) -> Path:
    """Return a copy of a store, as it is while one is writing to it."""
    with opened(path) as memory:
        memory.scope(user_id="ana").add("I drink rum.", id="rum")
        return Path(shutil.copytree(path, into))


def where_nothing_can_be_written(path: Path, call: Callable[[], Any]) -> Any:
    """Return what a call returns in a process that may read a directory and not write to it."""
    for parent in path.parents[:-1]:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    for file in path.iterdir():
        file.chmod(0o444)
    path.chmod(0o555)
    before = {file: file.read_bytes() for file in path.iterdir()}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)  # root may write everywhere
            os.write(writing, json.dumps(call()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        returned = json.loads(pipe.read())
    os.waitpid(child, 0)
    path.chmod(0o755)
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    return returned


def everything(path: Path) -> dict[str, Any]:
    with opened(path) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        return {
            "ids": sorted(hit.record.id for hit in ana.search("drink", k=9)),
            "messages": [turn.id for turn in ana.messages()],
            "profile": dict(ana.profile),
            "context": "I drink tea." in ana.context("tea").as_system_prompt(),
            "clean": memory.check().is_clean,
        }


def test_a_store_in_a_read_only_directory_can_be_read(told: Path) -> None:
    expected = everything(told)

    assert where_nothing_can_be_written(told, lambda: everything(told)) == expected
    assert expected["ids"] == ["milk", "tea"]


def test_what_stands_in_the_log_alone_can_be_read_too(told: Path, tmp_path: Path) -> None:
    copy = unclosed(told, tmp_path / "copy")

    read = where_nothing_can_be_written(copy, lambda: everything(copy))

    assert read["ids"] == ["milk", "rum", "tea"]
    assert read["clean"]


def test_every_write_to_a_read_only_store_says_why_it_is_refused(told: Path) -> None:
    def refusals() -> list[str]:
        said = []
        with opened(told) as memory:
            ana = memory.scope(user_id="ana")
            for write in (
                lambda: ana.add("I drink rum."),
                lambda: ana.update("tea", text="I drink green tea."),
                lambda: ana.delete("tea"),
                lambda: memory.items().write([ItemChange(("ana",), "rice", None)]),
                lambda: ana.forget(session_id="s1"),
                lambda: ana.profile.update(city="Turin"),
                ana.erase,
                memory.repair,
            ):
                try:
                    write()
                except StoreReadOnlyError as error:
                    said.append(str(error))
        return said

    said = where_nothing_can_be_written(told, refusals)

    assert len(said) == 7
    assert all("check owner and mode" in one for one in said)


def test_a_read_only_store_that_needs_a_writer_first_is_refused(told: Path, tmp_path: Path) -> None:
    copy = unclosed(told, tmp_path / "copy")
    (copy / "memory.db-shm").unlink()
    with closing(sqlite3.connect(told / "memory.db")) as database, database:
        database.execute("PRAGMA user_version = 1")

    for path, reason in (copy, "was not closed"), (told, "schema 1"):

        def refusal(path: Path = path) -> str:
            with pytest.raises(StoreReadOnlyError) as caught:
                opened(path)
            return str(caught.value)

        assert reason in where_nothing_can_be_written(path, refusal)


def test_a_read_only_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(StorePathError) as caught:
            opened(tmp_path)
        return str(caught.value)

    assert "cannot be written" in where_nothing_can_be_written(tmp_path, refusal)


# -- on a network --------------------------------------------------------------------------


def mounted(monkeypatch: pytest.MonkeyPatch, path: Path, kind: str) -> None:
    """Let the system say that a directory is on a file system of this type."""
    device = path.stat().st_dev
    table = path.with_name(f"{path.name}-mounts")
    number = f"{os.major(device)}:{os.minor(device)}"
    table.write_text(
        "21 27 999:1 / /proc rw,relatime shared:5 - proc proc rw\n"
        f"36 27 {number} / /home rw,noatime shared:1 master:2 - {kind} server:/home rw,vers=4\n"
    )
    monkeypatch.setattr(disk, "MOUNTS", table)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_a_store_on_a_network_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "store"
    path.mkdir()
    mounted(monkeypatch, path, kind)

    with pytest.raises(StorePathError, match=rf"network \({kind}\).*local disk.*allow_network"):
        opened(path)

    assert list(path.iterdir()) == []


def test_who_knows_better_may_open_a_store_on_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, tmp_path, "nfs4")

    records = SQLRecordStore.open(tmp_path, allow_network=True)
    with HybridMemory(records, embedder=HashEmbedder()) as memory:
        assert memory.scope(user_id="ana").add("I drink tea.").text == "I drink tea."


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuse.gocryptfs"])
def test_a_store_on_a_file_system_of_this_machine_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounted(monkeypatch, tmp_path, kind)

    opened(tmp_path).close()


def test_where_file_systems_cannot_be_told_a_store_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOUNTS", tmp_path / "missing")

    opened(tmp_path / "store").close()
