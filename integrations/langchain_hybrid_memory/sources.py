"""Any retriever or vector store of LangChain as an outside source of the merger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, patch_config
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from hybrid_memory import Found, Source
from hybrid_memory.errors import InvalidInputError
from langchain_hybrid_memory.documents import moment, plain
from langchain_hybrid_memory.texts import storable

Convention = Literal["similarity", "distance", "rank"]
Scored = list[tuple[Document, float | None]]
Asks = Callable[[str, int], Scored]  # a question and k, best first

SCORE_KEYS = ("relevance_score", "score")  # where retrievers and rerankers leave their scores
_ROUNDING = 1e-3  # by which cosine distances of equal vectors are below 0
_ORIGINAL = "langchain"  # in the data of what was found: which document it was


@dataclass(frozen=True)
class Call:
    """What a call of a retriever hands to those it asks, and gets back from them."""

    config: RunnableConfig
    run_manager: CallbackManagerForRetrieverRun | None = None
    originals: dict[str, Document] = field(default_factory=dict)

    def child(self, tag: str) -> RunnableConfig:
        """Return the config for one that is asked: its run is below the caller's."""
        if self.run_manager is None:
            return self.config
        return patch_config(self.config, callbacks=self.run_manager.get_child(tag=tag))

    def original(self, data: Mapping[str, Any] | None) -> Document | None:
        """Return the document that a text was found as, with all that JSON cannot hold."""
        return self.originals.get(str((data or {}).get(_ORIGINAL)))


# The threads in which sources are asked carry the caller's context.
calling: ContextVar[Call | None] = ContextVar("calling", default=None)


def source_from(
    retriever: VectorStore | Runnable[str, Any],
    *,
    name: str,
    weight: float = 0.5,
    k: int = 20,
    timeout_s: float = 2.0,
    scores: Convention | None = None,
    similarity: Callable[[float], float] | None = None,
    at_key: str | None = None,
    **search_kwargs: Any,
) -> Source:
    """Return a vector store or a retriever as a `Source`, for `HybridMemory.scope(sources=...)`.

    A vector store, or its plain retriever, gives the scores of `similarity_search_with_score`;
    `search_kwargs` such as a filter are passed on to it. Of other retrievers the metadata's
    `relevance_score` or `score` counts, where all have one, else the order.

    `scores` says what they mean: a similarity, larger is better; a distance, smaller is better; or
    nothing. With None the order tells, as the best comes first; where it does not, a vector store
    is asked once for a text that it has. `similarity` turns each into a
    cosine, as `lambda d: 1 - d / 2` does for squared L2 of vectors of norm 1; without it a
    similarity is taken as the core does, and a distance as 1 / (1 + d).

    `at_key` names the metadata that hold the time of a text: `documents.moment` says how.

    Raises:
        InvalidInputError: neither a vector store nor a retriever, or a value that cannot be.
    """
    asks = _asks(retriever, name, search_kwargs)
    if scores not in (None, "similarity", "distance", "rank"):
        raise InvalidInputError(
            f"scores are 'similarity', 'distance', 'rank' or None, not {scores!r}"
        )
    found = Documents(
        asks,
        name=name,
        scale=Scale(scores, similarity),
        at_key=at_key,
        asks_again=isinstance(retriever, VectorStore | VectorStoreRetriever),
    )
    return Source(found, name=name, weight=weight, k=k, timeout_s=timeout_s)


class Scale:
    """Scores of some convention as similarities, or None where only the order counts."""

    def __init__(
        self,
        convention: Convention | None = None,
        similarity: Callable[[float], float] | None = None,
    ) -> None:
        self._convention = convention
        self._similarity = similarity

    def __call__(
        self, scores: Sequence[float | None], *, own: Callable[[], float | None] = lambda: None
    ) -> Sequence[float | None]:
        """Return a score for each, of those given best first.

        `own` returns what the first one scores for its own text, which nothing is nearer to: asked
        for once, where the order does not tell.
        """
        known = [score for score in scores if score is not None and math.isfinite(score)]
        if len(known) < len(scores) or self._convention == "rank" or not known:
            return [None] * len(scores)
        if self._similarity is not None:
            return [self._similarity(score) for score in known]
        meaning = self._convention or self._seen(known, own)
        if meaning == "rank":
            return [None] * len(scores)
        if meaning == "distance" and min(known) >= -_ROUNDING:
            return [1 / (1 + max(score, 0.0)) for score in known]
        sign = -1 if meaning == "distance" else 1
        return [sign * score for score in known]

    def _seen(self, scores: Sequence[float], own: Callable[[], float | None]) -> Convention:
        rises = all(first <= second for first, second in pairwise(scores))
        falls = all(first >= second for first, second in pairwise(scores))
        if not rises and not falls:
            return "rank"
        if rises == falls:  # a single one, or equal ones
            best = own()
            if best is None:
                return "similarity"
            # The question may be the text itself: the least distance is 0.
            is_equal = math.isclose(best, scores[0], rel_tol=_ROUNDING, abs_tol=_ROUNDING)
            rises = abs(best) <= _ROUNDING if is_equal else best < scores[0]
        # What a store means by its scores does not change.
        self._convention = "distance" if rises else "similarity"
        return self._convention


