"""The command `hybrid-memory`: the public API from a shell, and the only use of typer.

What a user can get wrong ends in one line on stderr and exit code 2. The library itself is
imported inside the commands, so that `--help` does not wait for it.
"""

from __future__ import annotations

import getpass
import os
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
    TransferError,
)
from hybrid_memory.protocols import OnConflict
from hybrid_memory.types import Kind

if TYPE_CHECKING:
    from hybrid_memory import HybridMemory, Scope, transfer
    from hybrid_memory.evaluation import Case
    from hybrid_memory.protocols import ChatModel, DocumentStore, RecordStore
    from hybrid_memory.types import Erased
    from hybrid_memory.upkeep import Report

PROBLEMS = 1  # of `check` and `repair`: there are some, or some are left
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
eval_app = typer.Typer(
    help="Measure what a search finds, on your data or public data.", no_args_is_help=True
)
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
    except BrokenPipeError:  # as in `export - | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed on exit
        return 1
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
    with _opened(store, user, session, read) as scope:
        explained = scope.why(
            query,
            id,
            k=k,
            kinds=limits.kinds(kind or None),
            where=terminal.read_json_object(where, "--where", FilterError),
            now=terminal.read_time(now, "--now"),
        )
    if as_json:
        terminal.print_json(terminal.why_as_json(explained))
    else:
        terminal.console().print(terminal.why_table(explained))


@app.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of records.")],
    user: UserOption,
    store: StoreOption = STORE,
) -> None:
    """Delete records."""
    with _opened(store, user) as scope:
        gone = [id for id in ids if scope.delete(id)]
    typer.echo(f"deleted {len(gone)} of {len(ids)}")


@app.command()
def forget(
    user: UserOption,
    store: StoreOption = STORE,
    source: Annotated[str | None, typer.Option("--source", help="Said by, or of, this.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Of this session.")] = None,
    where: WhereOption = None,
) -> None:
    """Delete all records of a source, a session or a filter; `purge` frees the files of them."""
    bound = terminal.read_json_object(where, "--where", FilterError)
    with _opened(store, user) as scope:
        count = scope.forget(source=source, session_id=session, where=bound)
    typer.echo(f"deleted {count}")


ChromaOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--chroma", help="The directory of a ChromaDocumentStore of this store."),
]


