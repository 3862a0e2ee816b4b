"""The programs of this directory that erase, pass in what cannot be, and break out of prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.reliability import breakouts, byte_scan, erasure, hostile
from tests.reliability.hostile_values import corpus
from tests.reliability.outcome import Outcome
from tests.reliability.surface import surface

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize(
    ("run", "scale", "trials"),
    [
        pytest.param(erasure.run, 0.1, 200, id="erasure"),
        pytest.param(hostile.run, 0.06, 1000, id="bad inputs"),
        pytest.param(breakouts.run, 0.1, 100, id="break-outs"),
    ],
)
def test_no_attack_succeeds(run: Callable[[float], Outcome], scale: float, trials: int) -> None:
    outcome = run(scale)

    assert outcome.failures == 0, outcome
    assert outcome.trials >= trials


def test_the_corpus_of_bad_inputs_is_not_small() -> None:
    assert sum(map(len, corpus().values())) >= 400
    assert len(corpus()["filters"]) >= 200


def test_every_public_method_is_attacked_in_every_parameter() -> None:
    calls = {call.name: call for call in surface()}

    assert len(calls) >= 30
    assert calls["Scope.add"].parameters >= ("text", "kind", "role")
    assert "max_cache_bytes" in calls["HybridMemory.open"].parameters
    # A new parameter that must be given needs a good value in `surface.GOOD`.
    assert all(call.arguments().keys() >= set(call.required) for call in calls.values())


def test_the_scanner_finds_what_is_left_in_any_form_and_place(tmp_path: Path) -> None:
    text = 'A secret of "some" length, with \u00e9 and more than one line.\nThe second line.'
    vector = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    left = {
        "plain": text.encode()[7:48],
        "json": b'{"text": "A secret of \\"some\\" length, with \\u00e9',
        "wide": text.encode("utf-16-le"),
        "vector": b"x" + (vector * np.float32(1 + 1e-7)).tobytes()[21:80],
        "digits": vector.tobytes().hex().encode()[3:60],
    }
    needles = [byte_scan.of_text(text), byte_scan.of_vector(vector)]

    for name, content in left.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"\0" * 5 + content)
    found = {name: byte_scan.found(needles, tmp_path / name) for name in left}

    assert found == {"plain": {0}, "json": {0}, "wide": {0}, "vector": {1}, "digits": {1}}
    assert byte_scan.found([byte_scan.of_text("bare")], tmp_path) == set()
    (tmp_path / "bare name").touch()
    assert byte_scan.found([byte_scan.of_text("bare")], tmp_path) == {0}
