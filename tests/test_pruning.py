"""A memory that stays within bounds: quotas, retention and pruning."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, PrunePolicy, Quota, Scope
from hybrid_memory.backends.sql import schema
from hybrid_memory.errors import InvalidInputError, QuotaExceededError
from hybrid_memory.memory.shelf import part_ids
from hybrid_memory.pruning import span
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore
from hybrid_memory.types import ItemChange

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def bounded(tmp_path: Path, clock: ManualClock) -> Callable[..., HybridMemory]:
    """Open a memory of its own with these parts."""
    opened: list[HybridMemory] = []

    def open_(name: str = "bounded", **parts: Any) -> HybridMemory:
        memory = HybridMemory.open(
            tmp_path / name, embedder=HashEmbedder(), clock=clock, durability="normal", **parts
        )
        opened.append(memory)
        return memory

    yield open_  # type: ignore[misc]
    for memory in opened:
        memory.close()


def sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path / "memory.db")) as database, database:
        return database.execute(statement).fetchall()


# -- pruning -------------------------------------------------------------------------------


def test_nothing_is_pruned_by_a_dry_run_which_is_the_default(ana: Scope) -> None:
    ana.add_many(["I like tea.", "I like rice."])

    told = ana.prune(PrunePolicy(max_records=1))

    assert told.dry_run
    assert [victim.kind for victim in told.victims] == ["message"]
    assert ana.stats().total == 2


def test_what_was_pruned_is_not_found_any_more(ana: Scope, clock: ManualClock) -> None:
    ana.add("I like green tea.")
    clock.advance(days=91)
    kept = ana.add("I like brown rice.")

    pruned = ana.prune(PrunePolicy(older_than=90 * DAY), dry_run=False)

    assert pruned.reasons == {"older than 90 days": 1}
    assert [hit.record for hit in ana.search("What do I like?")] == [kept]


def test_only_the_own_namespace_is_pruned(memory: HybridMemory) -> None:
    bob = memory.scope(user_id="bob")
    bob.add("I like rice.")
    ana = memory.scope(user_id="ana", read=[("bob",)])
    ana.add("I like tea.")

    ana.prune(PrunePolicy(max_records=0), dry_run=False)

    assert (ana.stats().total, bob.stats().total) == (0, 1)


def test_instructions_and_the_profile_stay(ana: Scope) -> None:
    ana.add_instruction("Always answer concisely.")
    ana.profile["city"] = "Lyon"
    ana.add("I like tea.")

    ana.prune(PrunePolicy(max_records=0, max_bytes=0, importance_below=1.0), dry_run=False)

    assert ana.stats().total == 1
    assert len(ana.instructions()) == 1
    assert ana.profile["city"] == "Lyon"


def test_with_kinds_only_these_are_counted_and_removed(ana: Scope) -> None:
    ana.add_many([{"text": f"Line {i}.", "kind": "event"} for i in range(5)])
    ana.add_many([f"I said {i}." for i in range(5)])
    ana.add("Something expired.", expires_at=NOW - 99 * DAY)

    pruned = ana.prune(PrunePolicy(max_records=3, kinds=["event"]), dry_run=False)

    assert {victim.reason for victim in pruned.victims} == {"least worth of 5, 3 are kept"}
    counted = {kind: count for kind, count in ana.stats().records.items() if count}
    assert counted == {"event": 3, "message": 6}


def test_of_equal_importance_the_older_goes(ana: Scope, clock: ManualClock) -> None:
    newer = ana.add("I like tea.", at=clock())
    older = ana.add("I like rice.", at=clock() - DAY)

    pruned = ana.prune(PrunePolicy(max_records=1))

    assert [victim.id for victim in pruned.victims] == [older.id]
    assert newer.id not in {victim.id for victim in pruned.victims}


def test_a_time_can_be_passed_in(ana: Scope, clock: ManualClock) -> None:
    ana.add("I like tea.", expires_at=clock() + DAY)

    assert ana.prune(PrunePolicy()).victims == ()
    assert ana.prune(PrunePolicy(), now=clock() + DAY).reasons == {"expired": 1}


def test_a_report_shows_no_text(ana: Scope) -> None:
    ana.add("My canary is called 8306.")

    assert "canary" not in repr(ana.prune(PrunePolicy(max_records=0)))


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["message", "fact", "event", "instruction"]),
            "importance": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
            "metadata": st.sampled_from([{}, {"pinned": True}, {"durable": True}, {"n": 1}]),
            "age": st.integers(0, 300),
            "is_expired": st.booleans(),
        }
    ),
    max_size=25,
)


@given(RECORDS, st.integers(0, 25), st.booleans())
@settings(max_examples=150, deadline=None)
def test_exactly_what_is_over_the_bound_goes_and_never_what_is_pinned(
    made: list[dict[str, Any]], n: int, only_messages: bool
) -> None:
    memory = HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(), clock=lambda: NOW)
    ana = memory.scope(user_id="ana")
    ana.add_many(
        {
            "text": f"Text {number}.",
            "id": str(number),
            "at": NOW - one["age"] * DAY,
            "kind": one["kind"],
            "importance": one["importance"],
            "metadata": one["metadata"],
            "expires_at": NOW if one["is_expired"] else None,
        }
        for number, one in enumerate(made)
    )
    looked_at = [one for one in made if not only_messages or one["kind"] == "message"]
    alive = [one for one in looked_at if not one["is_expired"]]
    fixed = [
        one
        for one in alive
        if one["importance"] == 1
        or one["metadata"].get("pinned")
        or one["metadata"].get("durable")
        or one["kind"] == "instruction"
    ]

    pruned = ana.prune(
        PrunePolicy(max_records=n, kinds="message" if only_messages else None), dry_run=False
    )

    left = max(min(n, len(alive)), len(fixed))
    assert ana.stats().total == pruned.records == len(made) - len(looked_at) + left
    gone = [made[int(victim.id)] for victim in pruned.victims]
    assert not [one for one in gone if one in fixed and not one["is_expired"]]
    worths = [(one["kind"], one["importance"]) for one in gone if not one["is_expired"]]
    assert [worth for _, worth in worths] == sorted(worth for _, worth in worths)
    assert ana.stats().bytes == pruned.bytes


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"max_records": -1}, "max_records must be at least 0"),
        ({"max_bytes": 1.5}, "max_bytes must be an integer"),
        ({"older_than": 90}, "older_than must be a timedelta"),
        ({"older_than": -DAY}, "longer than nothing"),
        ({"importance_below": 2}, "between 0 and 1"),
        ({"importance_below": True}, "must be a number"),
        ({"kinds": ["profile"]}, "unknown kind 'profile'"),
    ],
)
def test_a_policy_is_checked(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        PrunePolicy(**wrong)


def test_something_else_than_a_policy_is_refused(ana: Scope) -> None:
    with pytest.raises(InvalidInputError, match=r"PrunePolicy\(max_records=1000\)"):
        ana.prune({"max_records": 1})  # type: ignore[arg-type]


def test_spans_are_read_as_they_are_said() -> None:
    spans = [DAY, 90 * DAY, timedelta(hours=36), timedelta(minutes=1), timedelta(seconds=1.5)]

    assert [span(one) for one in spans] == [
        "1 day",
        "90 days",
        "36 hours",
        "1 minute",
        "1.5 seconds",
    ]


# -- retention -----------------------------------------------------------------------------


def test_a_kind_expires_after_its_retention_unless_it_says_otherwise(
    bounded: Callable[..., HybridMemory], clock: ManualClock
) -> None:
    ana = bounded(retention={"message": 30 * DAY}).scope(user_id="ana")
    tea = ana.add("I like tea.")
    later = ana.add("I like rice.", expires_at=clock() + 90 * DAY)
    old = ana.add("I liked soup.", at=clock() - 10 * DAY)

    assert tea.expires_at == tea.at + 30 * DAY
    assert later.expires_at == clock() + 90 * DAY
    assert old.expires_at == clock() + 20 * DAY
    assert ana.add_fact("Ana likes tea.").expires_at is None
    assert ana.add("I am Ana.", importance=1.0).expires_at is None
    assert ana.add("I am from Lyon.", metadata={"pinned": True}).expires_at is None
    clock.advance(days=31)
    assert tea not in [hit.record for hit in ana.search("I like tea.")]
    pruned = ana.prune(PrunePolicy(), dry_run=False)
    assert {victim.id for victim in pruned.victims} == {tea.id, old.id}


def test_a_repeated_add_with_a_retention_is_the_same_add(
    bounded: Callable[..., HybridMemory], clock: ManualClock
) -> None:
    ana = bounded(retention={"message": 30 * DAY}).scope(user_id="ana")
    first = ana.add("I like tea.", id="tea")
    clock.advance(minutes=5)

    assert ana.add("I like tea.", id="tea") == first
    again = bounded(retention={"message": 9 * DAY}).scope(user_id="ana")
    assert again.add("I like tea.", id="tea") == first


def test_an_expiry_can_be_taken_away_again(bounded: Callable[..., HybridMemory]) -> None:
    ana = bounded(retention={"message": DAY}).scope(user_id="ana")
    tea = ana.add("I like tea.")

    assert ana.update(tea.id, expires_at=None).expires_at is None


def test_a_retention_beyond_the_calendar_is_none(bounded: Callable[..., HybridMemory]) -> None:
    ana = bounded(retention={"message": timedelta.max}).scope(user_id="ana")

    assert ana.add("I like tea.").expires_at is None


@pytest.mark.parametrize("wrong", [{"massage": DAY}, {"message": 30}, {"message": -DAY}, [DAY]])
def test_a_retention_is_checked(bounded: Callable[..., HybridMemory], wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"retention|unknown kind"):
        bounded(retention=wrong)


# -- quotas --------------------------------------------------------------------------------


def test_a_full_scope_says_what_the_quota_is_and_the_way_out(
    bounded: Callable[..., HybridMemory], clock: ManualClock
) -> None:
    memory = bounded(quota=Quota(records=2))
    ana = memory.scope(user_id="ana")
    ana.add_many(["I like tea.", "I like rice."])

    with pytest.raises(QuotaExceededError, match=r"quota of this scope is 2 records.*prune\("):
        ana.add("I like soup.")
    with pytest.raises(QuotaExceededError):
        ana.add_documents(["Soup."], source="menu.md")

    assert ana.stats().total == 2
    memory.scope(user_id="bob").add("I like soup.")
    ana.prune(PrunePolicy(max_records=1), dry_run=False)
    ana.add("I like soup.")


def test_an_import_keeps_within_the_quota(
    ana: Scope, bounded: Callable[..., HybridMemory], tmp_path: Path
) -> None:
    ana.add_many([f"I said {i}." for i in range(30)])
    ana.export(tmp_path / "all.jsonl")
    refusing = bounded("a", quota=Quota(records=29)).scope(user_id="ana")
    fitting = bounded("b", quota=Quota(records=30)).scope(user_id="ana")

    with pytest.raises(QuotaExceededError):
        refusing.import_(tmp_path / "all.jsonl")
    fitting.import_(tmp_path / "all.jsonl")

    assert refusing.stats().total == 0
    assert fitting.stats().total == 30


def test_what_is_forgotten_or_erased_leaves_room(bounded: Callable[..., HybridMemory]) -> None:
    memory = bounded(quota=Quota(records=2))
    ana = memory.scope(user_id="ana")
    for _ in range(2):
        ana.add_documents(["The canteen serves lentils."], source="menu.md")
        ana.add("I like tea.")
        with pytest.raises(QuotaExceededError):
            ana.add("I like rice.")
        ana.forget(source="menu.md")
        ana.add("I like rice.")
        assert memory.check().is_clean
        ana.erase()


def test_an_update_keeps_within_the_quota(bounded: Callable[..., HybridMemory]) -> None:
    ana = bounded(quota=Quota(bytes=2000)).scope(user_id="ana")
    tea = ana.add("I like tea.")

    with pytest.raises(QuotaExceededError, match="2,000 bytes"):
        ana.update(tea.id, text="tea " * 500)

    assert ana.get(tea.id) == tea


def test_a_scope_that_prunes_goes_on_and_keeps_what_is_important(
    bounded: Callable[..., HybridMemory],
) -> None:
    ana = bounded(quota=Quota(records=10, when_full="prune")).scope(user_id="ana")
    important = ana.add("I am allergic to nuts.", importance=0.9)
    for i in range(50):
        added = ana.add(f"I said {i}.")
        assert ana.get(added.id) == added
        assert ana.stats().total <= 10

    assert ana.get(important.id) == important
    assert {turn.text for turn in ana.messages()} >= {"I said 49.", "I am allergic to nuts."}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({}, "bounds records, bytes or both"),
        ({"records": 0}, "at least 1"),
        ({"bytes": "1 MB"}, "must be an integer"),
        ({"records": 1, "when_full": "drop"}, "'refuse' or 'prune'"),
    ],
)
def test_a_quota_is_checked(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        Quota(**wrong)


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from hybrid_memory import HybridMemory, Quota
from hybrid_memory.errors import QuotaExceededError
from hybrid_memory.testing import HashEmbedder

path, when_full = sys.argv[1:]
quota = Quota(records=60, bytes=30_000, when_full=when_full)
with HybridMemory.open(path, embedder=HashEmbedder(), quota=quota, durability="normal") as memory:
    ana = memory.scope(user_id="ana")

    def write(writer):
        highest = 0
        for i in range(25):
            try:
                ana.add_many([f"I said {writer} {i}.", "x" * (i * 9 + 1)])
            except QuotaExceededError:
                pass
            stats = ana.stats()
            assert stats.total <= 60 and stats.bytes <= 30_000, stats
            highest = max(highest, stats.total)
        return highest

    with ThreadPoolExecutor(4) as pool:
        print(max(pool.map(write, range(4))))
"""


