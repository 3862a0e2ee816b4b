"""What the product finds, beside stock retrieval, on every data set at hand, as Markdown.

Run: python -m benchmarks.recall [FILE ...] [--locomo FILE] [--longmemeval FILE] [--beir FOLDER]
                                 [--docs FOLDER] [--ablate] [--json PATH]

Files are in the format of `hybrid-memory eval pairs`, by default those of benchmarks/data; a folder
of documents has a `corpus.py` and a `questions.json`. The exit code is 1 if the product is worse
than dense retrieval anywhere, beyond the noise.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from benchmarks.common import machine
from hybrid_memory.backends.onnx import MiniLMEmbedder
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.evaluation import (
    HEADLINES,
    PRODUCT,
    RIGHT_FIRST,
    CachedEmbedder,
    Case,
    Comparison,
    Question,
    Report,
    ablate,
    answerability,
    compare,
    documents_case,
    evaluate,
    load_beir,
    load_locomo,
    load_longmemeval,
    load_pairs,
    temporary_memory,
)

DATA = Path(__file__).parent / "data"

Rows = list[list[str]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found on one data set; `without` has a report for each weight set to 0."""

    name: str
    cases: Sequence[Case]
    comparison: Comparison
    answerability: float | None
    without: Mapping[str, Report]

    @property
    def product(self) -> Report:
        return self.comparison.reports[PRODUCT]


def load_docs(folder: Path) -> list[Case]:
    """Return the case of a corpus that a program makes, and of questions about it."""
    corpus = runpy.run_path(str(folder / "corpus.py"))["stdlib_corpus"]()
    content = (folder / "questions.json").read_bytes()
    questions = [
        Question(one["question"], tuple(one["evidence"]), one["category"])
        for one in json.loads(content)
    ]
    # The corpus is not the same in every version of Python.
    digest = sha256(json.dumps(corpus).encode() + content).hexdigest()
    return [replace(documents_case(folder.name, corpus, questions), sha256=digest)]


def data_sets(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Case]]]:
    """Yield the name and the cases of each data set."""
    for path in arguments.files or sorted(DATA.glob("*.json")):
        yield path.stem, load_pairs(path)
    for folder in arguments.docs or [DATA / "docs"]:
        if arguments.docs or (folder.exists() and not arguments.files):
            yield folder.name, load_docs(folder)
    loaders = {"locomo": load_locomo, "longmemeval": load_longmemeval, "beir": load_beir}
    for option, load in loaders.items():
        for path in getattr(arguments, option):
            yield path.stem, load(path)


def measure(name: str, cases: list[Case], *, embedder: CachedEmbedder, ablated: bool) -> Measured:
    started = time.perf_counter()
    with temporary_memory(embedder) as memory:
        report = evaluate(cases, memory=memory)
        measured = Measured(
            name=name,
            cases=cases,
            comparison=compare(cases, report, memory=memory),
            answerability=answerability(cases, memory=memory),
            without=dict(ablate(cases, memory=memory)) if ablated else {},
        )
    print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return measured


def comparison_rows(found: Sequence[Measured]) -> Rows:
    """Return a row for each data set and category: `recall@10 / t1000 / ndcg@10` of each system."""
    systems = list(found[0].comparison.reports)
    deltas = [f"product - dense, {metric}" for metric in HEADLINES]
    rows = [["data set", "category", "n", *systems, *deltas, ""]]
    for one in found:
        worse = one.comparison.worse
        for category in one.comparison.categories:
            marks = [mark.metric for mark in worse if mark.category == category]
            differences = [one.comparison.difference(m, category) for m in HEADLINES]
            rows.append(
                [
                    one.name,
                    category or "**all**",
                    str(differences[0].questions),
                    *map(_headlines, one.comparison.overall(category).values()),
                    *map(str, differences),
                    f"**worse than dense** in {', '.join(marks)}" if marks else "",
                ]
            )
    return rows


