"""The store as a directory: its files, its modes, its refusals, other processes."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.backends import sql
from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.backends.sql.connections import IDLE_READERS
from hybrid_memory.errors import (
    ClosedError,
    ForkError,
    SchemaVersionError,
    StoreCorruptError,
    StorePathError,
)
from hybrid_memory.protocols import Vectors
from hybrid_memory.testing import HashEmbedder


def opened(path: Path) -> HybridMemory:
    return HybridMemory.open(path, embedder=HashEmbedder())


def test_the_directory_is_made_and_is_its_owners_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b") as memory:
        memory.scope(user_id="ana").add("tea")

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "memory.db").stat().st_mode) == 0o600


def test_no_file_of_a_store_can_be_read_by_others_in_a_directory_that_can(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "memory.db-wal").touch(mode=0o644)  # left by a crash

    with opened(tmp_path) as memory:
        memory.scope(user_id="ana").add("tea")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes.keys() > {"memory.db", "memory.db-wal", "memory.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("hello")

    with pytest.raises(StorePathError, match="is a file"):
        opened(tmp_path / "memory")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_bytes(b"not a database " * 100)

    with pytest.raises(StoreCorruptError, match=r"memory\.db"):
        opened(tmp_path)

    assert (tmp_path / "memory.db").read_bytes().startswith(b"not a database")


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "memory.db") as database:
        database.execute("PRAGMA user_version = 99")

    with pytest.raises(SchemaVersionError, match=r"schema 99.*upgrade"):
        opened(tmp_path)


_READ_ONLY = """
import os, sys
from hybrid_memory.backends import sql
from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.backends.sql.connections import IDLE_READERS
from hybrid_memory.errors import StorePathError
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    SQLRecordStore.open(sys.argv[1])
except StorePathError as error:
    print(error)
"""


def test_a_read_only_directory_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents[:-1]]:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o055)

    done = subprocess.run(
        [sys.executable, "-c", _READ_ONLY, str(locked)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert "cannot be written" in done.stdout
    assert list(locked.iterdir()) == []


def test_a_commit_is_flushed_to_the_device_by_default(tmp_path: Path) -> None:
    store = SQLRecordStore.open(tmp_path)

    with store._writing() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        }

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "busy_timeout": 30000,
    }
    store.close()


def test_no_writer_waits_for_an_encoder(tmp_path: Path) -> None:
    class LooksAround(HashEmbedder):
        looked = 0

        def embed(self, texts: Sequence[str]) -> Vectors:
            with closing(sqlite3.connect(tmp_path / "memory.db", timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")  # refused at once if a transaction is open
            self.looked += 1
            return super().embed(texts)

    embedder = LooksAround()
    with HybridMemory.open(tmp_path, embedder=embedder) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.", id="tea")
        ana.update("tea", text="I drink green tea.")
        ana.add_documents(["The canteen serves lentils."], source="menu.md")
        ana.import_(io.StringIO(exported(ana)), on_conflict="replace")
        memory.check(vectors=True)

    assert embedder.looked >= 5


def exported(scope: Scope) -> str:
    lines = io.StringIO()
    scope.export(lines)
    return lines.getvalue().replace("green", "white")


def test_nothing_of_the_store_connects_without_a_transaction() -> None:
    # What `Engine.connect` writes is gone without an error where nobody commits it.
    sources = Path(sql.__file__).parent.glob("*.py")
    connects = re.compile(r"(?<!sqlite3)\.connect\(")

    assert [path.name for path in sources if connects.search(path.read_text("utf-8"))] == []


def test_the_reading_side_cannot_write(tmp_path: Path) -> None:
    store = SQLRecordStore.open(tmp_path)

    with pytest.raises(StorePathError), store._reading() as connection:
        connection.exec_driver_sql("DELETE FROM records")

    store.close()


def test_after_close_every_call_says_so(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    ana = memory.scope(user_id="ana")
    memory.close()
    memory.close()

    for call in (lambda: ana.add("tea"), lambda: ana.search("tea"), ana.messages, ana.stats):
        with pytest.raises(ClosedError):
            call()


_WORKER = """
import sys
from hybrid_memory import HybridMemory, Scope
from hybrid_memory.testing import HashEmbedder
path, worker = sys.argv[1:]
with HybridMemory.open(path, embedder=HashEmbedder()) as memory:
    ana = memory.scope(user_id="ana", session_id=worker)
    for turn in range(25):
        record = ana.add(f"worker {worker} turn {turn}", id=f"{worker}-{turn}")
        assert ana.search(f"worker {worker} turn {turn}", k=30)
        assert record in ana.messages(last=1)
print("done")
"""


def test_processes_that_open_a_new_store_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path / "memory"), str(number)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(4)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]

    assert outputs == ["done\n"] * 4
    with opened(tmp_path / "memory") as memory:
        assert memory.scope(user_id="ana").stats().total == 100


def test_a_store_that_another_is_just_making_is_waited_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = sqlite3.connect(tmp_path / "memory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        opening = pool.submit(opened, tmp_path)
        with suppress(TimeoutError):
            opening.exception(timeout=0.2)  # a refusal would come at once
        other.execute("COMMIT")
        other.close()

        with opening.result() as memory:
            assert memory.scope(user_id="ana").add("tea").text == "tea"


def test_a_forked_child_opens_connections_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("before", id="before")

        child = os.fork()
        if child == 0:
            try:
                ana.add("from the child", id="child")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        ana.add("after", id="after")

        assert [turn.id for turn in ana.messages()] == ["before", "child", "after"]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files")


def open_files(directory: Path) -> list[str]:
    """Return the paths of the files below a directory that this process has open."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the list itself is closed by now
            found.append(str(number.readlink()))
    return [path for path in found if path.startswith(str(directory))]


