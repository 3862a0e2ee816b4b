"""The programs of this directory that erase, pass in what cannot be, and break out of prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hybrid_memory import (
    HybridMemory,
    HybridMemoryError,
    ItemChange,
    PrunePolicy,
    Quota,
    Scope,
    Source,
    search_sources,
)
from hybrid_memory.testing import HashEmbedder, ManualClock, WordRetriever
from tests.reliability import breakouts, byte_scan, erasure, hostile
from tests.reliability.hostile_values import corpus
from tests.reliability.outcome import Outcome
from tests.reliability.surface import surface

pytestmark = pytest.mark.reliability

WIKI = Source(WordRetriever(["Tea is a drink."]), name="wiki", timeout_s=60)
BEGIN = ManualClock()()


@pytest.mark.parametrize(
    ("run", "scale", "trials"),
    [
        pytest.param(erasure.run, 0.1, 200, id="erasure"),
        pytest.param(hostile.run, 0.06, 1000, id="bad inputs"),
        pytest.param(breakouts.run, 0.1, 90, id="break-outs"),
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

    assert len(calls) >= 45
    assert calls["Scope.add"].parameters >= ("text", "kind", "role")
    assert "max_cache_bytes" in calls["HybridMemory.open"].parameters
    # A new parameter that must be given needs a good value in `surface.GOOD`.
    assert all(call.arguments().keys() >= set(call.required) for call in calls.values())


@pytest.mark.parametrize(
    "call",
    [
        lambda memory, ana: memory.beside(7, embedder=HashEmbedder()),
        lambda memory, ana: memory.beside("facts", embedder=7),
        lambda memory, ana: memory.count_tokens(7),
        lambda memory, ana: memory.reembed("all-MiniLM-L6-v2"),
        lambda memory, ana: memory.reembed(HashEmbedder(), batch_size=2**63),
        lambda memory, ana: ana.context("tea", shown=7),
        lambda memory, ana: memory.items().write(["I drink tea."]),
        lambda memory, ana: memory.items().write([ItemChange(("ana",), "a", {}, texts=7)]),
        lambda memory, ana: memory.items().write([ItemChange(("ana",), "a", {}, ttl=7)]),
        lambda memory, ana: memory.items().search(("ana",), query=7),
        lambda memory, ana: memory.items().namespaces(np.ones(2)),
        lambda memory, ana: memory.items().get(("ana",), "a", refresh="no"),
        lambda memory, ana: ana.prune(PrunePolicy(max_records=1), dry_run=0),
        lambda memory, ana: ana.add_messages([], strict="no"),
        lambda memory, ana: PrunePolicy(kinds=7),
        lambda memory, ana: Quota(records=10**5000),
        lambda memory, ana: search_sources("tea", [WIKI], weights=7, now=BEGIN),
        lambda memory, ana: search_sources("tea", [WIKI], id_key=[], now=BEGIN),
    ],
)
def test_what_is_nothing_a_method_takes_is_refused_by_name(
    memory: HybridMemory, ana: Scope, call: Callable[[HybridMemory, Scope], object]
) -> None:
    with pytest.raises(HybridMemoryError) as refused:
        call(memory, ana)

    assert len(str(refused.value)) < 200


def test_of_more_items_than_can_be_counted_all_come(memory: HybridMemory) -> None:
    items = memory.items()
    items.write([ItemChange(("ana",), "a", {"text": "I drink tea."})])

    assert [item.key for item in items.search(("ana",), limit=10**30)] == ["a"]
    assert items.search(("ana",), offset=10**30) == []


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
