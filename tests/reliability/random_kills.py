"""kill -9 at any moment: two writers at work on one store, an audit after each kill."""

from __future__ import annotations

import random
import signal
import sys
import time

from tests.reliability.outcome import Outcome
from tests.reliability.writers import Child, Told, audit, scratch

KILLS = 500
IN_ONE_STORE = 25  # then the next begins empty, so that an audit stays short


def run(scale: float = 1.0) -> Outcome:
    """Kill so many times 500; details tell how much work was acknowledged before."""
    began = time.monotonic()
    kills = max(1, round(KILLS * scale))
    rng = random.Random(KILLS)
    failures = acknowledged = interrupted = 0
    for first in range(0, kills, IN_ONE_STORE):
        writers = [Told(), Told()]
        with scratch() as path:
            for kill in range(first, min(first + IN_ONE_STORE, kills)):
                children = [
                    # Only one writes files anew, which takes most of its time.
                    Child(path, number, kill, told, rounds=1000, with_files=number == 0)
                    for number, told in enumerate(writers)
                ]
                if kill % 5:  # else they may still be opening the store
                    for child in children:
                        child.until_it_writes(timeout_s=10)
                time.sleep(rng.uniform(0.0, 0.1))
                for child in children:
                    child.kill()
                codes = [child.wait() for child in children]
                interrupted += sum(bool(told.pending) for told in writers)
                wrong = [f"a writer ended with {one}" for one in codes if one != -signal.SIGKILL]
                wrong += audit(path, writers, rng)
                for sentence in wrong:
                    print(f"kill {kill}: {sentence}", file=sys.stderr)
                failures += bool(wrong)
        acknowledged += sum(told.acknowledged for told in writers)
    return Outcome(
        what="kill -9 at random",
        trials=kills,
        failures=failures,
        seconds=time.monotonic() - began,
        details={"acknowledged": acknowledged, "in the middle of a change": interrupted},
    )


if __name__ == "__main__":
    print(run(*map(float, sys.argv[1:])))
