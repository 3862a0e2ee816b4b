"""An agent that remembers: recall before a run, the memory in its prompt, the turns after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Final, NotRequired, cast

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.runtime import Runtime

from hybrid_memory import Budget, Context, Gate, HybridMemory, Kind, Scope, Source
from langchain_hybrid_memory import messages
from langchain_hybrid_memory.aio import in_thread
from langchain_hybrid_memory.identity import IdentityError, scope_from
from langchain_hybrid_memory.tools import NAMES, GateRule, gate_of, memory_tools

_KEY: Final = "hybrid_memory"  # in the state, and in the custom stream


class MemoryState(AgentState[Any]):
    """The state of an agent that remembers: JSON, and for the middleware alone.

    `hybrid_memory` has the `namespace` and the `gate` it is of, what tells the `question` from
    others, the `prompt` that came of it, and the id of the last message `before` the run.
    """

    hybrid_memory: NotRequired[Annotated[dict[str, Any] | None, PrivateStateAttr]]


class HybridMemoryMiddleware(AgentMiddleware[MemoryState, Any, Any]):
    """Memory for `create_agent`: recalls once a run, and remembers the turns of each run.

    What is recalled stands at the end of the system message, behind all that stays the same, so
    that prompt caches work; it is never among the messages. Put it last in the list of middleware
    if another one marks the system message for a cache. New turns are stored when the run is
    over, tool calls with their results and each once, however often a run is retried or resumed.
    """

    state_schema = MemoryState

    def __init__(
        self,
        memory: HybridMemory,
        *,
        user_id: str | None = None,
        namespace: Sequence[str] | None = None,
        session_id: str | None = None,
        read: Iterable[Sequence[str]] = (),
        sources: Iterable[Source] = (),
        max_tokens: int = 1000,
        budget: Budget | None = None,
        kinds: Iterable[Kind] | Kind | None = None,
        where: Mapping[str, Any] | None = None,
        gate: GateRule | None = None,
        save: bool = True,
        tools: bool = False,
    ) -> None:
        """Remember for whoever the arguments or the run name, see `scope_from`.

        `read`, `sources`, `max_tokens`, `budget`, `kinds` and `where` are those of
        `HybridMemory.scope` and `Scope.context`. `gate` is one for all runs, or called with the
        agent's state and the run's context; turns are stored behind a closed one too. Without
        `save` nothing is stored. With `tools` the model gets those of `memory_tools`.
        """
        super().__init__()
        self._memory = memory
        self._whose: dict[str, Any] = {
            "user_id": user_id,
            "namespace": namespace,
            "session_id": session_id,
            "read": tuple(read),
            "sources": tuple(sources),
        }
        self._bounds: dict[str, Any] = {
            "max_tokens": max_tokens,
            # The turns of the session are the agent's messages already.
            "budget": replace(budget or Budget(), session=0.0),
            "kinds": kinds if kinds is None or isinstance(kinds, str) else tuple(kinds),
            "where": where,
        }
        self._gate = gate
        self._save = save
        self.tools = memory_tools(memory, gate=gate, **self._whose) if tools else []

    # -- recall, once a run ------------------------------------------------------------------

    def before_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Recall what helps to answer the last message of the user."""
        scope = self._scope(runtime)
        gate = gate_of(self._gate, runtime, state)
        prompt = _cached(state, scope, gate)
        if prompt is None:
            prompt = _announced(self._recall(state, scope, gate), runtime)
        return _noted(state, scope, gate, prompt)

    async def abefore_agent(
        self, state: MemoryState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """See `before_agent`."""
        scope = self._scope(runtime)
        gate = gate_of(self._gate, runtime, state)
        prompt = _cached(state, scope, gate)
        if prompt is None:
            prompt = _announced(await in_thread(self._recall, state, scope, gate), runtime)
        return _noted(state, scope, gate, prompt)

    # -- inject, in each call of the model ---------------------------------------------------

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any] | AIMessage | ExtendedModelResponse[Any]:
        """Call the model with what was recalled at the end of its system message."""
        state, scope, gate = self._of(request)
        prompt = _noted_prompt(state, scope, gate)
        if prompt is None:
            prompt = _announced(self._recall(state, scope, gate), request.runtime)
        return handler(_with_memory(request, prompt))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any] | AIMessage | ExtendedModelResponse[Any]:
        """See `wrap_model_call`."""
        state, scope, gate = self._of(request)
        prompt = _noted_prompt(state, scope, gate)
        if prompt is None:
            context = await in_thread(self._recall, state, scope, gate)
            prompt = _announced(context, request.runtime)
        return await handler(_with_memory(request, prompt))

    # -- remember, when the run is over ------------------------------------------------------

    def after_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Store the turns of the run."""
        if self._save:
            scope = self._scope(runtime)
            messages.store(scope, _turns(state, scope))
        return {_KEY: None}

    async def aafter_agent(
        self, state: MemoryState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """See `after_agent`."""
        if self._save:
            scope = self._scope(runtime)
            await in_thread(messages.store, scope, _turns(state, scope))
        return {_KEY: None}

    def _scope(self, runtime: Runtime[Any]) -> Scope:
        return scope_from(self._memory, runtime=runtime, **self._whose)

    def _of(self, request: ModelRequest[Any]) -> tuple[MemoryState, Scope, Gate]:
        state = cast(MemoryState, request.state)
        return state, self._scope(request.runtime), gate_of(self._gate, request.runtime, state)

    def _recall(self, state: MemoryState, scope: Scope, gate: Gate) -> Context | None:
        question = _question(state)
        if question is None:
            return None
        shown = list(messages.record_ids(state["messages"], scope.session_id))
        return scope.context(_query(question), gate=gate, shown=shown, **self._bounds)


def _cached(state: MemoryState, scope: Scope, gate: Gate) -> str | None:
    """Return the prompt that was made for the last question of this user, under this gate."""
    noted = state.get(_KEY)
    mine = {**_of_run(scope, gate), "question": _question_key(state)}
    return noted["prompt"] if noted is not None and noted.items() >= mine.items() else None


def _noted_prompt(state: MemoryState, scope: Scope, gate: Gate) -> str | None:
    """Return the prompt of this run; None if the gate was another when it began."""
    _check(state, scope)
    noted = state.get(_KEY)
    return noted["prompt"] if noted is not None and noted["gate"] == asdict(gate) else None


def _of_run(scope: Scope, gate: Gate) -> dict[str, Any]:
    return {"namespace": list(scope.namespace), "gate": asdict(gate)}


def _check(state: MemoryState, scope: Scope) -> None:
    """Refuse to go on with a run that began for somebody else.

    Raises:
        IdentityError: its prompt, or the turns to be stored, are not this user's.
    """
    noted = state.get(_KEY)
    if noted is not None and noted["namespace"] != list(scope.namespace):
        raise IdentityError(
            "the run began with the memory of another user or namespace; resume it with the "
            "context and config that it was begun with"
        )


def _noted(state: MemoryState, scope: Scope, gate: Gate, prompt: str) -> dict[str, Any]:
    noted = {
        **_of_run(scope, gate),
        "question": _question_key(state),
        "prompt": prompt,
        "before": _before(state, scope),
    }
    return {_KEY: noted}


def _before(state: MemoryState, scope: Scope) -> str | None:
    """Return the id of the last message that stood before what is not stored yet, if one did.

    That is the run's input, and the turns before it of runs that did not come to their end.
    """
    noted = state.get(_KEY)
    ids = [message.id for message in state["messages"]]
    if noted is not None and noted.get("namespace") == list(scope.namespace):
        before = noted.get("before")
        return before if before in ids else None
    old = len(ids)
    while old and not isinstance(state["messages"][old - 1], AIMessage | ToolMessage):
        old -= 1
    return ids[old - 1] if old else None


def _turns(state: MemoryState, scope: Scope) -> list[BaseMessage]:
    """Return what the user, the model and the tools said that is not stored yet."""
    _check(state, scope)
    noted = state.get(_KEY)
    if noted is None:  # another middleware ended the run before it began
        return []
    ids = [message.id for message in state["messages"]]
    before = noted["before"]
    # If it is gone, another middleware summed it up, and all that is left came after it.
    new = state["messages"][ids.index(before) + 1 if before in ids else 0 :]
    told = [one for one in new if not isinstance(one, SystemMessage) and not _is_summary(one)]
    return messages.finished(told, without=NAMES)


def _question(state: MemoryState) -> HumanMessage | None:
    """Return the last message of the user that has a text."""
    for message in reversed(state["messages"]):
        if isinstance(message, HumanMessage) and not _is_summary(message) and _query(message):
            return message
    return None


def _question_key(state: MemoryState) -> str | None:
    question = _question(state)
    return messages.record_id(f"{question.id} {_query(question)}", None) if question else None


def _query(question: HumanMessage) -> str:
    return messages.as_query(question.text)


def _is_summary(message: AnyMessage) -> bool:
    return message.additional_kwargs.get("lc_source") == "summarization"


def _announced(context: Context | None, runtime: Runtime[Any]) -> str:
    """Tell the custom stream what was recalled, and return it as a prompt."""
    if context is None:
        return ""
    runtime.stream_writer({_KEY: context.as_json()})
    return context.as_system_prompt()


def _with_memory(request: ModelRequest[Any], prompt: str) -> ModelRequest[Any]:
    if not prompt:
        return request
    static = request.system_message
    if static is None:
        return request.override(system_message=SystemMessage(prompt))
    said = static.content
    before = [{"type": "text", "text": said}] if isinstance(said, str) else said
    # Some providers join the blocks without anything between them.
    content = [*before, {"type": "text", "text": f"\n\n{prompt}"}]
    return request.override(system_message=static.model_copy(update={"content": content}))
