"""The contract of RecordStore, as tests: what is inserted, restored, updated and deleted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hybrid_memory.errors import ConflictError, NotFoundError
from hybrid_memory.protocols import RecordStore
from hybrid_memory.testing.record_stores.given import (
    ANA,
    CANARY,
    NOON,
    ODD_TEXTS,
    OTHER_CONTENT,
    RecordStoreFixtures,
    assert_empty,
    keys_of,
    make_draft,
    read,
    texts,
)
from hybrid_memory.types import KINDS, Imported


class WritingSuite(RecordStoreFixtures):
    """Records come back as they were written, once, or nothing is."""

    def test_a_new_namespace_is_empty(self, store: RecordStore) -> None:
        assert_empty(store, ANA)

    # -- insert ----------------------------------------------------------------------------

    def test_a_record_is_read_back_as_it_was_written(self, store: RecordStore) -> None:
        draft = make_draft(
            "a",
            kind="fact",
            role="assistant",
            speaker="Bea",
            session_id="s1",
            source="document",
            importance=0.1 + 0.2,
            metadata={"city": "Lyon", "n": [1, 2.5, None, {"deep": True}], "é": ""},
            data={"language_like": ["Rust"]},
            at=datetime(1807, 3, 4, 5, 6, 7, 890123, tzinfo=UTC),
            created_at=NOON + timedelta(microseconds=1),
            valid_from=NOON - timedelta(days=9),
            valid_to=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            superseded_by="b",
            expires_at=NOON + timedelta(days=1),
        )

        stored = store.insert(ANA, [draft])

        assert stored == [draft.record]
        assert store.get(ANA, ["a"]) == stored
        assert stored[0].version == 1

    @pytest.mark.parametrize("name", ODD_TEXTS)
    def test_any_text_is_read_back_exactly(self, store: RecordStore, name: str) -> None:
        text = ODD_TEXTS[name]
        store.insert(ANA, [make_draft("a", text, session_id=text[:50], speaker=text[:50])])

        (found,) = store.get(ANA, ["a"])
        assert (found.text, found.speaker) == (text, text[:50])
        assert texts(list(store.newest(ANA, kinds=KINDS, session_id=text[:50]))) == [text]

    def test_times_come_back_aware(self, store: RecordStore) -> None:
        zone = datetime(2026, 1, 1, tzinfo=UTC).astimezone().tzinfo
        store.insert(ANA, [make_draft("a", at=NOON.astimezone(zone))])

        (found,) = store.get(ANA, ["a"])
        assert found.at == NOON
        assert found.at.utcoffset() is not None
        assert found.created_at.utcoffset() is not None

    def test_records_come_in_the_order_of_the_drafts_and_of_the_ids(
        self, store: RecordStore
    ) -> None:
        drafts = [make_draft(id_, f"text {id_}") for id_ in "dbca"]

        stored = store.insert(ANA, drafts)

        assert [record.id for record in stored] == list("dbca")
        found = store.get(ANA, ["a", "missing", "d", "b"])
        assert [record.id for record in found] == ["a", "d", "b"]

    def test_many_are_inserted_and_read_at_once(self, store: RecordStore) -> None:
        ids = [f"r{i}" for i in range(2500)]
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in ids])

        assert [record.id for record in store.get(ANA, ids[::-1])] == ids[::-1]
        assert len(store.fetch(ANA, keys_of(store, ANA))) == 2500
        assert store.delete(ANA, ids) == 2500

    def test_nothing_to_insert_changes_nothing(self, store: RecordStore) -> None:
        assert store.insert(ANA, []) == []
        assert store.delete(ANA, []) == 0
        assert store.get(ANA, []) == []
        assert store.fetch(ANA, []) == {}
        assert store.position(ANA) == 0

    def test_the_same_again_is_left_as_it_is(self, store: RecordStore) -> None:
        first = store.insert(ANA, [make_draft("a", metadata={"n": 1})])
        position = store.position(ANA)

        later = make_draft("a", metadata={"n": 1}, created_at=NOON + timedelta(hours=1))
        assert store.insert(ANA, [later]) == first
        assert store.get(ANA, ["a"]) == first
        assert store.position(ANA) == position

    def test_the_same_again_without_a_time_is_the_same(self, store: RecordStore) -> None:
        first = store.insert(ANA, [make_draft("a", at_given=False)])

        again = make_draft("a", at=NOON + timedelta(hours=1), at_given=False)
        assert store.insert(ANA, [again]) == first

    def test_another_time_is_other_content(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])

        with pytest.raises(ConflictError):
            store.insert(ANA, [make_draft("a", at=NOON + timedelta(hours=1))])

    @pytest.mark.parametrize("name", OTHER_CONTENT)
    def test_other_content_under_an_id_is_a_conflict_and_nothing_is_stored(
        self, store: RecordStore, name: str
    ) -> None:
        first = store.insert(ANA, [make_draft("a")])
        position = store.position(ANA)
        fields = {"text": "I drink tea.", name: OTHER_CONTENT[name]}

        with pytest.raises(ConflictError):
            store.insert(ANA, [make_draft("b"), make_draft("a", **fields), make_draft("c")])

        assert store.get(ANA, ["a", "b", "c"]) == first
        assert store.position(ANA) == position
        assert len(read(store, ANA)[1]) == 1

    def test_an_id_twice_in_one_call_is_one_record_or_a_conflict(self, store: RecordStore) -> None:
        same = make_draft("a")
        stored = store.insert(ANA, [same, same, make_draft("a")])

        assert stored == [same.record] * 3
        assert len(read(store, ANA)[1]) == 1
        with pytest.raises(ConflictError):
            store.insert(ANA, [make_draft("b", "one"), make_draft("b", "two")])
        assert store.get(ANA, ["b"]) == []

    def test_errors_do_not_show_texts(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a", CANARY)])

        with pytest.raises(ConflictError) as taken:
            store.insert(ANA, [make_draft("a", f"{CANARY} 2")])
        with pytest.raises(NotFoundError) as missing:
            store.update(ANA, make_draft("b", CANARY))

        assert CANARY not in f"{taken.value} {missing.value}"
        assert "'a'" in str(taken.value)

    # -- restore ---------------------------------------------------------------------------

    def test_a_record_is_restored_as_it_was(self, store: RecordStore) -> None:
        draft = make_draft(
            "a",
            kind="fact",
            version=7,
            created_at=NOON - timedelta(days=400),
            valid_from=NOON - timedelta(days=9),
            valid_to=NOON,
            superseded_by="b",
        )

        counts = store.restore(ANA, [draft], profile={"city": "Lyon"})

        assert counts == Imported(added=1, profile_keys=1)
        assert store.get(ANA, ["a"]) == [draft.record]
        assert store.profile(ANA) == {"city": "Lyon"}
        assert draft.vector is not None
        (row,) = read(store, ANA)[1].values()
        assert row.vector == draft.vector.tobytes()

    def test_restoring_again_changes_nothing(self, store: RecordStore) -> None:
        drafts = [make_draft(id_, f"text {id_}", version=3) for id_ in "ab"]
        store.restore(ANA, drafts, profile={"city": "Lyon"})
        position = store.position(ANA)

        counts = store.restore(ANA, drafts, profile={"city": "Lyon"})

        assert counts == Imported(unchanged=2)
        assert store.position(ANA) == position

    @pytest.mark.parametrize(
        "fields",
        [{"text": "I drink coffee."}, {"version": 2}, {"created_at": NOON - timedelta(days=1)}],
        ids=lambda fields: str(next(iter(fields))),
    )
    def test_what_differs_is_a_conflict_and_nothing_is_restored(
        self, store: RecordStore, fields: dict[str, Any]
    ) -> None:
        first = store.insert(ANA, [make_draft("a")])
        position = store.position(ANA)
        other = make_draft("a", **({"text": "I drink tea."} | fields))

        with pytest.raises(ConflictError, match="'a'"):
            store.restore(ANA, [make_draft("b"), other], profile={"city": "Lyon"})

        assert store.get(ANA, ["a", "b"]) == first
        assert store.profile(ANA) == {}
        assert store.position(ANA) == position

    def test_another_value_of_the_profile_is_a_conflict(self, store: RecordStore) -> None:
        store.set_profile(ANA, {"city": "Lyon"})

        with pytest.raises(ConflictError, match="'city'") as caught:
            store.restore(ANA, [make_draft("a")], profile={"city": CANARY})

        assert CANARY not in str(caught.value)
        assert store.get(ANA, ["a"]) == []
        assert store.profile(ANA) == {"city": "Lyon"}

    def test_what_differs_is_kept_or_replaced_as_wished(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        store.set_profile(ANA, {"city": "Lyon"})
        _, before = read(store, ANA)
        position = store.position(ANA)
        drafts = [make_draft("a", "I drink coffee.", version=9), make_draft("c")]
        profile = {"city": "Paris", "zone": None}

        kept = store.restore(ANA, drafts, profile=profile, on_conflict="skip")
        after_skip = store.get(ANA, ["a"]), store.profile(ANA)
        replaced = store.restore(ANA, drafts, profile=profile, on_conflict="replace")

        assert kept == Imported(added=1, skipped=1, profile_keys=1)
        assert texts(after_skip[0]) == ["I drink tea."]
        assert after_skip[1] == {"city": "Lyon", "zone": None}
        assert replaced == Imported(replaced=1, unchanged=1, profile_keys=1)
        assert store.get(ANA, ["a"]) == [drafts[0].record]
        assert store.profile(ANA) == profile
        caught_up = read(store, ANA, position, before)
        assert caught_up == read(store, ANA)
        assert list(caught_up[1])[:2] == list(before)

    def test_an_id_twice_in_what_is_restored_is_one_record(self, store: RecordStore) -> None:
        drafts = [make_draft("a"), make_draft("a"), make_draft("a", "I drink coffee.")]

        with pytest.raises(ConflictError):
            store.restore(ANA, drafts)
        counts = store.restore(ANA, drafts, on_conflict="replace")

        assert counts == Imported(added=1, replaced=1, unchanged=1)
        assert store.get(ANA, ["a"]) == [drafts[2].record]

    def test_many_are_restored_at_once(self, store: RecordStore) -> None:
        drafts = [make_draft(f"r{i}", version=2) for i in range(1200)]
        store.insert(ANA, [make_draft(f"r{i}") for i in range(600)])

        counts = store.restore(ANA, drafts, on_conflict="replace")

        assert counts == Imported(added=600, replaced=600)
        assert {row.version for row in store.get(ANA, [f"r{i}" for i in range(1200)])} == {2}

    # -- update and delete -----------------------------------------------------------------

    def test_an_update_replaces_the_record_and_raises_its_version(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a", metadata={"n": 1}), make_draft("b", "Other.")])

        second = store.update(ANA, make_draft("a", "I drink coffee.", speaker="Bea"))
        third = store.update(ANA, make_draft("a", "I drink water."), expected_version=2)

        assert (second.version, second.text, second.speaker) == (2, "I drink coffee.", "Bea")
        assert second.metadata == {}
        assert (third.version, third.text) == (3, "I drink water.")
        assert store.get(ANA, ["a"]) == [third]
        assert texts(store.get(ANA, ["b"])) == ["Other."]

    def test_an_update_moves_no_row_and_changes_what_it_is_found_by(
        self, store: RecordStore
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        _, before = read(store, ANA)
        draft = make_draft("a", "I drink coffee.", importance=0.75, kind="event")

        store.update(ANA, draft)

        _, after = read(store, ANA)
        assert list(after) == list(before)
        row = after[min(after)]
        assert draft.vector is not None
        assert (row.vector, row.terms) == (draft.vector.tobytes(), draft.terms.tobytes())
        assert (row.digest, row.importance, row.kind) == (draft.digest, 0.75, "event")

    def test_what_is_not_there_cannot_be_updated(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])
        store.delete(ANA, ["a"])

        for id_ in ("a", "b"):
            with pytest.raises(NotFoundError):
                store.update(ANA, make_draft(id_))
        assert store.get(ANA, ["a", "b"]) == []

    def test_another_version_than_expected_is_a_conflict(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])
        second = store.update(ANA, make_draft("a", "I drink coffee."), expected_version=1)
        position = store.position(ANA)

        for version in (1, 3):
            with pytest.raises(ConflictError):
                store.update(ANA, make_draft("a", "Lost."), expected_version=version)

        assert store.get(ANA, ["a"]) == [second]
        assert store.position(ANA) == position

    def test_of_many_updates_of_one_version_one_wins(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])

        def write(i: int) -> bool:
            with suppress(ConflictError):
                store.update(ANA, make_draft("a", f"writer {i}"), expected_version=1)
                return True
            return False

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))

        assert sum(won) == 1
        assert texts(store.get(ANA, ["a"])) == [f"writer {won.index(True)}"]

    def test_what_was_deleted_is_gone(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in "abc"])
        keys = keys_of(store, ANA)

        assert store.delete(ANA, ["b", "missing", "b"]) == 1
        assert store.delete(ANA, ["b"]) == 0

        assert texts(store.get(ANA, ["a", "b", "c"])) == ["text a", "text c"]
        assert set(store.fetch(ANA, keys)) == {keys[0], keys[2]}
        assert texts(list(store.newest(ANA, kinds=KINDS))) == ["text c", "text a"]
        assert keys_of(store, ANA) == [keys[0], keys[2]]

    def test_a_deleted_id_may_be_used_again_with_other_content(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a")])
        store.update(ANA, make_draft("a", "I drink coffee."))
        store.delete(ANA, ["a"])

        store.insert(ANA, [make_draft("a", "I drink water.")])

        (found,) = store.get(ANA, ["a"])
        assert (found.text, found.version) == ("I drink water.", 1)

    def test_keys_are_never_used_twice(self, store: RecordStore) -> None:
        seen: set[int] = set()
        for i in range(5):
            store.insert(ANA, [make_draft("a", f"text {i}"), make_draft(f"b{i}")])
            keys = keys_of(store, ANA)
            assert not seen & set(keys)
            assert not seen or min(keys) > max(seen)
            seen |= set(keys)
            store.delete(ANA, ["a", f"b{i}"])

    def test_a_fetch_finds_records_by_key(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in "abc"])
        keys = keys_of(store, ANA)

        found = store.fetch(ANA, [keys[2], keys[0], max(keys) + 1, 0])

        assert {key: record.id for key, record in found.items()} == {keys[2]: "c", keys[0]: "a"}

    def test_a_restore_deletes_what_has_to_go_with_it(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        position, rows = read(store, ANA)
        new = make_draft("a", "I drink cocoa.", version=2)

        counts = store.restore(ANA, [new], on_conflict="replace", removed=["b", "nobody"])

        assert counts == Imported(replaced=1)
        assert texts(store.get(ANA, ["a", "b"])) == ["I drink cocoa."]
        assert len(read(store, ANA, position, rows)[1]) == 1
        store.insert(ANA, [make_draft("c", "I drink rum.")])
        with pytest.raises(ConflictError):
            store.restore(ANA, [make_draft("a")], removed=["c"])
        assert texts(store.get(ANA, ["a", "c"])) == ["I drink cocoa.", "I drink rum."]
