"""Run all programs of this directory that have a `run`, and the comparison, and print two tables.

Run: python -m tests.reliability [--nightly] [--scale FACTOR] [--only NAME] [--write]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.reliability.comparison import Row, compare
from tests.reliability.outcome import Outcome
from tests.reliability.running import outcome_of, programs

ROOT = Path(__file__).parents[2]
NIGHTLY = 10.0

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if no promise was broken, by this library, in any trial."""
    given = _options(arguments)
    scale = NIGHTLY if given.nightly else given.scale
    wanted = [name for name in programs() if given.only in (None, name)]
    outcomes = []
    for number, name in enumerate(wanted, 1):
        console.print(f"[{number}/{len(wanted)}] {name} ...", markup=False, style="dim")
        outcome = outcome_of(name, scale)
        outcomes.append(outcome)
        details = ", ".join(f"{key}: {value}" for key, value in outcome.details.items())
        said = f"{outcome.failures} of {outcome.trials} failed, {outcome.seconds:.0f} s; {details}"
        console.print("    " + said, markup=False, highlight=False)
    rows = []
    if given.only in (None, "comparison"):
        rows = compare(min(scale, 1.0), lambda attack: console.print(f"    {attack}", style="dim"))
    _show(outcomes, rows)
    if given.write:
        _write(outcomes, rows)
    ours = sum(next(iter(row.bad.values())) or 0 for row in rows)
    return int(bool(ours or sum(outcome.failures for outcome in outcomes)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--nightly", action="store_true", help="ten times as many trials")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the trials")
    parser.add_argument("--only", metavar="NAME", help="one program, or comparison")
    parser.add_argument("--write", action="store_true", help="put the tables into the documents")
    return parser.parse_args(arguments)


def _show(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> None:
    for title, lines in (("Reliability", _figures(outcomes)), ("Compared", _compared(rows))):
        if len(lines) > 1:
            table = Table(title=title)
            for number, heading in enumerate(lines[0]):
                table.add_column(heading, justify="right" if number else "left")
            for line in lines[1:]:
                table.add_row(*line)
            console.print(table)


def _figures(outcomes: Sequence[Outcome]) -> list[list[str]]:
    return [["what", "trials", "failures", "seconds"]] + [
        [one.what, f"{one.trials:,}", f"{one.failures:,}", f"{one.seconds:.0f}"] for one in outcomes
    ]


def _compared(rows: Sequence[Row]) -> list[list[str]]:
    if not rows:
        return []
    return [["attack: bad ends", "of", *rows[0].bad]] + [
        [
            row.attack,
            str(row.trials),
            *("-" if bad is None else str(bad) for bad in row.bad.values()),
        ]
        for row in rows
    ]


def _write(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> None:
    """Put the tables between the markers of the documents; what was not run stays as it is."""
    if outcomes:
        _replace(ROOT / "SECURITY.md", "figures", f"{_where()}\n\n{markdown(_figures(outcomes))}")
    if rows:
        for name in ("SECURITY.md", "README.md"):
            _replace(ROOT / name, "comparison", f"{markdown(_compared(rows))}\n\n{_versions()}")


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, the first of them the headings, as a table."""
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rows])


def _replace(path: Path, name: str, content: str) -> None:
    path.write_text(replaced(path.read_text(encoding="utf-8"), name, content), encoding="utf-8")


def replaced(text: str, name: str, content: str) -> str:
    """Return a text with this content between its markers of a name."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"there are no markers for {name}")
    return f"{before}{start}{content}\n{end}{after}"


def _where() -> str:
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on "
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}."
    )


def _versions() -> str:
    names = ("faiss-cpu", "langchain-community", "chromadb")
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return f"With {', '.join(found)}. A dash: it keeps nothing to attack, or has no way to do it."


if __name__ == "__main__":
    sys.exit(main())
