"""A chat model that answers by a script, for agents and chains: no network, and it can fail."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

Reply = str | AIMessage | Exception | Callable[[Sequence[BaseMessage]], AIMessage]


def calls(name: str, *, id: str = "call-1", **arguments: Any) -> AIMessage:
    """Return a message in which the model calls one tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": id}])


class ScriptedModel(BaseChatModel):
    """Gives the replies of a list, one a call; the last one repeats. `calls` is what it was sent.

    A reply is a text, a message, an exception to raise, or made of the messages it was sent.
    """

    replies: list[Any] = Field(default_factory=lambda: ["Yes."])
    calls: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def prompts(self) -> list[str]:
        """The text of the system message of each call."""
        return [
            "".join(one.text for one in call if isinstance(one, SystemMessage))
            for call in self.calls
        ]

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:  # type: ignore[override]
        self.tools[:] = [convert_to_openai_tool(tool) for tool in tools]  # as real ones do
        return self

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        with self._lock:
            reply = self.replies[min(len(self.calls), len(self.replies) - 1)]
            self.calls.append(list(messages))
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            return AIMessage(reply)
        # A new object, which gets an id of its own.
        return reply(messages) if callable(reply) else reply.model_copy()

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = self._next(messages)
        if message.tool_calls:
            chunks = [
                {"name": one["name"], "args": json.dumps(one["args"]), "id": one["id"], "index": i}
                for i, one in enumerate(message.tool_calls)
            ]
            chunk = AIMessageChunk(content=message.content, tool_call_chunks=chunks)  # type: ignore[arg-type]
            yield ChatGenerationChunk(message=chunk)
            return
        for word in str(message.content).split(" "):
            piece = ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            if run_manager:
                run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self._stream(messages, stop):
            yield piece
