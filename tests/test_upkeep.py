"""Damage: found, reported without a text, never served, and repaired as far as it can be."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import re
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_memory import HybridMemory, indexing
from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.backends.sql import schema
from hybrid_memory.cli import main
from hybrid_memory.errors import (
    NotFoundError,
    SchemaVersionError,
    StoreCorruptError,
)
from hybrid_memory.partition import collection_of
from hybrid_memory.protocols import Embedder, Vector, Vectors
from hybrid_memory.spaces import PROBES
from hybrid_memory.testing import HashEmbedder, LineSplitter, MemoryDocumentStore, MemoryRecordStore
from hybrid_memory.types import Record
from hybrid_memory.upkeep import Report, report

CANARY = "hazelnuts"
NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)


class CountingEmbedder(HashEmbedder):
    """Counts the texts it encodes, the probes aside, and fails when `left` of them are done."""

    def __init__(self, *, left: int | None = None) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.left = left

    def embed(self, texts: Sequence[str]) -> Vectors:
        if tuple(texts) == PROBES:
            return super().embed(texts)
        if self.left is not None and len(self.texts) + len(texts) > self.left:
            raise RuntimeError("killed")
        self.texts += texts
        return super().embed(texts)

    def embed_query(self, text: str) -> Vector:
        vector: Vector = super().embed([text])[0]
        return vector


def opened(path: Path, *, embedder: Embedder | None = None, **parts: Any) -> HybridMemory:
    return HybridMemory.open(
        path,
        embedder=embedder or HashEmbedder(),
        splitter=LineSplitter(),
        durability="normal",
        **parts,
    )


def sql(path: Path, statement: str, *values: object) -> list[Any]:
    """Run one statement behind the back of the library."""
    with closing(sqlite3.connect(path / "memory.db")) as database, database:
        return database.execute(statement, values).fetchall()


def told(found: Report) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.id) for problem in found.problems]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store in which ana said some things, and bob one."""
    path = tmp_path / "store"
    with opened(path) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        ana.add_many(
            {"id": f"r{i}", "text": f"Turn {i} about tea.", "metadata": {"n": i}} for i in range(6)
        )
        ana.add(
            f"I am allergic to {CANARY} and to nothing else that I know of.",
            id="nuts",
            speaker="Ana",
            metadata={"city": "Lyon"},
        )
        ana.add_fact({"intent": "preference", "like": ["tea"]}, id="fact")
        ana.add_documents(["The canteen serves lentils on Mondays."], source="menu.md")
        ana.add_instruction("Answer in one line.", id="rule")
        ana.profile["city"] = "Lyon"
        ana.profile["food"] = {"likes": ["tea"]}
        memory.scope(user_id="bob", session_id="s1").add("I am Bob and I like rice.", id="bob")
    return path


# -- what is whole -------------------------------------------------------------------------


def test_a_store_without_damage_is_clean(path: Path) -> None:
    with opened(path) as memory:
        memory.scope(user_id="ana").search("tea")
        found = memory.check()

        assert found.is_clean
        assert (found.problems, dict(found.counts), found.left) == ((), {}, 0)
        assert (found.records, found.quarantined, found.refreshed) == (11, 0, 0)
        assert memory.check(quick=True) == found
        assert memory.check(vectors=True) == found


