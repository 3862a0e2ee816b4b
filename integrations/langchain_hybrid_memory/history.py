"""The turns of one session as a chat history, for `RunnableWithMessageHistory`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from hybrid_memory import Record, Scope
from hybrid_memory.errors import InvalidInputError
from langchain_hybrid_memory import messages
from langchain_hybrid_memory.aio import in_thread


class HybridChatMessageHistory(BaseChatMessageHistory):
    """The messages of a scope's session: stored as JSON, each with its time, read as a window.

        RunnableWithMessageHistory(
            chain,
            lambda session_id: HybridChatMessageHistory(
                memory.scope(user_id="ana", session_id=session_id), last=20
            ),
        )

    A window is one search in an index, however long the history, and has no tool's result without
    its call. A message with an id that is stored already is not stored twice.
    """

    def __init__(
        self, scope: Scope, *, last: int | None = None, max_tokens: int | None = None
    ) -> None:
        """Show the last messages, and of these as many as fit `max_tokens`; all, if None.

        Raises:
            InvalidInputError: the scope has no session.
        """
        super().__init__()
        _check_session(scope)
        self._scope = scope
        self._last = last
        self._max_tokens = max_tokens

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The newest messages that fit, oldest first."""
        return self.window(last=self._last, max_tokens=self._max_tokens)

    async def aget_messages(self) -> list[BaseMessage]:
        """See `messages`."""
        return await in_thread(self.window, last=self._last, max_tokens=self._max_tokens)

    def window(
        self, *, last: int | None = None, max_tokens: int | None = None
    ) -> list[BaseMessage]:
        """Return the newest messages that fit these bounds, oldest first.

        Tokens are those of `HybridMemory`'s `count_tokens`.
        """
        return [message for _, message in self.timed(last=last, max_tokens=max_tokens)]

    def timed(
        self, *, last: int | None = None, max_tokens: int | None = None
    ) -> list[tuple[datetime, BaseMessage]]:
        """Return the same with the aware time of each."""
        turns = self._scope.messages(last=last, max_tokens=max_tokens)
        return [(turn.at, messages.from_record(turn)) for turn in turns]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store messages in one commit."""
        _store(self._scope, messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """See `add_messages`."""
        await in_thread(_store, self._scope, messages)

    def clear(self) -> None:
        """Delete the messages of this session; facts, events and other sessions stay."""
        forget_session(self._scope)

    async def aclear(self) -> None:
        """See `clear`."""
        await in_thread(forget_session, self._scope)


def forget_session(scope: Scope) -> None:
    """Delete the messages of a scope's session, and nothing else."""
    scope.forget(session_id=_check_session(scope), where={"kind": "message"})


def _store(scope: Scope, given: Sequence[BaseMessage]) -> list[Record]:
    return messages.store(scope, given)


def _check_session(scope: Scope) -> str:
    if scope.session_id is None:
        raise InvalidInputError(
            "a history is of one session: memory.scope(user_id=..., session_id=...)"
        )
    return scope.session_id
