"""The contract of RecordStore, as tests: what is read back, and by whom."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from hybrid_memory.errors import ConflictError, NotFoundError
from hybrid_memory.limits import microseconds
from hybrid_memory.protocols import IndexRow, RecordStore, Space
from hybrid_memory.testing.record_stores.given import (
    ANA,
    BOB,
    NOON,
    RecordStoreFixtures,
    keys_of,
    make_draft,
    read,
    texts,
)
from hybrid_memory.types import KINDS, Kind, Namespace


class ReadingSuite(RecordStoreFixtures):
    """Readers catch up with every change, and see nothing of another namespace."""

    # -- positions and changes -------------------------------------------------------------

    def test_the_position_rises_with_every_change_and_with_nothing_else(
        self, store: RecordStore
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        positions = [0, store.position(ANA)]
        store.update(ANA, make_draft("a", "I drink coffee."))
        positions.append(store.position(ANA))
        store.delete(ANA, ["a"])
        positions.append(store.position(ANA))

        store.insert(ANA, [make_draft("b", "Other.")])
        store.delete(ANA, ["a"])
        store.insert(BOB, [make_draft("a", namespace=BOB)])
        with suppress(NotFoundError):
            store.update(ANA, make_draft("a"))
        with suppress(ConflictError):
            store.insert(ANA, [make_draft("b", "Not the same.")])

        assert positions == sorted(set(positions))
        assert store.position(ANA) == positions[-1]

    def test_a_row_holds_what_a_partition_needs(self, store: RecordStore) -> None:
        draft = make_draft(
            "a",
            kind="fact",
            role="assistant",
            speaker="Bea",
            session_id="s1",
            source="tool",
            importance=0.3,
            metadata={"n": 1, "city": "Lyon"},
            expires_at=NOON + timedelta(days=1),
            valid_to=NOON + timedelta(days=2),
        )
        bare = make_draft("b", vector=None, terms=np.empty(0, dtype=np.uint32), digest=-(2**63))
        store.insert(ANA, [draft, bare])

        position, rows = read(store, ANA)
        row, second = rows.values()

        assert position == store.position(ANA)
        assert draft.vector is not None
        assert json.loads(row.metadata or "") == {"n": 1, "city": "Lyon"}
        assert row._replace(metadata=None)[1:] == (
            "fact",
            "assistant",
            "Bea",
            "s1",
            "tool",
            microseconds(NOON),
            microseconds(NOON + timedelta(days=1)),
            None,
            microseconds(NOON + timedelta(days=2)),
            0.3,
            None,
            draft.vector.tobytes(),
            draft.terms.tobytes(),
            draft.digest,
            0.5,
            True,
            False,
        )
        assert (second.vector, second.terms, second.digest) == (None, b"", -(2**63))
        assert (second.metadata, second.speaker, second.session_id) == (None, None, None)
        assert (second.expires_at, second.valid_to) == (None, None)

    def test_rows_come_once_by_key_in_slices_of_one_position(self, store: RecordStore) -> None:
        for start in range(0, 2500, 500):
            ids = range(start, start + 500)
            store.insert(ANA, [make_draft(f"r{i}", f"text {i}") for i in ids])

        parts = list(store.changes(ANA))
        keys = [row.key for part in parts for row in part.rows]

        assert len(parts) > 1
        assert {part.position for part in parts} == {store.position(ANA)}
        assert keys == sorted(set(keys))
        assert len(keys) == 2500

    def test_catching_up_from_any_position_gives_the_same(self, store: RecordStore) -> None:
        rng = np.random.default_rng(5)
        there: list[str] = []
        views = [(0, read(store, ANA)[1])]
        for step in range(60):
            choice = rng.integers(4) if there else 0
            if choice <= 1:
                drafts = [make_draft(f"{step}.{i}") for i in range(int(rng.integers(1, 4)))]
                store.insert(ANA, drafts)
                there += [draft.record.id for draft in drafts]
            elif choice == 2:
                id_ = there[int(rng.integers(len(there)))]
                store.update(ANA, make_draft(id_, f"I drink {step} teas."))
            else:
                gone = there[int(rng.integers(len(there))) :][:2]
                store.delete(ANA, gone)
                there = [id_ for id_ in there if id_ not in gone]
            views.append(read(store, ANA))

        now, full = read(store, ANA)

        assert len(full) == len(there)
        for position, rows in views:
            assert read(store, ANA, position, rows) == (now, full)

    def test_nothing_new_gives_no_rows(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        store.delete(ANA, ["a"])

        parts = list(store.changes(ANA, since=store.position(ANA)))

        assert [row for part in parts for row in part.rows] == []
        assert [key for part in parts for key in part.removed] == []

    def test_one_read_of_changes_does_not_see_later_writes(self, store: RecordStore) -> None:
        ids = [f"r{i}" for i in range(1500)]
        store.insert(ANA, [make_draft(id_, f"text {id_}") for id_ in ids])
        position = store.position(ANA)
        rows: dict[int, IndexRow] = {}
        reading = store.changes(ANA)
        first = next(reading)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.delete, ANA, ids[1200:]).result()
            pool.submit(store.insert, ANA, [make_draft("late")]).result()
        store.update(ANA, make_draft("r0", "Changed."))

        for part in [first, *reading]:
            assert part.position == position
            assert not part.removed
            rows |= {row.key: row for row in part.rows}
        assert len(rows) == 1500
        assert read(store, ANA, position, rows) == read(store, ANA)
        assert len(read(store, ANA)[1]) == 1201

    def test_vectors_of_documents_can_be_left_out(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "A chunk.", kind="document")])

        parts = list(store.changes(ANA, with_document_vectors=False))
        rows = [row for part in parts for row in part.rows]

        assert [(row.kind, row.vector is None) for row in rows] == [
            ("message", False),
            ("document", True),
        ]
        assert all(row.terms for row in rows)
        assert all(row.vector for row in read(store, ANA)[1].values())

    # -- newest ----------------------------------------------------------------------------

    def test_the_newest_are_those_stored_last_whatever_their_time(self, store: RecordStore) -> None:
        for i in range(5):
            store.insert(ANA, [make_draft(f"r{i}", f"text {i}", at=NOON - timedelta(days=i))])

        assert texts(list(store.newest(ANA, kinds=["message"]))) == [
            f"text {i}" for i in (4, 3, 2, 1, 0)
        ]
        assert texts(list(store.newest(ANA, kinds=["message"], limit=2))) == ["text 4", "text 3"]
        assert texts(list(store.newest(ANA, kinds=["message"], limit=99)))[-1] == "text 0"

    def test_the_newest_are_chosen_by_kind_and_session(self, store: RecordStore) -> None:
        kinds: tuple[Kind, ...] = ("message", "event", "document")
        drafts = [
            make_draft(f"{kind}{s}", f"{kind} {s}", kind=kind, session_id=s)
            for s in ("s1", "s2", None)
            for kind in kinds
        ]
        store.insert(ANA, drafts)

        def found(*kinds: Kind, **options: Any) -> list[str]:
            return texts(list(store.newest(ANA, kinds=kinds, **options)))

        assert found("event") == ["event None", "event s2", "event s1"]
        assert found("message", "event", session_id="s1") == ["event s1", "message s1"]
        assert found("message", "event", limit=3) == ["event None", "message None", "event s2"]
        assert found("message", session_id="s3") == []
        assert found("fact") == []
        assert found() == []

    def test_a_limit_counts_what_is_not_expired(self, store: RecordStore) -> None:
        for i in range(4):
            ends = NOON + timedelta(days=i) if i else None
            store.insert(ANA, [make_draft(f"r{i}", f"text {i}", expires_at=ends)])

        def found(moment: datetime) -> list[str]:
            newest = store.newest(ANA, kinds=["message"], limit=2, unexpired_at=moment)
            return texts(list(newest))

        assert found(NOON) == ["text 3", "text 2"]
        assert found(NOON + timedelta(days=2)) == ["text 3", "text 0"]
        assert found(NOON + timedelta(days=9)) == ["text 0"]

    def test_a_store_has_an_id_that_stays(self, store: RecordStore) -> None:
        before = store.id
        store.insert(ANA, [make_draft("a")])

        assert store.id == before
        assert len(before) >= 16

    def test_the_newest_are_read_as_far_as_they_are_asked_for(self, store: RecordStore) -> None:
        store.insert(ANA, [make_draft(f"r{i}", f"text {i}") for i in range(300)])
        newest = store.newest(ANA, kinds=KINDS)

        assert iter(newest) is newest
        assert next(newest).text == "text 299"

        # Neither this thread nor another is held up by a reader who stopped halfway.
        store.insert(ANA, [make_draft("later")])
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.delete, ANA, ["r0"]).result()
        assert next(newest).text == "text 298"
        del newest
        assert next(store.newest(ANA, kinds=KINDS)).id == "later"

    # -- isolation -------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "other",
        [("bob",), ("ana", "x"), ("Ana",), ("ana ",), ("an", "a"), ('["ana"]',), ("ana%",), ("é",)],
    )
    def test_namespaces_never_see_each_other(self, store: RecordStore, other: Namespace) -> None:
        store.insert(ANA, [make_draft("a", "Ana's."), make_draft("own")])
        store.set_profile(ANA, {"city": "Lyon"})
        before = (store.position(ANA), read(store, ANA), store.stats(ANA))
        foreign = keys_of(store, ANA)

        assert store.get(other, ["a", "own"]) == []
        assert store.profile(other) == {}
        assert store.stats(other).total == 0
        store.insert(other, [make_draft("a", "The other's.", namespace=other)])
        store.set_profile(other, {"city": "Paris"})
        store.update(other, make_draft("a", "The other's new.", namespace=other))

        found = store.get(other, ["a", "own"])
        assert [(one.namespace, one.text) for one in found] == [(other, "The other's new.")]
        assert set(texts(list(store.fetch(other, foreign).values()))) <= {"The other's new."}
        assert texts(list(store.newest(other, kinds=KINDS))) == ["The other's new."]
        assert len(read(store, other)[1]) == 1
        assert store.delete(other, ["a", "own"]) == 1
        assert store.delete_profile(other, "city")

        assert (store.position(ANA), read(store, ANA), store.stats(ANA)) == before
        assert texts(store.get(ANA, ["a"])) == ["Ana's."]
        assert store.get(ANA, ["a"])[0].namespace == ANA
        assert store.profile(ANA) == {"city": "Lyon"}

    def test_a_foreign_id_answers_as_a_missing_one(self, store: RecordStore) -> None:
        store.insert(BOB, [make_draft("a", namespace=BOB)])
        store.insert(ANA, [make_draft("own")])

        with pytest.raises(NotFoundError) as foreign:
            store.update(ANA, make_draft("a"))
        with pytest.raises(NotFoundError) as missing:
            store.update(ANA, make_draft("z"))

        assert str(foreign.value) == str(missing.value).replace("'z'", "'a'")
        assert store.delete(ANA, ["a"]) == 0
        assert store.fetch(ANA, keys_of(store, BOB)).keys() <= set(keys_of(store, ANA))
        assert texts(store.get(BOB, ["a"])) == ["I drink tea."]

    # -- profile, statistics, space --------------------------------------------------------

    def test_a_profile_keeps_json_values_by_key(self, store: RecordStore) -> None:
        values = {"b": {"x": [1, None, "é"]}, "a": "Lyon", "c": 0.1, "d": None, "é'\"": True}
        store.set_profile(ANA, values)
        store.set_profile(ANA, {"a": "Paris", "e": []})
        store.set_profile(ANA, {})

        assert store.profile(ANA) == values | {"a": "Paris", "e": []}
        assert list(store.profile(ANA)) == sorted([*values, "e"])

    def test_a_profile_key_is_removed_once(self, store: RecordStore) -> None:
        store.set_profile(ANA, {"a": 1, "b": None})

        assert store.delete_profile(ANA, "b") is True
        assert store.delete_profile(ANA, "b") is False
        assert store.profile(ANA) == {"a": 1}

    def test_a_profile_belongs_to_the_store(self, store: RecordStore) -> None:
        values = {"a": [1]}
        store.set_profile(ANA, values)
        values["a"].append(2)
        store.profile(ANA)["a"].append(3)

        assert store.profile(ANA) == {"a": [1]}

    def test_stats_count_what_is_there(self, store: RecordStore) -> None:
        store.insert(
            ANA,
            [
                make_draft("a", session_id="s1"),
                make_draft("b", session_id="s1", at=NOON - timedelta(days=3)),
                make_draft("c", session_id="s2", kind="fact", at=NOON + timedelta(days=3)),
                make_draft("d", kind="document"),
            ],
        )
        store.set_profile(ANA, {"x": 1, "y": 2})

        stats = store.stats(ANA)
        store.insert(ANA, [make_draft("e", "long " * 1000)])
        more = store.stats(ANA)
        store.delete(ANA, list("abcde"))
        none = store.stats(ANA)

        counted = {kind: count for kind, count in stats.records.items() if count}
        assert counted == {"message": 2, "fact": 1, "document": 1}
        assert (stats.total, stats.sessions, stats.profile_keys) == (4, 2, 2)
        assert stats.first_at == NOON - timedelta(days=3)
        assert stats.last_at == NOON + timedelta(days=3)
        assert more.bytes - stats.bytes >= 5000
        assert stats.bytes >= 4 * (len("I drink tea.") + 8 * 4)
        assert (none.total, none.bytes, none.first_at, none.profile_keys) == (0, 0, None, 2)

    def test_the_space_is_set_once(self, store: RecordStore) -> None:
        assert store.space() is None
        assert store.set_space(Space("words", 64)) == ("words", 64, None, 1)
        assert store.set_space(Space("others", 3)) == ("words", 64, None, 1)
        assert store.space() == ("words", 64, None, 1)
