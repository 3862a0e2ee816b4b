"""Memory for the chains and agents of langchain_classic, until they are gone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_classic.agents.format_scratchpad.tools import format_to_tool_messages
from langchain_classic.base_memory import BaseMemory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, get_buffer_string
from pydantic import ConfigDict, Field, PrivateAttr

from hybrid_memory import Budget, Record, Scope
from hybrid_memory.errors import InvalidInputError
from langchain_hybrid_memory import messages
from langchain_hybrid_memory.aio import in_thread
from langchain_hybrid_memory.history import HybridChatMessageHistory, forget_session

_OUTPUTS = ("output", "answer")  # what chains call what they say, where they return more


class HybridConversationMemory(BaseMemory):
    """The session of a scope, what else is remembered, and the profile, as variables of a chain.

        ConversationChain(llm=llm, memory=HybridConversationMemory(scope=ana))

    `memory_key` has the turns of the session: a text, or messages with `return_messages`. Where
    they are named, `relevant_key` has the context for the input, as text, without the turns that
    are shown, and `profile_key` the profile as JSON. `last` and `max_tokens` bound the turns,
    `relevant_tokens` the context. Tool calls of an agent are kept if the chain returns its
    intermediate steps.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    scope: Scope = Field(exclude=True, repr=False)
    memory_key: str = "history"
    relevant_key: str | None = None
    profile_key: str | None = None
    input_key: str | None = None
    output_key: str | None = None
    return_messages: bool = False
    human_prefix: str = "Human"
    ai_prefix: str = "AI"
    last: int | None = None
    max_tokens: int | None = None
    relevant_tokens: int = 600
    _history: HybridChatMessageHistory = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check that the scope has a session."""
        self._history = HybridChatMessageHistory(self.scope)

    @property
    def chat_memory(self) -> HybridChatMessageHistory:
        """The session as a chat history, all of it."""
        return self._history

    @property
    def memory_variables(self) -> list[str]:
        """The variables that this memory fills."""
        return [
            key for key in (self.memory_key, self.relevant_key, self.profile_key) if key is not None
        ]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the variables for a chain's inputs.

        Raises:
            InvalidInputError: several inputs, and no `input_key` that says which one to remember.
        """
        question = _text(self._input(inputs)) if self._asked(inputs) else ""
        turns = self.scope.messages(last=self.last, max_tokens=self.max_tokens)
        told = [messages.from_record(turn) for turn in turns]
        variables: dict[str, Any] = {self.memory_key: told}
        if not self.return_messages:
            variables[self.memory_key] = get_buffer_string(told, self.human_prefix, self.ai_prefix)
        if self.relevant_key is not None:
            variables[self.relevant_key] = self._relevant(question, turns)
        if self.profile_key is not None:
            profile = dict(self.scope.profile)
            variables[self.profile_key] = json.dumps(profile, ensure_ascii=False)
        return variables

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """See `load_memory_variables`."""
        return await in_thread(self.load_memory_variables, inputs)

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Store what went in and what came out of a chain, in one commit.

        Raises:
            InvalidInputError: several inputs or outputs, and no key that says which to remember.
        """
        heard = _messages(self._input(inputs), HumanMessage)
        steps = format_to_tool_messages(outputs.get("intermediate_steps") or ())
        said = _messages(self._output(outputs), AIMessage)
        messages.store(self.scope, [*heard, *steps, *said])

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """See `save_context`."""
        await in_thread(self.save_context, inputs, outputs)

    def clear(self) -> None:
        """Delete the messages of the scope's session; all else stays."""
        forget_session(self.scope)

    async def aclear(self) -> None:
        """See `clear`."""
        await in_thread(self.clear)

    def _asked(self, inputs: Mapping[str, Any]) -> list[str]:
        return [key for key in inputs if key not in (*self.memory_variables, "stop")]

    def _input(self, inputs: Mapping[str, Any]) -> Any:
        return inputs[_the_key(self._asked(inputs), self.input_key, "input")]

    def _output(self, outputs: Mapping[str, Any]) -> Any:
        key = self.output_key
        if key is None and len(outputs) > 1:
            key = next((name for name in _OUTPUTS if name in outputs), None)
        return outputs[_the_key(list(outputs), key, "output")]

    def _relevant(self, question: str, turns: Sequence[Record]) -> str:
        query = messages.as_query(question)
        if not query:
            return ""
        shares = {"session": 0.0} | ({"profile": 0.0} if self.profile_key else {})
        return self.scope.context(
            query,
            max_tokens=self.relevant_tokens,
            budget=Budget(**shares),
            shown=[turn.id for turn in turns],
        ).as_system_prompt()


def _the_key(keys: list[str], named: str | None, what: str) -> str:
    if named is None and len(keys) == 1:
        return keys[0]
    if named is None or named not in keys:
        there = ", ".join(map(repr, sorted(keys))) or "nothing"
        wanted = "say which one to remember" if named is None else f"not {named!r}"
        raise InvalidInputError(
            f"the chain has {there} as {what}, {wanted}: "
            f"HybridConversationMemory(..., {what}_key=...)"
        )
    return named


def _messages(value: Any, made: type[HumanMessage] | type[AIMessage]) -> list[BaseMessage]:
    """Return a chain's input or output as messages: it may be a text, one of them, or many."""
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [one for part in value for one in _messages(part, made)]
    return [made(content=_text(value))]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, BaseMessage):
        return str(value.text)
    if isinstance(value, Sequence):
        # Of a conversation the last turn is what is asked.
        return _text(value[-1]) if value else ""
    return json.dumps(value, ensure_ascii=False, default=str)
