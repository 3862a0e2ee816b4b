"""The programs of this directory that kill, cut, fill and flip, in their short form.

In full they are run as `python -m tests.reliability.<program>`; a number behind that is the factor
by which they try more, or less.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability import (
    bit_flips,
    cut_logs,
    full_disk,
    io_errors,
    kills_at_steps,
    random_kills,
    sqlite_files,
)
from tests.reliability.outcome import Outcome
from tests.reliability.writers import PROFILE, SHARED, Told, audit, opened

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forks of the test"),
]
watches = pytest.mark.skipif(
    not sqlite_files.can_be_watched(), reason="the driver's SQLite cannot be reached"
)


@pytest.mark.parametrize(
    ("run", "scale", "trials"),
    [
        pytest.param(kills_at_steps.run, 1 / 20, 22, marks=watches, id="kills at steps"),
        pytest.param(random_kills.run, 1 / 25, 20, id="random kills"),
        pytest.param(cut_logs.run, 1 / 10, 20, marks=watches, id="cut logs"),
        pytest.param(io_errors.run, 1 / 10, 20, marks=watches, id="I/O errors"),
        pytest.param(bit_flips.run, 1 / 15, 40, id="bit flips"),
    ],
)
def test_nothing_is_lost_comes_back_or_is_torn(
    run: Callable[[float], Outcome], scale: float, trials: int
) -> None:
    outcome = run(scale)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= trials


@pytest.mark.skipif(not full_disk.can_be_mounted(), reason="nothing can be mounted here")
def test_a_disk_that_fills_up_loses_nothing_and_deletes_work() -> None:
    outcome = full_disk.run(1 / 10)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= 50


def test_an_audit_sees_what_is_lost_what_came_back_and_what_was_done_by_half(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as memory:
        ana = memory.scope(user_id=SHARED)
        ana.add_many({"id": f"w0-{name}", "text": f"The text {name}."} for name in "abc")
        ana.profile["w0"] = "value"
    true: dict[str, str | None] = {f"{SHARED} w0-{name}": f"The text {name}." for name in "abc"}
    true[f"{SHARED} {PROFILE}w0"] = "value"

    def wrong(*, pending: dict[str, str | None] | None = None, **state: str | None) -> list[str]:
        changed = {f"{SHARED} w0-{name}": text for name, text in state.items()}
        return audit(tmp_path, [Told(true | changed, pending or {})], random.Random(1))

    assert wrong() == []
    assert "lost or not as written" in wrong(d="The text d.")[0]
    assert "lost or not as written" in wrong(a="Another text.")[0]
    assert "there again" in wrong(a=None)[0]
    assert wrong(a=None, pending={f"{SHARED} w0-a": "The text a."}) == []
    half = {f"{SHARED} w0-{name}": f"The text {name}." for name in "ae"}
    assert wrong(a=None, pending=half)[0] == "a call was done by half"
    assert "nobody wrote it" in audit(tmp_path, [], random.Random(1))[0]
