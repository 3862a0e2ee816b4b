"""The command `hybrid-memory`: the public API from a shell, and the only use of typer.

What a user can get wrong ends in one line on stderr and exit code 2. The library itself is
imported inside the commands, so that `--help` does not wait for it.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from hybrid_memory import __version__, limits, terminal
from hybrid_memory.errors import (
    ChatModelNotConfiguredError,
    FilterError,
    HybridMemoryError,
    InvalidInputError,
    MetadataError,
    StorePathError,
)
from hybrid_memory.types import Kind

if TYPE_CHECKING:
    from hybrid_memory import Scope
    from hybrid_memory.evaluation import Case
    from hybrid_memory.protocols import ChatModel

USER_ERROR = 2
INTERRUPTED = 130  # what a shell gives for Ctrl-C

Form: TypeAlias = Literal["system", "messages", "json"]

app = typer.Typer(
    name="hybrid-memory",
    help="A memory for LLM applications: add, search, pack into a prompt, ask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
eval_app = typer.Typer(help="Measure what a search finds on public data.", no_args_is_help=True)
app.add_typer(eval_app, name="eval")


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

STORE = Path("memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `arguments` default to the process's own."""
    command = typer.main.get_command(app)
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        code = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="hybrid-memory",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except HybridMemoryError as error:
        return _fail(str(error))
    except usage_error as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "hybrid-memory"
        message = error.format_message()  # type: ignore[attr-defined]
        return _fail(f"{message.rstrip('.')}; see {path} --help") if message else USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print("hybrid-memory:", " ".join(terminal.plain(message).split()), file=sys.stderr)
    return USER_ERROR


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hybrid-memory {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Keep the store here.", show_default="a temporary directory"),
    ] = None,
    docs: Annotated[
        list[Path] | None,
        typer.Option(
            "--docs", help="A file or folder to learn; repeatable.", show_default="README"
        ),
    ] = None,
) -> None:
    """Remember six sessions and a folder, then ask about them from a new process."""
    from hybrid_memory.demo.run import demo as run

    raise typer.Exit(run(store, docs or ()))


@app.command()
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
    with _opened(store, user, session, create=True) as scope:
        record = scope.add(text, kind=kind, speaker=speaker, at=happened, id=id, metadata=about)
    if as_json:
        terminal.print_json(terminal.record_as_json(record))
    else:
        typer.echo(record.id)


@app.command()
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
    with _opened(store, user, session, create=True) as scope, terminal.progress("learning") as bar:
        records = scope.add_documents(paths, metadata=about, on_progress=bar)
    sources = list(dict.fromkeys(record.source for record in records))
    if as_json:
        terminal.print_json({"chunks": len(records), "sources": sources})
    else:
        typer.echo(f"{len(records)} chunks of {len(sources)} files")


@app.command()
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
    with _opened(store, user, session, read) as scope:
        hits = scope.search(
            query,
            k=k,
            kinds=limits.kinds(kind or None),
            where=terminal.read_json_object(where, "--where", FilterError),
            now=terminal.read_time(now, "--now"),
        )
    if as_json:
        terminal.print_json([terminal.hit_as_json(hit) for hit in hits])
    elif hits:
        terminal.console().print(terminal.hits_table(hits))
    else:
        typer.echo(f"nothing found for user {user!r} in {store}", err=True)


@app.command()
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
    with _opened(store, user, session, read) as scope:
        packed = scope.context(
            query,
            max_tokens=max_tokens,
            kinds=limits.kinds(kind or None),
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


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask the model.")],
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    max_tokens: TokensOption = 1000,
    now: NowOption = None,
    gate: GateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model that is given the memory, and remember the question and the answer."""
    on_token = None if as_json else terminal.print_piece
    asked, allowed = terminal.read_time(now, "--now"), terminal.read_gate(gate)
    with _opened(store, user, session, read, create=True, llm=_model()) as scope:
        answer = scope.ask(
            question, max_tokens=max_tokens, now=asked, gate=allowed, on_token=on_token
        )
    if as_json:
        terminal.print_json(terminal.answer_as_json(answer))
    else:
        typer.echo()


@app.command()
def chat(
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    max_tokens: TokensOption = 1000,
) -> None:
    """Talk with a model that remembers; an empty line or Ctrl-D ends it."""
    session = session or f"chat-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with _opened(store, user, session, read, create=True, llm=_model()) as scope:
        for question in terminal.questions():
            scope.ask(question, max_tokens=max_tokens, on_token=terminal.print_piece)
            typer.echo()


@app.command()
def stats(user: UserOption, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Count what is remembered."""
    with _opened(store, user) as scope:
        found = scope.stats()
    if as_json:
        terminal.print_json(terminal.stats_as_json(found))
    else:
        terminal.console().print(terminal.stats_table(found))


DataFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="The JSON data file.")]


@eval_app.command()
def locomo(file: DataFile, as_json: JsonOption = False) -> None:
    """Conversations of two people, in the format of LoCoMo."""
    from hybrid_memory.evaluation import load_locomo

    _evaluate(load_locomo(file), as_json=as_json)


@eval_app.command()
def longmemeval(file: DataFile, as_json: JsonOption = False) -> None:
    """Questions about many sessions, in the format of LongMemEval."""
    from hybrid_memory.evaluation import load_longmemeval

    _evaluate(load_longmemeval(file), as_json=as_json)


def _evaluate(cases: Sequence[Case], *, as_json: bool) -> None:
    from hybrid_memory.evaluation import evaluate, temporary_memory

    with temporary_memory() as memory, terminal.progress("evaluating") as bar:
        report = evaluate(cases, memory=memory, on_progress=bar)
    if as_json:
        terminal.print_json(report.as_dict())
        return
    header, *lines = report.rows()
    # Categories as columns: there are more metrics than a terminal has room for beside another.
    terminal.console().print(terminal.table(list(zip(header, *lines, strict=True))))


@contextmanager
def _opened(
    store: Path,
    user: str,
    session: str | None = None,
    read: Sequence[str] | None = None,
    *,
    create: bool = False,
    llm: ChatModel | None = None,
) -> Iterator[Scope]:
    """Open the store for a user; only `create` makes one, so that a misspelt path is noticed."""
    from hybrid_memory import HybridMemory
    from hybrid_memory.backends.sql.store import FILE_NAME

    if not create and not store.is_file() and not (store / FILE_NAME).exists():
        raise StorePathError(
            f"there is no store at {store}; name one with --store or HYBRID_MEMORY_STORE, "
            "or make it with hybrid-memory add"
        )
    with HybridMemory.open(store, llm=llm) as memory:
        yield memory.scope(user_id=user, session_id=session, read=[(name,) for name in read or ()])


def _model() -> ChatModel:
    from hybrid_memory.backends.openai import OpenAIChat

    try:
        return OpenAIChat()
    except ChatModelNotConfiguredError as error:
        raise ChatModelNotConfiguredError(
            "no chat model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own; "
            "OPENAI_MODEL names the model"
        ) from error
