"""The contract of RecordStore, as tests: policies and quotas."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import numpy as np
import pytest

from hybrid_memory.errors import QuotaExceededError
from hybrid_memory.protocols import Bound, RecordStore
from hybrid_memory.testing.record_stores.given import (
    ANA,
    BOB,
    CANARY,
    NOON,
    ODD_TEXTS,
    Damage,
    RecordStoreFixtures,
    keys_of,
    make_draft,
    read,
    texts,
)
from hybrid_memory.types import KINDS, Pruned, PrunePolicy, Quota


class BoundsSuite(RecordStoreFixtures):
    """A namespace is pruned by a policy, and never exceeds its quota."""

    def test_a_policy_tells_what_it_would_prune_and_changes_nothing(
        self, store: RecordStore
    ) -> None:
        store.insert(ANA, [make_draft(id_, importance=0.1 * n) for n, id_ in enumerate("dcba")])
        before = read(store, ANA)
        policy = PrunePolicy(max_records=2)

        told = store.prune(ANA, policy, now=NOON, dry_run=True)

        assert [one.id for one in told.victims] == ["d", "c"]
        assert {one.reason for one in told.victims} == {"least worth of 4, 2 are kept"}
        assert told.dry_run
        assert read(store, ANA) == before
        done = store.prune(ANA, policy, now=NOON, dry_run=False)
        assert (done.victims, done.records, done.bytes) == (told.victims, told.records, told.bytes)
        assert (done.records, done.bytes) == (store.stats(ANA).total, store.stats(ANA).bytes)
        assert [record.id for record in store.get(ANA, list("abcd"))] == ["a", "b"]
        assert store.prune(ANA, policy, now=NOON, dry_run=False).victims == ()

    def test_what_was_pruned_is_caught_up_with(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(id_) for id_ in "abc"])
        store.insert(BOB, [make_draft("a", namespace=BOB)])
        position, rows = read(store, ANA)

        store.prune(ANA, PrunePolicy(max_records=1), now=NOON, dry_run=False)

        assert read(store, ANA, position, rows) == read(store, ANA)
        assert len(read(store, ANA)[1]) == 1
        assert len(read(store, BOB)[1]) == 1
        assert store.prune(("new",), PrunePolicy(max_records=1), now=NOON, dry_run=False) == Pruned(
            ("new",), (), 0, 0, False
        )

    def test_what_is_expired_old_or_unimportant_goes_and_what_is_pinned_stays(
        self, store: RecordStore
    ) -> None:
        day = timedelta(days=1)
        store.insert(
            ANA,
            [
                make_draft("expired", expires_at=NOON, importance=1.0),
                make_draft("expires later", expires_at=NOON + day),
                make_draft("old", at=NOON - 91 * day),
                make_draft("at the bound", at=NOON - 90 * day),
                make_draft("dull", importance=0.1),
                make_draft("important", at=NOON - 99 * day, importance=1.0),
                make_draft("pinned", at=NOON - 99 * day, metadata={"pinned": True}),
                make_draft("durable", importance=0.0, metadata={"durable": True}),
                make_draft("not pinned", importance=0.0, metadata={"pinned": False}),
                make_draft("rule", at=NOON - 99 * day, kind="instruction", vector=None),
            ],
        )
        policy = PrunePolicy(older_than=90 * day, importance_below=0.2)

        pruned = store.prune(ANA, policy, now=NOON, dry_run=False)

        assert {one.id: one.reason for one in pruned.victims} == {
            "expired": "expired",
            "old": "older than 90 days",
            "dull": "importance 0.1, below 0.2",
            "not pinned": "importance 0, below 0.2",
        }
        rules = PrunePolicy(max_records=0, kinds="instruction")
        assert [one.id for one in store.prune(ANA, rules, now=NOON, dry_run=False).victims] == [
            "rule"
        ]
        assert store.stats(ANA).total == 5

    def test_superseded_facts_go_first(self, store: RecordStore) -> None:
        store.insert(
            ANA,
            [
                make_draft("dull", importance=0.0),
                make_draft("past", kind="fact", importance=0.9, valid_to=NOON),
                make_draft("replaced", kind="fact", importance=0.8, superseded_by="fact"),
                make_draft("fact", kind="fact", valid_to=NOON + timedelta(days=1)),
            ],
        )

        pruned = store.prune(ANA, PrunePolicy(max_records=1), now=NOON, dry_run=True)

        assert [one.id for one in pruned.victims] == ["replaced", "past", "dull"]
        assert pruned.victims[0].reason == "superseded, least worth of 4, 1 are kept"

    def test_bytes_are_bounded_by_the_size_of_the_records(self, store: RecordStore) -> None:
        store.insert(
            ANA,
            [
                make_draft(id_, text, importance=0.1 * n, data={"é": n}, metadata={"ü": "ö"})
                for n, (id_, text) in enumerate(ODD_TEXTS.items())
            ],
        )
        held = store.stats(ANA).bytes
        quotes = store.prune(ANA, PrunePolicy(max_bytes=held - 1), now=NOON, dry_run=True)

        assert [one.id for one in quotes.victims] == ["quotes"]
        assert quotes.bytes == held - quotes.freed
        assert store.prune(ANA, PrunePolicy(max_bytes=held), now=NOON, dry_run=True).victims == ()
        store.prune(ANA, PrunePolicy(max_bytes=quotes.bytes), now=NOON, dry_run=False)
        assert store.stats(ANA).bytes == quotes.bytes
        store.prune(ANA, PrunePolicy(max_records=0), now=NOON, dry_run=False)
        assert store.stats(ANA).bytes == 0

    def test_a_full_namespace_refuses_and_stores_nothing(self, store: RecordStore) -> None:
        bound = Bound(Quota(records=3), NOON)
        store.insert(ANA, [make_draft("a"), make_draft("b")], bound=bound)
        before = read(store, ANA)

        with pytest.raises(QuotaExceededError, match=r"3 records.*holds 2 .*2 more.*prune"):
            store.insert(ANA, [make_draft("c", CANARY), make_draft("d")], bound=bound)

        assert read(store, ANA) == before
        store.insert(ANA, [make_draft("c")], bound=bound)
        with pytest.raises(QuotaExceededError) as full:
            store.restore(ANA, [make_draft("d", CANARY)], bound=bound)
        assert CANARY not in str(full.value)
        assert store.insert(ANA, [make_draft("a")], bound=bound) == store.get(ANA, ["a"])
        store.insert(BOB, [make_draft("d", namespace=BOB)], bound=bound)
        store.delete(ANA, ["a"])
        store.insert(ANA, [make_draft("d")], bound=bound)
        assert store.stats(ANA).total == 3

    def test_what_a_restore_removes_makes_room_and_may_be_put_anew(
        self, store: RecordStore
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b"), make_draft("c")])

        store.restore(
            ANA,
            [make_draft("b", "Anew."), make_draft("d")],
            removed=["a", "b"],
            bound=Bound(Quota(records=2), NOON),
        )

        assert [one.id for one in store.get(ANA, ["a", "b", "c", "d"])] == ["b", "c", "d"]
        assert texts(store.get(ANA, ["b"])) == ["Anew."]

    def test_bytes_are_counted_through_every_kind_of_write(self, store: RecordStore) -> None:
        def check_counts() -> None:
            """Refuse what would be a byte too much, and nothing less."""
            held = store.stats(ANA).bytes
            with pytest.raises(QuotaExceededError):
                store.insert(ANA, [one_more], bound=Bound(Quota(bytes=held + more - 1), NOON))
            store.insert(ANA, [one_more], bound=Bound(Quota(bytes=held + more), NOON))
            store.delete(ANA, ["one more"])

        one_more = make_draft("one more", "x")
        store.insert(ANA, [one_more])
        more = store.stats(ANA).bytes
        store.delete(ANA, ["one more"])
        store.insert(ANA, [make_draft("a"), make_draft("b"), make_draft("c")])
        check_counts()
        store.update(ANA, make_draft("a", "é" * 99))
        check_counts()
        drafts = [make_draft("b", "longer than before"), make_draft("d", metadata={"n": 1})]
        store.restore(ANA, drafts, on_conflict="replace")
        check_counts()
        row = store.stored(ANA)[0]
        store.refresh(ANA, [(row, make_draft("a", "é" * 99, terms=np.arange(50, dtype=np.uint32)))])
        check_counts()
        store.delete(ANA, ["a", "c", "missing"])
        check_counts()
        store.prune(ANA, PrunePolicy(max_records=1), now=NOON, dry_run=False)
        check_counts()

    def test_what_is_damaged_no_longer_counts_once_it_is_moved_away(
        self, store: RecordStore, damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        damage(ANA, id="b")
        bound = Bound(Quota(records=2, bytes=store.stats(ANA).bytes), NOON)
        with pytest.raises(QuotaExceededError):
            store.insert(ANA, [make_draft("c")], bound=bound)

        store.quarantine(ANA, keys=keys_of(store, ANA), at=NOON)

        store.insert(ANA, [make_draft("c")], bound=bound)
        assert store.integrity("full") == []

    def test_an_update_that_grows_is_refused_and_one_that_does_not_is_not(
        self, store: RecordStore
    ) -> None:
        store.insert(ANA, [make_draft("a", "tea and rice"), make_draft("b")])
        bound = Bound(Quota(records=1, bytes=store.stats(ANA).bytes), NOON)

        with pytest.raises(QuotaExceededError):
            store.update(ANA, make_draft("a", "tea and rice and more"), bound=bound)

        assert texts(store.get(ANA, ["a"])) == ["tea and rice"]
        assert store.update(ANA, make_draft("a", "tea"), bound=bound).text == "tea"

    @pytest.mark.parametrize("when_full", ["refuse", "prune"])
    def test_what_is_expired_makes_room_first(
        self, store: RecordStore, when_full: Literal["refuse", "prune"]
    ) -> None:
        quota = Quota(records=2, when_full=when_full)
        store.insert(
            ANA, [make_draft("a", importance=0.0), make_draft("b", expires_at=NOON, importance=0.9)]
        )

        store.insert(ANA, [make_draft("c")], bound=Bound(quota, NOON))

        assert {record.id for record in store.newest(ANA, kinds=KINDS)} == {"a", "c"}

    def test_a_full_namespace_prunes_what_is_of_least_worth_but_not_what_is_new(
        self, store: RecordStore
    ) -> None:
        bound = Bound(Quota(records=3, when_full="prune"), NOON)
        drafts = [make_draft(id_, importance=0.1 * n) for n, id_ in enumerate("abc", 1)]
        store.insert(ANA, drafts, bound=bound)
        position, rows = read(store, ANA)

        store.insert(ANA, [make_draft("d", importance=0.0)], bound=bound)

        assert {record.id for record in store.newest(ANA, kinds=KINDS)} == {"b", "c", "d"}
        assert read(store, ANA, position, rows) == read(store, ANA)
        with pytest.raises(QuotaExceededError):
            store.insert(ANA, [make_draft(f"new {i}") for i in range(4)], bound=bound)
        assert store.stats(ANA).total == 3
        pinned = [make_draft(f"new {i}", importance=1.0) for i in range(3)]
        store.insert(ANA, pinned, bound=bound)
        with pytest.raises(QuotaExceededError, match="pinned"):
            store.insert(ANA, [make_draft("e")], bound=bound)
        assert store.get(ANA, ["new 0", "new 1", "new 2"]) == [one.record for one in pinned]

    def test_a_full_namespace_makes_room_for_many_writes_at_once(self, store: RecordStore) -> None:
        bound = Bound(Quota(records=40, when_full="prune"), NOON)
        store.insert(ANA, [make_draft(f"{i}") for i in range(40)], bound=bound)
        totals = []
        for i in range(40, 44):
            store.insert(ANA, [make_draft(f"{i}")], bound=bound)
            totals.append(store.stats(ANA).total)

        assert totals == [38, 39, 40, 38]
