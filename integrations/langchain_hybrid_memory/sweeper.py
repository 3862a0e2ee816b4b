"""Time to live: a thread that sweeps out what has expired."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError


class Sweeper:
    """Calls `sweep` every so many seconds, until it is stopped or an error stops it.

    `stopped` is done when it has ended, and has the error if there was one.
    """

    def __init__(self, sweep: Callable[[], int], interval_s: float) -> None:
        self.stopped: Future[None] = Future()
        self._asked = threading.Event()
        arguments = (sweep, interval_s)
        threading.Thread(target=self._run, args=arguments, name="ttl-sweeper", daemon=True).start()

    def _run(self, sweep: Callable[[], int], interval_s: float) -> None:
        try:
            while not self._asked.wait(interval_s):
                sweep()
        except BaseException as error:
            self.stopped.set_exception(error)
        else:
            self.stopped.set_result(None)

    def stop(self, timeout: float | None) -> bool:
        """Stop it and tell whether it has stopped within `timeout` seconds."""
        self._asked.set()
        try:
            self.stopped.exception(timeout)
        except FutureTimeoutError:
            return False
        return True
