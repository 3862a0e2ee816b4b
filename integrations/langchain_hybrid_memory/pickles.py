"""Reads the values of a pickle without running it: no code of it is ever called or imported.

A machine for the instructions that plain data are made of. Objects of a few known classes become
plain dictionaries of their state; any other class or call is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from hybrid_memory.errors import TransferError

MAX_BYTES = 2**32


@dataclass
class Stored:
    """An object of a known class: its name, and its state as it was pickled."""

    name: str
    state: Any = field(default=None)


@dataclass(frozen=True)
class _Class:
    module: str
    name: str


# Built here of plain values, as the pickle says; none does anything else.
_VALUES: dict[tuple[str, str], Callable[..., Any]] = {
    ("datetime", "datetime"): datetime,
    ("datetime", "date"): date,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
    ("builtins", "set"): set,  # as protocol 3 has it
    ("builtins", "frozenset"): frozenset,
}
_MARK = object()
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_AS_GIVEN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}


def read(path: Path, known: Iterable[tuple[str, str]]) -> Any:
    """Return the value in a pickle file; `known` are modules and names of classes it may hold.

    Raises:
        TransferError: it cannot be read, is malformed, or holds another class or a call.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TransferError(f"{path} has more than {MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror or error}") from error
    machine = _Machine(frozenset(known), path)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except TransferError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
        # Not chained: such an error may hold a text.
        pass
    raise TransferError(f"{path} is no pickle, or a damaged one") from None


class _Machine:
    def __init__(self, known: frozenset[tuple[str, str]], path: Path) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._known = known
        self._path = path

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _AS_GIVEN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._marked()
        else:
            self._composed(name, argument)

    def _composed(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name == "LIST":
            stack.append(self._marked())
        elif name == "DICT":
            stack.append(_pairs(self._marked()))
        elif name == "FROZENSET":
            stack.append(frozenset(self._marked()))
        elif name == "APPEND":
            value = stack.pop()
            _a(list, stack[-1]).append(value)
        elif name == "APPENDS":
            values = self._marked()
            _a(list, stack[-1]).extend(values)
        elif name == "ADDITEMS":
            values = self._marked()
            _a(set, stack[-1]).update(values)
        elif name == "SETITEM":
            key, value = stack[-2:]
            del stack[-2:]
            _a(dict, stack[-1])[key] = value
        elif name == "SETITEMS":
            pairs = _pairs(self._marked())
            _a(dict, stack[-1]).update(pairs)
        elif name == "GLOBAL":
            self._class(*argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            module, known = stack[-2:]
            del stack[-2:]
            self._class(module, known)
        elif name in ("NEWOBJ", "REDUCE"):
            arguments, made_of = stack.pop(), stack.pop()
            stack.append(self._made(made_of, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _a(Stored, stack[-1]).state = state
        else:
            raise TransferError(f"{self._path} does more than hold data ({name}); it is not read")

    def _marked(self) -> list[Any]:
        at = max(place for place, value in enumerate(self.stack) if value is _MARK)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _class(self, module: Any, name: Any) -> None:
        if (module, name) not in self._known and (module, name) not in _VALUES:
            raise TransferError(
                f"{self._path} holds a {module}.{name}, which is not read: only documents and "
                "plain values are"
            )
        self.stack.append(_Class(module, name))

    def _made(self, made_of: Any, arguments: Any) -> Any:
        named = _a(_Class, made_of)
        build = _VALUES.get((named.module, named.name))
        if build is not None:
            return build(*_a(tuple, arguments))
        if arguments != ():
            raise TransferError(f"{self._path} calls {named.name} with arguments; it is not read")
        return Stored(named.name)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value
