"""Items: JSON values under keys, in any number of namespaces, found by one text or by several.

An item is a record of the kind `fact`: its id the key, its data the value, its text the first of
the texts that it is found by. Each further text is a record of its own, so that it has a vector
of its own. They change in one transaction, but are not read in one: so a text counts only with an
item of the revision that it was written with.
"""

from __future__ import annotations

import copy
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_memory import indexing, limits
from hybrid_memory.errors import ConflictError, InvalidInputError
from hybrid_memory.filters import Fields, compile_where, metadata_value
from hybrid_memory.memory import shelf as shelves
from hybrid_memory.memory.recall import Asked, Recall
from hybrid_memory.memory.shelf import KIND, Shelf, Shelves, about, is_item, part_id, part_ids
from hybrid_memory.merge import Ranking
from hybrid_memory.partition import Pool, View
from hybrid_memory.protocols import Draft, Vector
from hybrid_memory.score import score
from hybrid_memory.types import Item, ItemChange, Namespace, Query, Record, Where, check_span

if TYPE_CHECKING:
    from hybrid_memory.memory.encoding import Encoding
    from hybrid_memory.memory.engine import HybridMemory

_SELF_EXPLAINING = ("content", "text", "memory", "data")  # keys whose value needs no name


class Items:
    """What programs keep under keys; made by `HybridMemory.items`. Thread-safe.

    Its calls name the namespaces they are about, and may reach all those below some labels: it is
    for a program that keeps order among its namespaces itself, as LangGraph does.
    """

    def __init__(self, memory: HybridMemory, source: str) -> None:
        self._memory = memory
        self._store = memory._store
        self._source = limits.label(source, "source")
        self._shelves = memory._shelves.setdefault(
            self._source, Shelves(memory._store, self._source)
        )

    # -- writing -----------------------------------------------------------------------------

    def write(self, changes: Iterable[ItemChange]) -> None:
        """Put, replace and delete items; all of it is on disk when this returns.

        What is refused is refused before anything is written. The changes of one namespace are
        one transaction. Of several for one key the last holds. Equal texts are encoded once.

        Raises:
            MetadataError: a value that is no JSON object, or over 64 KiB.
            ConflictError: a record that is no item of this source has the id.
            QuotaExceededError: a namespace is full; of that one nothing is stored.
        """
        wanted: dict[Namespace, dict[str, ItemChange]] = {}
        for change in limits.several(changes, "write takes a list of ItemChange"):
            if not isinstance(change, ItemChange):
                raise InvalidInputError(
                    f"write takes a list of ItemChange, not of {type(change).__name__}"
                )
            namespace = limits.namespace(change.namespace)
            wanted.setdefault(namespace, {})[limits.label(change.key, "key")] = change
        now = self._now()
        new = {
            namespace: [
                self._memory._redacted(record)
                for key, change in those.items()
                for record in self._records(namespace, key, change, now)
            ]
            for namespace, those in wanted.items()
        }
        self._memory._in_space(partial(self._write, wanted, new))

    def _write(
        self,
        wanted: Mapping[Namespace, Mapping[str, ItemChange]],
        new: Mapping[Namespace, Sequence[Record]],
        encoding: Encoding,
    ) -> None:
        mine: dict[Namespace, list[Draft]] = {}
        for draft in self._drafts([one for records in new.values() for one in records], encoding):
            mine.setdefault(draft.record.namespace, []).append(draft)
        # Who reads what was there, and writes, must not be overtaken in between.
        with self._shelves.writing:
            there = {
                namespace: self._there(namespace, new[namespace], those)
                for namespace, those in wanted.items()
            }
            for namespace, old in there.items():
                self._replace(namespace, old, mine.get(namespace, ()))

    def _records(
        self, namespace: Namespace, key: str, change: ItemChange, now: datetime
    ) -> list[Record]:
        """Return the records of an item, itself first."""
        if change.value is None:
            return []
        value = limits.json_object(
            change.value,
            "value",
            max_bytes=limits.MAX_DATA_BYTES,
            max_depth=limits.MAX_DATA_DEPTH,
        )
        texts = [_words(value)]
        if change.texts is not None:
            given = limits.several(change.texts, "texts of an item are a list of texts")
            texts = [limits.string(text) for text in given]
        clipped = map(limits.clipped, texts)
        texts = [limits.text(text) for text in dict.fromkeys(clipped) if text.strip()]
        said: dict[str, Any] = {}
        if len(texts) > 1:
            said |= {"parts": len(texts) - 1, "revision": secrets.randbits(62)}
        until = None
        if change.ttl is not None:
            check_span(change.ttl, "ttl")
            until = _end(now, change.ttl)
            said["ttl_s"] = change.ttl.total_seconds()
        first = Record(
            id=key,
            namespace=namespace,
            kind=KIND,
            text=texts[0] if texts else limits.clipped(_words(value)) or key,
            at=now,
            created_at=now,
            source=self._source,
            metadata=({"item": said} if said else {}) | ({} if texts else {"unranked": True}),
            data=value,
            expires_at=until,
        )
        others = [
            replace(
                first,
                id=part_id(key, number),
                text=text,
                data=None,
                metadata={"item": {"part": number, "revision": said["revision"]}},
            )
            for number, text in enumerate(texts[1:], 1)
        ]
        return [first, *others]

    def _drafts(self, records: Sequence[Record], encoding: Encoding) -> list[Draft]:
        texts = list(dict.fromkeys(map(indexing.index_text, filter(indexing.is_ranked, records))))
        vectors: dict[str, Vector] = {}
        if texts:
            rows = limits.unit_vectors(encoding.embed(texts), count=len(texts), dim=encoding.dim)
            vectors = dict(zip(texts, rows, strict=True))
        return encoding.claimed(
            [
                indexing.draft(
                    record,
                    vectors[indexing.index_text(record)] if indexing.is_ranked(record) else None,
                )
                for record in records
            ]
        )

    def _there(
        self, namespace: Namespace, new: Iterable[Record], keys: Iterable[str]
    ) -> dict[str, Record]:
        """Return the items that are there under some keys; nothing else is in a new one's way."""
        there = {record.id: record for record in self._store.get(namespace, list(keys))}
        strange = {id for id, old in there.items() if not is_item(old, self._source)}
        if taken := strange & {record.id for record in new}:
            raise ConflictError(f"id {min(taken)!r} is taken by a record that is no item here")
        return {id: old for id, old in there.items() if id not in strange}

    def _replace(
        self, namespace: Namespace, old: Mapping[str, Record], drafts: Iterable[Draft]
    ) -> None:
        kept = [_succeeding(draft, old.get(draft.record.id)) for draft in drafts]
        ids = {id for item in old.values() for id in (item.id, *part_ids(item))}
        gone = sorted(ids - {draft.record.id for draft in kept})
        if kept:
            self._store.restore(
                namespace,
                kept,
                on_conflict="replace",
                removed=gone,
                bound=self._memory._bound(),
            )
        elif gone:  # which works on a full disk too
            self._store.delete(namespace, gone)

    def delete_all(self, under: Sequence[str]) -> int:
        """Delete the items of a namespace and of all below it; return how many that was.

        Other records there stay. To have it out of the files too, call `HybridMemory.purge`.
        """
        return sum(self._forget(namespace, None) for namespace in self.namespaces(under))

    def sweep(self) -> int:
        """Delete, in all namespaces, the items that have expired; return how many that was."""
        now = self._now()
        expired = self._store.holders(kind=KIND, source=self._source, expired_at=now)
        return sum(self._forget(namespace, now) for namespace in expired)

    def _forget(self, namespace: Namespace, expired_at: datetime | None) -> int:
        count = 0

        def matches(record: Record) -> bool:
            nonlocal count
            has_to_go = record.kind == KIND and (
                expired_at is None or _is_expired(record, expired_at)
            )
            count += has_to_go and is_item(record, self._source)
            return has_to_go

        self._store.forget(namespace, source=self._source, matches=matches)
        self._shelves.drop(namespace)
        return count

    # -- reading -----------------------------------------------------------------------------

    def get(
        self,
        namespace: Sequence[str],
        key: str,
        *,
        refresh: bool = False,
        with_expired: bool = False,
    ) -> Item | None:
        """Return an item, or None. With `refresh` its time to live begins anew."""
        space = limits.namespace(namespace)
        limits.claim(refresh, "refresh")
        limits.claim(with_expired, "with_expired")
        now = self._now()
        for record in self._store.get(space, [limits.label(key, "key")]):
            if is_item(record, self._source) and (with_expired or not _is_expired(record, now)):
                return self._items([(record, None)], refresh=refresh, now=now)[0]
        return None

    def search(
        self,
        under: Sequence[str] = (),
        *,
        query: str | None = None,
        where: Where | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh: bool = False,
        with_expired: bool = False,
    ) -> list[Item]:
        """Return items of a namespace and of all below it (`()` is the whole store).

        With a query the best first, each once, by the best of its texts; items without a text
        come last. Meaning, words and times make the score, as in `Scope.search`; a reranker is
        not asked, and copies of one text are all items of their own. Without one the last written
        first. `where` filters by the value, before anything is counted: `limit` items come back
        whenever so many are left after `offset`.

        Raises:
            FilterError: a malformed `where`.
            InvalidInputError: a negative `limit` or `offset`.
        """
        first = min(limits.whole(offset, "offset", low=0), sys.maxsize)
        last = min(first + limits.whole(limit, "limit", low=0), sys.maxsize)
        limits.claim(refresh, "refresh")
        limits.claim(with_expired, "with_expired")
        matches = compile_where(where, named=frozenset())
        now = self._now()
        shelved = [self._shelves.get(namespace) for namespace in self.namespaces(under)]
        found: Iterator[tuple[Record, float | None]]
        if query is not None and limits.string(query, "query").strip():
            found = self._ranked(query, shelved, now)
        else:
            found = ((item, None) for item in shelves.latest(shelved))
        wanted = (
            (item, points)
            for item, points in found
            if (with_expired or not _is_expired(item, now))
            and (matches is None or matches(_fields(item)))
        )
        return self._items(list(islice(wanted, first, last)), refresh=refresh, now=now)

    def namespaces(
        self, under: Sequence[str] = (), *, with_expired: bool = True
    ) -> list[Namespace]:
        """Return the namespaces with items, of the whole store or below some labels."""
        return self._store.holders(
            kind=KIND,
            source=self._source,
            under=() if isinstance(under, tuple | list) and not under else limits.namespace(under),
            unexpired_at=None if limits.claim(with_expired, "with_expired") else self._now(),
        )

    def _ranked(
        self, query: str, shelved: Sequence[Shelf], now: datetime
    ) -> Iterator[tuple[Record, float | None]]:
        """Yield each item once with its best score, best first; then those without a text."""
        held = {shelf.namespace: shelf for shelf in shelved}
        asked = Asked.of(query, now=now)
        ranking = self._memory._in_space(partial(self._ranking, asked, list(held)))
        yield from _best_of_each(ranking, held)
        unranked = (item for item in shelves.latest(list(shelved)) if not indexing.is_ranked(item))
        yield from ((item, None) for item in unranked)

    def _ranking(
        self, asked: Asked, namespaces: Sequence[Namespace], encoding: Encoding
    ) -> Ranking:
        views = [encoding.cache.views(namespace)[0] for namespace in namespaces]
        views = [view for view in views if view.alive.any()]
        analyzed = Recall(self._memory, (), None).analyzed(asked, views)
        vector = encoding.embed_query(analyzed.dense_text)
        pools = [self._pool(view, analyzed, vector) for view in views]
        return Ranking(
            [(pool, score(analyzed, pool)) for pool in pools],
            weights=self._memory._weights,
            now=limits.microseconds(asked.now),
            version=analyzed.version,
        )

    def _pool(self, view: View, query: Query, vector: Vector) -> Pool:
        """Return the texts of items in a view; those that have expired are the caller's matter."""
        rows = (view.alive & (view.columns["source"] == view.code(self._source))).nonzero()[0]
        cosine = view.cosines(vector, slice(None) if len(rows) == len(view.alive) else rows)
        words = view.words.scores(query.terms, view.alive)[rows]
        return Pool(view, rows, cosine, words, cosine)

    def _items(
        self, found: Sequence[tuple[Record, float | None]], *, refresh: bool, now: datetime
    ) -> list[Item]:
        lives = {}
        if refresh:
            lives = {
                (item.namespace, item.id): _end(now, timedelta(seconds=about(item)["ttl_s"]))
                for item, _ in found
                if "ttl_s" in about(item)
            }
            self._prolong([item for item, _ in found], lives)
        return [
            Item(
                namespace=item.namespace,
                key=item.id,
                value=copy.deepcopy(dict(item.data or {})),
                # One that was imported says when it was made by when it happened.
                created_at=min(item.created_at, item.at),
                updated_at=item.at,
                expires_at=lives.get((item.namespace, item.id), item.expires_at),
                score=points,
            )
            for item, points in found
        ]

    def _prolong(
        self, items: Sequence[Record], lives: Mapping[tuple[Namespace, str], datetime]
    ) -> None:
        ids: dict[tuple[Namespace, datetime], list[str]] = {}
        for item in items:
            if (until := lives.get((item.namespace, item.id))) is not None:
                ids.setdefault((item.namespace, until), []).extend((item.id, *part_ids(item)))
        for (namespace, until), those in ids.items():
            self._store.expire(namespace, those, until)

    def _now(self) -> datetime:
        return limits.when(self._memory._clock(), "now")


