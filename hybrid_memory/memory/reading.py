"""The read path of a scope: query -> analyze -> gather -> score -> merge -> prompt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime

from numpy.typing import ArrayLike

from hybrid_memory import indexing, limits, records, turns
from hybrid_memory.errors import NotFoundError
from hybrid_memory.filters import compile_where
from hybrid_memory.memory.handle import Handle
from hybrid_memory.memory.recall import Asked
from hybrid_memory.merge import Cut
from hybrid_memory.prompt import Context, closed, pack
from hybrid_memory.protocols import Vector
from hybrid_memory.types import Budget, Gate, Hit, Kind, Record, Where, Why

SESSION_TURNS = 6  # the newest turns that a context may show


class ReadPath(Handle):
    """The methods of `Scope` that find, explain and pack what is remembered."""

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        now: datetime | None = None,
        min_score: float = 0.0,
        min_share: float = 0.0,
        mmr_lambda: float | None = None,
        max_per_source: int | None = None,
    ) -> list[Hit]:
        """Return the best k records for a question, of the scope and what it may read.

        `where` filters before anything is ranked (see `filters.py`): k hits come back whenever
        k records match. `min_score` bounds the score from below, `min_share` its share of the
        best hit's. `mmr_lambda` in [0, 1] trades relevance (1) for variety. At most
        `max_per_source` come from one document, tool or outside retriever.

        Raises:
            FilterError: a malformed `where`.
            InvalidInputError: k not in 1 to 200, an unknown kind, or a kind that is not ranked.
        """
        cut = Cut(k, min_score, min_share, mmr_lambda, max_per_source)
        return list(self._recall.ask(self._asked(query, now, kinds, where), cut).hits)

    def nearest(
        self,
        query: str | ArrayLike,
        *,
        k: int = 10,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        now: datetime | None = None,
        mmr_lambda: float | None = None,
        fetch_k: int = 20,
    ) -> list[Hit]:
        """Return the k records whose meaning is nearest to a text or a vector, and nothing else.

        No words, no boosts, no outside sources, and a text that is there twice comes twice. The
        score is the cosine, 0 for what points away: 1 for the same text. Above `index_above`
        vectors it is as exact as the index is. With `mmr_lambda` in [0, 1] the k are chosen from
        the `fetch_k` nearest, 1 being nearness alone and 0 variety alone; vectors that lie in a
        document store count as unlike all others.

        Raises:
            VectorError: a vector that is not one of the embedder's space.
            FilterError: a malformed `where`.
            InvalidInputError: k not in 1 to 10,000, or an unknown kind.
        """
        limits.whole(k, "k", low=1, high=limits.MAX_NEAREST)
        limits.whole(fetch_k, "fetch_k", low=1, high=limits.MAX_NEAREST)
        if mmr_lambda is not None:
            limits.fraction(mmr_lambda, "mmr_lambda")
        if isinstance(query, str):
            question: str | Vector = limits.text(query, "query")
        else:
            question = limits.unit_vector(query, dim=self._memory._embedder.dim)
        return self._recall.nearest(
            question,
            k,
            now=self._now(now),
            kinds=limits.kinds(kinds),
            where=compile_where(where),
            mmr_lambda=mmr_lambda,
            fetch_k=fetch_k,
        )

    def why(
        self,
        query: str,
        id: str,
        *,
        k: int = 10,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        now: datetime | None = None,
        min_score: float = 0.0,
        min_share: float = 0.0,
        mmr_lambda: float | None = None,
        max_per_source: int | None = None,
        max_tokens: int = 1000,
    ) -> Why:
        """Explain why `search` finds a record, or why it does not, and so for `context`.

        The bounds are those of the search that is asked about.

        Raises:
            NotFoundError: no such record in the scope or in what it may read.
        """
        cut = Cut(k, min_score, min_share, mmr_lambda, max_per_source)
        asked = self._asked(query, now, kinds, where)
        for namespace in (self.namespace, *self.read):
            for record in self._store.get(namespace, [limits.label(id, "id")]):
                why = self._recall.why(record, asked, cut)
                context = self.context(
                    query, max_tokens=max_tokens, kinds=kinds, where=where, now=asked.now
                )
                return replace(why, prompt=context.without(record))
        raise NotFoundError(f"no record {id!r} in this scope")

    def _asked(
        self,
        query: str,
        now: datetime | None,
        kinds: Iterable[Kind] | Kind | None,
        where: Where | None,
    ) -> Asked:
        moment = self._memory._clock() if now is None else now
        return Asked.of(query, now=moment, kinds=kinds, where=where)

    def context(
        self,
        query: str,
        *,
        max_tokens: int = 1000,
        now: datetime | None = None,
        gate: Gate | None = None,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Where | None = None,
        budget: Budget | None = None,
        shown: Collection[str] = (),
    ) -> Context:
        """Return what to put into the prompt for a question, within a budget of tokens.

        Instructions in force, the profile, the newest turns of the session, and the best hits,
        questions among them with what a person said next. `budget` bounds the share of each;
        `Context.dropped` and `left_out` tell what had to go. `shown` are the ids of records of the
        scope's own namespace that the prompt holds already: they are not told again. With a gate
        that does not allow memory nothing is read and the context is empty.
        """
        limits.whole(max_tokens, "max_tokens", low=1, high=limits.MAX_TOKENS)
        limits.instance(gate, Gate, "gate")
        limits.instance(budget, Budget, "budget")
        shown = limits.ids(shown, "shown")
        asked = self._asked(query, now, kinds, where)
        gate = gate or Gate()
        if not gate.memory_allowed:
            return closed(query, gate)
        weights = self._memory._weights
        # A line is at least ten tokens, so no more hits than this can fit.
        k = min(limits.MAX_K, max(10, max_tokens // 10) + len(shown))
        recalled = self._recall.ask(asked, Cut(k, min_share=weights.min_share))
        return pack(
            query,
            hits=recalled.hits,
            instructions=self.instructions(now=now),
            profile=dict(self.profile),
            session=self.messages(last=SESSION_TURNS, now=now) if self.session_id else (),
            shown=frozenset((self.namespace, id) for id in shown),
            gate=gate,
            max_tokens=max_tokens,
            threshold=weights.threshold,
            abstain=weights.abstain,
            count_tokens=self._memory._count_tokens,
            key=self._memory._fence_key(self.namespace, self.session_id),
            budget=budget,
            confidence=recalled.confidence,
            problems=recalled.problems,
        )

    def messages(
        self,
        last: int | None = None,
        max_tokens: int | None = None,
        *,
        now: datetime | None = None,
    ) -> list[Record]:
        """Return the newest turns of the session that fit, oldest first.

        Of all sessions, if the scope has none. A tool's result is never without its call: if the
        bound falls between them, neither is returned. Tokens, of tool calls too, are counted by
        `count_tokens`, one more a turn.
        """
        if last is not None:
            limits.whole(last, "last", low=1)
        if max_tokens is not None:
            limits.whole(max_tokens, "max_tokens", low=1, high=limits.MAX_TOKENS)
        kept: list[Record] = []
        with closing(self._newest("message", now, self.session_id, limit=last)) as newest:
            for turn in newest:
                if max_tokens is not None:
                    max_tokens -= self._memory._count_tokens(turns.told(turn)) + 1
                    if max_tokens < 0:
                        break
                kept.append(turn)
        return turns.whole(kept[::-1])

    def instructions(self, *, now: datetime | None = None) -> list[Record]:
        """Return the instructions in force, highest priority first, then the newest first."""
        told = (one for one in self._newest("instruction", now) if not records.is_proposed(one))
        return sorted(told, key=lambda one: -_priority(one))

    def facts(self, slot: str | None = None, as_of: datetime | None = None) -> list[Record]:
        """Return the facts that hold now, or held at a time, in the order they were learned.

        `slot` is `intent.key` as in `user_preference.language_like`, or an intent alone.
        """
        moment = self._now(as_of)
        facts = [fact for fact in self._newest("fact", as_of) if _holds(fact, moment)]
        if slot is not None:
            facts = [fact for fact in facts if _fills(fact, slot)]
        return facts[::-1]

    def proposals(self, *, now: datetime | None = None) -> list[Record]:
        """Return the instructions that wait to be confirmed, the newest first."""
        return [one for one in self._newest("instruction", now) if records.is_proposed(one)]


def _priority(instruction: Record) -> int:
    priority = (instruction.data or {}).get("priority")
    return priority if isinstance(priority, int) else 0


def _holds(fact: Record, moment: datetime) -> bool:
    started = fact.valid_from is None or fact.valid_from <= moment
    return started and (fact.valid_to is None or fact.valid_to > moment)


def _fills(fact: Record, slot: str) -> bool:
    filled = indexing.slots(fact.data or {})
    return slot in filled or any(one.startswith(f"{slot}.") for one in filled)
