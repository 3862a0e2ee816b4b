"""Whose memory it is: one namespace for each run, or an error; never a bucket that users share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig, ensure_config

from hybrid_memory import HybridMemory, Scope, Source
from hybrid_memory.errors import InvalidInputError


class IdentityError(InvalidInputError):
    """Nothing says whose memory is meant."""


def scope_from(
    memory: HybridMemory,
    *,
    user_id: str | None = None,
    namespace: Sequence[str] | None = None,
    session_id: str | None = None,
    read: Iterable[Sequence[str]] = (),
    sources: Iterable[Source] = (),
    runtime: Any = None,
    config: RunnableConfig | None = None,
) -> Scope:
    """Return the scope of a run.

    Whose it is say, in this order: `user_id` or `namespace`; the `user_id` of `runtime.context`;
    that of `config["configurable"]`; the user that a LangGraph server has authenticated. A label
    `"{name}"` of a namespace is looked up in the same way: `("acme", "{user_id}")`. Numbers and
    UUIDs become texts. The session is `session_id`, else the `thread_id` of the config, else its
    `session_id`. Without a config that of the run going on counts, where there is one.

    Raises:
        IdentityError: nothing says whose memory it is, or says it as something else than a text, a
            number or a UUID.
        NamespaceError: a name that cannot be one, such as an empty text.
    """
    if user_id is not None and namespace is not None:
        raise InvalidInputError("give either user_id or namespace")
    given = getattr(runtime, "config", None) if config is None else config
    configurable = ensure_config(given).get("configurable", {})
    if user_id is not None:
        labels: Sequence[str] = (user_id,)
    elif isinstance(namespace, str):
        raise InvalidInputError("a namespace is a tuple of labels such as ('acme', '{user_id}')")
    else:
        labels = [
            _looked_up(label[1:-1], runtime, configurable) if _is_name(label) else label
            for label in (("{user_id}",) if namespace is None else namespace)
        ]
    for key in ("thread_id", "session_id"):
        if session_id is None and configurable.get(key) is not None:
            session_id = _text(configurable[key], key)
    return memory.scope(namespace=labels, session_id=session_id, read=read, sources=sources)


def _is_name(label: object) -> bool:
    return isinstance(label, str) and label.startswith("{") and label.endswith("}")


def _looked_up(name: str, runtime: Any, configurable: Mapping[str, Any]) -> str:
    context = getattr(runtime, "context", None)
    found = context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)
    if found is None:
        found = configurable.get(name)
    if found is None and name == "user_id":
        server = getattr(runtime, "server_info", None)
        found = getattr(getattr(server, "user", None), "identity", None)
    if found is None:
        raise IdentityError(
            f"nothing says whose memory it is: give the constructor a user_id or namespace, "
            f"or the run a context or config with {name!r}, as in "
            f'invoke(..., config={{"configurable": {{"{name}": "ana"}}}})'
        )
    return _text(found, name)


def _text(value: object, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        raise IdentityError(
            f"{name} must be a text, a number or a UUID, not {type(value).__name__}"
        )
    return str(value)
