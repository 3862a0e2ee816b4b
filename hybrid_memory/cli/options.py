"""The options that several commands share: the types of their arguments, and what they mean."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from hybrid_memory.errors import InvalidInputError

if TYPE_CHECKING:
    from hybrid_memory.types import Kind, Namespace

STORE = Path("memory")
PROBLEMS = 1  # of commands that look or clean up: there are some, or some are left


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a container without a passwd entry
        raise InvalidInputError("this login has no name; name the user with --user") from error


StoreOption: TypeAlias = Annotated[
    Path, typer.Option("--store", envvar="HYBRID_MEMORY_STORE", help="Directory of the store.")
]
UserOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--user",
        envvar="HYBRID_MEMORY_USER",
        help="Whose memory; what is in one is invisible from another.",
        show_default="the login name",
        default_factory=_login_name,
    ),
]
SessionOption: TypeAlias = Annotated[
    str | None, typer.Option("--session", help="The conversation this belongs to.")
]
ReadOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--read", metavar="USER", help="Another user to read from too; repeatable."),
]
KindOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Only records of this kind; repeatable."),
]
WhereOption: TypeAlias = Annotated[
    str | None, typer.Option("--where", metavar="JSON", help="""A filter: '{"city": "Lyon"}'.""")
]
MetadataOption: TypeAlias = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="""'{"city": "Lyon"}'.""")
]
NowOption: TypeAlias = Annotated[
    str | None, typer.Option("--now", metavar="TIME", help="When it is asked; with a zone.")
]
GateOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--gate", metavar="JSON", help="""'{"memory_allowed": false}' leaves it out."""),
]
TokensOption: TypeAlias = Annotated[
    int, typer.Option("--max-tokens", help="Token budget of the context.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


ChromaOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--chroma", help="The directory of a ChromaDocumentStore of this store."),
]


def kinds_of(given: list[str] | None) -> frozenset[Kind] | None:
    """Return the kinds that are wanted, None for all."""
    from hybrid_memory import limits

    return limits.kinds(given or None)


def namespace_of(user: str) -> Namespace:
    """Return the namespace of a user."""
    from hybrid_memory import limits

    return limits.namespace((user,))
