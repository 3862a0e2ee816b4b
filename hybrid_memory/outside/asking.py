"""Outside retrievers asked side by side, each in a thread and a time of its own."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from dataclasses import dataclass

from hybrid_memory.outside.reading import UnreadableError, read
from hybrid_memory.outside.source import Source, checked
from hybrid_memory.types import Found, Hit

MAX_AT_ONCE = 32  # questions that one retriever may be at

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking a source: its texts, best first, or a sentence why there are none.

    The texts are checked: storable, of the types they promise, with finite scores where scores
    count.
    """

    source: Source
    found: tuple[Found | Hit, ...] = ()
    problem: str | None = None


def ask(sources: Iterable[Source], query: str) -> list[Outcome]:
    """Ask all sources side by side and return what came of it: `start`, collected at once."""
    return start(sources, query).collect()


def start(sources: Iterable[Source], query: str) -> Pending:
    """Begin to ask all sources, each in a thread of its own; collect the outcomes later.

    The threads carry the caller's context variables, so that traces hang together, and end with
    the process, whatever they wait for. A source that let an earlier question run out of its time,
    and is still at it, is not asked: those that hang do not pile up.

    Raises:
        InvalidInputError: something that is not a `Source`, or two of one name.
    """
    asked = checked(sources)
    now = time.monotonic()
    return Pending([_begun(source, query, now) for source in asked])


class Pending:
    """Questions to sources that are under way."""

    def __init__(self, calls: Sequence[_Call | Outcome]) -> None:
        self._calls = calls

    def collect(self) -> list[Outcome]:
        """Return the outcomes, one a source in their order.

        Waits for each until its time is over, counted from the common start; what has come by
        then counts. Never raises for what a retriever does.
        """
        return [call if isinstance(call, Outcome) else call.collected() for call in self._calls]


class _Call:
    """One question to one source, in a thread of its own."""

    def __init__(self, source: Source, query: str, deadline: float) -> None:
        self.source = source
        self._deadline = deadline
        self._abandoned = False
        self._outcome: Outcome | None = None
        # Not of a pool: the interpreter joins those at its exit, so that one call that hangs
        # would keep the process.
        self.thread = threading.Thread(
            target=copy_context().run,
            args=(self._run, query),
            name=f"hybrid-memory source {source.name}",
            daemon=True,
        )

    def is_overdue(self, now: float) -> bool:
        return self._abandoned or self._deadline <= now

    def collected(self) -> Outcome:
        self.thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._outcome is not None:
            return self._outcome
        self._abandoned = True
        return _failed(self.source, f"was slower than {float(self.source.timeout_s)} s")

    def _run(self, query: str) -> None:
        try:
            given = self.source.retriever.search(query, k=self.source.k)
            self._outcome = Outcome(self.source, read(given, self.source))
        except UnreadableError as error:
            self._outcome = _failed(self.source, str(error))
        except BaseException as error:  # also of SystemExit nobody else would hear in a thread
            # Not its message, which may hold the question or a text.
            kind = type(error).__name__
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            _log.info("%s at %s:%d", kind, frame.f_code.co_filename, line)
            self._outcome = _failed(self.source, f"failed with {kind}")
        finally:
            _running.discard(self)


# Of the whole process, as threads are: a source may be made anew for each question.
_running: set[_Call] = set()


def _begun(source: Source, query: str, now: float) -> _Call | Outcome:
    # After a fork the calls of the parent are still listed, but their threads are not alive.
    others = [
        call
        for call in _running.copy()
        if call.source.retriever is source.retriever and call.thread.is_alive()
    ]
    if len(others) >= MAX_AT_ONCE or any(call.is_overdue(now) for call in others):
        return _failed(source, "is still busy with an earlier question")
    call = _Call(source, query, now + source.timeout_s)
    _running.add(call)
    try:
        call.thread.start()
    except RuntimeError:  # no more threads, or the interpreter is about to exit
        _running.discard(call)
        return _failed(source, "could not be asked for want of a thread")
    return call


def _failed(source: Source, what: str) -> Outcome:
    problem = f"source {source.name!r} {what} and was left out"
    _log.warning("%s", problem)
    return Outcome(source, problem=problem)