@pytest.mark.parametrize("when_full", ["refuse", "prune"])
def test_two_processes_of_four_threads_never_exceed_a_quota(tmp_path: Path, when_full: str) -> None:
    path = tmp_path / "memory"
    HybridMemory.open(path, embedder=HashEmbedder()).close()
    command = [sys.executable, "-c", WRITER, str(path), when_full]
    env = {"PYTHONPATH": ":".join(sys.path)}
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=env) for _ in range(2)]

    highest = [int(writer.communicate(timeout=120)[0]) for writer in writers]

    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(30 < one <= 60 for one in highest)
    with HybridMemory.open(path, embedder=HashEmbedder()) as memory:
        assert memory.check().is_clean


# -- upkeep --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE namespaces SET records = records + 1",
        "UPDATE namespaces SET bytes = bytes - 1",
        "UPDATE records SET size = size + 1 WHERE id = 'tea'",
    ],
)
def test_counts_that_are_wrong_are_found_and_repaired(
    bounded: Callable[..., HybridMemory], tmp_path: Path, damage: str
) -> None:
    memory = bounded()
    ana = memory.scope(user_id="ana")
    ana.add("I like tea.", id="tea")
    before = ana.stats()
    sql(tmp_path / "bounded", damage)

    found = memory.check()
    repaired = memory.repair()

    assert found.counts == {"database": 1}
    assert "counts of namespace 1" in found.problems[0].detail
    assert repaired.is_clean
    assert memory.check().is_clean
    assert ana.stats() == before


