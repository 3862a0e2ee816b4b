"""The form of an export: JSON Lines, the first of them a header.

    {"format": "hybrid-memory", "version": 1, "space": {"name": ..., "dim": ...}, "rules": 2}
    {"namespace": ["ana"], "profile": "city", "value": "Lyon"}
    {"id": ..., "namespace": ["ana"], "kind": "message", "text": ..., "at": ..., ...}

A key of the profile is a line, and so is a record, with all its fields. Times are of ISO 8601 with
a zone. A `vector` is base64 of float32 numbers, in the `space` and by the `rules` of the header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from hybrid_memory.types import Record

FORMAT = "hybrid-memory"
VERSION = 1
FIELDS = tuple(Record.__dataclass_fields__)
TIMES = ("at", "created_at", "valid_from", "valid_to", "expires_at")

OnProgress: TypeAlias = Callable[[int, int], None]  # (done, total)