def updates_rows(found: Sequence[Measured]) -> Rows:
    """Return how often the evidence ranks above the other version, for data sets that have one."""
    rows = [["data set", "category", "n", *found[0].comparison.reports, "product - dense"]]
    for one in found:
        for category in one.comparison.categories:
            if RIGHT_FIRST in one.comparison.headlines(category):
                means = one.comparison.overall(category).values()
                difference = one.comparison.difference(RIGHT_FIRST, category)
                shares = [f"{100 * mean[RIGHT_FIRST]:.1f}" for mean in means]
                name, n = category or "**all**", str(difference.questions)
                rows.append([one.name, name, n, *shares, str(difference)])
    return rows


def ablation_rows(found: Sequence[Measured]) -> Rows:
    """Return the headlines, then what setting a weight to 0 changes in them, if anything."""
    rows = [["without", *(one.name for one in found)]]
    rows.append(["nothing", *(_headlines(one.product.overall) for one in found)])
    idle = []
    for weight in found[0].without:
        changes = [_change(one.without[weight], one.product) for one in found]
        if any(value for change in changes for value in change.values()):
            rows.append([weight, *(_headlines(change, sign="+") for change in changes)])
        else:
            idle.append(weight)
    no_change = _headlines(dict.fromkeys(HEADLINES, 0.0), sign="+")
    return [*rows, [", ".join(idle), *([no_change] * len(found))]] if idle else rows


def _change(report: Report, other: Report) -> dict[str, float]:
    ours, theirs = report.overall, other.overall
    return {metric: ours[metric] - theirs[metric] for metric in HEADLINES}


def _headlines(values: Mapping[str, float], *, sign: str = "-") -> str:
    return " / ".join(f"{100 * values[metric]:{sign}z.1f}" for metric in HEADLINES)


def disclosure_rows(found: Sequence[Measured]) -> Rows:
    """Return what a figure has to disclose of each data set."""
    rows = [["data set", "cases", "turns", "n", "drawn", "AUROC", "search p50 / p95, ms", "sha256"]]
    for one in found:
        report = one.product
        rows.append(
            [
                one.name,
                str(len(report.by("case"))),
                str(report.turns),
                str(len(report.results)),
                one.comparison.difference(HEADLINES[0]).drawn,
                "-" if one.answerability is None else f"{one.answerability:.3f}",
                f"{report.search_ms(50):.1f} / {report.search_ms(95):.1f}",
                " ".join(digest[:12] for digest in report.sha256),
            ]
        )
    return rows


def markdown(rows: Rows) -> str:
    header, *lines = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *lines])


def main() -> int:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="pairs (all of ours)")
    for option, metavar in [("locomo", "FILE"), ("longmemeval", "FILE"), ("beir", "FOLDER")]:
        parser.add_argument(f"--{option}", type=Path, metavar=metavar, action="append", default=[])
    parser.add_argument("--docs", type=Path, metavar="FOLDER", action="append", default=[])
    parser.add_argument("--ablate", action="store_true", help="set each weight to 0, one by one")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    arguments = parser.parse_args()
    embedder = CachedEmbedder(MiniLMEmbedder(), keep_questions=True)
    try:
        found = [
            measure(name, cases, embedder=embedder, ablated=arguments.ablate)
            for name, cases in data_sets(arguments)
        ]
    except InvalidInputError as error:
        parser.error(str(error))
    if not found:
        parser.error(f"no data set in {DATA}, and none is given")

    print(f"{machine()}; {found[0].product.embedder}; {dict(found[0].product.weights)}\n")
    print(f"Each cell: {' / '.join(HEADLINES)}, in percent; differences in points [95 %].\n")
    print(markdown(comparison_rows(found)), end="\n\n")
    if len(updates := updates_rows(found)) > 1:
        print(f"The evidence above the other version, in percent.\n\n{markdown(updates)}\n")
    if arguments.ablate:
        print(f"Change without a signal, in points.\n\n{markdown(ablation_rows(found))}\n")
    print(
        "AUROC: how well the best hit's relevance tells a case's own questions from those of the "
        "next case. Searches are timed without embedding the question.\n"
    )
    print(markdown(disclosure_rows(found)))
    if arguments.json is not None:
        figures = {
            one.name: {
                "report": one.product.as_dict(),
                "comparison": one.comparison.as_dict(),
                "answerability": one.answerability,
                "without": {name: report.overall for name, report in one.without.items()},
            }
            for one in found
        }
        arguments.json.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    return int(any(one.comparison.worse for one in found))


if __name__ == "__main__":
    sys.exit(main())
