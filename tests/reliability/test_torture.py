"""The program behind `make torture`: what it runs, what it writes, and what it compares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import comparison
from tests.reliability.__main__ import markdown, replaced
from tests.reliability.rivals import stacks
from tests.reliability.running import outcome_of, programs

pytestmark = pytest.mark.reliability


def test_it_runs_every_program_there_is() -> None:
    assert {"breakouts", "erasure", "hostile"} <= set(programs())
    assert not {"comparison", "outcome", "rivals"} & set(programs())


def test_a_program_that_breaks_is_a_failure() -> None:
    outcome = outcome_of("no_such_program", 1.0)

    assert outcome.failures == 1
    assert "did not run to its end" in outcome.what


def test_tables_are_written_between_their_markers_and_nowhere_else() -> None:
    text = "before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n"
    table = markdown([["what", "trials"], ["kills", "7"]])

    new = replaced(text, "figures", table)

    assert new.splitlines() == [
        "before",
        "<!-- figures -->",
        "| what | trials |",
        "|---|---|",
        "| kills | 7 |",
        "<!-- end of figures -->",
        "after",
    ]
    assert replaced(new, "figures", "old") == text
    with pytest.raises(SystemExit, match="comparison"):
        replaced(text, "comparison", table)


def test_the_documents_have_the_markers() -> None:
    root = Path(__file__).parents[2]
    for name, parts in (("README.md", ["comparison"]), ("SECURITY.md", ["figures", "comparison"])):
        text = (root / name).read_text(encoding="utf-8")
        for part in parts:
            assert replaced(text, part, "x") != text


@pytest.mark.slow
def test_the_attacks_that_this_library_withstands_are_real() -> None:
    ours, naive = "hybrid-memory", "FAISS + list + SQLite"
    among = {name: make for name, make in stacks().items() if name in (ours, naive)}

    rows = comparison.compare(0.1, among=among)

    assert [row.bad[ours] for row in rows] == [0] * 7
    assert [row.bad[naive] == row.trials for row in rows[:3]] == [True] * 3