@app.command()
def erase(
    user: Annotated[str, typer.Option("--user", help="Whose memory; to be named each time.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really.")] = False,
    store: StoreOption = STORE,
    chroma: ChromaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all of a user, for good, from all files; exit code 1 if something was in the way."""
    from hybrid_memory import upkeep

    namespace = limits.namespace((user,))
    with _opened_store(store) as opened, _opened_documents(chroma) as documents:
        if not yes:
            count = opened.stats(namespace).total
            raise InvalidInputError(
                f"this removes {count} records of user {user!r}, for good; to do so, add --yes"
            )
        erased = upkeep.erase(opened, namespace, documents=documents)
    _erased(erased, as_json=as_json)


@app.command()
def purge(
    store: StoreOption = STORE, chroma: ChromaOption = None, as_json: JsonOption = False
) -> None:
    """Remove from the files what was deleted before; exit code 1 if something was in the way."""
    from hybrid_memory import upkeep

    with _opened_store(store) as opened, _opened_documents(chroma) as documents:
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


@contextmanager
def _opened_documents(path: Path | None) -> Iterator[DocumentStore | None]:
    if path is None:
        yield None
        return
    from hybrid_memory.backends.chroma import ChromaDocumentStore

    if not path.is_dir():
        raise StorePathError(f"there is no Chroma database at {path}")
    documents = ChromaDocumentStore(path)
    try:
        yield documents
    finally:
        documents.close()


@app.command()
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
        kinds=limits.kinds(kind or None),
    )
    moment = terminal.read_time(now, "--now")
    with _opened(store, user) as scope:
        pruned = scope.prune(policy, dry_run=not yes, now=moment)
    if as_json:
        terminal.print_json(terminal.pruned_as_json(pruned))
    else:
        if pruned.victims:
            terminal.console().print(terminal.pruned_table(pruned))
        typer.echo(terminal.pruned_line(pruned))


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


OnlyUserOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--user", help="Only this user's memory.", show_default="everyone's"),
]


@app.command()
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

    namespaces = None if user is None else [limits.namespace((user,))]
    with _opened_store(store) as opened, terminal.progress("exporting") as bar:
        target = sys.stdout.buffer if path == "-" else path
        count = transfer.save(
            opened, target, namespaces=namespaces, vectors=vectors, on_progress=bar
        )
    if as_json and path != "-":
        terminal.print_json({"records": count})
    else:
        typer.echo(f"{count} records", err=path == "-")


@app.command("import")
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
    namespace = None if user is None else limits.namespace((user,))
    with _opened_memory(store, create=True) as memory, terminal.progress("importing") as bar:
        imported = memory.import_(
            given, namespace=namespace, on_conflict=on_conflict, on_progress=bar
        )
    counts = {name: getattr(imported, name) for name in imported.__dataclass_fields__}
    if as_json:
        terminal.print_json(counts)
    else:
        names = (f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        typer.echo(", ".join(names))


def _import_source(path: Path, origin: str, collection: str | None) -> transfer.Origin:
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


@app.command()
def backup(
    path: Annotated[Path, typer.Argument(help="A new directory.")], store: StoreOption = STORE
) -> None:
    """Copy the store while others may write; the copy can be opened like any store."""
    with _opened_store(store) as opened, terminal.progress("copying") as bar:
        opened.backup(path, on_progress=bar)
    typer.echo(path)


@app.command()
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
    with _opened_memory(store) as memory, terminal.progress("checking") as bar:
        report = memory.check(quick=quick, vectors=vectors, on_progress=bar)
    _reported(report, as_json=as_json)


@app.command()
def repair(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Make anew what is derived, and move damaged records away; exit code 1 if damage is left."""
    with _opened_memory(store) as memory, terminal.progress("repairing") as bar:
        report = memory.repair(on_progress=bar)
    _reported(report, as_json=as_json)


def _reported(report: Report, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(terminal.report_as_json(report))
    else:
        if report.problems:
            terminal.console().print(terminal.problems_table(report.problems))
        typer.echo(terminal.report_line(report))
    if not report.is_clean:
        raise typer.Exit(PROBLEMS)


DataFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="The JSON data file.")]
CompareOption: TypeAlias = Annotated[
    bool, typer.Option("--compare", help="Put stock retrieval beside it.")
]
ExplainOption: TypeAlias = Annotated[
    int, typer.Option("--explain", metavar="N", min=0, help="Show the N worst misses, with texts.")
]


@eval_app.command()
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


@eval_app.command()
def locomo(
    file: DataFile,
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Conversations of two people, in the format of LoCoMo."""
    from hybrid_memory.evaluation import load_locomo

    _evaluate(load_locomo(file), compare=compare, explain=explain, as_json=as_json)


@eval_app.command()
def longmemeval(
    file: DataFile,
    compare: CompareOption = False,
    explain: ExplainOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Questions about many sessions, in the format of LongMemEval."""
    from hybrid_memory.evaluation import load_longmemeval

    _evaluate(load_longmemeval(file), compare=compare, explain=explain, as_json=as_json)


@eval_app.command()
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
    """Open the store for a user."""
    with _opened_memory(store, create=create, llm=llm) as memory:
        yield memory.scope(user_id=user, session_id=session, read=[(name,) for name in read or ()])


@contextmanager
def _opened_memory(
    store: Path, *, create: bool = False, llm: ChatModel | None = None
) -> Iterator[HybridMemory]:
    """Open the store; only `create` makes one, so that a misspelt path is noticed."""
    from hybrid_memory import HybridMemory

    if not create:
        _check_there(store)
    with HybridMemory.open(store, llm=llm) as memory:
        yield memory


@contextmanager
def _opened_store(store: Path) -> Iterator[RecordStore]:
    """Open the records alone: a way out needs no model, whichever they were written with."""
    from hybrid_memory.backends.sql import SQLRecordStore

    _check_there(store)
    opened = SQLRecordStore.open(store)
    try:
        yield opened
    finally:
        opened.close()


def _check_there(store: Path) -> None:
    from hybrid_memory.backends.sql.connections import FILE_NAME

    if not store.is_file() and not (store / FILE_NAME).exists():
        raise StorePathError(
            f"there is no store at {store}; name one with --store or HYBRID_MEMORY_STORE, "
            "or make it with hybrid-memory add"
        )


def _model() -> ChatModel:
    from hybrid_memory.backends.openai import OpenAIChat

    try:
        return OpenAIChat()
    except ChatModelNotConfiguredError as error:
        raise ChatModelNotConfiguredError(
            "no chat model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own; "
            "OPENAI_MODEL names the model"
        ) from error
