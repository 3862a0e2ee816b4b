"""The merger as a retriever: a user's memories and documents, other retrievers, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs
from pydantic import Field, PrivateAttr, model_validator

from hybrid_memory import Hit, HybridMemory, Kind, Source, Weights, search_sources
from langchain_hybrid_memory.aio import in_thread
from langchain_hybrid_memory.documents import document_of_hit
from langchain_hybrid_memory.identity import scope_from
from langchain_hybrid_memory.sources import Call, calling, source_from

_SPECS = [
    ConfigurableFieldSpec(id="user_id", annotation=str, name="User", is_shared=True),
    ConfigurableFieldSpec(id="session_id", annotation=str, name="Session", is_shared=True),
]


class HybridRetriever(BaseRetriever):
    """The best k of a memory, of other retrievers, or of both, in one ranking.

    With a `memory` it is a user's: that of `user_id` or `namespace`, else the `user_id` in
    `config["configurable"]`, else an error; see `identity.scope_from`. `read` names shared
    namespaces.

    `retrievers` are asked side by side, each for at most `timeout_s`, and one that fails is left
    out. `weights` say what each counts for, and `sources` may be given ready-made. In place of an
    `EnsembleRetriever`: what children score counts, not their order alone; the same document is
    one `id`, or one value of `id_key`; and with `ranking=Weights(recency=...)` and an `at_key`
    what is new gains.

    Each document has its `score`, in [0, 1], its `relevance` and its `signals` in the metadata.
    `k`, `where`, `max_tokens` and `now` may also be given to `invoke`.
    """

    memory: HybridMemory | None = Field(default=None, exclude=True, repr=False)
    user_id: str | None = None
    namespace: tuple[str, ...] | None = None
    session_id: str | None = None
    read: tuple[tuple[str, ...], ...] = ()

    retrievers: list[Any] = Field(default_factory=list, exclude=True, repr=False)
    weights: list[float] | None = None
    sources: list[Any] = Field(default_factory=list, exclude=True, repr=False)
    """Ready-made sources, as `source_from` makes them."""
    timeout_s: float = 10.0
    """How long each of the retrievers is waited for."""
    fetch_k: int = 20
    """How many texts of each of the retrievers are looked at."""
    id_key: str | None = None
    at_key: str | None = None
    """The metadata that hold the time of a document of the retrievers."""
    ranking: Weights | None = None
    """What the merger is set to without a memory; a memory has its own."""

    k: int = 10
    kinds: tuple[Kind, ...] | None = None
    """The kinds of records that are searched; all, if None."""
    where: dict[str, Any] | None = None
    min_score: float = 0.0
    min_share: float = 0.0
    mmr_lambda: float | None = None
    max_per_source: int | None = None
    max_tokens: int | None = None
    """How many tokens the texts may have together: the best that fit come."""
    count_tokens: Callable[[str], int] | None = Field(default=None, exclude=True, repr=False)
    clock: Callable[[], datetime] | None = Field(default=None, exclude=True, repr=False)

    _sources: list[Source] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory is None and not self.retrievers and not self.sources:
            raise ValueError("a HybridRetriever takes a memory, retrievers, or sources")
        if self.weights is not None and len(self.weights) != len(self.retrievers):
            raise ValueError(
                f"{len(self.weights)} weights were given for {len(self.retrievers)} retrievers"
            )
        if self.weights and (min(self.weights) < 0 or max(self.weights) == 0):
            raise ValueError("weights are 0 or more, and one is above 0")
        if self.user_id is not None and self.namespace is not None:
            raise ValueError("a HybridRetriever takes either user_id or namespace")
        return self

    def model_post_init(self, context: Any) -> None:
        """Make the sources once: one that hangs is known by its object, and not asked again."""
        super().model_post_init(context)
        weights = self.weights or [0.5] * len(self.retrievers)
        most = max([1.0, *weights])
        self._sources = [
            *self.sources,
            *(
                source_from(
                    retriever,
                    name=f"retriever_{number}",
                    weight=weight / most,
                    k=self.fetch_k,
                    timeout_s=self.timeout_s,
                    at_key=self.at_key,
                )
                for number, (retriever, weight) in enumerate(
                    zip(self.retrievers, weights, strict=False), 1
                )
                if weight > 0
            ),
        ]

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What a call's config may say: the user, the session, and what the retrievers take."""
        mine = _SPECS if self.memory is not None else []
        others = [spec for one in self.retrievers for spec in getattr(one, "config_specs", [])]
        return get_unique_config_specs([*mine, *others])

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = "hybrid_memory"
        if self.memory is not None:
            embedder = self.memory.embedder
            params["ls_embedding_provider"] = type(embedder).__name__
            params["ls_embedding_model"] = embedder.name
        return params

    # A retriever that is called directly does not see the config; so it is handed on.

    def invoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the best documents for a question; see the class for the arguments."""
        return super().invoke(input, config, **kwargs, of_call=ensure_config(config))

    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the best documents for a question, found in another thread."""
        return await super().ainvoke(input, config, **kwargs, of_call=ensure_config(config))

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: dict[str, Any] | None = None,
        max_tokens: int | None = None,
        now: datetime | None = None,
        of_call: RunnableConfig | None = None,
    ) -> list[Document]:
        call = Call(of_call or ensure_config(), run_manager)
        token = calling.set(call)
        try:
            hits = self._hits(
                query,
                call.config,
                k=self.k if k is None else k,
                where=self.where if where is None else where,
                now=now if now is not None or self.clock is None else self.clock(),
            )
        finally:
            calling.reset(token)
        budget = self.max_tokens if max_tokens is None else max_tokens
        if budget is not None:
            hits = _fitting(hits, budget, self._counter())
        return [document_of_hit(hit, call.original(hit.record.data)) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        # With a name of its own: LangChain passes only what the synchronous form takes.
        get = self._get_relevant_documents
        return await in_thread(get, query, run_manager=run_manager.get_sync(), **kwargs)

    def _hits(self, query: str, config: RunnableConfig, **bounds: Any) -> list[Hit]:
        shared = {
            "min_score": self.min_score,
            "min_share": self.min_share,
            "max_per_source": self.max_per_source,
            **bounds,
        }
        if self.memory is None:
            shared["now"] = shared["now"] or datetime.now(UTC)
            return search_sources(
                query, self._sources, weights=self.ranking, id_key=self.id_key, **shared
            )
        scope = scope_from(
            self.memory,
            user_id=self.user_id,
            namespace=self.namespace,
            session_id=self.session_id,
            read=self.read,
            sources=self._sources,
            config=config,
        )
        return scope.search(query, kinds=self.kinds, mmr_lambda=self.mmr_lambda, **shared)

    def _counter(self) -> Callable[[str], int]:
        if self.count_tokens is not None:
            return self.count_tokens
        if self.memory is not None:
            return self.memory.count_tokens
        from hybrid_memory.backends.onnx import count_tokens

        return count_tokens


def _fitting(hits: Sequence[Hit], budget: int, count: Callable[[str], int]) -> list[Hit]:
    kept = []
    for hit in hits:
        tokens = count(hit.record.text)
        if tokens <= budget:
            budget -= tokens
            kept.append(hit)
    return kept