class Documents:
    """A Retriever of the core over documents with scores."""

    def __init__(
        self, asks: Asks, *, name: str, scale: Scale, at_key: str | None, asks_again: bool
    ) -> None:
        self._asks = asks
        self._asks_again = asks_again  # whether a second question is cheap, and not seen in traces
        self._name = name
        self._scale = scale
        self._at_key = at_key

    def search(self, query: str, /, *, k: int) -> list[Found]:
        """Return up to k texts, best first."""
        scored = self._asks(query, k)[:k]

        def own() -> float | None:
            return next((score for _, score in self._asks(scored[0][0].page_content, 1)), None)

        given = [score for _, score in scored]
        scores = self._scale(given, own=own) if self._asks_again else self._scale(given)
        return [
            self._found(document, score, number)
            for number, ((document, _), score) in enumerate(zip(scored, scores, strict=True))
        ]

    def _found(self, document: Document, score: float | None, number: int) -> Found:
        source = document.metadata.get("source")
        at = None if self._at_key is None else moment(document.metadata.get(self._at_key))
        data = None
        if (call := calling.get()) is not None:
            data = {_ORIGINAL: f"{self._name}/{number}"}
            call.originals[data[_ORIGINAL]] = document
        return Found(
            text=storable(document.page_content),
            score=score,
            id=document.id,
            source=source if isinstance(source, str) else None,
            at=at,
            metadata=plain(document.metadata),
            data=data,
        )


def _asks(retriever: object, name: str, search_kwargs: Mapping[str, Any]) -> Asks:
    # Only the class itself: another may search in another way.
    if type(retriever) is VectorStoreRetriever and retriever.search_type != "mmr":
        bounds = {**retriever.search_kwargs, **search_kwargs}
        if retriever.search_type == "similarity":
            return _of_store(retriever.vectorstore, bounds)
        return _of_threshold(retriever.vectorstore, bounds)
    if isinstance(retriever, VectorStore):
        return _of_store(retriever, search_kwargs)
    if isinstance(retriever, Runnable):
        return _of_runnable(retriever, name, search_kwargs)
    raise InvalidInputError(
        f"a source is made of a VectorStore or a retriever, not of a {type(retriever).__name__}"
    )


def _of_store(store: VectorStore, bounds: Mapping[str, Any]) -> Asks:
    def asks(query: str, k: int) -> Scored:
        try:
            scored = store.similarity_search_with_score(query, **{"k": k, **bounds})
        except NotImplementedError:
            return [(one, None) for one in store.similarity_search(query, **{"k": k, **bounds})]
        return [(document, float(score)) for document, score in scored]

    return asks


def _of_threshold(store: VectorStore, bounds: Mapping[str, Any]) -> Asks:
    def asks(query: str, k: int) -> Scored:
        return list(store.similarity_search_with_relevance_scores(query, **{"k": k, **bounds}))

    return asks


def _of_runnable(retriever: Runnable[str, Any], name: str, bounds: Mapping[str, Any]) -> Asks:
    def asks(query: str, k: int) -> Scored:
        call = calling.get()
        config = ensure_config() if call is None else call.child(name)
        found = _documents(retriever.invoke(query, config, **bounds))
        return list(zip(found, scores_in(found), strict=True))

    return asks


def _documents(found: Iterable[Document | str]) -> list[Document]:
    return [Document(page_content=one) if isinstance(one, str) else one for one in found]


def scores_in(documents: Sequence[Document]) -> list[float | None]:
    """Return the scores that metadata hold, where all documents have one of the same name."""
    for key in SCORE_KEYS:
        scores = [document.metadata.get(key) for document in documents]
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in scores):
            return [float(score) for score in scores if score is not None]
    return [None] * len(documents)
