"""The command and the table of its subcommands; what a user got wrong, in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hybrid_memory import __version__, terminal
from hybrid_memory.cli import (
    answering,
    carrying,
    checking,
    evaluating,
    forgetting,
    recalling,
    remembering,
)
from hybrid_memory.errors import HybridMemoryError

USER_ERROR = 2
INTERRUPTED = 130  # what a shell gives for Ctrl-C

app = typer.Typer(
    name="hybrid-memory",
    help="A memory for LLM applications: add, search, pack into a prompt, ask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


# In the order of `--help`.
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "add": remembering.add,
    "learn": remembering.learn,
    "search": recalling.search,
    "why": recalling.why,
    "delete": forgetting.delete,
    "forget": forgetting.forget,
    "erase": forgetting.erase,
    "purge": forgetting.purge,
    "prune": forgetting.prune,
    "context": recalling.context,
    "ask": answering.ask,
    "chat": answering.chat,
    "stats": recalling.stats,
    "export": carrying.export,
    "import": carrying.import_,
    "backup": carrying.backup,
    "check": checking.check,
    "repair": checking.repair,
    "reembed": checking.reembed,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(evaluating.app, name="eval")
