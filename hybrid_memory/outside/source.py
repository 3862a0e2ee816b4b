"""An outside retriever with a name, a weight and a limit of time."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, get_args

from hybrid_memory import limits
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.protocols import Retriever
from hybrid_memory.types import Found, Hit

Scores: TypeAlias = Literal["similarity", "distance", "rank"]

# The names of the signals of `score` and `merge`, and of who speaks: no source can pass for one.
SCORED = frozenset(
    {"cosine", "bm25", "answer", "speaker", "date", "time", "number", "role", "question"}
)
MERGED = frozenset({"session", "version", "rerank", "recency", "importance"})
AUTHORS = frozenset({"user", "assistant", "developer", "system", "tool"})
MAX_TIMEOUT_S = 3600


@dataclass(frozen=True, slots=True)
class Source:
    """An outside retriever, what its word counts for, and how long it is waited for.

    `name` names its signal, and its texts where they have no source of their own. `weight`, in
    (0, 1], counts beside those of `Weights`. `scores` tells what its scores mean: "similarity",
    larger is better; "distance", smaller is better; "rank", nothing beyond the order. With None
    they are similarities if every text has one, else the order counts. It is asked for `k` texts.

    Raises:
        InvalidInputError: a value that cannot be, or an object without a synchronous `search`.
    """

    retriever: Retriever
    _: KW_ONLY
    name: str
    weight: float = 0.5
    scores: Scores | None = None
    timeout_s: float = 2.0
    k: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", limits.label(self.name, "the name of a source"))
        if self.name in SCORED | MERGED | AUTHORS:
            raise InvalidInputError(
                f"a source cannot be called {self.name!r}: that is the name of a signal or author"
            )
        named = f"of source {self.name!r}"
        search = getattr(self.retriever, "search", None)
        if not callable(search) or inspect.iscoroutinefunction(search):
            raise InvalidInputError(
                f"the retriever {named} needs a synchronous method search(query, k), which "
                f"{type(self.retriever).__name__} has not"
            )
        if limits.fraction(self.weight, f"the weight {named}") == 0:
            raise InvalidInputError(f"the weight {named} is 0; leave the source out instead")
        if self.scores is not None and self.scores not in get_args(Scores):
            raise InvalidInputError(
                f"scores {named} are {', '.join(get_args(Scores))} or None, not {self.scores!r}"
            )
        seconds = self.timeout_s
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidInputError(
                f"timeout_s {named} must be a number, not {type(seconds).__name__}"
            )
        if not 0 < seconds <= MAX_TIMEOUT_S:
            raise InvalidInputError(
                f"timeout_s {named} must be above 0 and at most {MAX_TIMEOUT_S}: {seconds}"
            )
        limits.whole(self.k, f"k {named}", low=1, high=limits.MAX_K)


def checked(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources if they can be asked together.

    Raises:
        InvalidInputError: something that is not a `Source`, or two of one name.
    """
    given = tuple(limits.several(sources, "sources takes a list of Source"))
    names = set()
    for source in given:
        if not isinstance(source, Source):
            raise InvalidInputError(
                f"a source is a Source(retriever, name=...), not a {type(source).__name__}"
            )
        if source.name in names:
            raise InvalidInputError(f"two sources are called {source.name!r}; rename one")
        names.add(source.name)
    return given


def meaning_of(source: Source, found: Sequence[Found | Hit]) -> Scores:
    """Return what the scores of these texts mean: what the source says, or what they look like."""
    if source.scores is not None:
        return source.scores
    return "similarity" if all(item.score is not None for item in found) else "rank"
