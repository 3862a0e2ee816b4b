"""Adding under ids that may be taken, and reading and deleting many at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.errors import ConflictError, InvalidInputError
from hybrid_memory.protocols import Vectors
from hybrid_memory.testing import HashEmbedder, ManualClock


class CountingEmbedder(HashEmbedder):
    """Counts the texts it encodes."""

    count = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.count += len(texts)
        return super().embed(texts)


def chunk(id: str, text: str, **others: object) -> dict[str, object]:
    return {"id": id, "text": text, "kind": "document", **others}


def test_a_record_that_is_replaced_keeps_its_birthday_and_gets_the_next_version(
    ana: Scope, clock: ManualClock
) -> None:
    [first] = ana.add_many([chunk("1", "lentils on Monday")])
    clock.advance(days=1)

    [second] = ana.add_many([chunk("1", "soup on Monday")], on_conflict="replace")

    assert (second.text, second.version, second.created_at) == (
        "soup on Monday",
        2,
        first.created_at,
    )
    assert ana.get("1") == second
    assert [hit.record.text for hit in ana.search("Monday")] == ["soup on Monday"]


def test_of_a_batch_only_what_changed_is_encoded(tmp_path: Path) -> None:
    embedder = CountingEmbedder()
    with HybridMemory.open(tmp_path / "memory", embedder=embedder) as memory:
        ana = memory.scope(user_id="ana")
        ana.add_many([chunk(str(i), f"text number {i}") for i in range(10)])
        embedder.count = 0
        again = [chunk(str(i), f"text number {i}") for i in range(11)]
        again[3] = chunk("3", "another text")

        stored = ana.add_many(again, on_conflict="replace")

    assert embedder.count == 2
    assert [record.version for record in stored] == [1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1]


def test_of_an_id_given_twice_the_last_one_counts(ana: Scope) -> None:
    stored = ana.add_many([chunk("1", "red"), chunk("1", "blue")], on_conflict="replace")

    assert [record.text for record in stored] == ["blue", "blue"]
    assert ana.get("1").text == "blue"
    assert ana.stats().total == 1


def test_what_is_there_can_be_kept(ana: Scope) -> None:
    ana.add_many([chunk("1", "red")])

    stored = ana.add_many([chunk("1", "blue"), chunk("2", "green")], on_conflict="skip")

    assert [record.text for record in stored] == ["red", "green"]


def test_a_record_keeps_its_kind(ana: Scope) -> None:
    ana.add("I like tea.", id="1")

    with pytest.raises(ConflictError, match="of the kind 'message'"):
        ana.add_many([chunk("1", "tea"), chunk("2", "coffee")], on_conflict="replace")

    assert ana.get("1").text == "I like tea."
    assert ana.stats().total == 1


def test_what_to_do_with_a_taken_id_is_one_of_three(ana: Scope) -> None:
    with pytest.raises(InvalidInputError, match="one of error, skip, replace, not 'upsert'"):
        ana.add_many(["tea"], on_conflict="upsert")  # type: ignore[arg-type]


def test_many_are_read_and_deleted_at_once_and_missing_ones_are_fine(ana: Scope) -> None:
    ana.add_many([chunk(id, f"text {id}") for id in "abc"])

    assert [record.id for record in ana.get_many(["c", "x", "a"])] == ["c", "a"]
    assert ana.delete_many(["a", "x", "c"]) == 2
    assert [record.id for record in ana.get_many(["x", *"abc"])] == ["b"]


def test_a_bare_text_is_no_list_of_ids(ana: Scope) -> None:
    with pytest.raises(InvalidInputError, match="list of ids"):
        ana.delete_many("abc")
