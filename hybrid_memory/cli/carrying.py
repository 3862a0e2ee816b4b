"""The commands that carry a memory elsewhere: `export`, `import` and `backup`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_memory, opened_store
from hybrid_memory.cli.options import STORE, JsonOption, StoreOption, namespace_of
from hybrid_memory.errors import TransferError
from hybrid_memory.types import OnConflict, Origin

OnlyUserOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--user", help="Only this user's memory.", show_default="everyone's"),
]


def export(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file; - writes to stdout.")],
    store: StoreOption = STORE,
    user: OnlyUserOption = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With vectors, so that an import is quick.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all that is remembered as JSON Lines."""
    from hybrid_memory import transfer

    namespaces = None if user is None else [namespace_of(user)]
    with opened_store(store) as opened, terminal.progress("exporting") as bar:
        target = sys.stdout.buffer if path == "-" else path
        count = transfer.save(
            opened, target, namespaces=namespaces, vectors=vectors, on_progress=bar
        )
    if as_json and path != "-":
        terminal.print_json({"records": count})
    else:
        typer.echo(f"{count} records", err=path == "-")


def import_(
    path: Annotated[
        Path, typer.Argument(help="An export (- is stdin), or what another library wrote.")
    ],
    store: StoreOption = STORE,
    origin: Annotated[
        Literal["hybrid", "mem0", "langgraph", "chroma"],
        typer.Option("--from", help="Which library wrote it."),
    ] = "hybrid",
    user: Annotated[
        str | None,
        typer.Option("--user", help="Import into this user's memory.", show_default="as the file"),
    ] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", help="Of Chroma, if it has more than one.")
    ] = None,
    on_conflict: Annotated[
        OnConflict, typer.Option("--on-conflict", help="If an id is there with other content.")
    ] = "error",
    as_json: JsonOption = False,
) -> None:
    """Remember what was exported, or what another library remembered; again changes nothing."""
    given = _import_source(path, origin, collection)
    namespace = None if user is None else namespace_of(user)
    with opened_memory(store, create=True) as memory, terminal.progress("importing") as bar:
        imported = memory.import_(
            given, namespace=namespace, on_conflict=on_conflict, on_progress=bar
        )
    counts = {name: getattr(imported, name) for name in imported.__dataclass_fields__}
    if as_json:
        terminal.print_json(counts)
    else:
        names = (f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        typer.echo(", ".join(names))


def _import_source(path: Path, origin: str, collection: str | None) -> Origin:
    if str(path) == "-" and origin == "hybrid":
        return sys.stdin.buffer
    if not path.exists():  # before a store is made
        raise TransferError(f"there is no file at {path}")
    if origin == "mem0":
        from hybrid_memory.backends import mem0

        return mem0.items(path)
    if origin == "langgraph":
        from hybrid_memory.backends import langgraph

        return langgraph.items(path)
    if origin == "chroma":
        from hybrid_memory.backends import chroma

        return chroma.items(path, collection=collection)
    return path


def backup(
    path: Annotated[Path, typer.Argument(help="A new directory.")], store: StoreOption = STORE
) -> None:
    """Copy the store while others may write; the copy can be opened like any store."""
    with opened_store(store) as opened, terminal.progress("copying") as bar:
        opened.backup(path, on_progress=bar)
    typer.echo(path)
