"""The commands that ask a model: `ask` and `chat`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_memory import terminal
from hybrid_memory.cli.opening import opened_scope
from hybrid_memory.cli.options import (
    STORE,
    GateOption,
    JsonOption,
    NowOption,
    ReadOption,
    SessionOption,
    StoreOption,
    TokensOption,
    UserOption,
)
from hybrid_memory.errors import ChatModelNotConfiguredError

if TYPE_CHECKING:
    from hybrid_memory.protocols import ChatModel


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
    with opened_scope(store, user, session, read, create=True, llm=chat_model()) as scope:
        answer = scope.ask(
            question, max_tokens=max_tokens, now=asked, gate=allowed, on_token=on_token
        )
    if as_json:
        terminal.print_json(terminal.answer_as_json(answer))
    else:
        typer.echo()


def chat(
    user: UserOption,
    store: StoreOption = STORE,
    session: SessionOption = None,
    read: ReadOption = None,
    max_tokens: TokensOption = 1000,
) -> None:
    """Talk with a model that remembers; an empty line or Ctrl-D ends it."""
    session = session or f"chat-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with opened_scope(store, user, session, read, create=True, llm=chat_model()) as scope:
        for question in terminal.questions():
            scope.ask(question, max_tokens=max_tokens, on_token=terminal.print_piece)
            typer.echo()


def chat_model() -> ChatModel:
    from hybrid_memory.backends.openai import OpenAIChat

    try:
        return OpenAIChat()
    except ChatModelNotConfiguredError as error:
        raise ChatModelNotConfiguredError(
            "no chat model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own; "
            "OPENAI_MODEL names the model"
        ) from error
