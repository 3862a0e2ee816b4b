"""The contract of RecordStore on vector spaces, as tests: one in force, and the move to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from hybrid_memory import spaces
from hybrid_memory.errors import ConflictError, EmbedderMismatchError
from hybrid_memory.protocols import Draft, RecordStore, Space, Vectors
from hybrid_memory.testing.fakes import HashEmbedder
from hybrid_memory.types import Kind, Namespace, Record

ANA: Namespace = ("ana",)
BOB: Namespace = ("bob",)
NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)
OLD, NEW = HashEmbedder(16, name="old"), HashEmbedder(24, name="new")


def draft(
    text: str, *, namespace: Namespace = ANA, kind: Kind = "message", generation: int | None = 1
) -> Draft:
    """Return a text under its own id, in the old space."""
    record = Record(id=text, namespace=namespace, kind=kind, text=text, at=NOON, created_at=NOON)
    vector = None if kind == "instruction" else OLD.embed_query(text)
    terms = np.array([1], np.uint32)
    return Draft(record, vector, terms, digest=1, generation=generation)


def encode(records: Sequence[Record]) -> Vectors:
    """Return vectors of the new space."""
    return NEW.embed([record.text for record in records])


def refuse(records: Sequence[Record]) -> Vectors:
    """Encode nothing, where there should be nothing to encode."""
    raise AssertionError(f"{len(records)} records are encoded")


def move_all(store: RecordStore, generation: int, *, limit: int = 1000) -> int:
    """Move what is there, and return how many records that were."""
    rows = [row for row in store.unmoved(generation, limit=limit) if row.record is not None]
    records = [row.record for row in rows if row.record is not None]
    return store.move(generation, list(zip(rows, encode(records), strict=True)))


def settle(store: RecordStore) -> None:
    """Finish a switch, one record at a time; nothing is read otherwise for it."""
    while store.settle_space(limit=1):
        assert store.integrity("full") == []
        read = [(row.id, row.vector, row.vector_is_intact) for row in store.stored(ANA)]
        assert read == [(row.id, row.vector, True) for row in store.recent(ANA, limit=9)[::-1]]


def vectors(store: RecordStore, namespace: Namespace = ANA) -> dict[str, bytes | None]:
    """Return the vectors in force, by id."""
    return {str(row.id): row.vector for row in store.stored(namespace)}


def in_space(embedder: HashEmbedder, *texts: str) -> dict[str, bytes | None]:
    """Return the vectors of an embedder, by text."""
    return {text: embedder.embed_query(text).tobytes() for text in texts}


class VectorSpaceSuite:
    """Override `store`: an empty one."""

    @pytest.fixture
    def store(self) -> RecordStore:
        """Return the store under test."""
        raise NotImplementedError("override the fixture store")

    @pytest.fixture
    def filled(self, store: RecordStore) -> RecordStore:
        """Return a store with two namespaces, an instruction, and an empty space beside it."""
        store.set_space(spaces.space_of(OLD))
        store.insert(ANA, [draft("tea"), draft("rice"), draft("Be brief.", kind="instruction")])
        store.insert(BOB, [draft("soup", namespace=BOB)])
        store.open_space(spaces.space_of(NEW))
        return store

    def test_the_first_space_stays_and_gets_the_probes_it_lacks(self, store: RecordStore) -> None:
        probes = spaces.space_of(OLD).probes
        assert store.set_space(Space("old", 16)) == Space("old", 16, None, 1)
        assert store.set_space(Space("old", 24, b"another")) == Space("old", 16, None, 1)
        assert store.set_space(Space("old", 16, probes)) == Space("old", 16, probes, 1)
        assert store.set_space(Space("old", 16, b"another")) == Space("old", 16, probes, 1)
        assert store.space() == Space("old", 16, probes, 1)
        assert store.spaces_aside() == []

    def test_another_space_beside_it_changes_nothing_that_is_read(
        self, filled: RecordStore
    ) -> None:
        [beside] = filled.spaces_aside()
        position = filled.position(ANA)

        assert filled.space() == spaces.space_of(OLD)._replace(generation=1)
        assert beside[:3] == spaces.space_of(NEW)[:3]
        assert beside.generation > 1
        assert filled.count_moved(beside.generation) == (0, 3)
        assert move_all(filled, beside.generation) == 3
        assert filled.count_moved(beside.generation) == (3, 3)
        assert filled.unmoved(beside.generation) == []
        assert filled.position(ANA) == position
        assert vectors(filled) == {**in_space(OLD, "tea", "rice"), "Be brief.": None}

    def test_what_is_left_to_move_comes_by_key_in_pages(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()

        first, second = filled.unmoved(beside.generation, limit=2)
        [third] = filled.unmoved(beside.generation, after=second.key, limit=2)

        assert [row.id for row in (first, second, third)] == ["tea", "rice", "soup"]
        assert third.record is not None
        assert third.record.namespace == BOB

    def test_what_is_changed_deleted_or_new_is_moved_again(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        stale = filled.unmoved(beside.generation)
        move_all(filled, beside.generation)
        filled.update(ANA, draft("tea"))
        filled.delete(BOB, ["soup"])
        filled.insert(BOB, [draft("salt", namespace=BOB)])

        again = [(row, NEW.embed_query("stale")) for row in stale]

        # Only the one that is as it was when it was read.
        assert filled.move(beside.generation, again) == 1
        assert [row.id for row in filled.unmoved(beside.generation)] == ["tea", "salt"]
        assert filled.count_moved(beside.generation) == (1, 3)

    def test_the_switch_puts_all_vectors_in_force_at_once(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        before = {namespace: filled.position(namespace) for namespace in (ANA, BOB)}
        move_all(filled, beside.generation)

        assert filled.switch_space(beside.generation, encode=refuse, limit=0)

        assert filled.space() == beside
        assert [space[:3] for space in filled.spaces_aside()] == [spaces.space_of(OLD)[:3]]
        assert vectors(filled) == {**in_space(NEW, "tea", "rice"), "Be brief.": None}
        assert vectors(filled, BOB) == in_space(NEW, "soup")
        assert all(row.vector_is_intact for row in filled.stored(ANA))
        assert filled.integrity("full") == []
        for namespace, position in before.items():
            assert filled.position(namespace) > position

    def test_the_last_few_are_encoded_within_the_switch_and_no_more_than_that(
        self, filled: RecordStore
    ) -> None:
        [beside] = filled.spaces_aside()
        rows = filled.unmoved(beside.generation, limit=1)
        filled.move(beside.generation, [(rows[0], NEW.embed_query("tea"))])
        encoded: list[str] = []

        def noted(records: Sequence[Record]) -> Vectors:
            encoded.extend(record.text for record in records)
            return encode(records)

        assert not filled.switch_space(beside.generation, encode=refuse, limit=1)
        assert vectors(filled)["tea"] == OLD.embed_query("tea").tobytes()
        assert filled.switch_space(beside.generation, encode=noted, limit=2)
        assert sorted(encoded) == ["rice", "soup"]
        assert vectors(filled) == {**in_space(NEW, "tea", "rice"), "Be brief.": None}

    def test_a_switch_that_fails_changes_nothing(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()

        with pytest.raises(AssertionError):
            filled.switch_space(beside.generation, encode=refuse, limit=9)

        assert filled.space() == spaces.space_of(OLD)._replace(generation=1)
        assert vectors(filled) == {**in_space(OLD, "tea", "rice"), "Be brief.": None}

    def test_who_read_before_the_switch_is_told_all_there_is_afresh(
        self, filled: RecordStore
    ) -> None:
        [beside] = filled.spaces_aside()
        before = filled.position(ANA)
        assert {changes.generation for changes in filled.changes(ANA)} == {1}
        assert not any(changes.is_afresh for changes in filled.changes(ANA))

        filled.switch_space(beside.generation, encode=encode, limit=9)

        read = list(filled.changes(ANA, since=before))
        assert read[0].is_afresh
        assert {changes.generation for changes in read} == {beside.generation}
        assert len([row for changes in read for row in changes.rows]) == 3
        filled.delete(ANA, ["rice"])
        later = list(filled.changes(ANA, since=read[0].position))
        assert not any(changes.is_afresh for changes in later)
        assert [len(changes.removed) for changes in later if changes.removed] == [1]

    def test_the_way_back_encodes_what_was_written_since(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        filled.switch_space(beside.generation, encode=encode, limit=9)
        new = NEW.embed_query("salt")
        salt = draft("salt", generation=beside.generation)
        filled.insert(ANA, [Draft(salt.record, new, salt.terms, 1, generation=beside.generation)])

        [former] = filled.spaces_aside()
        settle(filled)
        assert former.generation == 1
        assert [row.id for row in filled.unmoved(1)] == ["salt"]
        assert filled.switch_space(
            1, encode=lambda records: OLD.embed([record.text for record in records]), limit=9
        )

        assert filled.space() == former
        assert vectors(filled) == {**in_space(OLD, "tea", "rice", "salt"), "Be brief.": None}
        assert filled.integrity("full") == []

    def test_nobody_sees_whether_a_switch_is_settled(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        filled.switch_space(beside.generation, encode=encode, limit=9)
        position, before = filled.position(ANA), vectors(filled)
        read = [row for changes in filled.changes(ANA) for row in changes.rows]

        settle(filled)

        assert (filled.position(ANA), vectors(filled)) == (position, before)
        assert [row for changes in filled.changes(ANA) for row in changes.rows] == read
        assert filled.stats(ANA).bytes == sum(
            len(row.record.text) + len(row.vector or b"") + len(row.terms)
            for row in filled.stored(ANA)
            if row.record is not None
        )

    def test_a_record_that_only_comes_to_expire_keeps_its_vector(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        filled.switch_space(beside.generation, encode=encode, limit=9)
        before = vectors(filled)

        filled.expire(ANA, ["tea"], datetime(2030, 1, 1, tzinfo=UTC))

        assert vectors(filled) == before
        assert all(row.vector_is_intact for row in filled.stored(ANA))
        while filled.settle_space(limit=1):
            pass
        assert vectors(filled) == before

    def test_another_space_can_be_begun_before_a_switch_is_settled(
        self, filled: RecordStore
    ) -> None:
        [beside] = filled.spaces_aside()
        filled.switch_space(beside.generation, encode=encode, limit=9)
        before = vectors(filled)

        third = filled.open_space(Space("third", 24, None))

        assert vectors(filled) == before
        assert filled.count_moved(third.generation) == (0, 3)
        assert filled.integrity("full") == []

    def test_a_vector_of_another_generation_is_refused(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        filled.switch_space(beside.generation, encode=encode, limit=9)
        before = vectors(filled)
        late, other = draft("late"), draft("tea")
        other = replace(other, record=replace(other.record, importance=0.9))
        [row] = [one for one in filled.stored(ANA) if one.id == "tea"]

        for write in (
            lambda: filled.insert(ANA, [late]),
            lambda: filled.restore(ANA, [late]),
            lambda: filled.update(ANA, draft("tea")),
            lambda: filled.restore(ANA, [other], on_conflict="replace"),
            lambda: filled.refresh(ANA, [(row, draft("tea"))]),
        ):
            with pytest.raises(EmbedderMismatchError):
                write()

        assert vectors(filled) == before
        # What has no vector is of no space.
        filled.insert(ANA, [draft("Be kind.", kind="instruction")])

    def test_another_space_takes_the_place_of_the_one_beside(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        rows = filled.unmoved(beside.generation)
        move_all(filled, beside.generation)

        third = filled.open_space(Space("third", 24, None))

        assert filled.spaces_aside() == [third]
        assert filled.count_moved(third.generation) == (0, 3)
        with pytest.raises(ConflictError):
            filled.move(beside.generation, [(rows[0], NEW.embed_query("tea"))])
        with pytest.raises(ConflictError):
            filled.switch_space(beside.generation, encode=encode, limit=9)

    def test_only_former_spaces_are_dropped(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        assert filled.drop_former_spaces() == 0
        assert filled.spaces_aside() == [beside]
        filled.switch_space(beside.generation, encode=encode, limit=9)

        assert filled.drop_former_spaces() == 1

        assert filled.spaces_aside() == []
        assert vectors(filled, BOB) == in_space(NEW, "soup")

    def test_an_erased_namespace_has_nothing_to_move(self, filled: RecordStore) -> None:
        [beside] = filled.spaces_aside()
        move_all(filled, beside.generation)

        filled.erase(ANA)

        assert filled.count_moved(beside.generation) == (1, 1)
        assert filled.switch_space(beside.generation, encode=refuse, limit=0)
        assert filled.position(ANA) == 0
        assert filled.integrity("full") == []
