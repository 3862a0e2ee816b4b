"""The commands that read: what is found, why, what goes into a prompt, and how much there is."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_scope
from hybrid_memory.cli.options import (
    STORE,
    GateOption,
    JsonOption,
    KindOption,
    NowOption,
    ReadOption,
    SessionOption,
    StoreOption,
    TokensOption,
    UserOption,
    WhereOption,
    kinds_of,
)
from hybrid_memory.errors import FilterError

Form: TypeAlias = Literal["system", "messages", "json"]


def search(
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    k: Annotated[int, typer.Option("--k", help="How many hits.")] = 10,
    kind: KindOption = None,
    where: WhereOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is remembered; the signals of a hit add up to its score."""
    with opened_scope(store, user, session, read) as scope:
        hits = scope.search(
            query,
            k=k,
            kinds=kinds_of(kind),
            where=terminal.read_json_object(where, "--where", FilterError),
            now=terminal.read_time(now, "--now"),
        )
    if as_json:
        terminal.print_json([terminal.hit_as_json(hit) for hit in hits])
    elif hits:
        terminal.console().print(terminal.hits_table(hits))
    else:
        typer.echo(f"nothing found for user {user!r} in {store}", err=True)


def why(
    query: Annotated[str, typer.Argument(help="The question.")],
    id: Annotated[str, typer.Argument(help="The id of a record; `search --json` shows them.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    k: Annotated[int, typer.Option("--k", help="How many hits the search asks for.")] = 10,
    kind: KindOption = None,
    where: WhereOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a question finds a record, or why it does not."""
    with opened_scope(store, user, session, read) as scope:
        explained = scope.why(
            query,
            id,
            k=k,
            kinds=kinds_of(kind),
            where=terminal.read_json_object(where, "--where", FilterError),
            now=terminal.read_time(now, "--now"),
        )
    if as_json:
        terminal.print_json(terminal.why_as_json(explained))
    else:
        terminal.console().print(terminal.why_table(explained))


def context(
    query: Annotated[str, typer.Argument(help="The question the context is for.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    max_tokens: TokensOption = 1000,
    kind: KindOption = None,
    where: WhereOption = None,
    now: NowOption = None,
    gate: GateOption = None,
    form: Annotated[Form, typer.Option("--format", help="Its form.")] = "system",
    as_json: JsonOption = False,
) -> None:
    """Pack what is remembered into a token budget, ready for a prompt."""
    with opened_scope(store, user, session, read) as scope:
        packed = scope.context(
            query,
            max_tokens=max_tokens,
            kinds=kinds_of(kind),
            where=terminal.read_json_object(where, "--where", FilterError),
            now=terminal.read_time(now, "--now"),
            gate=terminal.read_gate(gate),
        )
    if as_json or form == "json":
        terminal.print_json(packed.as_json())
    elif form == "messages":
        terminal.print_json(packed.as_messages())
    else:
        terminal.print_text(packed.as_system_prompt())


def stats(user: UserOption, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Count what is remembered."""
    with opened_scope(store, user) as scope:
        found = scope.stats()
    if as_json:
        terminal.print_json(terminal.stats_as_json(found))
    else:
        terminal.console().print(terminal.stats_table(found))
