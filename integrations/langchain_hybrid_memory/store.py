"""HybridStore: LangGraph's store, kept in a memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    get_text_at_path,
    validate_op_namespace,
)

from hybrid_memory import HybridMemory, ItemChange
from hybrid_memory import Item as Kept
from hybrid_memory.errors import InvalidInputError
from langchain_hybrid_memory.filters import on_values
from langchain_hybrid_memory.index_embedder import IndexEmbedder, caller_loop
from langchain_hybrid_memory.sweeper import Sweeper

SOURCE = "langgraph"  # as the importer of LangGraph's own stores has it
# Threads of a store's asynchronous calls. Not those of `aio`: these may wait for an `embed` on the
# loop, which may itself need one of `aio`, and more of them wait for a network than compute.
WORKERS = 8


def encode_label(text: object) -> str:
    """Return any id (an e-mail address, a number) as a label that LangGraph takes.

    Other ids stay as they are: only `.`, NUL and `%` are encoded, and the reserved `langgraph`.

    Raises:
        InvalidInputError: the text is empty.
    """
    label = str(text)
    if not label:
        raise InvalidInputError("an empty text cannot be a label")
    for character in "%.\0":
        label = label.replace(character, f"%{ord(character):02X}")
    return "%6Canggraph" if label == "langgraph" else label


def decode_label(label: str) -> str:
    """Return the text of `encode_label`."""
    return unquote(label)


class HybridStore(BaseStore):
    """A LangGraph store over a memory: durable, searched by meaning and words, exactly filtered.

    A namespace is the memory's namespace of the same labels, an item a fact in it: `store.get`
    and `memory.scope(namespace=...).search` see the same. It is found by the memory's own
    ranking. `filter` takes the memory's filter language, on keys of the value.

    With an `embed` in the `index` its vectors come from there, and items lie in `store.memory`, a
    memory of their own beside the given one (see `HybridMemory.beside`). `fields` say what is
    embedded; without them it is all of the value, in words. Each text has a vector, the best one
    counts, and what has none comes after what has.

    A value is JSON of at most 64 KiB, a key or label up to 256 characters, kept in Unicode's NFC
    form, and a namespace has at most 8 labels; `encode_label` makes one of any id.

    `ttl` is LangGraph's; call `start_ttl_sweeper`, or `sweep_ttl` now and then, to have what has
    expired deleted. Thread-safe; asynchronous calls run on a few threads of the store's own.
    """

    supports_ttl = True

    def __init__(
        self,
        memory: HybridMemory,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        """Open the store of a memory, which is the caller's to close.

        Raises:
            EmbedderMismatchError: items were stored here with another `embed`.
        """
        self.index_config = index
        self.ttl_config = ttl
        config: IndexConfig = index or {}
        self._fields = list(config.get("fields") or ["$"])
        if config.get("embed") is not None:
            memory = memory.beside(SOURCE, embedder=IndexEmbedder(config))
        elif "dims" in config:
            raise InvalidInputError("index has dims and no embed; without embed the memory embeds")
        self.memory = memory
        self._items = memory.items(source=SOURCE)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="hybrid-store")
        self._sweeper: Sweeper | None = None

    # -- operations --------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Return the results in the order of the ops; what is read was there before the batch.

        All puts and deletes of a batch are refused together, or written together, one transaction
        a namespace.

        Raises:
            InvalidNamespaceError: a label that LangGraph does not allow.
            ValueError: anything else that cannot be done; nothing is written then.
        """
        todo = list(ops)
        for op in todo:
            validate_op_namespace(op)
        changes = [self._change(op) for op in todo if isinstance(op, PutOp)]
        results = [None if isinstance(op, PutOp) else self._read(op) for op in todo]
        if changes:
            self._items.write(changes)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do as `batch`, on a thread of the store; an asynchronous `embed` runs on this loop."""
        loop, context = asyncio.get_running_loop(), copy_context()
        context.run(caller_loop.set, loop)
        return await loop.run_in_executor(self._pool, context.run, self.batch, list(ops))

    def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return self._get(op)
        if isinstance(op, SearchOp):
            return self._search(op)
        if isinstance(op, ListNamespacesOp):
            return self._list(op)
        raise InvalidInputError(f"unknown operation {type(op).__name__}")

    def _get(self, op: GetOp) -> Item | None:
        if not op.namespace:
            return None
        found = self._items.get(
            op.namespace, op.key, refresh=op.refresh_ttl, with_expired=self._with_expired
        )
        return None if found is None else Item(**_fields(found))

    def _search(self, op: SearchOp) -> list[SearchItem]:
        found = self._items.search(
            op.namespace_prefix,
            query=op.query,
            where=on_values(op.filter) if op.filter else None,
            limit=op.limit,
            offset=op.offset,
            refresh=op.refresh_ttl,
            with_expired=self._with_expired,
        )
        return [SearchItem(**_fields(item), score=item.score) for item in found]

    def _list(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        if min(op.limit, op.offset) < 0:
            raise InvalidInputError(f"limit and offset are at least 0: {op.limit}, {op.offset}")
        conditions = op.match_conditions or ()
        found = {
            namespace[: op.max_depth]
            for namespace in self._items.namespaces(with_expired=self._with_expired)
            if all(_matches(condition, namespace) for condition in conditions)
        }
        return sorted(found)[op.offset : op.offset + op.limit]

    def _change(self, op: PutOp) -> ItemChange:
        try:
            ttl = None if op.ttl is None else timedelta(minutes=op.ttl)
        except (OverflowError, ValueError) as error:
            raise InvalidInputError(f"ttl is no number of minutes: {op.ttl}") from error
        return ItemChange(op.namespace, op.key, op.value, self._texts(op), ttl)

    def _texts(self, op: PutOp) -> Sequence[str] | None:
        """Return what an item is found by; None for its value in words."""
        if op.value is None or op.index is False:
            return ()
        paths = self._fields if op.index is None else list(op.index)
        if paths == ["$"]:
            return None
        return [text for path in paths for text in get_text_at_path(op.value, path)]

    def delete_namespace(self, prefix: tuple[str, ...]) -> int:
        """Delete the items of a namespace and of all below it; return how many that was."""
        if not prefix:
            raise InvalidInputError("name a namespace; for all of a store remove its directory")
        return self._items.delete_all(prefix)

    # -- time to live ------------------------------------------------------------------------

    @property
    def _with_expired(self) -> bool:
        return not (self.ttl_config or {}).get("omit_expired", False)

    def sweep_ttl(self) -> int:
        """Delete the items that have expired and return how many that was."""
        return self._items.sweep()

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep every so often on a thread of its own, until `stop_ttl_sweeper`.

        Without an interval it is that of the `ttl` config, or five minutes. The future is done
        when the sweeper has stopped, and has the error if one stopped it.
        """
        if self._sweeper is None or self._sweeper.stopped.done():
            configured = (self.ttl_config or {}).get("sweep_interval_minutes")
            minutes = sweep_interval_minutes or configured or 5
            self._sweeper = Sweeper(self.sweep_ttl, minutes * 60)
        return self._sweeper.stopped

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop it and tell whether it has stopped within `timeout` seconds."""
        return self._sweeper is None or self._sweeper.stop(timeout)

    def close(self) -> None:
        """Stop the store's threads; the memory stays open."""
        self.stop_ttl_sweeper()
        self._pool.shutdown()


def _fields(item: Kept) -> dict[str, Any]:
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def _matches(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    wanted = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise InvalidInputError(f"match type {condition.match_type!r} is no prefix or suffix")
    part = (
        namespace[: len(wanted)]
        if condition.match_type == "prefix"
        else (namespace[max(0, len(namespace) - len(wanted)) :])
    )
    return len(part) == len(wanted) and all(
        one in ("*", label) for one, label in zip(wanted, part, strict=True)
    )
