"""The contract of RecordStore, as tests."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import pytest

from hybrid_memory.errors import (
    ConflictError,
    NotFoundError,
    QuotaExceededError,
    StoreCorruptError,
    StorePathError,
)
from hybrid_memory.limits import microseconds
from hybrid_memory.protocols import Bound, Depth, Draft, IndexRow, RecordStore, Traits
from hybrid_memory.testing.fakes import HashEmbedder
from hybrid_memory.types import (
    KINDS,
    Imported,
    Kind,
    Namespace,
    Pruned,
    PrunePolicy,
    Quota,
    Record,
)

ANA: Namespace = ("ana",)
BOB: Namespace = ("bob",)
NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)
CANARY = "canary-8306"
DEPTHS: tuple[Depth, ...] = get_args(Depth)
OTHER_CONTENT: dict[str, Any] = {
    "text": "I drink coffee.",
    "kind": "event",
    "role": "assistant",
    "speaker": "Bea",
    "session_id": "s2",
    "source": "developer",
    "importance": 0.9,
    "metadata": {"city": "Paris"},
    "data": {"n": 2},
    "expires_at": NOON + timedelta(days=1),
}
ODD_TEXTS = {
    "quotes": '\'; DROP TABLE records; -- "%s" {x} $1 :ids \\',
    "unicode": "Zoë \N{GRINNING FACE} 茶 e\u0301 \u200f\u202e \ufeff \U0010ffff",
    "lines": " \ttwo\r\nlines\n\n",
    "long": "tea and rice " * 5000,
}


def make_draft(
    id_: str, text: str = "I drink tea.", *, namespace: Namespace = ANA, **fields: Any
) -> Draft:
    """Return a draft; `vector`, `terms`, `digest` and `at_given` aside, fields are a record's."""
    # Surrogates cannot be stored, so that this encodes all there is.
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)
    own = {
        "vector": fields.pop("vector", HashEmbedder(8).embed_query(text)),
        "terms": fields.pop("terms", np.array([len(text), 7, 7, 2**32 - 1], dtype=np.uint32)),
        "digest": fields.pop("digest", digest),
        "at_given": fields.pop("at_given", True),
        "traits": Traits(0.5, tells_time=True),
    }
    values: dict[str, Any] = {"kind": "message", "at": NOON, "created_at": NOON} | fields
    return Draft(record=Record(id=id_, namespace=namespace, text=text, **values), **own)


def read(
    store: RecordStore,
    namespace: Namespace,
    since: int = 0,
    rows: dict[int, IndexRow] | None = None,
) -> tuple[int, dict[int, IndexRow]]:
    """Catch up as a partition does: return the position reached and all rows by key."""
    rows = dict(rows or {})
    position = since
    for part in store.changes(namespace, since=since):
        position = part.position
        if part.is_afresh:
            rows.clear()
        rows |= {row.key: row for row in part.rows}
        for key in part.removed:
            rows.pop(key, None)
    return position, rows


def keys_of(store: RecordStore, namespace: Namespace) -> list[int]:
    """Return the keys of all records, lowest first."""
    return list(read(store, namespace)[1])


def texts(records: Sequence[Record]) -> list[str]:
    """Return the texts of records."""
    return [record.text for record in records]


class Damage(Protocol):
    """Does to a record, or to a value of the profile, what a flipped bit would."""

    def __call__(
        self, namespace: Namespace, *, id: str | None = None, profile_key: str | None = None
    ) -> None:
        """Damage one of them in the store under test."""


class RecordStoreSuite:
    """Override `store`, an empty one, and `damage`, without which what is of damage is skipped."""

    @pytest.fixture
    def store(self) -> RecordStore:
        """Return an empty record store."""
        raise NotImplementedError("override the fixture store")

    @pytest.fixture
    def damage(self, store: RecordStore) -> Damage:
        """Return what damages a record of the store."""
        return cast(Damage, pytest.skip("override the fixture damage"))

    def test_a_new_namespace_is_empty(self, store: RecordStore) -> None:
        stats = store.stats(ANA)

        assert store.position(ANA) == 0
        assert list(store.changes(ANA)) == []
        assert store.get(ANA, ["a"]) == []
        assert store.fetch(ANA, [1, 1 << 32]) == {}
        assert list(store.newest(ANA, kinds=KINDS)) == []
        assert store.delete(ANA, ["a"]) == 0
        assert store.profile(ANA) == {}
        assert store.delete_profile(ANA, "a") is False
        assert (stats.total, stats.profile_keys, stats.sessions, stats.bytes) == (0, 0, 0, 0)
        assert (stats.namespace, stats.first_at, stats.last_at) == (ANA, None, None)

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
        assert store.set_space("words", 64) == ("words", 64)
        assert store.set_space("others", 3) == ("words", 64)
        assert store.space() == ("words", 64)

    # -- upkeep ----------------------------------------------------------------------------

    def test_the_rules_are_those_that_were_set_last(self, store: RecordStore) -> None:
        assert store.rules() is None
        store.set_rules(1)
        assert store.rules() == 1
        store.set_rules(2)
        assert store.rules() == 2

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
        self.test_a_new_namespace_is_empty(store)
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

    # -- bounds ----------------------------------------------------------------------------

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

    # -- threads ---------------------------------------------------------------------------

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


