"""Many threads and processes on one store, in a form that takes seconds; see each program."""

from __future__ import annotations

import os

import pytest

from tests.reliability import forks, load, once, soak


def test_four_processes_of_four_threads_read_their_writes_and_lose_none() -> None:
    outcome = load.run(scale=0.02)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 200
    assert outcome.details["increments"]


def test_while_one_writes_and_three_read_nothing_grows() -> None:
    outcome = soak.run(scale=0.03)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 100
    assert outcome.details["samples"]


def test_of_eight_that_write_one_id_at_once_one_creates_it() -> None:
    outcome = once.run(scale=0.04)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_memory_is_used_on_both_sides_of_a_fork() -> None:
    outcome = forks.run(scale=0.1)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 6
    assert outcome.details["acknowledged"]
