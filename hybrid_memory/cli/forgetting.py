"""The commands that remove: one record, what a bound or a policy names, a user, what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_documents, opened_scope, opened_store
from hybrid_memory.cli.options import (
    PROBLEMS,
    STORE,
    ChromaOption,
    JsonOption,
    KindOption,
    NowOption,
    StoreOption,
    UserOption,
    WhereOption,
    kinds_of,
    namespace_of,
)
from hybrid_memory.errors import FilterError, InvalidInputError

if TYPE_CHECKING:
    from hybrid_memory.types import Erased


def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of records.")],
    user: UserOption,
    store: StoreOption = STORE,
) -> None:
    """Delete records."""
    with opened_scope(store, user) as scope:
        gone = [id for id in ids if scope.delete(id)]
    typer.echo(f"deleted {len(gone)} of {len(ids)}")


def forget(
    user: UserOption,
    store: StoreOption = STORE,
    source: Annotated[str | None, typer.Option("--source", help="Said by, or of, this.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Of this session.")] = None,
    where: WhereOption = None,
) -> None:
    """Delete all records of a source, a session or a filter; `purge` frees the files of them."""
    bound = terminal.read_json_object(where, "--where", FilterError)
    with opened_scope(store, user) as scope:
        count = scope.forget(source=source, session_id=session, where=bound)
    typer.echo(f"deleted {count}")


def erase(
    user: Annotated[str, typer.Option("--user", help="Whose memory; to be named each time.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really.")] = False,
    store: StoreOption = STORE,
    chroma: ChromaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all of a user, for good, from all files; exit code 1 if something was in the way."""
    from hybrid_memory import upkeep

    namespace = namespace_of(user)
    with opened_store(store) as opened, opened_documents(chroma) as documents:
        if not yes:
            count = upkeep.count(opened, namespace)
            raise InvalidInputError(
                f"this removes {count} records of user {user!r}, for good; to do so, add --yes"
            )
        erased = upkeep.erase(opened, namespace, documents=documents)
    _erased(erased, as_json=as_json)


def purge(
    store: StoreOption = STORE, chroma: ChromaOption = None, as_json: JsonOption = False
) -> None:
    """Remove from the files what was deleted before; exit code 1 if something was in the way."""
    from hybrid_memory import upkeep

    with opened_store(store) as opened, opened_documents(chroma) as documents:
        erased = upkeep.purge(opened, documents=documents)
    _erased(erased, as_json=as_json)


def _erased(erased: Erased, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(terminal.erased_as_json(erased))
    else:
        for line in terminal.erased_lines(erased):
            typer.echo(line)
    if not erased.is_complete:
        raise typer.Exit(PROBLEMS)


def prune(
    user: UserOption,
    store: StoreOption = STORE,
    max_records: Annotated[
        int | None, typer.Option("--max-records", help="Keep so many at most.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="Keep so many bytes at most.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="SPAN", help="What happened before: 90d, 12h, 4w."),
    ] = None,
    importance_below: Annotated[
        float | None, typer.Option("--importance-below", help="What is less important, 0 to 1.")
    ] = None,
    kind: KindOption = None,
    now: NowOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only show what.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget what is expired, old, unimportant, or too much; pinned records stay.

    Each bound is on its own: what any of them says goes.
    """
    from hybrid_memory.types import PrunePolicy

    policy = PrunePolicy(
        max_records=max_records,
        max_bytes=max_bytes,
        older_than=terminal.read_span(older_than, "--older-than"),
        importance_below=importance_below,
        kinds=kinds_of(kind),
    )
    moment = terminal.read_time(now, "--now")
    with opened_scope(store, user) as scope:
        pruned = scope.prune(policy, dry_run=not yes, now=moment)
    if as_json:
        terminal.print_json(terminal.pruned_as_json(pruned))
    else:
        if pruned.victims:
            terminal.console().print(terminal.pruned_table(pruned))
        typer.echo(terminal.pruned_line(pruned))
