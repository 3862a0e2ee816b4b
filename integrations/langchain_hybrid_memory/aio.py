"""Async over the synchronous core: one bounded pool of threads, so that no event loop waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import ParamSpec, TypeVar

from langchain_core.runnables import run_in_executor

# Each may hold the interpreter for 5 ms before an event loop has its turn: with 4, at 20 recalls at
# once, a loop was late by 10 to 19 ms at the median, with 2 by 3 ms, and they took as long. Set it
# higher, before the first use, where an embedder or a source waits for a network.
THREADS = 2
P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a call returns that would block: it runs in a thread, or waits for one.

    Context variables follow it there, as the config and the trace of a run; what it sets stays
    there.
    """
    # LangChain copies the context for the pool of the event loop, and for no other.
    return await run_in_executor(_pool(), copy_context().run, partial(call, *args, **kwargs))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="hybrid-memory")
