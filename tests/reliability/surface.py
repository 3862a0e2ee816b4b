"""Every public method with its parameters, read from the signatures, and what each should get."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hybrid_memory import (
    HybridMemory,
    ItemChange,
    Items,
    PrunePolicy,
    Quota,
    Scope,
    Source,
    search_sources,
)
from hybrid_memory.memory.engine import Parts
from hybrid_memory.records import Changes
from hybrid_memory.testing import HashEmbedder, ManualClock, WordRetriever

# What is expected where, as a family of `hostile.json`; more than one where more is accepted.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("text", "query", "question"), ("texts",)),
    "fact": ("texts", "jsons"),
    **dict.fromkeys(
        ("id", "id_key", "name", "session_id", "slot", "source", "speaker", "user_id"), ("labels",)
    ),
    "key": ("labels",),
    "value": ("jsons", "texts"),
    **dict.fromkeys(("ids", "shown"), ("items", "labels", "objects")),
    **dict.fromkeys(("namespace", "under"), ("namespaces",)),
    **dict.fromkeys(("namespaces", "read"), ("lists_of_namespaces",)),
    **dict.fromkeys(("data", "metadata"), ("jsons",)),
    "where": ("filters",),
    **dict.fromkeys(
        ("as_of", "at", "expires_at", "now", "valid_from", "valid_to"),
        ("times",),
    ),
    **dict.fromkeys(
        (
            "batch_size",
            "bytes",
            "expected_version",
            "fetch_k",
            "importance",
            "importance_below",
            "index_above",
            "k",
            "last",
            "limit",
            "max_bytes",
            "max_cache_bytes",
            "max_per_source",
            "max_records",
            "max_tokens",
            "min_score",
            "min_share",
            "mmr_lambda",
            "offset",
            "priority",
            "records",
            "timeout_s",
        ),
        ("numbers",),
    ),
    **dict.fromkeys(
        ("durability", "kind", "kinds", "on_conflict", "role", "when_full"), ("choices",)
    ),
    **dict.fromkeys(("changes", "items", "messages"), ("items",)),
    **dict.fromkeys(("older_than", "ttl"), ("spans",)),
    "retention": ("spans", "objects"),
    "path": ("paths",),
    "texts": ("texts", "items"),
    "vectors": ("vectors",),
}
OTHERS = ("objects",)  # parts, callbacks, gates, flags
# What a call gets where nothing hostile is put: all that has no default.
GOOD: Mapping[str, Any] = {
    "changes": [ItemChange(("ana",), "a key", {"text": "I drink tea."})],
    "embedder": HashEmbedder(),
    "fact": "I drink tea.",
    "id": "known",
    "ids": ["known"],
    "items": ["I drink tea."],
    "key": "city",
    "messages": [{"role": "user", "content": "I drink tea."}],
    "name": "facts",
    "namespace": ("ana",),
    "now": ManualClock()(),
    "path": "there",
    "policy": PrunePolicy(max_records=1000),
    "query": "tea",
    "question": "tea?",
    "sources": [Source(WordRetriever(["Tea is a drink."]), name="wiki", timeout_s=60)],
    "text": "I drink tea.",
    "under": ("ana",),
    "value": "Lyon",
}
_SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "HybridMemory.scope": {"user_id": "ana"},
    "HybridMemory.import_": {"path": []},
    "Scope.import_": {"path": []},
    "Scope.add_documents": {"items": ["I drink tea."], "source": "menu.md"},
    "Scope.forget": {"source": "nowhere"},
    "Scope.confirm": {"id": "proposal"},
    "ItemChange": {"value": {"text": "I drink tea."}},
    "Quota": {"records": 10},
}
# Where a name means something else.
_FAMILIES_OF: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("HybridMemory.import_", "path"): ("paths", "items"),
    ("Scope.import_", "path"): ("paths", "items"),
    ("Scope.add_documents", "items"): ("paths", "items"),
    ("ItemChange", "value"): ("jsons",),
    ("Scope.nearest", "query"): ("texts", "vectors"),
    ("HybridMemory.check", "vectors"): OTHERS,
    ("HybridMemory.export", "vectors"): OTHERS,
    ("Scope.export", "vectors"): OTHERS,
}
_KEYWORDS: Mapping[str, type] = {"HybridMemory.open": Parts, "Scope.update": Changes}


@dataclass(frozen=True)
class Call:
    """A public method or function, by the name it has, and the names of all it takes.

    Of a value that says what is to be done, it is to make one and have it done.
    """

    name: str
    parameters: tuple[str, ...]
    required: tuple[str, ...]

    def families(self, parameter: str) -> tuple[str, ...]:
        """Return the families of values that are expected, more or less, for a parameter."""
        known = FAMILIES.get(parameter, OTHERS)
        return _FAMILIES_OF.get((self.name, parameter), known)

    def arguments(self) -> dict[str, Any]:
        """Return good arguments for everything that is needed."""
        given = dict(_SPECIAL.get(self.name, {}))
        return {name: GOOD[name] for name in self.required if name not in given} | given


@cache
def surface() -> tuple[Call, ...]:
    """Return every public method with parameters, also those that are yet to be written."""
    calls = [
        Call("Profile.__setitem__", ("key", "value"), ("key", "value")),
        Call("Profile.__getitem__", ("key",), ("key",)),
        Call("Profile.__delitem__", ("key",), ("key",)),
    ]
    calls += [_call(one.__name__, one) for one in (ItemChange, PrunePolicy, Quota, search_sources)]
    for owner in (HybridMemory, Items, Scope):
        for name, method in inspect.getmembers(owner, callable):
            if not name.startswith("_"):
                calls.append(_call(f"{owner.__name__}.{name}", method))
    return tuple(call for call in calls if call.parameters)


def _call(name: str, method: Callable[..., Any]) -> Call:
    parameters, required = [], []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            parameters += _KEYWORDS[name].__annotations__ if name in _KEYWORDS else ()
        elif parameter.name != "self":
            parameters.append(parameter.name)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
    return Call(name, tuple(parameters), tuple(required))