@pytest.mark.parametrize(
    "damage",
    [
        "importance = 'much'",
        "importance = x'00'",
        "at = 'now'",
        "expires_at = 'now'",
        "metadata = x'00'",
        "metadata = CAST(x'7bff' AS TEXT)",
        """metadata = '{"pinned": tru'""",
        "id = CAST(x'74ff' AS TEXT)",
        "text = CAST(x'74ff' AS TEXT)",
    ],
)
def test_others_are_pruned_where_one_record_is_damaged(
    bounded: Callable[..., HybridMemory], tmp_path: Path, damage: str
) -> None:
    memory = bounded()
    ana = memory.scope(user_id="ana")
    ana.add_many({"text": f"I said {i}.", "id": str(i)} for i in range(5))
    sql(tmp_path / "bounded", f"UPDATE records SET {damage} WHERE id = '4'")

    pruned = ana.prune(PrunePolicy(max_records=2, max_bytes=10**6), dry_run=False)

    assert {victim.id for victim in pruned.victims} >= {"0", "1"}
    assert sql(tmp_path / "bounded", "SELECT count(*) FROM records") == [(pruned.records,)]
    memory.repair()
    assert memory.check().is_clean


def test_a_store_of_schema_2_is_counted_when_it_is_opened(
    bounded: Callable[..., HybridMemory], tmp_path: Path
) -> None:
    memory = bounded()
    ana = memory.scope(user_id="ana")
    ana.add_many([{"text": "Thé.", "id": "tea", "metadata": {"é": "è"}}, "I like rice."])
    memory.scope(user_id="bob").add("I like soup.")
    before = ana.stats()
    memory.close()
    for statement in (
        "ALTER TABLE namespaces DROP COLUMN records",
        "ALTER TABLE namespaces DROP COLUMN bytes",
        "ALTER TABLE records DROP COLUMN size",
        "PRAGMA user_version = 2",
    ):
        sql(tmp_path / "bounded", statement)

    memory = bounded(quota=Quota(records=2))
    ana = memory.scope(user_id="ana")

    assert sql(tmp_path / "bounded", "PRAGMA user_version") == [(schema.VERSION,)]
    assert ana.stats() == before
    assert memory.check().is_clean
    with pytest.raises(QuotaExceededError):
        ana.add("I like soup.")
    ana.update("tea", text="Tea.")
    ana.delete("tea")
    assert memory.check().is_clean
    assert [victim.bytes for victim in ana.prune(PrunePolicy(max_records=0)).victims] == [
        ana.stats().bytes
    ]