def _fields(item: Record) -> Fields:
    """Return the fields of an item's value, for a predicate."""
    return partial(metadata_value, item.data or {})


def _best_of_each(
    ranking: Ranking, held: Mapping[Namespace, Shelf]
) -> Iterator[tuple[Record, float]]:
    pools = ranking.scores()
    if not pools:
        return
    points = np.concatenate([scores for _, scores in pools])
    keys = np.concatenate([pool.column("key") for pool, _ in pools])
    at = np.concatenate([pool.column("at") for pool, _ in pools])
    whose = np.repeat(np.arange(len(pools)), [len(scores) for _, scores in pools])
    seen: set[tuple[Namespace, str]] = set()
    for row in np.lexsort((keys, -at, -points)).tolist():
        namespace = pools[whose[row]][0].view.namespace
        item = held[namespace].item(keys.item(row))
        # A row may be of the item as it was before it came to be unranked.
        is_found = item is not None and indexing.is_ranked(item)
        if item is not None and is_found and (namespace, item.id) not in seen:
            seen.add((namespace, item.id))
            yield item, points.item(row)


def _succeeding(draft: Draft, old: Record | None) -> Draft:
    """Return a draft that takes the place of what was there."""
    if old is None:
        return draft
    first = min(old.created_at, old.at)
    record = replace(draft.record, created_at=first, version=old.version + 1)
    return replace(draft, record=record)


def _is_expired(record: Record, now: datetime) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def _end(now: datetime, ttl: timedelta) -> datetime:
    try:
        return now + ttl
    except OverflowError as error:
        raise InvalidInputError(f"ttl of {ttl.days} days goes beyond the year 9999") from error


def _words(value: Mapping[str, Any]) -> str:
    """Return a value in words, `I like tea; city: Lyon`: better found than JSON by an encoder."""
    parts = []
    for key, part in value.items():
        words = ", ".join(_flat(part))
        if words:
            named = key in _SELF_EXPLAINING
            parts.append(words if named else f"{key.replace('_', ' ')}: {words}")
    return "; ".join(parts)


def _flat(value: object) -> Iterable[str]:
    if isinstance(value, Mapping):
        return [_words(value)] if value else []
    if isinstance(value, list):
        return chain.from_iterable(_flat(part) for part in value)
    return [] if value is None or value == "" else [str(value)]
