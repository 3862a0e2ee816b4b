"""The commands that look after a store: `check`, `repair` and `reembed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_memory, opened_store
from hybrid_memory.cli.options import PROBLEMS, STORE, JsonOption, StoreOption

if TYPE_CHECKING:
    from hybrid_memory.upkeep import Report


def check(
    store: StoreOption = STORE,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the structure and what is newest.")
    ] = False,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Encode all texts again; takes long.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for damage in the store; exit code 1 if there is any. Shows ids, never a text."""
    with opened_memory(store) as memory, terminal.progress("checking") as bar:
        report = memory.check(quick=quick, vectors=vectors, on_progress=bar)
    _reported(report, as_json=as_json)


def repair(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Make anew what is derived, and move damaged records away; exit code 1 if damage is left."""
    with opened_memory(store) as memory, terminal.progress("repairing") as bar:
        report = memory.repair(on_progress=bar)
    _reported(report, as_json=as_json)


def reembed(
    store: StoreOption = STORE,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Texts encoded and committed together.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Move a store of another embedding model to the bundled one, while others read and write.

    If it is killed, the same command goes on where it stopped. The former vectors are kept for the
    way back until `purge`.
    """
    from hybrid_memory import upkeep
    from hybrid_memory.backends.onnx import MiniLMEmbedder

    size = upkeep.BATCH if batch_size is None else batch_size
    with opened_store(store) as opened, terminal.progress("encoding") as bar:
        count = upkeep.reembed(opened, MiniLMEmbedder(), batch_size=size, on_progress=bar)
    if as_json:
        terminal.print_json({"encoded": count})
    else:
        typer.echo(f"encoded {count} texts")


def _reported(report: Report, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(terminal.report_as_json(report))
    else:
        if report.problems:
            terminal.console().print(terminal.problems_table(report.problems))
        typer.echo(terminal.report_line(report))
    if not report.is_clean:
        raise typer.Exit(PROBLEMS)