# -- items ---------------------------------------------------------------------------------


def whole(memory: HybridMemory, namespace: tuple[str, ...] = ("ana",)) -> int:
    """The number of items, all of whose texts are there; no text is left of any other."""
    items = memory.items().search(namespace, limit=100)
    records = memory.scope(namespace=namespace).get_many([item.key for item in items])
    ids = [id for record in records for id in (record.id, *part_ids(record))]
    assert len(memory.scope(namespace=namespace).get_many(ids)) == len(ids)
    assert memory.scope(namespace=namespace).stats().total == len(ids)
    return len(items)


@pytest.mark.parametrize("quota", [{"records": 13}, {"bytes": 13 * 330}])
def test_a_full_namespace_loses_items_with_all_their_texts_or_not_at_all(
    bounded: Callable[..., HybridMemory], clock: ManualClock, quota: dict[str, int]
) -> None:
    memory = bounded(quota=Quota(**quota, when_full="prune"))
    for number in range(9):
        clock.advance(minutes=1)
        texts = [f"Text {place} of item {number}." for place in range(1 + number % 4)]
        memory.items().write([ItemChange(("ana",), f"item-{number}", {"n": number}, texts)])

        assert whole(memory) >= 1

    assert whole(memory) < 9
    assert memory.items().get(("ana",), "item-8") is not None