def exit_code_of(work: Callable[[], bool]) -> int:
    """Return 0 if work, done in a fork of this process, gives True."""
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(60)  # rather than to hang
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_proc
def test_no_connection_is_open_in_a_process_that_forks(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink green tea.")
        ana.search("tea")
        before = open_files(tmp_path)

        in_child = exit_code_of(lambda: open_files(tmp_path) == [] and len(ana.search("tea")) == 1)

        assert before
        assert in_child == 0
        assert len(ana.search("tea")) == 1


def test_what_a_child_writes_after_its_parent_has_closed_the_store_is_kept(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    ana = memory.scope(user_id="ana")
    ana.add("before", id="before")
    to_child, from_child = os.pipe(), os.pipe()

    child = os.fork()
    if child == 0:
        try:
            ana.add("one", id="one")
            os.write(from_child[1], b"1")
            os.read(to_child[0], 1)
            ana.add("two", id="two")
        finally:
            os._exit(0)
    os.read(from_child[0], 1)
    memory.close()
    with opened(tmp_path) as again:
        again.scope(user_id="ana").add("parent", id="parent")
        os.write(to_child[1], b"1")
        os.waitpid(child, 0)

    with opened(tmp_path) as again:
        ids = [turn.id for turn in again.scope(user_id="ana").messages()]
        assert ids == ["before", "one", "parent", "two"]
        assert again.check().problems == ()


def test_a_store_that_is_in_use_at_a_fork_is_refused_in_the_child_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "memory") as memory:
        (tmp_path / "link").symlink_to(tmp_path / "memory")
        ana = memory.scope(user_id="ana")
        ana.add("I drink green tea.")
        reading = memory._store.newest(ana.namespace, kinds=["message"])
        next(reading)

        def is_refused() -> bool:
            with pytest.raises(ForkError, match="fork"):
                ana.add("from the child")
            with pytest.raises(ForkError, match="fork"):
                opened(tmp_path / "link")
            with opened(tmp_path / "another") as another:
                return another.scope(user_id="ana").add("free").text == "free"

        in_child = exit_code_of(is_refused)
        reading.close()

        assert in_child == 0
        assert len(ana.search("tea")) == 1
        assert exit_code_of(lambda: len(ana.search("tea")) == 1) == 0


def test_a_fork_waits_for_a_thread_that_writes(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        began, go_on = threading.Event(), threading.Event()

        def write_slowly() -> None:
            with memory._store._writing():
                began.set()
                go_on.wait()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write_slowly)
            began.wait()
            threading.Timer(0.1, go_on.set).start()
            in_child = exit_code_of(lambda: ana.add("from the child", id="child").id == "child")
            writing.result()

        assert in_child == 0
        assert ana.get("child").text == "from the child"


def test_a_child_searches_whatever_other_threads_were_at_when_it_was_forked(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink green tea.")
        ana.search("tea")

        with memory._cache._lock, memory._cache._partitions[ana.namespace]._lock:
            in_child = exit_code_of(lambda: len(ana.search("tea")) == 1)

        assert in_child == 0


@needs_proc
def test_many_threads_leave_few_files_open_and_close_leaves_none(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    ana = memory.scope(user_id="ana")
    ana.add_many([f"I drink tea number {number}." for number in range(20)])
    together = threading.Barrier(24)

    def search(number: int) -> int:
        together.wait()
        return len(ana.search(f"tea number {number}", k=5))

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(search, range(24)))
    held = len(open_files(tmp_path))
    memory.close()

    assert found == [5] * 24
    assert held <= 3 * (2 * IDLE_READERS + 1)  # the database, its log and the index of that
    assert open_files(tmp_path) == []


@needs_proc
def test_a_search_that_meets_close_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    ana = memory.scope(user_id="ana")
    ana.add("I drink green tea.")
    begun = threading.Event()

    def search_on() -> int:
        while True:
            found = len(ana.search("tea"))
            begun.set()
            if found != 1:
                return found

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search_on) for _ in range(4)]
        begun.wait()
        memory.close()
        errors = [one.exception() for one in searching]

    assert all(isinstance(error, ClosedError) for error in errors)
    assert open_files(tmp_path) == []


def test_a_store_of_a_relative_path_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with opened(Path("memory")) as memory:
        monkeypatch.chdir(tmp_path / "elsewhere")
        ana = memory.scope(user_id="ana")
        ana.add("I drink green tea.")

        assert len(ana.search("tea")) == 1

    assert (tmp_path / "memory" / "memory.db").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_errors_of_the_database_hold_no_text(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("one")
        with sqlite3.connect(tmp_path / "memory.db") as database:
            database.execute("DROP TABLE records")

        with pytest.raises(Exception, match=r"memory\.db") as caught:
            ana.add("my secret is 4711")

    assert "4711" not in str(caught.value)
    assert caught.value.__suppress_context__
