"""The profile: what is known of a user by key, fetched by key and never ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from hybrid_memory import limits, records
from hybrid_memory.protocols import RecordStore
from hybrid_memory.types import Namespace


class Profile(MutableMapping[str, Any]):
    """The long-term key-value memory of a scope: a key to a JSON value, stored at once.

    Read from the store each time, so that every process sees the last write.
    """

    def __init__(
        self,
        store: RecordStore,
        namespace: Namespace,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self._redact = redact
        self._store = store
        self._namespace = namespace

    def __getitem__(self, key: str) -> Any:
        return self._store.profile(self._namespace)[_key(key)]

    def __setitem__(self, key: str, value: Any) -> None:
        key = _key(key)
        plain = limits.json_value(value, f"profile[{key!r}]")
        if self._redact is not None:
            plain = records.redacted_value(plain, self._redact, f"profile[{key!r}]")
        self._store.set_profile(self._namespace, {key: plain})

    def __delitem__(self, key: str) -> None:
        if not self._store.delete_profile(self._namespace, _key(key)):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.profile(self._namespace))

    def __len__(self) -> int:
        return len(self._store.profile(self._namespace))

    def __repr__(self) -> str:
        return f"Profile({', '.join(self)})"


def _key(key: object) -> str:
    return limits.label(key, "a key of the profile")
