"""What upkeep finds, while it is looking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from hybrid_memory.report import DAMAGES, Damage, Problem, Report

MAX_PROBLEMS = 1000  # that a report lists; it counts all
OnProgress: TypeAlias = Callable[[int, int], None]  # (done, total)


class Findings:
    """Collects problems: bounded, however many there are."""

    def __init__(self) -> None:
        self.records = 0
        self.refreshed = 0
        self._problems: list[Problem] = []
        self._counts: Counter[Damage] = Counter()
        self._left = 0

    def add(self, problem: Problem) -> None:
        """Note a problem."""
        self._counts[problem.kind] += 1
        self._left += not problem.is_repaired
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)

    def report(self, *, quarantined: int) -> Report:
        """Return what was noted, the kinds in the order of `DAMAGES`."""
        counts = {kind: self._counts[kind] for kind in DAMAGES if self._counts[kind]}
        return Report(
            problems=tuple(self._problems),
            counts=MappingProxyType(counts),
            left=self._left,
            records=self.records,
            refreshed=self.refreshed,
            quarantined=quarantined,
        )


def together(report: Report, other: Report, beside: str) -> Report:
    """Return a report with what was found in the store of this name beside."""
    counts = Counter(report.counts)
    counts.update(other.counts)
    problems = [
        replace(one, beside=f"{beside}/{one.beside}" if one.beside else beside)
        for one in other.problems
    ]
    return Report(
        problems=(*report.problems, *problems)[:MAX_PROBLEMS],
        counts=MappingProxyType({kind: counts[kind] for kind in DAMAGES if counts[kind]}),
        left=report.left + other.left,
        records=report.records + other.records,
        refreshed=report.refreshed + other.refreshed,
        quarantined=report.quarantined + other.quarantined,
    )
