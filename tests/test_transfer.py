"""Ways out and in: export, import, backup, and what other libraries remembered."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import string
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Imported, Scope, indexing, limits
from hybrid_memory.backends import chroma, langgraph, mem0
from hybrid_memory.backends.sql import SQLRecordStore
from hybrid_memory.errors import (
    ConflictError,
    HybridMemoryError,
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StorePathError,
    TransferError,
)
from hybrid_memory.protocols import Vectors
from hybrid_memory.spaces import PROBES
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore
from hybrid_memory.types import KINDS, ROLES, Namespace, Record

NOON = datetime(2026, 5, 2, 12, tzinfo=UTC)
CANARY = "canary-8306"


class CountingEmbedder(HashEmbedder):
    """Counts the texts that it encodes, the probes aside."""

    def __init__(self, dim: int = 64, *, name: str = "hashed-words") -> None:
        super().__init__(dim, name=name)
        self.encoded = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.encoded += len(texts) if tuple(texts) != PROBES else 0
        return super().embed(texts)


@pytest.fixture
def open_memory(tmp_path: Path) -> Iterable[Callable[..., HybridMemory]]:
    """Open a memory of a name in the directory of the test, with a given embedder."""
    opened: list[HybridMemory] = []

    def open_memory(name: str, embedder: HashEmbedder | None = None) -> HybridMemory:
        memory = HybridMemory.open(
            tmp_path / name,
            embedder=embedder or HashEmbedder(),
            clock=ManualClock(NOON),
            durability="normal",
        )
        opened.append(memory)
        return memory

    yield open_memory
    for memory in opened:
        memory.close()


@pytest.fixture
def other(open_memory: Callable[..., HybridMemory]) -> HybridMemory:
    return open_memory("other")


@pytest.fixture
def told(memory: HybridMemory, clock: ManualClock) -> Scope:
    """Ana's scope with one record of each kind, one changed, and a profile; and Bob's with one."""
    ana = memory.scope(user_id="ana", session_id="s1")
    ana.add("I moved to Lyon.", id="move", speaker="Ana", metadata={"city": "Lyon", "n": [1, 2.5]})
    ana.add_fact({"intent": "preference", "likes": ["Rust"]}, id="likes", valid_to=NOON)
    ana.add_event("Signed the lease", at=datetime(2026, 5, 2, 9, 8, 7, 654321, tzinfo=UTC))
    ana.add_instruction("Always answer concisely.", priority=3)
    ana.add_documents("The canteen serves lentils.\nIt opens at noon.", source="menu.md")
    clock.advance(hours=1)
    ana.update("move", text="I moved to Paris.", importance=0.1 + 0.2)
    ana.profile["timezone"] = "Europe/Paris"
    ana.profile["pets"] = {"cat": None}
    memory.scope(user_id="bob").add("I am Bob.", id="bob")
    return ana


def exported(owner: Scope | HybridMemory, **options: Any) -> list[dict[str, Any]]:
    """Return the lines of an export as objects."""
    file = io.BytesIO()
    owner.export(file, **options)
    return [json.loads(line) for line in file.getvalue().decode().splitlines()]


def written(path: Path, lines: Iterable[Any]) -> Path:
    """Write objects as lines, and texts as they are."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def everything(memory: HybridMemory, namespace: Namespace) -> list[Record]:
    return list(memory._store.newest(namespace, kinds=KINDS))


# -- export --------------------------------------------------------------------------------


def test_an_export_is_a_header_and_a_line_for_each_record_and_key(told: Scope) -> None:
    header, *lines = exported(told)

    assert header["format"] == "hybrid-memory"
    assert header["version"] == 1
    assert header["space"] == {"name": "hashed-words", "dim": 64}
    assert [line["profile"] for line in lines[:2]] == ["pets", "timezone"]
    assert [line["kind"] for line in lines[2:]] == [
        "message", "fact", "event", "instruction", "document", "document",
    ]  # fmt: skip
    changed, event = lines[2], lines[4]
    assert set(changed) == set(Record.__dataclass_fields__)
    assert (changed["text"], changed["version"]) == ("I moved to Paris.", 2)
    assert changed["importance"] == 0.1 + 0.2
    assert event["at"] == "2026-05-02T09:08:07.654321Z"


def test_an_export_of_a_scope_holds_nothing_of_another(told: Scope) -> None:
    namespaces = {tuple(line["namespace"]) for line in exported(told)[1:]}

    assert namespaces == {("ana",)}


def test_an_export_of_a_memory_holds_all_namespaces_or_those_asked_for(
    memory: HybridMemory, told: Scope
) -> None:
    def namespaces(**options: Any) -> set[tuple[str, ...]]:
        return {tuple(line["namespace"]) for line in exported(memory, **options)[1:]}

    assert namespaces() == {("ana",), ("bob",)}
    assert namespaces(namespaces=[("bob",)]) == {("bob",)}
    assert namespaces(namespaces=[("nobody",)]) == set()