def test_an_empty_store_is_clean(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        assert memory.check().is_clean
        assert memory.repair().is_clean
        assert memory.check(quick=True).records == 0


def test_progress_is_told_up_to_the_end(path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with opened(path) as memory:
        memory.check(on_progress=lambda *step: seen.append(step))
        assert seen == [(10, 11), (11, 11)]
        seen.clear()
        memory.repair(on_progress=lambda *step: seen.append(step))

    assert seen == [(10, 11), (11, 11)]


def test_a_repair_of_what_is_whole_changes_nothing(path: Path) -> None:
    embedder = CountingEmbedder()
    with opened(path, embedder=embedder) as memory:
        before = memory._store.position(("ana",))
        found = memory.repair()

        assert (found.is_clean, found.problems, found.refreshed) == (True, (), 0)
        assert memory._store.position(("ana",)) == before
    assert embedder.texts == []


# -- damage to one row ---------------------------------------------------------------------

# A statement on the row of `nuts`, and what is found.
OF_THE_RECORD = {
    "text": "text = replace(text, 'nothing', 'nothinh')",
    "text that is none": "text = CAST(x'ff' || text AS TEXT)",
    "text in bytes": "text = CAST(text AS BLOB)",
    "metadata": """metadata = '{"city":"Lyom"}'""",
    "metadata that is none": """metadata = '{"city":"Lyon"'""",
    "speaker": "speaker = 'Ama'",
    "speaker in bytes": "speaker = CAST(speaker AS BLOB)",
    "speaker that is none": "speaker = CAST(x'c3' AS TEXT)",
    "role": "role = 'assistant'",
    "role that is none": "role = 'uses'",
    "kind": "kind = 'event'",
    "kind that is none": "kind = 'messagf'",
    "time": "at = at + 1",
    "time out of range": "at = at | (1 << 62)",
    "time that is none": "at = 'soon'",
    "importance": "importance = 0.75",
    "importance that is none": "importance = 9e999",
    "version": "version = 9",
    "expiry": "expires_at = 1",
    "checksum": "checksum = x'0011223344556677'",
}
OF_WHAT_IT_IS_FOUND_BY = {
    "words cut": ("terms", "terms = substr(terms, 1, 8)"),
    "words cut within a word": ("terms", "terms = substr(terms, 1, 7)"),
    "no words": ("terms", "terms = x''"),
    "words as text": ("terms", "terms = 'tea'"),
    "digest": ("digest", "digest = digest + 1"),
    "question": ("traits", "question = 0.5"),
    "question out of range": ("traits", "question = 7"),
    "tells a time": ("traits", "tells_time = NOT tells_time"),
    "vector gone": ("vector", "vector = NULL"),
    "vector cut": ("vector", "vector = substr(vector, 1, 100)"),
    "vector as text": ("vector", "vector = CAST(vector AS TEXT)"),
}


def reads_on(memory: HybridMemory, *, without: Sequence[str] = ()) -> None:
    """Assert that all but one record is read and found as ever."""
    ana, bob = memory.scope(user_id="ana", session_id="s1"), memory.scope(user_id="bob")
    turns = [turn for turn in ("r0", "r1", "r2", "r3", "r4", "r5", "nuts") if turn not in without]

    assert [turn.id for turn in ana.messages()] == turns
    assert [turn.id for turn in ana.messages(last=2)] == turns[-2:]
    assert [fact.id for fact in ana.facts()] == ["fact"]
    assert [rule.id for rule in ana.instructions()] == ["rule"]
    hits = ana.search("turn about tea", k=50)
    assert {hit.record.id for hit in hits} >= {"r0", "r5", "fact"}
    assert not {hit.record.id for hit in hits} & set(without)
    assert all(0 <= hit.score <= 1 for hit in hits)
    assert len(ana.search("turn about tea", k=5)) == 5
    assert [hit.record.id for hit in ana.search("tea", where={"n": 4})] == ["r4"]
    assert ana.get("r3").text == "Turn 3 about tea."
    assert [hit.record.id for hit in bob.search("rice")] == ["bob"]


@pytest.mark.parametrize("name", OF_THE_RECORD)
def test_a_damaged_record_is_reported_never_served_and_moved_away(
    path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    sql(path, f"UPDATE records SET {OF_THE_RECORD[name]} WHERE id = 'nuts'")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        reads_on(memory, without=["nuts"])
        with pytest.raises(StoreCorruptError, match=r"'nuts'.*repair") as refused:
            ana.get("nuts")
        found = memory.check()
        repaired = memory.repair()
        after = memory.check()

        assert [one for one in told(found) if one[0] != "database"] == [("record", "nuts")]
        assert found.problems[-1].namespace == ("ana",)
        assert not found.is_clean
        assert ("record", "nuts") in told(repaired)
        assert repaired.is_clean
        assert repaired.quarantined == 1
        assert (after.is_clean, after.quarantined, after.records) == (True, 1, 10)
        reads_on(memory, without=["nuts"])
        with pytest.raises(NotFoundError):
            ana.get("nuts")
    assert CANARY not in f"{refused.value} {found} {repaired} {after} {caplog.text}"


@pytest.mark.parametrize("name", OF_WHAT_IT_IS_FOUND_BY)
def test_what_a_record_is_found_by_is_reported_and_made_anew(path: Path, name: str) -> None:
    kind, statement = OF_WHAT_IT_IS_FOUND_BY[name]
    question = "What am I allergic to?"
    with opened(path) as memory:
        [before] = memory.scope(user_id="ana").search(question, k=1)
    sql(path, f"UPDATE records SET {statement} WHERE id = 'nuts'")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        reads_on(memory)
        found, quick = memory.check(), memory.check(quick=True)
        repaired = memory.repair()

        assert told(found) == told(quick) == [(kind, "nuts")]
        assert told(repaired) == [(kind, "nuts")]
        assert (repaired.is_clean, repaired.refreshed, repaired.quarantined) == (True, 1, 0)
        assert memory.check().is_clean
        assert ana.search(question, k=1)[0] == before
    assert before.record.id == "nuts"


def changed_vector(path: Path, change: Callable[[list[float]], None]) -> None:
    [[vector]] = sql(path, "SELECT vector FROM records WHERE id = 'nuts'")
    values = list(np.frombuffer(vector, np.float32))
    change(values)
    sql(
        path,
        "UPDATE records SET vector = ? WHERE id = 'nuts'",
        struct.pack(f"{len(values)}f", *values),
    )


def scale(values: list[float], by: float) -> None:
    values[:] = [value * by for value in values]


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.__setitem__(0, math.nan),
        lambda values: values.__setitem__(0, math.inf),
        lambda values: scale(values, 1e30),
        lambda values: scale(values, 1.5),
        lambda values: scale(values, -1),
        lambda values: values.reverse(),
    ],
    ids=["nan", "infinite", "huge", "long", "turned round", "reversed"],
)
def test_a_vector_that_is_not_what_was_written_is_reported_and_made_anew(
    path: Path, change: Callable[[list[float]], None]
) -> None:
    changed_vector(path, change)

    embedder = CountingEmbedder()
    with opened(path, embedder=embedder) as memory:
        reads_on(memory)
        assert told(memory.check()) == [("vector", "nuts")]
        memory.repair()
        assert len(embedder.texts) == 1
        assert memory.check(vectors=True).is_clean


def test_a_vector_of_another_text_is_found_by_encoding_again(path: Path) -> None:
    [[vector, crc]] = sql(path, "SELECT vector, vector_crc FROM records WHERE id = 'r0'")
    sql(path, "UPDATE records SET vector = ?, vector_crc = ? WHERE id = 'nuts'", vector, crc)

    with opened(path) as memory:
        assert memory.check().is_clean
        assert told(memory.check(vectors=True)) == [("vector", "nuts")]


def test_every_bit_of_a_row_counts(path: Path) -> None:
    names = [
        column.name for column in schema.records.c if column.name not in ("key", "change", "size")
    ]
    rng = random.Random(1)
    with opened(path) as memory:
        for name in names:
            [[form, value]] = sql(
                path, f"SELECT typeof({name}), CAST({name} AS BLOB) FROM records WHERE id = 'nuts'"
            )
            if form == "null" or name in ("id", "namespace"):
                continue
            for _ in range(6):
                damaged = bytearray(value)
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                blob = f"x'{damaged.hex()}'"
                if form in ("integer", "real"):
                    # The digits of a number, one of which has changed.
                    number = f"CAST(CAST(x'{value.hex()}' AS TEXT) AS {form})"
                    blob = f"{number} + 1" if name != "importance" else f"{number} / 2 + 0.1"
                into = "BLOB" if form == "blob" else form.upper()
                what = blob if form in ("integer", "real") else f"CAST({blob} AS {into})"
                sql(path, f"UPDATE records SET {name} = {what} WHERE id = 'nuts'")

                found = memory.check()

                assert [id_ for _, id_ in told(found) if id_] == ["nuts"], name
                assert CANARY not in repr(found)
                sql(
                    path,
                    f"UPDATE records SET {name} = CAST(x'{value.hex()}' AS {into}) "
                    "WHERE id = 'nuts'",
                )
        assert memory.check().is_clean


def test_a_damaged_record_can_be_deleted_and_not_updated(path: Path) -> None:
    sql(path, "UPDATE records SET text = 'Damaged.' WHERE id IN ('nuts', 'r0')")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        with pytest.raises(StoreCorruptError):
            ana.update("nuts", text="Mended.")
        with pytest.raises(StoreCorruptError, match="repair"):
            ana.add("Another.", id="r0")
        assert ana.delete("nuts")
        assert told(memory.check()) == [("record", "r0")]
        memory.repair()
        assert ana.add("Another.", id="r0").text == "Another."


def test_a_damaged_record_is_logged_once_by_its_id(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(path, f"UPDATE records SET text = '{CANARY} damaged' WHERE id = 'nuts'")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        for _ in range(3):
            ana.search("What am I allergic to?")
            ana.messages()
            ana.context("What am I allergic to?")

    [message] = [entry.getMessage() for entry in caplog.records]
    assert "'nuts'" in message
    assert "memory.repair()" in message
    assert "hybrid-memory repair" in message
    assert CANARY not in caplog.text


def test_as_many_are_found_as_there_are_with_many_damaged(path: Path) -> None:
    sql(path, "UPDATE records SET text = text || '!' WHERE id IN ('r0', 'r1', 'r2', 'nuts')")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana")

        assert len(ana.search("turn about tea", k=5)) == 5
        assert memory.check().counts == {"record": 4}


def test_the_quarantine_keeps_the_whole_row_with_reason_and_time(path: Path) -> None:
    before = dict(
        zip(
            [column.name for column in schema.records.c],
            *sql(path, f"SELECT {', '.join(schema.records.c.keys())} FROM records WHERE id='nuts'"),
            strict=True,
        )
    )
    sql(path, "UPDATE records SET text = 'Damaged.' WHERE id = 'nuts'")

    with opened(path, clock=lambda: NOON) as memory:
        memory.repair()

    [[id_, origin, reason, at, row]] = sql(
        path, "SELECT id, origin, reason, at, row FROM quarantine"
    )
    assert (id_, origin, reason) == ("nuts", "records", "checksum")
    assert at == NOON.timestamp() * 1e6
    kept = json.loads(row)
    assert kept.keys() >= before.keys()
    assert kept["vector"] == {"bytes": before["vector"].hex()}
    assert kept["text"] == "Damaged."
    assert kept["metadata"] == before["metadata"]


def test_a_value_of_a_profile_is_reported_left_out_and_moved_away(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(path, """UPDATE profiles SET value = '"Paris hazelnuts"' WHERE key = 'city'""")

    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        assert dict(ana.profile) == {"food": {"likes": ["tea"]}}
        assert "likes" in ana.context("tea").as_system_prompt()
        found = memory.check()
        assert told(found) == told(memory.repair()) == [("profile", "city")]
        after = memory.check()
        assert (after.is_clean, after.quarantined) == (True, 1)
        ana.profile["city"] = "Lyon"
        assert ana.profile["city"] == "Lyon"
    assert CANARY not in f"{found} {caplog.text}"


def test_what_is_not_ranked_has_no_vector(path: Path) -> None:
    sql(
        path,
        "UPDATE records SET vector = (SELECT vector FROM records WHERE id = 'r0') "
        "WHERE id = 'rule'",
    )

    with opened(path) as memory:
        assert told(memory.check()) == [("vector", "rule")]
        memory.repair()
        assert memory.check().is_clean


# -- damage to the database ----------------------------------------------------------------


def without_index(path: Path, statement: str) -> None:
    """Change the table and not its indexes, as a flipped bit does."""
    with closing(sqlite3.connect(path / "memory.db")) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        kept = database.execute(
            "SELECT * FROM sqlite_master WHERE type = 'index' AND tbl_name = 'records'"
        ).fetchall()
        database.execute("DELETE FROM sqlite_master WHERE type = 'index' AND tbl_name = 'records'")
    with closing(sqlite3.connect(path / "memory.db")) as database, database:
        database.execute(statement)
        database.execute("PRAGMA writable_schema = ON")
        database.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", kept)


def test_an_index_that_differs_from_its_table_is_made_anew(path: Path) -> None:
    without_index(path, "UPDATE records SET change = change + 1000 WHERE id = 'nuts'")

    with opened(path) as memory:
        assert memory.check().counts.keys() == {"database"}
        repaired = memory.repair()
        assert repaired.counts.keys() == {"database"}
        assert repaired.is_clean
        assert memory.check().is_clean
        reads_on(memory)


def test_a_record_that_is_lost_is_named_while_there_are_traces_of_it(path: Path) -> None:
    without_index(path, "DELETE FROM records WHERE id = 'nuts'")

    with opened(path) as memory:
        found = memory.check()
        repaired = memory.repair()

        assert [one for one in told(found) if one[0] == "record"] == [("record", "nuts")]
        assert [one for one in told(repaired) if one[0] == "record"] == [("record", "nuts")]
        assert (repaired.left, repaired.is_clean, repaired.quarantined) == (1, False, 0)
        assert memory.check().is_clean
        reads_on(memory, without=["nuts"])


def test_a_damaged_id_may_be_a_piece_of_a_text_and_is_not_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_index(path, f"UPDATE records SET id = 'allergic to {CANARY}' WHERE id = 'nuts'")

    with opened(path) as memory:
        reads_on_without_id = memory.scope(user_id="ana").search("turn about tea", k=5)
        found = memory.check()
        repaired = memory.repair()
        after = memory.check()

    assert len(reads_on_without_id) == 5
    assert [one.id for one in found.problems if one.kind == "record"] == [None]
    assert repaired.is_clean
    assert (after.is_clean, after.quarantined) == (True, 1)
    assert CANARY not in f"{found} {repaired} {after} {caplog.text}"


def test_a_record_never_moves_into_another_namespace(path: Path) -> None:
    [[bobs]] = sql(path, "SELECT namespace FROM records WHERE id = 'bob'")
    sql(path, f"UPDATE records SET namespace = {bobs} WHERE id = 'nuts'")

    with opened(path) as memory:
        bob = memory.scope(user_id="bob", session_id="s1")
        assert [turn.id for turn in bob.messages()] == ["bob"]
        assert [hit.record.id for hit in bob.search("allergic", k=9)] == ["bob"]
        with pytest.raises(StoreCorruptError):
            bob.get("nuts")
        assert not memory.check().is_clean
        assert memory.repair().is_clean
        assert memory.check().is_clean
        reads_on(memory)


def test_a_counter_that_is_behind_its_records_is_set_right(path: Path) -> None:
    sql(path, "UPDATE namespaces SET counter = 3 WHERE labels = '[\"ana\"]'")

    with opened(path) as memory:
        assert memory.check().counts == {"database": 1}
        assert memory.repair().is_clean
        memory.scope(user_id="ana", session_id="s1").add("One more.", id="more")
        assert memory.check().is_clean


@pytest.mark.parametrize("labels", ["5", "[5]", "[[]]", "null", '["ana"', '"ana"'])
def test_a_name_of_a_namespace_that_is_none_is_reported(path: Path, labels: str) -> None:
    sql(path, "UPDATE namespaces SET labels = ? WHERE labels = '[\"ana\"]'", labels)

    with opened(path) as memory:
        assert "database" in memory.check().counts
        assert not memory.repair().is_clean
        assert [hit.record.id for hit in memory.scope(user_id="bob").search("rice")] == ["bob"]


@pytest.mark.parametrize("copy", [0, 1], ids=["in one place", "in the other"])
def test_a_bit_in_a_name_gives_a_users_records_to_nobody_else(path: Path, copy: int) -> None:
    content = (path / "memory.db").read_bytes()
    places = [found.start() for found in re.finditer(rb'\["bob"\]', content)]
    assert len(places) == 2  # in its row, and in the index
    at = places[copy] + 2
    (path / "memory.db").write_bytes(content[:at] + b"c" + content[at + 1 :])

    with opened(path) as memory:
        assert not memory.check().is_clean
        assert memory.scope(user_id="cob").search("rice") == []
        assert memory.repair().is_clean
        assert memory.scope(user_id="cob").search("rice") == []
        assert [hit.record.id for hit in memory.scope(user_id="bob").search("rice")] == ["bob"]
        memory.scope(user_id="cob").add("I am another one.")
        assert memory.purge().is_complete
        assert memory.check().is_clean


def test_values_of_a_profile_that_cannot_be_found_by_number_do_not_stop_a_repair(
    path: Path,
) -> None:
    sql(
        path,
        "INSERT INTO profiles SELECT namespace, 'third', value, checksum FROM profiles LIMIT 1",
    )
    sql(path, "UPDATE profiles SET namespace = 999")
    [[page]] = sql(path, "SELECT rootpage FROM sqlite_master WHERE name = 'profiles'")
    [[size]] = sql(path, "PRAGMA page_size")
    content = bytearray((path / "memory.db").read_bytes())
    # A leaf's header has 8 bytes; behind it stand the places of its rows, two bytes each.
    first = (page - 1) * size + 8
    places = [content[at : at + 2] for at in range(first, first + 6, 2)]
    content[first : first + 6] = b"".join(reversed(places))
    (path / "memory.db").write_bytes(content)

    with opened(path) as memory:
        assert not memory.check().is_clean
        assert memory.repair().is_clean
        assert memory.check().is_clean
        reads_on(memory)


# -- the rules by which records are found --------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_a_store_written_by_older_rules_says_so_once_and_works(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(path, "UPDATE settings SET value = '1' WHERE name = 'rules'")
    sql(path, "UPDATE records SET terms = x'01000000'")

    with opened(path) as memory:
        [message] = warnings(caplog)
        assert "memory.repair()" in message
        assert "hybrid-memory repair" in message
        reads_on(memory)
        found = memory.check()
        assert told(found) == [("rules", None)]

        repaired = memory.repair()

        assert told(repaired) == [("rules", None)]
        assert (repaired.is_clean, repaired.refreshed) == (True, 11)
        assert memory.check().is_clean
    caplog.clear()
    with opened(path) as memory:
        assert memory._store.rules() == indexing.RULES
        reads_on(memory)
    assert warnings(caplog) == []


def test_a_store_written_by_newer_rules_works_and_is_not_repaired(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(path, "UPDATE settings SET value = '99' WHERE name = 'rules'")

    with opened(path) as memory:
        assert len(warnings(caplog)) == 1
        reads_on(memory)
        assert told(memory.check()) == [("rules", None)]
        with pytest.raises(SchemaVersionError, match=r"99.*upgrade"):
            memory.repair()
        assert memory._store.rules() == 99


def test_a_repair_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store"
    text = "# The menu\n" + "\n".join(f"On day {i} there is soup number {i}." for i in range(600))
    with opened(path) as memory:
        memory.scope(user_id="ana").add_documents([text], source="menu.md")
    chunks = sql(path, "SELECT count(*) FROM records")[0][0]
    # As the rules of version 1 would have written them: without the headings.
    sql(path, "UPDATE settings SET value = '1' WHERE name = 'rules'")
    sql(path, "UPDATE records SET terms = x'01000000'")

    first = CountingEmbedder(left=300)
    with opened(path, embedder=first) as memory, pytest.raises(RuntimeError):
        memory.repair()
    with opened(path) as memory:
        assert memory._store.rules() == 1
        assert not memory.check().is_clean
    second = CountingEmbedder()
    with opened(path, embedder=second) as memory:
        assert memory.repair().is_clean
        encoded = len(first.texts) + len(second.texts)
        assert memory.check(vectors=True).is_clean

    assert 0 < len(first.texts) < chunks
    assert encoded == chunks - 1  # the first chunk has the heading in its text


def derived(record: Record) -> str:
    draft = indexing.draft(record, None)
    return f"{draft.terms.tobytes().hex()} {draft.digest} {draft.traits}"


def test_whatever_changes_what_is_derived_raises_the_version_of_the_rules() -> None:
    texts = [
        "Where did we walk on 3 May 2026? I don't remember the names.",
        "Zoë couldn't drink 茶 in 東京 yesterday, at half past five; the geese were running.",
        "I went, I bought three books, and I've been told that we were wrong about it.",
        "Yes.",
    ]
    sample = [
        Record(
            id=str(i),
            namespace=("ana",),
            kind=kind,
            text=text,
            at=NOON,
            created_at=NOON,
            speaker=speaker,
            data=data,
        )
        for i, (text, kind, speaker, data) in enumerate(
            (text, kind, speaker, data)
            for text in texts
            for kind, speaker, data in (
                ("message", None, None),
                ("fact", "Bea", None),
                ("document", None, {"title": "Guide", "headings": ["Food", "Tea"]}),
            )
        )
    ]
    digest = hashlib.sha256("\n".join(map(derived, sample)).encode()).hexdigest()[:16]

    # If this fails, what records are found by has changed: raise RULES, so that the stores of
    # users say that they want to be repaired, and write both down here.
    assert (indexing.RULES, digest) == (2, "2436497968c0ffdc")


# -- stores of schema 1 --------------------------------------------------------------------

SCHEMA_1 = """
CREATE TABLE namespaces (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, labels TEXT NOT NULL,
    counter INTEGER NOT NULL, UNIQUE (labels));
CREATE TABLE records ("key" INTEGER NOT NULL, namespace INTEGER NOT NULL, change INTEGER NOT NULL,
    id TEXT NOT NULL, kind VARCHAR(16) NOT NULL, role VARCHAR(16) NOT NULL, speaker TEXT,
    session_id TEXT, source TEXT NOT NULL, at BIGINT NOT NULL, created_at BIGINT NOT NULL,
    expires_at BIGINT, valid_from BIGINT, valid_to BIGINT, superseded_by TEXT,
    importance FLOAT NOT NULL, version INTEGER NOT NULL, metadata TEXT, data TEXT,
    text TEXT NOT NULL, digest BIGINT NOT NULL, question FLOAT NOT NULL,
    tells_time BOOLEAN NOT NULL, tells_number BOOLEAN NOT NULL, terms BLOB NOT NULL, vector BLOB,
    checksum BLOB NOT NULL, PRIMARY KEY ("key"));
CREATE INDEX records_kind ON records (namespace, kind, "key");
CREATE INDEX records_change ON records (namespace, change);
CREATE INDEX records_session ON records (namespace, session_id, kind, "key");
CREATE UNIQUE INDEX records_id ON records (namespace, id);
CREATE TABLE removals (namespace INTEGER NOT NULL, change INTEGER NOT NULL, "key" BIGINT NOT NULL,
    PRIMARY KEY (namespace, change));
CREATE TABLE profiles (namespace INTEGER NOT NULL, "key" TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (namespace, "key"));
CREATE TABLE settings (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
INSERT INTO settings VALUES ('space', '["hashed-words",64]');
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as version 0.1 of schema 1 wrote it: a turn, and a chunk under a heading."""
    path = tmp_path / "old"
    path.mkdir()
    records = [
        Record(
            id=id_, namespace=("ana",), kind=kind, text=text, at=NOON, created_at=NOON, data=data
        )
        for id_, kind, text, data in (
            ("tea", "message", "I drink green tea in the garden every single morning.", None),
            ("soup", "document", "There is soup.", {"title": "Menu", "headings": ["Mondays"]}),
        )
    ]
    with closing(sqlite3.connect(path / "memory.db")) as database, database:
        database.executescript(SCHEMA_1)
        database.execute("INSERT INTO namespaces VALUES (1, '[\"ana\"]', 2)")
        database.execute("INSERT INTO profiles VALUES (1, 'city', '\"Lyon\"')")
        for number, record in enumerate(records, 1):
            vector = HashEmbedder().embed_query(indexing.index_text(record, rules=1))
            draft = indexing.draft(record, vector)
            row = schema.row(draft, number=1, key=(1 << 32) + number, change=number)
            del row["vector_crc"], row["size"]
            row["terms"] = np.array([7], np.uint32).tobytes()
            marks = ", ".join("?" * len(row))
            database.execute(
                f"INSERT INTO records ({', '.join(row)}) VALUES ({marks})", list(row.values())
            )
    return path


def test_a_store_of_schema_1_opens_and_everything_is_there(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(old) as memory:
        ana = memory.scope(user_id="ana")
        assert len(warnings(caplog)) == 1
        assert [turn.id for turn in ana.messages()] == ["tea"]
        assert {hit.record.id for hit in ana.search("green tea", k=9)} == {"tea", "soup"}
        assert dict(ana.profile) == {"city": "Lyon"}
        assert ana.get("soup").data == {"title": "Menu", "headings": ["Mondays"]}
        assert told(memory.check()) == [("rules", None)]
        ana.add("I drink it black now.", id="black")
        ana.profile["country"] = "France"

    assert sql(old, "PRAGMA user_version") == [(schema.VERSION,)]
    assert sql(old, "SELECT value FROM settings WHERE name = 'rules'") == [("1",)]


def test_the_repair_of_a_store_of_schema_1_encodes_only_what_was_encoded_otherwise(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = CountingEmbedder()
    with opened(old, embedder=embedder) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink it black now.", id="black")
        embedder.texts.clear()

        repaired = memory.repair()

        assert told(repaired) == [("rules", None)]
        assert (repaired.is_clean, repaired.refreshed) == (True, 2)
        assert embedder.texts == ["Menu / Mondays\nThere is soup."]
        assert memory.check(vectors=True).is_clean
        assert ana.search("What is on the menu on Mondays?", k=1)[0].record.id == "soup"
    caplog.clear()
    with opened(old):
        assert warnings(caplog) == []


def test_tables_are_the_same_whether_new_or_brought_up_to_date(old: Path, tmp_path: Path) -> None:
    opened(old).close()
    opened(tmp_path / "new").close()

    def columns(path: Path) -> dict[str, list[Any]]:
        names = [name for (name,) in sql(path, "SELECT name FROM sqlite_master ORDER BY name")]
        return {
            name: sorted(row[1:4] for row in sql(path, f"PRAGMA table_info({name})"))
            for name in names
        }

    assert columns(old) == columns(tmp_path / "new")


def test_an_empty_store_of_schema_1_needs_no_repair(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(tmp_path / "memory.db")) as database, database:
        database.executescript(SCHEMA_1)

    with opened(tmp_path) as memory:
        memory.scope(user_id="ana").add("I like tea.")
        assert memory._store.rules() == indexing.RULES
        assert memory.check().is_clean
    assert warnings(caplog) == []


def test_a_migration_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sql(old, "SELECT name, sql FROM sqlite_master ORDER BY name")
    from hybrid_memory.backends.sql import maintenance

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "insert", fail)
        with pytest.raises(RuntimeError):
            opened(old)

    assert sql(old, "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    assert sql(old, "PRAGMA user_version") == [(1,)]
    opened(old).close()
    assert sql(old, "PRAGMA user_version") == [(schema.VERSION,)]


# -- copies --------------------------------------------------------------------------------


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[tuple[HybridMemory, ChromaDocumentStore]]:
    documents = ChromaDocumentStore(tmp_path / "chroma")
    with opened(tmp_path / "store", documents=documents) as memory:
        for user in ("ana", "bob"):
            scope = memory.scope(user_id=user)
            lines = [f"On day {i} there is {user}'s soup number {i}." for i in range(20)]
            scope.add_documents(["\n".join(lines)], source="menu.md")
            scope.add("I like soup.")
            assert scope.search("soup number 7", k=1)[0].record.text == lines[7]
        yield memory, documents


def none_of(
    documents: ChromaDocumentStore, name: tuple[str, ...], position: int, keys: Any
) -> None:
    documents.apply(
        name,
        keys=np.empty(0, np.int64),
        vectors=np.empty((0, 64), np.float32),
        removed=np.array(keys, np.int64),
        position=position,
    )


def lose(documents: ChromaDocumentStore, name: tuple[str, ...], keys: list[int]) -> None:
    none_of(documents, name, documents.position(name), keys[:3])


def go_ahead(documents: ChromaDocumentStore, name: tuple[str, ...], keys: list[int]) -> None:
    none_of(documents, name, documents.position(name) + 100, [])


def exchange(documents: ChromaDocumentStore, name: tuple[str, ...], keys: list[int]) -> None:
    vectors = HashEmbedder().embed(["something else"])
    documents.apply(
        name,
        keys=np.array(keys[:1], np.int64),
        vectors=vectors,
        removed=np.empty(0, np.int64),
        position=documents.position(name),
    )


def add_one(documents: ChromaDocumentStore, name: tuple[str, ...], keys: list[int]) -> None:
    exchange(documents, name, [keys[-1] + 1000])


@pytest.mark.parametrize("differ", [lose, go_ahead, exchange, add_one])
def test_a_document_store_that_differs_is_reported_and_filled_again(
    learned: tuple[HybridMemory, ChromaDocumentStore], differ: Callable[..., None]
) -> None:
    memory, documents = learned
    name = collection_of(memory._store, ("ana",))
    keys = [row.key for row in memory._store.stored(("ana",)) if row.record]
    assert memory.check().is_clean
    memory.scope(user_id="ana").add("A later turn.")
    assert memory.check().is_clean  # it is behind by a turn, which is no document
    differ(documents, name, keys[:20])

    found = memory.check()
    repaired = memory.repair()

    assert [(one.kind, one.namespace) for one in found.problems] == [("documents", ("ana",))]
    assert [(one.kind, one.namespace) for one in repaired.problems] == [("documents", ("ana",))]
    assert repaired.is_clean
    assert memory.check().is_clean
    assert documents.count(name) == 20
    hits = memory.scope(user_id="ana").search("soup number 0", k=30, kinds="document")
    assert len(hits) == 20
    assert "number 0" in hits[0].record.text


def test_a_damaged_chunk_leaves_the_document_store_too(
    learned: tuple[HybridMemory, ChromaDocumentStore], tmp_path: Path
) -> None:
    memory, documents = learned
    [[key, id_]] = sql(
        tmp_path / "store", "SELECT key, id FROM records WHERE text LIKE '%ana%number 7.'"
    )
    sql(tmp_path / "store", "UPDATE records SET text = text || '!' WHERE key = ?", key)
    ana = memory.scope(user_id="ana")

    assert len(ana.search("soup number 7", k=19, kinds="document")) == 19
    assert told(memory.check()) == [("record", id_)]
    assert memory.repair().is_clean
    assert memory.check().is_clean
    assert documents.count(collection_of(memory._store, ("ana",))) == 19


def test_a_document_store_that_cannot_be_asked_is_a_problem_of_its_own(path: Path) -> None:
    documents = MemoryDocumentStore()
    with opened(path, documents=documents) as memory:
        memory.scope(user_id="ana").search("lentils")
        assert memory.check().is_clean

        def fail(*_: object) -> int:
            raise StoreCorruptError("gone")

        documents.count = fail  # type: ignore[method-assign, assignment]
        found = memory.check()

    assert [(one.kind, one.namespace) for one in found.problems] == [("documents", ("ana",))]
    assert "StoreCorruptError" in found.problems[0].detail


@pytest.mark.parametrize("column", ["at", "digest", "importance", "speaker", "kind", "key"])
def test_a_copy_in_ram_that_differs_is_reported_and_dropped(path: Path, column: str) -> None:
    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        ana.search("tea")
        view, _ = memory._cache.views(("ana",))
        view.columns[column][2] = 1  # type: ignore[index]

        found = memory.check()
        memory.repair()

        assert {one.kind for one in found.problems} == {"partition"}
        assert all(one.namespace == ("ana",) for one in found.problems)
        assert memory.check().is_clean
        reads_on(memory)


def test_a_vector_in_ram_that_differs_is_reported(path: Path) -> None:
    with opened(path) as memory:
        memory.scope(user_id="ana").search("tea")
        view, _ = memory._cache.views(("ana",))
        assert view.vectors is not None
        view.vectors.flags.writeable = True
        view.vectors[1] = 0

        found = memory.check()

    assert [one.kind for one in found.problems] == ["partition"]


def test_others_who_have_the_store_open_learn_of_a_repair(path: Path) -> None:
    with opened(path) as memory, opened(path) as other:
        scope = other.scope(user_id="ana", session_id="s1")
        scope.search("allergic")
        sql(path, "UPDATE records SET text = 'Damaged.' WHERE id = 'nuts'")
        sql(path, "UPDATE records SET terms = x'' WHERE id = 'r0'")

        memory.repair()

        reads_on(other, without=["nuts"])
        assert other.check().is_clean


def test_a_check_while_others_write_finds_nothing_wrong(path: Path) -> None:
    with opened(path) as memory, opened(path) as other:
        ana = other.scope(user_id="ana", session_id="s1")
        memory.scope(user_id="ana").search("tea")

        def write(*_: int) -> None:
            number = sql(path, "SELECT count(*) FROM records")[0][0]
            ana.add(f"Written meanwhile, number {number}.")
            ana.delete("r0")

        found = memory.check(on_progress=write)
        repaired = memory.repair(on_progress=write)
        assert memory.check().is_clean

    assert (found.problems, repaired.problems) == ((), ())


def test_what_is_updated_during_a_repair_stays_updated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(path, "UPDATE records SET terms = x''")
    with opened(path) as memory:
        ana = memory.scope(user_id="ana")
        refresh = memory._store.refresh

        def late(namespace: Any, rows: Any) -> int:
            if namespace == ("ana",):
                ana.update("r0", text="Coffee now.")
            return refresh(namespace, rows)

        monkeypatch.setattr(memory._store, "refresh", late)
        memory.repair()

        assert ana.get("r0").text == "Coffee now."
        assert memory.check().is_clean
        assert ana.search("coffee", k=1)[0].record.id == "r0"


# -- many ----------------------------------------------------------------------------------


def test_problems_name_their_namespace(path: Path) -> None:
    sql(path, "UPDATE records SET text = 'x' WHERE id = 'bob'")
    sql(path, "UPDATE records SET terms = x'' WHERE id = 'r1'")

    with opened(path) as memory:
        found = memory.check()

    assert [(one.kind, one.namespace, one.id) for one in found.problems] == [
        ("terms", ("ana",), "r1"),
        ("record", ("bob",), "bob"),
    ]


def test_a_report_counts_all_and_lists_the_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_PROBLEMS", 3)
    sql(path, "UPDATE records SET digest = 1")

    with opened(path) as memory:
        found = memory.check()
        repaired = memory.repair()

    assert (len(found.problems), dict(found.counts), found.left) == (3, {"digest": 11}, 11)
    assert (len(repaired.problems), repaired.left, repaired.refreshed) == (3, 0, 11)


def test_a_store_of_another_kind_is_checked_and_repaired_as_well() -> None:
    store = MemoryRecordStore()
    memory = HybridMemory(store, embedder=HashEmbedder())
    ana = memory.scope(user_id="ana")
    ana.add("I like tea.", id="tea")
    ana.add("I like rice.", id="rice")
    assert memory.check().is_clean
    store.damage(("ana",), id="tea")

    assert [hit.record.id for hit in ana.search("What do I like?")] == ["rice"]
    assert told(memory.check()) == told(memory.repair()) == [("record", "tea")]
    assert memory.check().is_clean


# -- after an unclean stop -----------------------------------------------------------------

_KILLED = """
import os, sys
from hybrid_memory import HybridMemory
from hybrid_memory.testing import HashEmbedder
memory = HybridMemory.open(sys.argv[1], embedder=HashEmbedder())
memory.scope(user_id="ana", session_id="s1").add("The last words.", id="last")
os._exit(9)
"""


def killed(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path)],
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 9


def test_a_store_that_was_closed_was_not_interrupted(path: Path) -> None:
    with opened(path) as memory:
        assert not memory._store.was_interrupted


def test_after_an_unclean_stop_a_whole_store_opens_in_silence(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed(path)

    with opened(path) as memory:
        assert memory._store.was_interrupted
        assert memory.scope(user_id="ana").get("last").text == "The last words."
    assert warnings(caplog) == []
    with opened(path) as memory:
        assert not memory._store.was_interrupted


def test_after_an_unclean_stop_damage_is_told_at_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql(path, "UPDATE records SET text = text || '!' WHERE id = 'nuts'")
    killed(path)

    opened(path).close()

    [message] = warnings(caplog)
    assert "1 damaged" in message
    assert "memory.repair()" in message
    assert CANARY not in message


def test_a_store_that_another_has_open_is_looked_over_and_opens(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as memory:
        memory.scope(user_id="ana").add("I am at work here.")
        with opened(path) as other:
            assert other.scope(user_id="ana").search("work")
    assert warnings(caplog) == []


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    from hybrid_memory.cli import main

    monkeypatch.setenv("HYBRID_MEMORY_USER", "ana")
    monkeypatch.setenv("HYBRID_MEMORY_STORE", str(tmp_path / "memory"))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        out, err = capfd.readouterr()
        assert CANARY not in out + err
        return code, out + err

    run("add", f"I am allergic to {CANARY}.", "--id", "nuts")
    run("add", "I cycle to work.", "--id", "bike")
    return run


def test_the_command_ends_with_0_where_nothing_is_wrong(
    run: Callable[..., tuple[int, str]],
) -> None:
    for command in (["check"], ["check", "--quick"], ["check", "--vectors"], ["repair"]):
        code, out = run(*command)
        assert code == 0
        assert out == "2 records looked at; no problems\n"


def test_the_command_ends_with_1_where_something_is_wrong(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    sql(tmp_path / "memory", "UPDATE records SET text = text || '!' WHERE id = 'nuts'")
    sql(tmp_path / "memory", "UPDATE records SET terms = x'' WHERE id = 'bike'")

    code, out = run("check")
    assert code == 1
    assert "nuts" in out
    assert "2 records looked at; problems: 1 record, 1 terms (2 left)" in out
    code, out = run("check", "--json")
    assert code == 1
    values = json.loads(out)
    assert [one["kind"] for one in values["problems"]] == ["record", "terms"]
    assert values["is_clean"] is False
    code, out = run("repair")
    assert code == 0
    assert "1 refreshed; 1 in quarantine" in out
    code, out = run("check")
    assert (code, out) == (0, "1 records looked at; no problems; 1 in quarantine\n")


def test_the_command_ends_with_2_where_there_is_nothing_to_look_at(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert run("check", "--store", str(tmp_path / "misspelt"))[0] == 2
    (tmp_path / "memory" / "memory.db").write_bytes(b"no database" * 99)
    for command in ("check", "repair"):
        code, out = run(command)
        assert code == 2
        assert out.count("\n") == 1


# -- stores beside -------------------------------------------------------------------------


def five() -> HashEmbedder:
    return HashEmbedder(5, name="five")


@pytest.fixture
def with_beside(path: Path) -> Path:
    """The same, closed, with two stores beside, one of them within the other."""
    with opened(path) as memory:
        for names in (["own"], ["own", "within"]):
            beside = memory
            for name in names:
                beside = beside.beside(name, embedder=five())
            beside.scope(user_id="ana").add(f"Something else about {CANARY}.", id="nuts")
            beside.scope(user_id="ana").add("Tea, beside.", id="tea")
    return path


OWN = Path("beside/own")
WITHIN = OWN / "beside/within"


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_what_is_whole_beside_is_found_to_be_so(with_beside: Path, is_open: bool) -> None:
    steps: list[tuple[int, int]] = []
    with opened(with_beside) as memory:
        alone = memory.scope(user_id="ana").stats().total + 1
        if is_open:
            memory.beside("own", embedder=five()).beside("within", embedder=five())

        found = memory.check(vectors=True, on_progress=lambda *step: steps.append(step))
        mended = memory.repair()

    assert found.problems == mended.problems == ()
    assert found.records == mended.records == alone + 4
    assert steps == sorted(steps)
    assert steps[-1] == (alone + 4, alone + 4)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_damage_beside_is_found_and_repaired_without_a_text(
    with_beside: Path, is_open: bool
) -> None:
    sql(with_beside / OWN, "UPDATE records SET text = 'flipped' WHERE id = 'tea'")
    sql(with_beside / WITHIN, "UPDATE records SET terms = x'' WHERE id = 'nuts'")
    with opened(with_beside) as memory:
        if is_open:
            memory.beside("own", embedder=five()).beside("within", embedder=five())

        found = memory.check()
        mended = memory.repair()
        again = memory.check()

    told_of = [(one.kind, one.beside, one.id) for one in found.problems]
    assert told_of == [("record", "own", "tea"), ("terms", "own/within", "nuts")]
    assert CANARY not in repr(found)
    assert (found.left, mended.left) == (2, 0)
    assert found.counts == mended.counts == {"record": 1, "terms": 1}
    assert (again.problems, again.quarantined) == ((), 1)


def test_a_vector_beside_is_made_anew_where_its_embedder_is_known(with_beside: Path) -> None:
    sql(with_beside / OWN, "UPDATE records SET vector = x'00' WHERE id = 'tea'")
    with opened(with_beside) as memory:
        unopened = memory.repair()
        beside = memory.beside("own", embedder=five())
        mended = memory.repair()

        assert memory.check().is_clean
        assert beside.scope(user_id="ana").search("Tea, beside.")[0].record.id == "tea"

    [problem] = unopened.problems
    assert (problem.kind, problem.beside, problem.id) == ("vector", "own", "tea")
    assert not problem.is_repaired
    assert "HybridMemory.beside" in problem.detail
    assert (unopened.left, mended.left, mended.refreshed) == (1, 0, 1)


def test_a_copy_in_ram_of_a_memory_beside_is_compared(with_beside: Path) -> None:
    with opened(with_beside) as memory:
        beside = memory.beside("own", embedder=five())
        ana = beside.scope(user_id="ana")
        ana.search("tea")
        beside._cache.views(("ana",))[0].columns["at"][0] += 1

        [problem] = memory.check().problems
        memory.repair()

        assert (problem.kind, problem.beside) == ("partition", "own")
        assert memory.check().is_clean


def test_a_store_beside_that_is_no_database_is_told(with_beside: Path) -> None:
    (with_beside / OWN / "memory.db").write_bytes(b"no database" * 999)
    with opened(with_beside) as memory:
        found, mended = memory.check(), memory.repair()

    for one in (found, mended):
        [problem] = one.problems
        assert (problem.kind, problem.beside, one.left) == ("database", "own", 1)


def test_rules_beside_are_brought_up_to_date(
    with_beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(with_beside / OWN, "UPDATE settings SET value = '1' WHERE name = 'rules'")
    monkeypatch.setattr("hybrid_memory.upkeep.repairing._was_encoded_otherwise", lambda *_: True)
    sql(with_beside / OWN, "UPDATE records SET terms = x'' WHERE id = 'tea'")
    with opened(with_beside) as memory:
        unopened = memory.repair()
        memory.beside("own", embedder=five())
        mended = memory.repair()
        assert memory.check().is_clean

    for one, is_repaired in ((unopened, False), (mended, True)):
        [problem] = one.problems
        assert (problem.kind, problem.beside) == ("rules", "own")
        assert problem.is_repaired == is_repaired


def test_the_commands_check_and_repair_what_is_beside(
    with_beside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid_memory.memory.engine._bundled_embedder", HashEmbedder)
    sql(with_beside / OWN, "UPDATE records SET terms = x'' WHERE id = 'tea'")

    assert main(["check", "--store", str(with_beside), "--json"]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["kind"], problem["beside"]) == ("terms", "own")
    assert main(["repair", "--store", str(with_beside)]) == 0
    assert "own" in capsys.readouterr().out
    assert main(["check", "--store", str(with_beside)]) == 0
