"""Finds the programs of this directory, and runs each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

from tests.reliability.outcome import Outcome

HERE = Path(__file__).parent
BROKEN = "did not run to its end"


def programs() -> list[str]:
    """Return the names of the modules of this directory that have a `run`."""
    # By the source: importing one that is of no use here may take seconds.
    return [
        path.stem
        for path in sorted(HERE.glob("[!_]*.py"))
        if not path.name.startswith("test_") and "\ndef run(" in path.read_text(encoding="utf-8")
    ]


def outcome_of(name: str, scale: float) -> Outcome:
    """Return the outcome of a program, run in a process of its own: it may fork, or crash."""
    started = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(_run, name, scale).result()
    except Exception as error:
        seconds = time.perf_counter() - started
        return Outcome(f"{name} {BROKEN}", 1, 1, seconds, {"error": repr(error)[:500]})


def _run(name: str, scale: float) -> Outcome:
    found: Outcome = import_module(f"tests.reliability.{name}").run(scale)
    return found
