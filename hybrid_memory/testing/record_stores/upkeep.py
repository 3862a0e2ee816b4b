"""The contract of RecordStore, as tests: damage, forgetting and erasure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hybrid_memory.errors import StoreCorruptError
from hybrid_memory.limits import microseconds
from hybrid_memory.protocols import RecordStore, Space
from hybrid_memory.testing.fakes import HashEmbedder
from hybrid_memory.testing.record_stores.given import (
    ANA,
    BOB,
    CANARY,
    DEPTHS,
    NOON,
    Damage,
    RecordStoreFixtures,
    assert_empty,
    keys_of,
    make_draft,
    read,
    texts,
)
from hybrid_memory.types import KINDS, Namespace


class UpkeepSuite(RecordStoreFixtures):
    """What is damaged is told and moved away; what is forgotten or erased is gone."""

    # -- rows, rules and damage -------------------------------------------------------------

    def test_the_rules_are_those_that_were_set_last(self, store: RecordStore) -> None:
        assert store.rules() is None
        store.set_rules(1)
        assert store.rules() == 1
        store.set_rules(2)
        assert store.rules() == 2

    def test_the_holders_of_a_kind_and_source_are_found_in_the_whole_store(
        self, store: RecordStore
    ) -> None:
        later, soon = NOON + timedelta(days=1), NOON + timedelta(minutes=1)
        store.insert(ANA, [make_draft("a", kind="fact", source="shop", expires_at=soon)])
        store.insert(BOB, [make_draft("b", kind="fact", source="shop", namespace=BOB)])
        other: Namespace = ("ana", "other")
        store.insert(other, [make_draft("c", kind="event", source="shop", namespace=other)])
        store.insert(other, [make_draft("d", kind="fact", source="user", namespace=other)])

        assert store.holders(kind="fact", source="shop") == [ANA, BOB]
        assert store.holders(kind="fact", source="shop", unexpired_at=later) == [BOB]
        assert store.holders(kind="fact", source="shop", unexpired_at=NOON) == [ANA, BOB]
        assert store.holders(kind="fact", source="shop", expired_at=later) == [ANA]
        assert store.holders(kind="fact", source="shop", expired_at=NOON) == []
        assert store.holders(kind="fact", source="nobody") == []

    def test_holders_are_found_by_their_first_labels(self, store: RecordStore) -> None:
        names: list[Namespace] = [
            ("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("a,",), ('a"',), ("a-", "b"), ("é", "b"),
        ]  # fmt: skip
        for name in names:
            store.insert(name, [make_draft("x", kind="fact", source="shop", namespace=name)])

        def under(*labels: str) -> list[Namespace]:
            return store.holders(kind="fact", source="shop", under=labels)

        assert under() == names
        assert under("a") == [("a",), ("a", "b"), ("a", "b", "c")]
        assert under("a", "b") == [("a", "b"), ("a", "b", "c")]
        assert under("é") == [("é", "b")]
        assert under('a"') == [('a"',)]
        assert under("b") == []

    def test_expire_sets_when_records_expire_and_nothing_else(self, store: RecordStore) -> None:
        later = NOON + timedelta(days=1)
        drafts = [make_draft("a", data={"n": 1}), make_draft("b", "I drink cocoa.")]
        store.insert(ANA, drafts)
        position, rows = read(store, ANA)

        assert store.expire(ANA, ["a", "a", "nobody"], later) == 1

        a, b = store.get(ANA, ["a", "b"])
        assert a == replace(drafts[0].record, expires_at=later)
        assert b == drafts[1].record
        _, changed = read(store, ANA, position)
        [(key, row)] = changed.items()
        assert row == rows[key]._replace(expires_at=microseconds(later))
        assert store.expire(ANA, ["a"], None) == 1
        assert store.get(ANA, ["a"]) == [drafts[0].record]
        assert store.expire(("nobody",), ["a"], later) == 0

    def test_a_store_beside_has_records_and_a_space_of_its_own(self, store: RecordStore) -> None:
        store.set_space(Space("hashed", 8))
        store.insert(ANA, [make_draft("a")])

        beside = store.beside("other")
        beside.set_space(Space("another", 3))
        beside.insert(ANA, [make_draft("a", "I drink cocoa.", vector=np.ones(3, np.float32))])

        assert store.space() == ("hashed", 8, None, 1)
        assert texts(store.get(ANA, ["a"])) == ["I drink tea."]
        assert texts(store.beside("other").get(ANA, ["a"])) == ["I drink cocoa."]
        assert store.id != beside.id
        assert set(beside.files()) <= set(store.files())
        beside.close()

    def test_the_stores_beside_are_known_by_their_names_open_or_not(
        self, store: RecordStore
    ) -> None:
        assert store.besides() == []

        store.beside("other").close()
        other = store.beside("another")
        other.beside("within").close()

        assert store.besides() == ["another", "other"]
        assert other.besides() == ["within"]
        other.close()

    def test_namespaces_come_with_their_number_of_records(self, store: RecordStore) -> None:
        assert store.namespaces() == {}
        store.insert(BOB, [make_draft("a", namespace=BOB)])
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.set_profile(("é",), {"city": "Lyon"})
        store.delete(BOB, ["a"])
        store.get(("never seen",), ["a"])

        assert list(store.namespaces().items()) == [(BOB, 0), (ANA, 2), (("é",), 0)]

    def test_rows_are_stored_page_by_page_with_what_they_are_found_by(
        self, store: RecordStore
    ) -> None:
        drafts = [make_draft(id_, f"text {id_}") for id_ in "abcde"]
        store.insert(BOB, [make_draft("a", namespace=BOB)])
        records = store.insert(ANA, [*drafts, make_draft("f", vector=None)])

        first = store.stored(ANA, limit=4)
        second = store.stored(ANA, after=first[-1].key, limit=4)
        rows = [*first, *second]

        assert [row.key for row in rows] == keys_of(store, ANA)
        assert [row.record for row in rows] == records
        assert [row.id for row in rows] == list("abcdef")
        for row, draft in zip(rows, drafts, strict=False):
            assert draft.vector is not None
            assert row.vector == draft.vector.tobytes()
            assert row.terms == draft.terms.tobytes()
            assert (row.digest, row.traits) == (draft.digest, draft.traits)
            assert row.vector_is_intact
        assert rows[-1].vector is None
        assert store.stored(ANA, after=rows[-1].key) == []
        assert store.stored(("carla",)) == []

    def test_the_recent_rows_are_those_that_were_changed_last(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in "abcd"])
        store.update(ANA, make_draft("b", "I drink coffee."))

        assert [row.id for row in store.recent(ANA, limit=3)] == ["b", "d", "c"]
        assert store.recent(BOB, limit=3) == []

    def test_a_refresh_changes_what_a_record_is_found_by_and_not_the_record(
        self, store: RecordStore
    ) -> None:
        records = store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        position, rows = read(store, ANA)
        row, other = store.stored(ANA)
        fresh = make_draft(
            "a", digest=5, terms=np.array([3], np.uint32), vector=HashEmbedder(8).embed_query("x")
        )
        assert fresh.vector is not None

        assert store.refresh(ANA, [(row, fresh)]) == 1

        again = store.stored(ANA)[0]
        assert store.get(ANA, ["a", "b"]) == records
        assert (again.digest, again.terms) == (5, np.array([3], np.uint32).tobytes())
        assert again.vector == fresh.vector.tobytes()
        assert again.vector_is_intact
        assert store.stored(ANA)[1] == other
        assert store.position(ANA) > position
        assert read(store, ANA, position, rows) == read(store, ANA)

    def test_what_was_changed_meanwhile_is_not_refreshed(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b"), make_draft("c", "Other.")])
        rows = store.stored(ANA)
        store.update(ANA, make_draft("a", "I drink coffee."))
        store.delete(ANA, ["b"])

        assert store.refresh(ANA, [(row, make_draft(row.id or "")) for row in rows]) == 1

        position = store.position(ANA)
        assert texts(store.get(ANA, ["a", "b", "c"])) == ["I drink coffee.", "Other."]
        assert store.stored(ANA)[0].digest == make_draft("a", "I drink coffee.").digest
        assert store.refresh(ANA, [(rows[0], make_draft("a"))]) == 0
        assert store.refresh(ANA, []) == 0
        assert store.position(ANA) == position

    def test_a_store_without_damage_has_nothing_to_say(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.delete(ANA, ["a"])
        keys = keys_of(store, ANA)
        store.set_profile(ANA, {"city": "Lyon"})
        before = read(store, ANA)

        for depth in DEPTHS:
            assert store.integrity(depth) == []
        assert store.damaged_profile(ANA) == []
        assert store.quarantine(ANA, keys=keys, profile_keys=["city"], at=NOON) == 0
        assert store.quarantine(BOB, keys=keys, at=NOON) == 0
        assert store.quarantined() == 0
        store.mend(at=NOON)
        assert read(store, ANA) == before
        assert store.profile(ANA) == {"city": "Lyon"}

    def test_others_are_read_where_one_record_is_damaged(
        self, store: RecordStore, damage: Damage, caplog: pytest.LogCaptureFixture
    ) -> None:
        drafts = [make_draft(id_, f"{CANARY} {id_}") for id_ in "abcd"]
        store.insert(ANA, drafts)
        keys = keys_of(store, ANA)
        damage(ANA, id="c")

        for _ in range(2):
            assert texts(list(store.newest(ANA, kinds=KINDS, limit=2))) == [
                f"{CANARY} d",
                f"{CANARY} b",
            ]
            assert set(store.fetch(ANA, keys)) == {keys[0], keys[1], keys[3]}
        assert len(store.get(ANA, ["a", "d"])) == 2
        assert [row.record is None for row in store.stored(ANA)] == [False, False, True, False]
        assert store.stored(ANA)[2].id == "c"
        assert [row.record is None for row in store.recent(ANA, limit=2)] == [False, True]
        (message,) = [record.getMessage() for record in caplog.records]
        assert "'c'" in message
        assert CANARY not in message

    def test_a_damaged_record_is_refused_by_name(self, store: RecordStore, damage: Damage) -> None:
        store.insert(ANA, [make_draft("a", CANARY), make_draft("b")])
        damage(ANA, id="a")

        calls: list[Callable[[], object]] = [
            lambda: store.get(ANA, ["b", "a"]),
            lambda: store.insert(ANA, [make_draft("a", CANARY)]),
        ]
        for call in calls:
            with pytest.raises(StoreCorruptError, match=r"'a'.*repair") as caught:
                call()
            assert CANARY not in str(caught.value)

    def test_damaged_records_go_into_quarantine_and_their_ids_are_free(
        self, store: RecordStore, damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in "abc"])
        position, rows = read(store, ANA)
        damage(ANA, id="b")

        assert store.quarantine(ANA, keys=list(rows), at=NOON) == 1

        assert store.quarantined() == 1
        assert texts(store.get(ANA, ["a", "b", "c"])) == ["text a", "text c"]
        assert texts(list(store.newest(ANA, kinds=KINDS))) == ["text c", "text a"]
        assert len(store.stored(ANA)) == 2
        assert store.stats(ANA).total == 2
        assert read(store, ANA, position, rows) == read(store, ANA)
        assert len(read(store, ANA)[1]) == 2
        assert store.quarantine(ANA, keys=list(rows), at=NOON) == 0
        store.insert(ANA, [make_draft("b", "written again")])
        assert texts(store.get(ANA, ["b"])) == ["written again"]

    def test_what_is_deleted_is_deleted_in_quarantine_too(
        self, store: RecordStore, damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.set_profile(ANA, {"a": 1, "b": 2})
        for name in "ab":
            damage(ANA, id=name)
            damage(ANA, profile_key=name)
        store.quarantine(ANA, keys=keys_of(store, ANA), profile_keys=["a", "b"], at=NOON)
        assert store.quarantined() == 4

        assert store.delete(ANA, ["a"]) == 0
        assert store.delete(BOB, ["b"]) == 0
        assert store.quarantined() == 3
        store.delete_profile(ANA, "a")
        assert store.quarantined() == 2

    def test_a_damaged_value_of_a_profile_is_left_out(
        self, store: RecordStore, damage: Damage
    ) -> None:
        store.set_profile(ANA, {"city": CANARY, "food": ["tea"], "n": 1})
        store.insert(ANA, [make_draft("a")])
        damage(ANA, profile_key="city")

        assert store.profile(ANA) == {"food": ["tea"], "n": 1}
        assert store.damaged_profile(ANA) == ["city"]
        assert store.damaged_profile(BOB) == []
        assert store.quarantine(ANA, profile_keys=["city", "n"], at=NOON) == 1
        assert store.damaged_profile(ANA) == []
        assert store.profile(ANA) == {"food": ["tea"], "n": 1}
        store.set_profile(ANA, {"city": "Lyon"})
        assert store.profile(ANA)["city"] == "Lyon"

    # -- forgetting and erasing ------------------------------------------------------------

    def test_what_is_within_all_bounds_is_forgotten_and_nothing_else(
        self, store: RecordStore
    ) -> None:
        store.insert(
            ANA,
            [
                make_draft("a", source="menu.md", kind="document"),
                make_draft("b", source="menu.md", session_id="s1"),
                make_draft("c", session_id="s1", kind="instruction", vector=None),
                make_draft("d", "I drink rum."),
            ],
        )
        store.insert(BOB, [make_draft("a", source="menu.md", namespace=BOB)])
        position, rows = read(store, ANA)

        assert store.forget(ANA, source="menu.md", session_id="s1") == 1
        assert {one.id for one in store.newest(ANA, kinds=KINDS)} == {"a", "c", "d"}
        assert store.forget(ANA, matches=lambda record: "rum" in record.text) == 1
        assert store.forget(ANA, source="menu.md") == 1
        assert store.forget(ANA, source="menu.md") == 0
        assert store.forget(ANA, session_id="s1", matches=lambda record: False) == 0
        assert [one.id for one in store.newest(ANA, kinds=KINDS)] == ["c"]
        assert len(store.get(BOB, ["a"])) == 1
        assert read(store, ANA, position, rows) == read(store, ANA)
        assert store.forget(("nobody",), source="menu.md") == 0

    def test_of_damaged_records_those_of_a_source_are_forgotten(
        self, store: RecordStore, damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft(id_, source="menu.md") for id_ in "ab"])
        damage(ANA, id="a")

        assert store.forget(ANA, matches=lambda record: True) == 1
        assert store.forget(ANA, source="menu.md") == 1
        assert store.stored(ANA) == []

    def test_an_erased_namespace_is_as_one_that_never_was(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b"), make_draft("c", kind="event")])
        store.insert(BOB, [make_draft("a", "Bob's.", namespace=BOB)])
        store.delete(ANA, ["b"])
        store.set_profile(ANA, {"city": "Lyon", "food": "tea"})
        bob = (store.position(BOB), read(store, BOB), store.stats(BOB))

        erased = store.erase(ANA)

        assert dict(erased.records) == {"message": 1, "event": 1}
        assert (erased.namespace, erased.total, erased.removals) == (ANA, 2, 1)
        assert (erased.profile_keys, erased.quarantined) == (2, 0)
        assert erased.is_complete
        assert_empty(store, ANA)
        assert list(store.namespaces()) == [BOB]
        assert (store.position(BOB), read(store, BOB), store.stats(BOB)) == bob
        assert store.erase(ANA).total == 0

    def test_after_an_erasure_positions_and_keys_go_on_rising(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(f"{i}") for i in range(5)])
        (position, rows), keys = read(store, ANA), keys_of(store, ANA)
        store.erase(ANA)
        store.insert(ANA, [make_draft("0", "New.")])

        assert store.position(ANA) > position
        assert min(keys_of(store, ANA)) > max(keys)
        assert store.fetch(ANA, keys) == {}
        assert texts(list(store.fetch(ANA, keys_of(store, ANA)).values())) == ["New."]
        parts = list(store.changes(ANA, since=position))
        assert [part.is_afresh for part in parts] == [True] + [False] * (len(parts) - 1)
        assert read(store, ANA, position, rows) == read(store, ANA)
        assert not any(part.is_afresh for part in store.changes(ANA))
        store.delete(ANA, ["0"])
        assert read(store, ANA, position, rows) == (store.position(ANA), {})

    def test_what_is_in_quarantine_is_erased_too(self, store: RecordStore, damage: Damage) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.set_profile(ANA, {"a": 1})
        damage(ANA, id="a")
        damage(ANA, profile_key="a")
        store.quarantine(ANA, keys=keys_of(store, ANA), profile_keys=["a"], at=NOON)
        damage(ANA, id="b")

        erased = store.erase(ANA)

        assert (erased.total, erased.quarantined, store.quarantined()) == (1, 2, 0)

    def test_a_purge_changes_nothing_that_can_be_read(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.delete(ANA, ["a"])
        store.set_profile(ANA, {"city": "Lyon"})
        before = read(store, ANA), store.stats(ANA), store.profile(ANA)

        purged = store.purge(timeout_s=5)

        assert purged.is_complete
        assert (read(store, ANA), store.stats(ANA), store.profile(ANA)) == before
