"""What upkeep found, as values: namespaces, ids and counts, never a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from hybrid_memory.types import Namespace

Damage: TypeAlias = Literal[
    "database",  # the file: its structure, its indexes, its counters
    "rules",  # all records are found by the rules of an older version
    "record",  # a record is not what was written
    "profile",  # a value of a profile is not what was written
    "terms",  # the words that a record is found by are not its own
    "digest",  # nor the number by which repetitions are known
    "traits",  # nor what its text is like
    "vector",  # its vector is missing, misshapen or not what was written
    "partition",  # the copy in RAM differs from the records
    "documents",  # the document store differs from the records
]
DAMAGES: tuple[Damage, ...] = get_args(Damage)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be, and whether it has been repaired.

    Without a namespace it is of the store as a whole. `id` is the id of a record or the key of a
    profile, None where it is not known; `key` is the store's own number of a record. `beside` is
    empty, or the name of the store beside that it is in (see `HybridMemory.beside`).
    """

    kind: Damage
    namespace: Namespace | None = None
    id: str | None = None
    key: int | None = None
    detail: str = ""
    is_repaired: bool = False
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` or `repair` found, in the store and in those beside it together.

    `counts` has all problems by kind, `problems` the first 1,000 of them, and `left` is how many
    are not repaired. `records` were looked at, `refreshed` got what they are found by anew.
    `quarantined` rows, of this and of earlier repairs, lie where nothing reads them.
    """

    problems: Sequence[Problem] = ()
    counts: Mapping[Damage, int] = field(default_factory=lambda: MappingProxyType({}))
    left: int = 0
    records: int = 0
    refreshed: int = 0
    quarantined: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return not self.left
