"""The memory against a dictionary, in a form that takes seconds; see the program."""

from __future__ import annotations

from tests.reliability import model


def test_a_memory_says_what_a_dictionary_says_whatever_is_called() -> None:
    outcome = model.run(scale=0.04)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 400
