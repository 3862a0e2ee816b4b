"""The commands that write: `add` and `learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_scope
from hybrid_memory.cli.options import (
    STORE,
    JsonOption,
    MetadataOption,
    SessionOption,
    StoreOption,
    UserOption,
)
from hybrid_memory.errors import InvalidInputError, MetadataError
from hybrid_memory.types import Kind


def add(
    text: Annotated[str, typer.Argument(help="What to remember; - reads it from stdin.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    kind: Annotated[Kind, typer.Option("--kind", help="What it is.")] = "message",
    speaker: Annotated[str | None, typer.Option("--speaker", help="Who said it.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When it happened; with a zone.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", help="Add it under this id, once.")] = None,
    metadata: MetadataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remember one text and print its id."""
    if kind == "document":
        raise InvalidInputError("documents come from files: use hybrid-memory learn PATH")
    happened = terminal.read_time(at, "--at")
    about = terminal.read_json_object(metadata, "--metadata", MetadataError)
    text = terminal.read_stdin() if text == "-" else text
    with opened_scope(store, user, session, create=True) as scope:
        record = scope.add(text, kind=kind, speaker=speaker, at=happened, id=id, metadata=about)
    if as_json:
        terminal.print_json(terminal.record_as_json(record))
    else:
        typer.echo(record.id)


def learn(
    paths: Annotated[list[Path], typer.Argument(help="Files (.txt .md .pdf) and folders.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    metadata: MetadataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remember documents, cut into chunks."""
    about = terminal.read_json_object(metadata, "--metadata", MetadataError)
    with (
        opened_scope(store, user, session, create=True) as scope,
        terminal.progress("learning") as bar,
    ):
        records = scope.add_documents(paths, metadata=about, on_progress=bar)
    sources = list(dict.fromkeys(record.source for record in records))
    if as_json:
        terminal.print_json({"chunks": len(records), "sources": sources})
    else:
        typer.echo(f"{len(records)} chunks of {len(sources)} files")
