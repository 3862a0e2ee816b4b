"""The commands that measure what a search finds: `eval pairs`, `eval locomo` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.options import JsonOption

if TYPE_CHECKING:
    from hybrid_memory.evaluation import Case

app = typer.Typer(
    help="Measure what a search finds, on your data or public data.", no_args_is_help=True
)


DataFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="The JSON data file.")]
CompareOption: TypeAlias = Annotated[
    bool, typer.Option("--compare", help="Put stock retrieval beside it.")
]
ExplainOption: TypeAlias = Annotated[
    int, typer.Option("--explain", metavar="N", min=0, help="Show the N worst misses, with texts.")
]


@app.command()
def pairs(
    file: DataFile,
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Memories and questions of your own: does it find what your users ask?

    A case is {"memories": [{"id": "m1", "text": "I moved to Lyon."}], "questions": [{"question":
    "Where do I live?", "evidence": ["m1"]}]}; the file has one, or a list of them.
    """
    from hybrid_memory.evaluation import load_pairs

    _evaluate(load_pairs(file), compare=compare, explain=explain, as_json=as_json)


@app.command()
def locomo(
    file: DataFile,
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Conversations of two people, in the format of LoCoMo."""
    from hybrid_memory.evaluation import load_locomo

    _evaluate(load_locomo(file), compare=compare, explain=explain, as_json=as_json)


@app.command()
def longmemeval(
    file: DataFile,
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Questions about many sessions, in the format of LongMemEval."""
    from hybrid_memory.evaluation import load_longmemeval

    _evaluate(load_longmemeval(file), compare=compare, explain=explain, as_json=as_json)


@app.command()
def beir(
    folder: Annotated[Path, typer.Argument(help="With corpus.jsonl, queries.jsonl and qrels.")],
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Documents and queries, in the layout of BEIR."""
    from hybrid_memory.evaluation import load_beir

    _evaluate(load_beir(folder), compare=compare, explain=explain, as_json=as_json)


def _evaluate(cases: Sequence[Case], *, compare: bool, explain: int, as_json: bool) -> None:
    from hybrid_memory import evaluation

    with evaluation.temporary_memory() as memory, terminal.progress("evaluating") as bar:
        report = evaluation.evaluate(cases, memory=memory, on_progress=bar)
        beside = missed = None
        if compare:
            beside = evaluation.compare(cases, report, memory=memory, on_progress=bar)
        if explain:
            missed = evaluation.misses(cases, report, memory=memory, count=explain)
    if as_json:
        values = report.as_dict()
        if beside is not None:
            values["comparison"] = beside.as_dict()
        if missed is not None:
            values["misses"] = [terminal.miss_as_json(miss) for miss in missed]
        terminal.print_json(values)
        return
    console = terminal.console()
    if beside is None:
        header, *lines = report.rows()
        # Categories as columns: there are more metrics than a terminal has room for.
        console.print(terminal.table(list(zip(header, *lines, strict=True))))
    else:
        console.print(terminal.table(beside.rows()))
        console.print(beside.note)
    for miss in missed or ():
        console.print(terminal.miss(miss))
