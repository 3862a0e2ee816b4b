"""What the suites of RecordStore work on: the store under test, its drafts, and how it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast, get_args

import numpy as np
import pytest

from hybrid_memory.protocols import Depth, Draft, IndexRow, RecordStore, Traits
from hybrid_memory.testing.fakes import HashEmbedder
from hybrid_memory.types import KINDS, Namespace, Record

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


def assert_empty(store: RecordStore, namespace: Namespace) -> None:
    """Assert that nothing is read of a namespace, as if it had never been."""
    stats = store.stats(namespace)
    assert store.position(namespace) == 0
    assert list(store.changes(namespace)) == []
    assert store.get(namespace, ["a"]) == []
    assert store.fetch(namespace, [1, 1 << 32]) == {}
    assert list(store.newest(namespace, kinds=KINDS)) == []
    assert store.delete(namespace, ["a"]) == 0
    assert store.profile(namespace) == {}
    assert store.delete_profile(namespace, "a") is False
    assert (stats.total, stats.profile_keys, stats.sessions, stats.bytes) == (0, 0, 0, 0)
    assert (stats.namespace, stats.first_at, stats.last_at) == (namespace, None, None)


class Damage(Protocol):
    """Does to a record, or to a value of the profile, what a flipped bit would."""

    def __call__(
        self, namespace: Namespace, *, id: str | None = None, profile_key: str | None = None
    ) -> None:
        """Damage one of them in the store under test."""


class RecordStoreFixtures:
    """The store under test, and what damages it."""

    @pytest.fixture
    def store(self) -> RecordStore:
        """Return an empty record store."""
        raise NotImplementedError("override the fixture store")

    @pytest.fixture
    def damage(self, store: RecordStore) -> Damage:
        """Return what damages a record of the store."""
        return cast(Damage, pytest.skip("override the fixture damage"))
