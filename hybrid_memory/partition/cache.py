"""The partitions that are in RAM, within a bound in bytes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

from hybrid_memory.partition.partition import Partition
from hybrid_memory.partition.view import View
from hybrid_memory.types import Namespace


class PartitionCache:
    """The partitions in use, least recently used out first once they pass a size in bytes."""

    def __init__(
        self,
        make: Callable[[Namespace], Partition],
        *,
        max_bytes: int,
        filling: threading.RLock | None = None,
    ) -> None:
        self._make = make
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.filling = filling or threading.RLock()  # held by whoever writes to the document store
        self._partitions: OrderedDict[Namespace, Partition] = OrderedDict()
        self._sizes: dict[Namespace, int] = {}
        self._bytes = 0
        _caches.add(self)

    def begin_in_child(self) -> None:
        """Forget all after a fork: a thread that is not there any more may have held a lock."""
        self._lock, self.filling = threading.Lock(), threading.RLock()
        self.clear()

    def views(self, namespace: Namespace) -> tuple[View, View]:
        """Return the caught-up shelves of a namespace."""
        with self._lock:
            partition = self._partitions.get(namespace)
            if partition is None:
                partition = self._partitions[namespace] = self._make(namespace)
            self._partitions.move_to_end(namespace)
        views = partition.views()
        if partition.nbytes == self._sizes.get(namespace):
            return views
        with self._lock:
            if self._partitions.get(namespace) is not partition:
                return views  # dropped meanwhile
            if partition.is_empty:
                del self._partitions[namespace]
            else:
                size = partition.nbytes
                self._bytes += size - self._sizes.get(namespace, 0)
                self._sizes[namespace] = size
            while len(self._partitions) > 1 and self._bytes > self._max_bytes:
                oldest, _ = self._partitions.popitem(last=False)
                self._bytes -= self._sizes.pop(oldest, 0)
        return views

    def hide(self, namespace: Namespace, keys: Sequence[int]) -> None:
        """Let records be found no more, until they change: the store will not return them."""
        with self._lock:
            partition = self._partitions.get(namespace)
        if partition is not None:
            partition.hide(keys)

    def drop(self, namespace: Namespace) -> None:
        """Forget the partition of a namespace."""
        with self._lock:
            self._partitions.pop(namespace, None)
            self._bytes -= self._sizes.pop(namespace, 0)

    def held(self) -> list[Namespace]:
        """Return the namespaces that are in RAM."""
        with self._lock:
            return list(self._partitions)

    def clear(self) -> None:
        """Forget all partitions."""
        with self._lock:
            self._partitions.clear()
            self._sizes.clear()
            self._bytes = 0


_caches: weakref.WeakSet[PartitionCache] = weakref.WeakSet()


def _begin_in_child() -> None:
    for cache in _caches:
        cache.begin_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_begin_in_child)