@pytest.mark.parametrize("max_records", range(9))
def test_a_policy_leaves_no_text_of_an_item_behind(memory: HybridMemory, max_records: int) -> None:
    memory.items().write(
        ItemChange(("ana",), f"item-{number}", {}, [f"Text {place}." for place in range(3)])
        for number in range(3)
    )
    ana = memory.scope(user_id="ana")

    pruned = ana.prune(PrunePolicy(max_records=max_records), dry_run=False)

    assert whole(memory) == max_records // 3
    assert ana.stats().total == pruned.records


def test_an_item_one_text_of_which_is_pinned_stays(memory: HybridMemory) -> None:
    memory.items().write([ItemChange(("ana",), "tea", {}, ["Tea.", "Rice."])])
    ana = memory.scope(user_id="ana")
    ana.update("tea", importance=1.0)

    ana.prune(PrunePolicy(max_records=0), dry_run=False)

    assert whole(memory) == 1


def test_who_takes_more_than_they_put_may_do_so_in_a_namespace_above_its_quota(
    bounded: Callable[..., HybridMemory],
) -> None:
    with bounded() as memory:
        memory.items().write(ItemChange(("ana",), f"item-{n}", {"n": n}) for n in range(4))
    memory = bounded(quota=Quota(records=2))

    gone = [ItemChange(("ana",), f"item-{n}", None) for n in range(1, 3)]
    memory.items().write([*gone, ItemChange(("ana",), "new", {"n": 9})])

    assert whole(memory) == 3


def test_what_expires_by_its_kind_is_there_already_when_it_is_put_again(
    bounded: Callable[..., HybridMemory], clock: ManualClock
) -> None:
    memory = bounded(retention={"message": 30 * DAY})
    item = {"id": "tea", "text": "I like tea.", "at": clock()}
    [first] = memory.scope(user_id="ana").add_many([item])

    [again] = memory.scope(user_id="ana").add_many([item], on_conflict="replace")

    assert again == first