def test_an_export_says_how_many_records_it_has(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    assert told.export(tmp_path / "ana.jsonl") == 6
    assert memory.export(tmp_path / "all.jsonl", on_progress=lambda *done: seen.append(done)) == 7
    assert seen[-1] == (7, 7)


def test_vectors_are_exported_when_asked_for(told: Scope) -> None:
    without, with_vectors = exported(told)[3:], exported(told, vectors=True)[3:]

    assert not any("vector" in line for line in without)
    # Instructions are not ranked, so they have none.
    assert {line["kind"] for line in with_vectors if "vector" not in line} == {"instruction"}


def test_an_export_replaces_a_file_at_once_and_is_its_owners_alone(
    told: Scope, tmp_path: Path
) -> None:
    path = tmp_path / "ana.jsonl"
    path.write_text("old")
    path.chmod(0o644)

    told.export(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text().splitlines()[0])["format"] == "hybrid-memory"
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["ana.jsonl"]


def test_an_export_that_fails_leaves_the_old_file_and_no_other(told: Scope, tmp_path: Path) -> None:
    path = tmp_path / "ana.jsonl"
    path.write_text("old")

    def fail(done: int, total: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        told.export(path, on_progress=fail)

    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["ana.jsonl"]


def test_an_export_follows_a_link_and_writes_to_what_is_open(told: Scope, tmp_path: Path) -> None:
    link, text = tmp_path / "link", io.StringIO()
    (tmp_path / "real").write_text("old")
    link.symlink_to(tmp_path / "real")

    told.export(link)
    told.export(text)

    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == text.getvalue()


@pytest.mark.parametrize("where", ["", "missing/ana.jsonl"])
def test_a_path_that_cannot_be_written_is_refused(told: Scope, tmp_path: Path, where: str) -> None:
    with pytest.raises(TransferError, match="cannot write"):
        told.export(tmp_path / where)


def test_a_damaged_record_is_not_left_out_in_silence(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "memory" / "memory.db") as database:
        database.execute("UPDATE records SET text = ? WHERE id = 'move'", (CANARY,))

    with pytest.raises(StoreCorruptError, match="repair") as caught:
        told.export(tmp_path / "ana.jsonl")

    assert CANARY not in str(caught.value)
    assert not (tmp_path / "ana.jsonl").exists()


# -- a round trip --------------------------------------------------------------------------


def test_an_import_is_the_memory_that_was_exported(
    memory: HybridMemory, other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    memory.export(tmp_path / "all.jsonl")

    imported = other.import_(tmp_path / "all.jsonl")

    assert imported == Imported(added=7, profile_keys=2)
    assert everything(other, ("ana",)) == everything(memory, ("ana",))
    assert everything(other, ("bob",)) == everything(memory, ("bob",))
    assert dict(other.scope(user_id="ana").profile) == dict(told.profile)
    assert exported(other, vectors=True) == exported(memory, vectors=True)


def test_what_was_imported_is_found_as_before(
    memory: HybridMemory, other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    told.export(tmp_path / "ana.jsonl", vectors=True)
    ana = other.scope(user_id="ana", session_id="s1")
    ana.import_(tmp_path / "ana.jsonl")

    for question in ("Where did I move to?", "When does the canteen open?", "the lease"):
        assert [(hit.record, hit.score) for hit in ana.search(question, now=NOON)] == [
            (hit.record, hit.score) for hit in told.search(question, now=NOON)
        ]


def test_a_second_import_changes_nothing_and_says_so(
    memory: HybridMemory, other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    memory.export(tmp_path / "all.jsonl")
    other.import_(tmp_path / "all.jsonl")
    before, position = exported(other, vectors=True), other._store.position(("ana",))

    again = other.import_(tmp_path / "all.jsonl")
    into_itself = memory.import_(tmp_path / "all.jsonl")

    assert again == into_itself == Imported(unchanged=7)
    assert exported(other, vectors=True) == before
    assert other._store.position(("ana",)) == position


_labels = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
).map(lambda text: f"x{text}").map(lambda text: limits.label(text, "label"))  # fmt: skip
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_times = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
_zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _texts
_json = st.recursive(
    _scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_texts, _json, max_size=3)


@st.composite
def _records(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from(KINDS))
    source = "developer" if kind == "instruction" else draw(_labels)
    return Record(
        id=draw(_labels),
        namespace=("nobody",),
        kind=kind,
        text=draw(_texts.map(lambda text: f"{text}.")),
        at=draw(_times).astimezone(draw(_zones)),
        created_at=draw(_times),
        role=draw(st.sampled_from(ROLES)),
        speaker=draw(st.none() | _labels),
        session_id=draw(st.none() | _labels),
        source=source,
        importance=draw(st.floats(0, 1)),
        metadata=draw(_objects),
        data=draw(st.none() | _objects),
        version=draw(st.integers(1, 2**31 - 1)),
        valid_from=draw(st.none() | _times),
        valid_to=draw(st.none() | _times),
        superseded_by=draw(st.none() | _labels),
        expires_at=draw(st.none() | _times),
    )


_stores = st.dictionaries(
    st.lists(_labels, min_size=1, max_size=3).map(tuple),
    st.tuples(
        st.lists(_records(), max_size=4, unique_by=lambda record: record.id),
        st.dictionaries(_labels, _json, max_size=3),
    ),
    max_size=3,
)


def _fill(memory: HybridMemory, content: dict[Namespace, tuple[list[Record], Any]]) -> None:
    for namespace, (records, profile) in content.items():
        own = [replace(record, namespace=namespace) for record in records]
        drafts = indexing.drafts(own, memory._embedder, at_given=[True] * len(own))
        memory._store.insert(namespace, memory._encoding.claimed(drafts))
        memory._store.set_profile(namespace, profile)


def _bytes(memory: HybridMemory, *, vectors: bool) -> bytes:
    file = io.BytesIO()
    memory.export(file, vectors=vectors)
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(content=_stores, vectors=st.booleans())
def test_the_export_of_an_import_equals_the_export(
    content: dict[Namespace, tuple[list[Record], Any]], vectors: bool
) -> None:
    first = HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(8))
    second = HybridMemory(MemoryRecordStore(), embedder=HashEmbedder(8))
    _fill(first, content)
    out = _bytes(first, vectors=vectors)

    imported = second.import_(io.BytesIO(out))
    again = second.import_(io.BytesIO(out))

    assert _bytes(second, vectors=True) == _bytes(first, vectors=True)
    assert imported.added == again.unchanged == sum(len(records) for records, _ in content.values())
    assert again == Imported(unchanged=imported.added)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=_stores)
def test_the_export_of_an_import_on_disk_equals_the_export(
    content: dict[Namespace, tuple[list[Record], Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("round")
    with (
        HybridMemory.open(path / "a", embedder=HashEmbedder(8), durability="normal") as first,
        HybridMemory.open(path / "b", embedder=HashEmbedder(8), durability="normal") as second,
    ):
        _fill(first, content)
        second.import_(io.BytesIO(_bytes(first, vectors=True)))

        assert _bytes(second, vectors=True) == _bytes(first, vectors=True)


def test_a_text_of_every_ascii_character_makes_the_round_trip(
    memory: HybridMemory, other: HybridMemory, tmp_path: Path
) -> None:
    text = "".join(sorted(set(string.printable) | {chr(code) for code in range(1, 256)}))
    ana = memory.scope(user_id="ana")
    ana.add(text + "\u2028\u2029\ufeff\N{GRINNING FACE}", id="odd")
    ana.add("\x01" * limits.MAX_TEXT_BYTES, id="long")  # six bytes each, escaped
    memory.export(tmp_path / "all.jsonl")

    other.import_(tmp_path / "all.jsonl")

    assert everything(other, ("ana",)) == everything(memory, ("ana",))


# -- vectors -------------------------------------------------------------------------------


def test_vectors_of_the_same_space_are_taken_as_they_are(
    open_memory: Callable[..., HybridMemory], told: Scope, tmp_path: Path
) -> None:
    told.export(tmp_path / "with.jsonl", vectors=True)
    told.export(tmp_path / "without.jsonl")
    with_vectors, without = CountingEmbedder(), CountingEmbedder()

    open_memory("a", with_vectors).import_(tmp_path / "with.jsonl")
    open_memory("b", without).import_(tmp_path / "without.jsonl")

    assert (with_vectors.encoded, without.encoded) == (0, 5)


@pytest.mark.parametrize("space", [{"dim": 32}, {"name": "other-words"}])
def test_vectors_of_another_space_are_made_anew(
    open_memory: Callable[..., HybridMemory], told: Scope, tmp_path: Path, space: dict[str, Any]
) -> None:
    told.export(tmp_path / "ana.jsonl", vectors=True)
    embedder = CountingEmbedder(**space)

    imported = open_memory("a", embedder).import_(tmp_path / "ana.jsonl")

    assert (imported.added, embedder.encoded) == (6, 5)


def test_vectors_of_older_rules_are_made_anew_where_the_rules_differ(
    open_memory: Callable[..., HybridMemory], memory: HybridMemory, tmp_path: Path
) -> None:
    # Before, the headings over a chunk were not encoded.
    memory.scope(user_id="ana").add_many(
        [
            {"text": "It opens at noon.", "kind": "document", "data": {"headings": ["Canteen"]}},
            {"text": "I like tea."},
        ]
    )
    header, *lines = exported(memory, vectors=True)
    old = written(tmp_path / "old.jsonl", [header | {"rules": 1}, *lines])
    newer = written(tmp_path / "newer.jsonl", [header | {"rules": 99}, *lines])
    of_old, of_newer = CountingEmbedder(), CountingEmbedder()

    open_memory("a", of_old).import_(old)
    open_memory("b", of_newer).import_(newer)

    assert (of_old.encoded, of_newer.encoded) == (1, 2)


@pytest.mark.parametrize(
    "vector",
    ["AAAA", "?", 7, "AADAfwAAwH8=", "AACAfwAAgH8="],
    ids=["short", "no", "int", "nan", "inf"],
)
def test_a_malformed_vector_is_refused(
    open_memory: Callable[..., HybridMemory], tmp_path: Path, vector: object
) -> None:
    memory = open_memory("a", HashEmbedder(2))
    memory.scope(user_id="ana").add("tea")
    header, line = exported(memory, vectors=True)
    path = written(tmp_path / "ana.jsonl", [header, line | {"id": "b", "vector": vector}])

    with pytest.raises(TransferError, match="line 2: vector is not base64 of 2 finite"):
        memory.import_(path)

    assert memory.scope(user_id="ana").stats().total == 1


def test_an_import_of_vectors_of_another_embedder_keeps_the_store_to_its_own(
    open_memory: Callable[..., HybridMemory], told: Scope, tmp_path: Path
) -> None:
    told.export(tmp_path / "ana.jsonl", vectors=True)
    other = open_memory("a", HashEmbedder(32))

    other.import_(tmp_path / "ana.jsonl")

    assert other._store.space()[:2] == ("hashed-words", 32)
    assert other.scope(user_id="ana").search("Where did I move to?")


# -- namespaces ----------------------------------------------------------------------------


def test_a_scope_imports_into_its_own_namespace_whatever_the_file_says(
    memory: HybridMemory, other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    memory.export(tmp_path / "all.jsonl")
    carol = other.scope(user_id="carol")

    imported = carol.import_(tmp_path / "all.jsonl")

    assert imported.added == carol.stats().total == 7
    assert dict(carol.profile) == dict(told.profile)
    assert {one.namespace for one in everything(other, ("carol",))} == {("carol",)}
    assert set(other._store.namespaces()) == {("carol",)}


def test_a_memory_can_import_into_one_namespace(
    other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    told.export(tmp_path / "ana.jsonl")

    other.import_(tmp_path / "ana.jsonl", namespace=("team", "ana"))

    assert set(other._store.namespaces()) == {("team", "ana")}


# -- conflicts -----------------------------------------------------------------------------


@pytest.fixture
def clash(other: HybridMemory, told: Scope, tmp_path: Path) -> Path:
    """An export of Ana's, where the other memory has another "move" and another time zone."""
    told.export(tmp_path / "ana.jsonl")
    ana = other.scope(user_id="ana")
    ana.add(f"I moved to {CANARY}.", id="move")
    ana.profile["timezone"] = CANARY
    return tmp_path / "ana.jsonl"


def test_other_content_under_an_id_is_an_error_and_nothing_is_written(
    other: HybridMemory, clash: Path
) -> None:
    del other.scope(user_id="ana").profile["timezone"]
    before = exported(other)

    with pytest.raises(ConflictError, match=r"line 4: id 'move' .*on_conflict") as caught:
        other.import_(clash)

    assert exported(other) == before
    assert CANARY not in str(caught.value)


def test_another_value_of_the_profile_is_an_error_and_nothing_is_written(
    other: HybridMemory, clash: Path
) -> None:
    other.scope(user_id="ana").delete("move")
    before = exported(other)

    with pytest.raises(ConflictError, match=r"line 3: .*'timezone'") as caught:
        other.import_(clash)

    assert exported(other) == before
    assert CANARY not in str(caught.value)


def test_a_conflict_can_be_skipped(other: HybridMemory, clash: Path) -> None:
    imported = other.import_(clash, on_conflict="skip")

    ana = other.scope(user_id="ana")
    assert imported == Imported(added=5, skipped=1, profile_keys=1)
    assert CANARY in ana.get("move").text
    assert dict(ana.profile) == {"pets": {"cat": None}, "timezone": CANARY}


def test_a_conflict_can_be_replaced(other: HybridMemory, told: Scope, clash: Path) -> None:
    imported = other.import_(clash, on_conflict="replace")

    ana = other.scope(user_id="ana")
    assert imported == Imported(added=5, replaced=1, profile_keys=2)
    assert ana.get("move") == told.get("move")
    assert dict(ana.profile) == dict(told.profile)
    assert ana.search("Where did I move to?")[0].record.text == "I moved to Paris."
    assert not [hit for hit in ana.search(CANARY) if CANARY in hit.record.text]


def test_a_record_of_another_version_is_a_conflict(
    other: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    told.export(tmp_path / "before.jsonl")
    other.import_(tmp_path / "before.jsonl")
    other.scope(user_id="ana").update("move", text="I moved to Rome.")

    with pytest.raises(ConflictError, match="'move'"):
        other.import_(tmp_path / "before.jsonl")


def test_an_unknown_policy_is_refused(told: Scope, tmp_path: Path) -> None:
    told.export(tmp_path / "ana.jsonl")

    with pytest.raises(InvalidInputError, match="error, skip, replace"):
        told.import_(tmp_path / "ana.jsonl", on_conflict="overwrite")  # type: ignore[arg-type]


# -- batches -------------------------------------------------------------------------------


def test_a_batch_is_all_or_nothing_and_the_import_can_be_repeated(
    memory: HybridMemory, other: HybridMemory, tmp_path: Path
) -> None:
    memory.scope(user_id="ana").add_many([{"text": f"turn {i}", "id": str(i)} for i in range(1200)])
    header, *lines = exported(memory)
    broken = [*lines[:700], lines[700] | {"at": None}, *lines[701:]]
    seen: list[tuple[int, int]] = []
    ana = other.scope(user_id="ana")

    with pytest.raises(TransferError, match="line 702: 'at' missing"):
        other.import_(written(tmp_path / "broken.jsonl", [header, *broken]))
    first = ana.stats().total
    imported = other.import_(
        written(tmp_path / "mended.jsonl", [header, *lines]),
        on_progress=lambda *done: seen.append(done),
    )

    assert first == 500
    assert imported == Imported(added=700, unchanged=500)
    assert seen == [(500, 1200), (1000, 1200), (1200, 1200)]
    assert exported(other, vectors=True) == exported(memory, vectors=True)


def test_records_of_many_namespaces_are_encoded_together(
    open_memory: Callable[..., HybridMemory], memory: HybridMemory, tmp_path: Path
) -> None:
    for i in range(30):
        memory.scope(user_id=f"user {i}").add(f"I am number {i}.")
    memory.export(tmp_path / "all.jsonl")
    calls: list[int] = []

    class Embedder(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Vectors:
            if tuple(texts) != PROBES:
                calls.append(len(texts))
            return super().embed(texts)

    imported = open_memory("a", Embedder()).import_(tmp_path / "all.jsonl")

    assert imported.added == 30
    assert [count for count in calls if count] == [30]


# -- malformed files -----------------------------------------------------------------------

_HEADER = {"format": "hybrid-memory", "version": 1, "space": None}
_GOOD = {
    "id": "a",
    "namespace": ["ana"],
    "kind": "message",
    "text": CANARY,
    "at": "2026-05-02T08:00:00+02:00",
    "created_at": "2026-05-02T08:00:00Z",
}
_MALFORMED: dict[str, tuple[Any, str]] = {
    "no id": ({k: v for k, v in _GOOD.items() if k != "id"}, "'id' missing"),
    "no text and time": ({"id": "a", "namespace": ["a"], "kind": "fact"}, "'text' and 'at' and"),
    "null text": (_GOOD | {"text": None}, "'text' missing"),
    "empty text": (_GOOD | {"text": " "}, "text is empty"),
    "long text": (_GOOD | {"text": CANARY * 9999}, "text has"),
    "number as text": (_GOOD | {"text": 7}, "text must be a string"),
    "kind": (_GOOD | {"kind": CANARY}, "kind is none of message"),
    "role": (_GOOD | {"role": CANARY}, "role is none of user"),
    "role of a list": (_GOOD | {"role": [CANARY]}, "role is none of user"),
    "namespace": (_GOOD | {"namespace": CANARY}, "namespace is not a list"),
    "no labels": (_GOOD | {"namespace": []}, "a namespace has 1 to 8 labels"),
    "time": (_GOOD | {"at": CANARY}, "at is not a time of ISO 8601"),
    "number as time": (_GOOD | {"valid_to": 7}, "valid_to is not a time"),
    "no zone": (_GOOD | {"created_at": "2026-05-02T08:00:00"}, "created_at .* has no zone"),
    "importance": (_GOOD | {"importance": 2}, "importance must be between"),
    "importance is no number": (_GOOD | {"importance": CANARY}, "importance must be a number"),
    "version": (_GOOD | {"version": 0}, "version must be"),
    "version is no number": (_GOOD | {"version": True}, "version must be an integer"),
    "metadata": (_GOOD | {"metadata": CANARY}, "metadata must be a mapping"),
    "not a number": ('{"id": "a", "importance": NaN, "namespace": ["ana"], "kind": "message", '
                     '"text": "x", "at": "2026-05-02T08:00:00Z", '
                     '"created_at": "2026-05-02T08:00:00Z"}', "importance must be between"),
    "field": (_GOOD | {"colour": CANARY}, "not known: 'colour'"),
    "odd field": (_GOOD | {f"{CANARY} x": 1}, r"not known: \.\.\."),
    "instruction of a document": (
        _GOOD | {"kind": "instruction", "source": "menu.md"}, "may not give instructions",
    ),
    "profile without a value": ({"namespace": ["ana"], "profile": "city"}, "'value' missing"),
    "profile and text": (
        {"namespace": ["ana"], "profile": "a", "value": 1, "text": CANARY}, "known: 'text'",
    ),
    "not JSON": (f'{{"text": "{CANARY}', r"not JSON at character \d+"),
    "a list": ([CANARY], "not a JSON object"),
    "brackets": ("[" * 100_000, "not JSON"),
    "digits": ('{"version": ' + "9" * 5000 + "}", "not JSON"),
    "too long": (_GOOD | {"text": CANARY * 300_000}, "longer than"),
}  # fmt: skip


@pytest.mark.parametrize("name", _MALFORMED)
def test_a_malformed_line_is_named_and_nothing_of_the_batch_is_written(
    other: HybridMemory, tmp_path: Path, name: str
) -> None:
    line, message = _MALFORMED[name]
    path = written(tmp_path / "ana.jsonl", [_HEADER, _GOOD | {"id": "good"}, line])

    with pytest.raises(TransferError, match=rf"line 3.*{message}") as caught:
        other.import_(path)

    assert CANARY not in str(caught.value)
    assert other._store.namespaces() == {}
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_line_that_is_no_utf8_is_refused(other: HybridMemory, tmp_path: Path) -> None:
    path = written(tmp_path / "ana.jsonl", [_HEADER])
    path.write_bytes(path.read_bytes() + b'{"text": "\xff"}\n')

    with pytest.raises(TransferError, match="line 2 is not UTF-8 at byte 10"):
        other.import_(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 is not the header"),
        (json.dumps(_GOOD), "line 1 is not the header"),
        ('{"results": []}', "--from"),
        ('{"format": "hybrid-memory"}', '"version" is missing'),
        ('{"format": "hybrid-memory", "version": 2}', "format 2, .* up to 1; upgrade"),
    ],
)
def test_a_file_that_is_no_export_is_refused(
    other: HybridMemory, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "file").write_text(content)

    with pytest.raises(TransferError, match=message):
        other.import_(tmp_path / "file")


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_path_that_cannot_be_read_is_refused(
    other: HybridMemory, tmp_path: Path, name: str
) -> None:
    with pytest.raises(TransferError, match="cannot read"):
        other.import_(tmp_path / name)


def test_what_was_written_by_hand_needs_little(other: HybridMemory, tmp_path: Path) -> None:
    path = written(tmp_path / "ana.jsonl", [_HEADER, "", _GOOD | {"text": "I like tea."}, ""])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    other.import_(path)
    with path.open(encoding="utf-8-sig") as file:
        again = other.import_(file)

    record = other.scope(user_id="ana").get("a")
    assert (record.role, record.importance, record.version) == ("user", 0.5, 1)
    assert record.at == datetime(2026, 5, 2, 6, tzinfo=UTC)
    assert again == Imported(unchanged=1)


# -- backup --------------------------------------------------------------------------------


def test_a_backup_while_a_thread_writes_holds_a_prefix_of_the_writes(
    memory: HybridMemory, tmp_path: Path
) -> None:
    memory.scope(user_id="old").add_many([f"{i} " + "x" * 16_000 for i in range(1000)])
    acknowledged: list[str] = []
    steps: list[tuple[int, int]] = []
    started, done = threading.Event(), threading.Event()

    def write() -> None:
        ana = memory.scope(user_id="ana")
        while not done.is_set():
            acknowledged.append(ana.add(f"turn {len(acknowledged)}").id)
            if len(acknowledged) == 3:
                started.set()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert started.wait(60)
        before = len(acknowledged)
        memory.backup(tmp_path / "copy", on_progress=lambda *pages: steps.append(pages))
        during = len(acknowledged) - before
    finally:
        done.set()
        writing.join()

    with sqlite3.connect(tmp_path / "copy" / "memory.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    with HybridMemory.open(tmp_path / "copy", embedder=HashEmbedder()) as copy:
        ids = [record.id for record in everything(copy, ("ana",))][::-1]
        assert ids == acknowledged[: len(ids)]
        assert before <= len(ids) <= before + during + 1
        assert copy.scope(user_id="old").stats().total == 1000
        assert copy.scope(user_id="ana").search("turn 1")
    assert len(steps) > 1


def test_a_backup_is_its_owners_alone_and_one_file(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    memory.backup(str(tmp_path / "copies" / "copy"))

    copy = tmp_path / "copies" / "copy"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert [file.name for file in copy.iterdir()] == ["memory.db"]
    assert stat.S_IMODE((copy / "memory.db").stat().st_mode) == 0o600
    assert [one.name for one in copy.parent.iterdir()] == ["copy"]


def test_a_backup_may_go_into_an_empty_directory(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()

    memory.backup(tmp_path / "copy")

    with HybridMemory.open(tmp_path / "copy", embedder=HashEmbedder()) as copy:
        assert exported(copy) == exported(memory)


def test_a_backup_overwrites_nothing_and_leaves_nothing_behind(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    memory.backup(tmp_path / "copy")
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StorePathError, match="is not empty"):
        memory.backup(tmp_path / "copy")
    with pytest.raises(StorePathError, match="is not empty"):
        memory.backup(tmp_path / "memory")
    with pytest.raises(StorePathError, match="is a file"):
        memory.backup(tmp_path / "file")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "file", "memory"]


def test_a_backup_that_fails_leaves_nothing_behind(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        memory.backup(tmp_path / "copy", on_progress=fail)

    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    told.add("Still there.")
    memory.backup(tmp_path / "copy")


def test_a_copy_has_an_id_of_its_own_under_which_vectors_are_derived(
    memory: HybridMemory, told: Scope, tmp_path: Path
) -> None:
    mine = memory._store.id

    memory.backup(tmp_path / "copy")

    copy = SQLRecordStore.open(tmp_path / "copy")
    assert copy.id != mine
    assert copy.space() == memory._store.space()
    copy.close()


def test_a_store_in_ram_says_that_it_cannot_be_backed_up(tmp_path: Path) -> None:
    with (
        HybridMemory(MemoryRecordStore(), embedder=HashEmbedder()) as memory,
        pytest.raises(StoreError, match="export"),
    ):
        memory.backup(tmp_path / "copy")


# -- mem0 ----------------------------------------------------------------------------------

_MEM0 = {
    "results": [
        {
            "id": "m1",
            "memory": "Likes hiking in Lyon",
            "hash": "d41d8c",
            "metadata": {"category": "hobby"},
            "created_at": "2025-10-01T10:00:00.250000-07:00",
            "updated_at": None,
            "user_id": "ana",
            "agent_id": "coach",
            "expiration_date": "2026-12-31",
        },
        {
            "id": "m2",
            "memory": "I am vegetarian.",
            "created_at": "2025-10-02T10:00:00+00:00",
            "updated_at": "2025-10-03T10:00:00+00:00",
            "user_id": "ana",
            "run_id": "chat-7",
            "role": "user",
            "actor_id": "Ana",
        },
        {"id": "m3", "memory": "Answers in French", "agent_id": "coach", "created_at": None},
        {"id": "m4", "memory": "Asked about trains", "run_id": "chat-9"},
        {"id": "m5", "memory": " ", "user_id": "ana"},
        {"id": "m6", "memory": "Gone", "user_id": "ana", "is_deleted": 1},
    ],
    "relations": [],
}


def test_memories_of_mem0_become_facts_and_messages_of_their_users(
    other: HybridMemory, tmp_path: Path
) -> None:
    (tmp_path / "mem0.json").write_text(json.dumps(_MEM0))

    imported = other.import_(mem0.items(tmp_path / "mem0.json"))

    ana = other.scope(user_id="ana")
    fact, turn = ana.get("m1"), ana.get("m2")
    assert imported == Imported(added=4)
    assert set(other._store.namespaces()) == {("ana",), ("agent", "coach"), ("run", "chat-9")}
    assert (fact.kind, fact.text, fact.source) == ("fact", "Likes hiking in Lyon", "mem0")
    assert fact.at == datetime(2025, 10, 1, 17, 0, 0, 250000, tzinfo=UTC)
    assert fact.expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    assert fact.metadata == {
        "category": "hobby",
        "mem0": {"hash": "d41d8c", "user_id": "ana", "agent_id": "coach"},
    }
    assert (turn.kind, turn.role, turn.speaker, turn.session_id) == (
        "message", "user", "Ana", "chat-7",
    )  # fmt: skip
    assert ana.search("Where do I hike?", now=NOON)[0].record == fact


def test_a_second_import_from_mem0_changes_nothing(other: HybridMemory, tmp_path: Path) -> None:
    path = tmp_path / "mem0.json"
    path.write_text(json.dumps(_MEM0))
    clock = other._clock
    assert isinstance(clock, ManualClock)
    other.import_(mem0.items(path))
    clock.advance(days=1)

    # m3 and m4 have no time, so that they happened when they came.
    assert other.import_(mem0.items(path)) == Imported(unchanged=4)


def test_a_memory_that_mem0_changed_can_be_replaced(other: HybridMemory, tmp_path: Path) -> None:
    path = tmp_path / "mem0.json"
    entry = {"id": "m1", "memory": "Lives in Lyon", "user_id": "ana"}
    path.write_text(json.dumps([entry]))
    other.import_(mem0.items(path))
    path.write_text(json.dumps([entry | {"memory": "Lives in Paris"}]))

    with pytest.raises(ConflictError, match="item 1: id 'm1'"):
        other.import_(mem0.items(path))
    imported = other.import_(mem0.items(path), on_conflict="replace")

    record = other.scope(user_id="ana").get("m1")
    assert imported == Imported(replaced=1)
    assert (record.text, record.version) == ("Lives in Paris", 2)
    assert other.import_(mem0.items(path)) == Imported(unchanged=1)


# The table of mem0 2.2.1, mem0/memory/storage.py.
_MEM0_TABLE = """
CREATE TABLE history (
    id TEXT PRIMARY KEY, memory_id TEXT, old_memory TEXT, new_memory TEXT, event TEXT,
    created_at DATETIME, updated_at DATETIME, is_deleted INTEGER, actor_id TEXT, role TEXT
)
"""
_MEM0_HISTORY = [
    ("h1", "m1", None, "Lives in Lyon", "ADD", "2025-10-01T10:00:00+00:00", None, 0, None, None),
    ("h2", "m2", None, "Likes tea", "ADD", "2025-10-01T11:00:00+00:00", None, 0, "Ana", "user"),
    ("h3", "m1", "Lives in Lyon", "Lives in Paris", "UPDATE", "2025-10-01T10:00:00+00:00",
     "2025-11-01T10:00:00+00:00", 0, None, None),
    ("h4", "m3", None, "A secret", "ADD", "2025-10-01T12:00:00+00:00", None, 0, None, None),
    ("h5", "m3", "A secret", None, "DELETE", None, None, 1, None, None),
]  # fmt: skip


@pytest.fixture(params=["database", "json"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A history of mem0: m1 was changed, m3 was deleted."""
    path = tmp_path / "history"
    with sqlite3.connect(":memory:" if request.param == "json" else path) as database:
        database.execute(_MEM0_TABLE)
        marks = ", ".join("?" * 10)
        database.executemany(f"INSERT INTO history VALUES ({marks})", _MEM0_HISTORY)
        if request.param == "json":
            database.row_factory = sqlite3.Row
            rows = [dict(row) for row in database.execute("SELECT * FROM history")]
            path.write_text(json.dumps(rows))
    database.close()
    return path


def test_of_a_history_of_mem0_the_last_state_counts_and_what_was_deleted_stays_so(
    other: HybridMemory, history: Path
) -> None:
    before = history.read_bytes()
    ana = other.scope(user_id="ana")

    imported = ana.import_(mem0.items(history))

    moved, tea = ana.get("m1"), ana.get("m2")
    assert imported == Imported(added=2)
    assert (moved.text, moved.kind, moved.at) == (
        "Lives in Paris", "fact", datetime(2025, 10, 1, 10, tzinfo=UTC),
    )  # fmt: skip
    assert (tea.kind, tea.role, tea.speaker) == ("message", "user", "Ana")
    assert not any("secret" in json.dumps(line) for line in exported(other))
    assert history.read_bytes() == before


def test_a_history_of_mem0_does_not_say_whose_it_is(other: HybridMemory, history: Path) -> None:
    with pytest.raises(TransferError, match=r"item 1 does not say whose it is; .*namespace"):
        other.import_(mem0.items(history))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CANARY, "neither JSON nor"),
        ({"memory": CANARY}, "not JSON of mem0"),
        ([CANARY], "memory 1 is not a JSON object"),
        ([{"id": "a", "text": CANARY}], "memory 1 has no text as 'memory'"),
        ([{"memory": CANARY}], "memory 1 has no text as 'id'"),
        ([{"id": "a", "memory": CANARY, "created_at": CANARY}], "memory 1: created_at is not"),
        ([{"id": "a", "memory": CANARY, "metadata": CANARY}], "memory 1: metadata is not"),
        ([{"id": "a", "memory": CANARY * 9999, "user_id": "ana"}], "item 1: text has"),
        ([{"memory_id": "a", "event": "ADD"}, {"event": "ADD"}], "entry 2 of the history"),
    ],
)
def test_what_is_not_of_mem0_is_refused(
    other: HybridMemory, tmp_path: Path, content: Any, message: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(TransferError, match=message) as caught:
        other.import_(mem0.items(path))

    assert CANARY not in str(caught.value)
    assert other._store.namespaces() == {}


def test_a_database_without_the_tables_is_refused(other: HybridMemory, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE history (id TEXT)")
    database.close()

    with pytest.raises(TransferError, match=r"columns memory_id, .* in 'history'"):
        other.import_(mem0.items(tmp_path / "db"))
    with pytest.raises(TransferError, match="has not the table 'store'"):
        other.import_(langgraph.items(tmp_path / "db"))
    with pytest.raises(TransferError, match="cannot read"):
        other.import_(langgraph.items(tmp_path / "missing"))


# -- LangGraph -----------------------------------------------------------------------------

# The migrations of langgraph-checkpoint-sqlite 3.1.2, langgraph/store/sqlite/base.py.
_LANGGRAPH_TABLE = """
CREATE TABLE store (
    prefix text NOT NULL, key text NOT NULL, value text NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (prefix, key)
);
CREATE INDEX store_prefix_idx ON store (prefix);
ALTER TABLE store ADD COLUMN expires_at TIMESTAMP;
ALTER TABLE store ADD COLUMN ttl_minutes REAL;
"""


@pytest.fixture
def langgraph_store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    rows = [
        ("ana.memories", "k1", b'{"text": "Likes hiking"}', "2026-05-02 08:00:00", None),
        ("ana.memories", "k2", b'{"kind": "Memory", "content": {"content": "Eats no meat"}}',
         "2026-05-02 08:00:01", "2026-06-02 08:00:00.250000+00:00"),
        ("ana", "k3", '{"favourite_food": {"dish": "lentils"}, "n": 3, "tags": ["a", "b"]}',
         "2026-05-02 08:00:02", None),
        ("bob", "k4", b"{}", "2026-05-02 08:00:03", None),
    ]  # fmt: skip
    with sqlite3.connect(path) as database:
        database.executescript(_LANGGRAPH_TABLE)
        database.executemany(
            "INSERT INTO store (prefix, key, value, created_at, updated_at, expires_at) "
            "VALUES (?, ?, ?, ?, '2026-05-03 00:00:00', ?)",
            rows,
        )
    database.close()
    return path


def test_items_of_a_store_of_langgraph_become_facts_of_their_namespaces(
    other: HybridMemory, langgraph_store: Path
) -> None:
    before = langgraph_store.read_bytes()

    imported = other.import_(langgraph.items(langgraph_store))

    memories = other.scope(namespace=("ana", "memories"))
    first, second = memories.get("k1"), memories.get("k2")
    third = other.scope(user_id="ana").get("k3")
    assert imported == Imported(added=4)
    assert (first.kind, first.text, first.source) == ("fact", "Likes hiking", "langgraph")
    assert first.at == datetime(2026, 5, 2, 8, tzinfo=UTC)
    assert first.data == {"text": "Likes hiking"}
    assert second.text == "Eats no meat"
    assert second.expires_at == datetime(2026, 6, 2, 8, 0, 0, 250000, tzinfo=UTC)
    assert third.text == "favourite food: dish: lentils; n: 3; tags: a, b"
    assert other.scope(user_id="bob").get("k4").text == "k4"
    assert other.import_(langgraph.items(langgraph_store)) == Imported(unchanged=4)
    assert langgraph_store.read_bytes() == before


@pytest.mark.parametrize("value", [CANARY, f'["{CANARY}"]', "[" * 100_000, b"\xff"])
def test_a_value_of_langgraph_that_is_no_object_is_refused(
    other: HybridMemory, langgraph_store: Path, value: str | bytes
) -> None:
    with sqlite3.connect(langgraph_store) as database:
        database.execute("UPDATE store SET value = ? WHERE key = 'k2'", (value,))
    database.close()

    with pytest.raises(TransferError, match="row 2: value is not") as caught:
        other.import_(langgraph.items(langgraph_store))

    assert CANARY not in str(caught.value)
    assert other._store.namespaces() == {}


# -- Chroma --------------------------------------------------------------------------------


@pytest.fixture
def chroma_path(tmp_path: Path) -> Path:
    chromadb = pytest.importorskip("chromadb")
    path = tmp_path / "chroma"
    client = chromadb.PersistentClient(
        path=str(path), settings=chromadb.config.Settings(anonymized_telemetry=False)
    )
    docs = client.create_collection("docs", embedding_function=None)
    ids = [f"d{i}" for i in range(700)]
    docs.add(
        ids=ids,
        documents=[f"The canteen serves dish {i}." for i in range(700)],
        metadatas=[{"source": f"menu {i % 2}.md", "n": i} for i in range(700)],
        embeddings=np.eye(3, dtype=np.float32)[np.arange(700) % 3],
    )
    client.create_collection("vectors", embedding_function=None).add(
        ids=["v"], embeddings=[[1.0, 0.0]]
    )
    long = "lentils and rice\n" * 8000
    client.create_collection("long", embedding_function=None).add(
        ids=["l"], documents=[long], embeddings=[[1.0, 0.0]]
    )
    client.close()
    return path


def test_documents_of_a_chroma_collection_are_learned(
    other: HybridMemory, chroma_path: Path
) -> None:
    handbook = other.scope(namespace=("handbook",))

    imported = handbook.import_(chroma.items(chroma_path, collection="docs"))

    record = handbook.get("d7")
    assert imported == Imported(added=700)
    assert (record.kind, record.source, record.metadata["n"]) == ("document", "menu 1.md", 7)
    assert handbook.search("dish 699", k=1)[0].record.id == "d699"
    again = handbook.import_(chroma.items(chroma_path, collection="docs"))
    assert again == Imported(unchanged=700)


def test_a_long_document_of_chroma_is_cut_and_nothing_is_lost(
    other: HybridMemory, chroma_path: Path
) -> None:
    handbook = other.scope(namespace=("handbook",))

    handbook.import_(chroma.items(chroma_path, collection="long"))

    parts = everything(other, ("handbook",))[::-1]
    assert [part.id for part in parts[:2]] == ["l", "l#2"]
    assert "".join(part.text for part in parts) == "lentils and rice\n" * 8000
    assert {part.source for part in parts} == {"long"}


def test_what_chroma_cannot_give_is_refused(other: HybridMemory, chroma_path: Path) -> None:
    handbook = other.scope(namespace=("handbook",))

    for collection, message in {
        None: "has the collections docs, long, vectors; name one",
        "menu": "none is 'menu'",
        "vectors": "collection 'vectors' has no text for the id 'v'",
    }.items():
        with pytest.raises(TransferError, match=message):
            handbook.import_(chroma.items(chroma_path, collection=collection))
    with pytest.raises(TransferError, match="no Chroma database"):
        handbook.import_(chroma.items(chroma_path / "missing"))
    with pytest.raises(InvalidInputError, match="either a path or a client"):
        handbook.import_(chroma.items())
    assert handbook.stats().total == 0


def test_an_importer_of_ones_own_is_a_generator_of_items(other: HybridMemory) -> None:
    def items() -> Iterable[tuple[Namespace | None, dict[str, Any]]]:
        yield ("ana",), {"id": "a", "text": "I like tea.", "at": NOON}
        yield None, {"text": "Whose is this?"}

    assert other.scope(user_id="ana").import_(list(items())[:1]) == Imported(added=1)
    with pytest.raises(HybridMemoryError, match="item 2 does not say whose"):
        other.import_(items())