class DurableRecordStoreSuite(RecordStoreSuite):
    """For stores that outlive the process.

    Override `reopen`: each call opens the same store; and `open_copy`, which opens a backup.
    """

    @pytest.fixture
    def reopen(self) -> Callable[[], RecordStore]:
        """Return what opens the store under test, which is empty at first."""
        raise NotImplementedError("override the fixture reopen")

    @pytest.fixture
    def open_copy(self) -> Callable[[Path], RecordStore]:
        """Return what opens the store of a directory that `backup` wrote."""
        raise NotImplementedError("override the fixture open_copy")

    @pytest.fixture
    def store(self, reopen: Callable[[], RecordStore]) -> RecordStore:
        """Return an empty record store."""
        return reopen()

    def test_everything_is_there_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a", metadata={"n": 1}), make_draft("b"), make_draft("c")])
        store.update(ANA, make_draft("b", "I drink coffee."))
        store.delete(ANA, ["c"])
        store.insert(BOB, [make_draft("a", "Bob's.", namespace=BOB)])
        store.set_profile(ANA, {"city": "Lyon"})
        store.set_space("words", 64)

        def everything(store: RecordStore) -> list[Any]:
            return [
                [store.get(n, ["a", "b", "c"]), read(store, n), store.profile(n), store.stats(n)]
                for n in (ANA, BOB)
            ] + [store.space()]

        before = everything(store)
        store.close()

        assert everything(reopen()) == before

    def test_upkeep_goes_on_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore], damage: Damage
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b")])
        store.set_rules(2)
        damage(ANA, id="a")
        store.quarantine(ANA, keys=keys_of(store, ANA), at=NOON)
        store.close()

        again = reopen()

        assert not again.was_interrupted
        assert (again.rules(), again.quarantined(), again.namespaces()) == (2, 1, {ANA: 1})
        assert again.integrity("full") == []

    def test_keys_are_not_used_twice_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        keys, position = keys_of(store, ANA), store.position(ANA)
        store.delete(ANA, ["a", "b"])
        store.close()

        again = reopen()
        again.insert(ANA, [make_draft("a")])

        assert min(keys_of(again, ANA)) > max(keys)
        assert again.position(ANA) > position

    def test_a_removal_is_caught_up_with_after_reopening(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        position, rows = read(store, ANA)
        store.delete(ANA, ["a"])
        store.close()

        again = reopen()

        assert read(again, ANA, position, rows) == read(again, ANA)
        assert len(read(again, ANA)[1]) == 1

    def test_two_that_are_open_see_each_other_at_once(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()
        store.insert(ANA, [make_draft("a")])
        assert texts(other.get(ANA, ["a"])) == ["I drink tea."]

        other.update(ANA, make_draft("a", "I drink coffee."), expected_version=1)
        with pytest.raises(ConflictError):
            store.update(ANA, make_draft("a", "Lost."), expected_version=1)
        with pytest.raises(ConflictError):
            store.insert(ANA, [make_draft("a")])
        other.insert(ANA, [make_draft("b")])
        store.set_space("words", 64)

        assert store.position(ANA) == other.position(ANA)
        assert read(store, ANA) == read(other, ANA)
        assert other.set_space("others", 3) == ("words", 64)
        other.close()
        assert len(store.get(ANA, ["a", "b"])) == 2

    def test_what_two_write_at_once_is_all_there(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        stores = [store, reopen()]

        def write(writer: int) -> None:
            for i in range(10):
                stores[writer % 2].insert(ANA, [make_draft(f"{writer}.{i}")])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))

        assert len(read(store, ANA)[1]) == 40
        assert read(store, ANA) == read(stores[1], ANA)

    # -- erasure ---------------------------------------------------------------------------

    def test_another_that_is_open_sees_an_erasure_and_what_comes_after(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()
        store.insert(ANA, [make_draft(f"{i}") for i in range(4)])
        position, rows = read(other, ANA)
        assert len(other.get(ANA, ["1"])) == 1

        store.erase(ANA)
        self.test_a_new_namespace_is_empty(other)
        store.insert(ANA, [make_draft(f"{i}", f"New {i}.") for i in range(9)])

        assert read(other, ANA, position, rows) == read(store, ANA)
        assert texts(other.get(ANA, ["1"])) == ["New 1."]
        assert len(other.fetch(ANA, keys_of(other, ANA))) == 9
        assert other.delete(ANA, ["1"]) == 1
        store.erase(ANA)
        other.insert(ANA, [make_draft("last")])
        assert texts(store.get(ANA, ["last"])) == ["I drink tea."]

    def test_a_writer_comes_before_or_after_an_erasure(
        self, store: RecordStore, reopen: Callable[[], RecordStore]
    ) -> None:
        other = reopen()

        def write(number: int) -> None:
            store.insert(ANA, [make_draft(f"{number}.{i}") for i in range(3)])

        def erase(_: int) -> None:
            other.erase(ANA)

        with ThreadPoolExecutor(4) as pool:
            for number in range(10):
                writing, erasing = pool.submit(write, number), pool.submit(erase, number)
                writing.result()
                erasing.result()
                assert len(keys_of(store, ANA)) in (0, 3)
                assert read(store, ANA) == read(other, ANA)
                store.erase(ANA)

    def test_no_file_has_what_was_erased_or_purged(self, store: RecordStore) -> None:
        texts = [f"{CANARY} {i} " + "tea and rice " * (i % 40 * 30) for i in range(80)]
        store.insert(ANA, [make_draft(f"a{i}", text) for i, text in enumerate(texts)])
        store.insert(BOB, [make_draft(f"{i}", namespace=BOB) for i in range(80)])
        store.insert(BOB, [make_draft("x", CANARY, namespace=BOB)])
        store.update(BOB, make_draft("x", "Other.", namespace=BOB))
        assert any(CANARY.encode() in path.read_bytes() for path in store.files())

        store.erase(ANA)
        purged = store.purge(timeout_s=5)

        assert purged.is_complete
        assert purged.files
        assert not any(CANARY.encode() in path.read_bytes() for path in store.files())

    # -- backup ----------------------------------------------------------------------------

    def test_a_backup_is_a_store_of_its_own(
        self, store: RecordStore, open_copy: Callable[[Path], RecordStore], tmp_path: Path
    ) -> None:
        store.insert(ANA, [make_draft("a"), make_draft("b", "Other.")])
        store.delete(ANA, ["b"])
        store.set_profile(ANA, {"city": "Lyon"})
        store.set_space("words", 64)
        seen: list[tuple[int, int]] = []

        store.backup(tmp_path / "copies" / "one", on_progress=lambda *done: seen.append(done))
        before = read(store, ANA), store.get(ANA, ["a", "b"]), store.profile(ANA), store.space()
        store.insert(ANA, [make_draft("c")])

        copy = open_copy(tmp_path / "copies" / "one")
        assert before == (
            read(copy, ANA),
            copy.get(ANA, ["a", "b"]),
            copy.profile(ANA),
            copy.space(),
        )
        assert copy.get(ANA, ["c"]) == []
        assert copy.id != store.id
        assert seen[-1][0] == seen[-1][1] > 0
        copy.close()

    def test_a_backup_overwrites_nothing(self, store: RecordStore, tmp_path: Path) -> None:
        store.insert(ANA, [make_draft("a")])
        folder, file = tmp_path / "folder", tmp_path / "file"
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
        file.write_text("mine")

        for target in (folder, file):
            with pytest.raises(StorePathError):
                store.backup(target)

        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [
            ("mine.txt", "mine")
        ]
        assert file.read_text() == "mine"

    def test_a_backup_holds_the_first_of_the_writes_that_go_on_meanwhile(
        self, store: RecordStore, open_copy: Callable[[Path], RecordStore], tmp_path: Path
    ) -> None:
        store.insert(ANA, [make_draft(f"old {i}", "tea " * 2000) for i in range(500)])
        acknowledged: list[int] = []
        started, done = threading.Event(), threading.Event()

        def write() -> None:
            while not done.is_set():
                number = len(acknowledged)
                store.insert(BOB, [make_draft(f"{number}", "rice " * 500, namespace=BOB)])
                acknowledged.append(number)
                started.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                assert started.wait(60)
                spans = []
                for number in range(3):
                    first = len(acknowledged)
                    store.backup(tmp_path / f"copy {number}")
                    spans.append((first, len(acknowledged) + 1))
            finally:
                done.set()
            writing.result()

        for number, (first, last) in enumerate(spans):
            copy = open_copy(tmp_path / f"copy {number}")
            found = sorted(int(one.id) for one in copy.newest(BOB, kinds=KINDS))
            assert found == list(range(len(found)))
            assert first <= len(found) <= last
            assert len(keys_of(copy, ANA)) == 500
            assert copy.integrity("full") == []
            copy.close()
