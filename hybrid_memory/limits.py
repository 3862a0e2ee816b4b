"""The door: what may come in, and how large. Everything refused here is refused before a write."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.errors import (
    DimensionMismatchError,
    InvalidInputError,
    MetadataError,
    NamespaceError,
    TextError,
    TimeError,
    VectorError,
)
from hybrid_memory.protocols import OnConflict, Vector, Vectors
from hybrid_memory.types import KINDS, ROLES, Kind, Namespace, Role

MAX_TEXT_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 5
MAX_DATA_BYTES = 64 * 1024
MAX_DATA_DEPTH = 16  # messages with parts and tool calls
MAX_INTEGER_BITS = 64  # what other readers of JSON can hold
MAX_LABEL_CHARS = 256
MAX_LABELS = 8
MAX_K = 200
MAX_SECONDS = 24 * 3600
MAX_TOKENS = 10**9
MAX_PATH_BYTES = 4096  # PATH_MAX of Linux
MAX_NAME_BYTES = 255  # NAME_MAX of all its file systems
MAX_BATCH = 65_536  # texts that are encoded at once
MAX_NEAREST = 10_000  # of `Scope.nearest`, which ranks nothing
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def shown(value: object) -> str:
    """Return a value for a message: a short name as it is; of anything else, which may be a text
    in a wrong place, only the type.
    """
    if isinstance(value, str) and (not value or _NAME.fullmatch(value)):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return f"a {type(value).__name__}"


_NAME = re.compile(r"[A-Za-z][\w.-]{0,31}")


def text(value: object, name: str = "text") -> str:
    """Return the text unchanged if it can be stored.

    Raises:
        TextError: not a string, blank, with NUL or lone surrogates, or over 64 KiB of UTF-8.
    """
    value = string(value, name)
    if not value.strip():
        raise TextError(f"{name} is empty")
    if "\0" in value:
        raise TextError(f"{name} has a NUL character at {value.index(chr(0))}; remove it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise TextError(
            f"{name} has a lone surrogate at {error.start}; decode it with errors='replace'"
        ) from None
    if size > MAX_TEXT_BYTES:
        raise TextError(
            f"{name} has {size} bytes, more than {MAX_TEXT_BYTES}; split it, as add_documents does"
        )
    return value


def string(value: object, name: str = "text") -> str:
    """Return a text that is not stored as it is, or raise TextError."""
    if not isinstance(value, str):
        raise TextError(f"{name} must be a string, not {type(value).__name__}")
    return value


def clipped(value: str) -> str:
    """Return as much of a text as can be stored as one, without lone surrogates."""
    return value.encode(errors="surrogatepass")[:MAX_TEXT_BYTES].decode(errors="ignore")


def label(value: object, name: str) -> str:
    """Return a name (an id, a speaker, a session...) in Unicode's NFC form.

    Raises:
        InvalidInputError: not a string, blank, over 256 characters or with control characters.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a string, not {type(value).__name__}")
    if len(value) <= 16 * MAX_LABEL_CHARS:  # else it is too long in every form
        value = unicodedata.normalize("NFC", value)
    if not value.strip():
        raise InvalidInputError(f"{name} is empty")
    if len(value) > MAX_LABEL_CHARS:
        raise InvalidInputError(
            f"{name} has {len(value)} characters, more than {MAX_LABEL_CHARS}; shorten or hash it"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise InvalidInputError(f"{name} has a control character or lone surrogate; remove it")
    return value


def optional_label(value: object, name: str) -> str | None:
    """Return None for None, else as `label`."""
    return None if value is None else label(value, name)


def namespace(value: object) -> Namespace:
    """Return a namespace: 1 to 8 labels.

    Raises:
        NamespaceError: not a tuple or list of labels. A bare string is refused, because it would
            pass for a tuple of letters.
    """
    if not isinstance(value, tuple | list):
        raise NamespaceError(
            f"a namespace is a tuple of labels such as ('team', 'ana'), not {shown(value)}"
        )
    if not 1 <= len(value) <= MAX_LABELS:
        raise NamespaceError(f"a namespace has 1 to {MAX_LABELS} labels, not {len(value)}")
    try:
        return tuple(label(part, "a label of a namespace") for part in value)
    except InvalidInputError as error:
        raise NamespaceError(str(error)) from None


def when(value: object, name: str) -> datetime:
    """Return an aware datetime in UTC.

    Raises:
        TimeError: not a datetime, or without a zone.
    """
    if not isinstance(value, datetime):
        raise TimeError(f"{name} must be a datetime, not {type(value).__name__}")
    try:
        has_zone = value.utcoffset() is not None
    except (TypeError, ValueError, OverflowError) as error:
        raise TimeError(f"{name} has a zone without a proper offset: {error}") from None
    if not has_zone:
        raise TimeError(
            f"{name} {value.isoformat()} has no zone; add one, as in "
            "datetime(..., tzinfo=UTC) or value.astimezone()"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise TimeError(f"{name} {value.isoformat()} is out of range in UTC") from error


def optional_when(value: object, name: str) -> datetime | None:
    """Return None for None, else as `when`."""
    return None if value is None else when(value, name)


def microseconds(value: datetime) -> int:
    """Return an aware time as microseconds since 1970 UTC, exactly."""
    return (value - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the aware time of `microseconds`."""
    return EPOCH + value * _MICROSECOND


def kind(value: object) -> Kind:
    """Return a known kind, or raise InvalidInputError."""
    for known in KINDS:
        if value == known:
            return known
    raise InvalidInputError(f"unknown kind {shown(value)}; one of {', '.join(KINDS)}")


def role(value: object) -> Role:
    """Return a known role, or raise InvalidInputError."""
    for known in ROLES:
        if value == known:
            return known
    raise InvalidInputError(f"unknown role {shown(value)}; one of {', '.join(ROLES)}")


def kinds(value: Iterable[str] | str | None) -> frozenset[Kind] | None:
    """Return a set of known kinds; one kind may be given bare."""
    if value is None:
        return None
    given = [value] if isinstance(value, str) else several(value, "kinds takes kinds")
    return frozenset(kind(one) for one in given)


def on_conflict(value: object) -> OnConflict:
    """Return what to do with an id that is taken, or raise InvalidInputError."""
    for known in get_args(OnConflict):
        if value == known:
            return cast(OnConflict, known)
    names = ", ".join(get_args(OnConflict))
    raise InvalidInputError(f"on_conflict must be one of {names}, not {shown(value)}")


def fraction(value: object, name: str) -> float:
    """Return a float in [0, 1], or raise InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{name} must be between 0 and 1: {shown(value)}")
    return float(value) + 0.0  # -0.0 is read back as 0.0, and would not fit its checksum


def fractions(values: object, *, count: int) -> NDArray[np.float32]:
    """Return (count,) floats in [0, 1], as a reranker has to give, or raise VectorError."""
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "fiu":
        raise VectorError(
            f"the reranker gave an array of shape {array.shape} and type {array.dtype} "
            f"for {count} texts; it must be ({count},) of floats"
        )
    if not ((array >= 0) & (array <= 1)).all():
        raise VectorError("the reranker gave a value that is not in [0, 1]; scale its scores")
    return array.astype(np.float32)


def whole(value: object, name: str, *, low: int, high: int | None = None) -> int:
    """Return an int of at least `low` and at most `high`, or raise InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name} must be an integer, not {type(value).__name__}")
    if value < low or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"between {low} and {high}"
        raise InvalidInputError(f"{name} must be {span}: {shown(value)}")
    return value


def seconds(value: object, name: str) -> float:
    """Return a time limit in seconds, 0 to a day, or raise InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be a number of seconds, not {shown(value)}")
    if not 0 <= value <= MAX_SECONDS:
        raise InvalidInputError(f"{name} must be between 0 and {MAX_SECONDS}: {shown(value)}")
    return float(value)


def several(value: object, told: str) -> Iterable[Any]:
    """Return something to iterate over; `told` is how the error for anything else begins.

    A text, bytes and a mapping are one thing, and never cut up.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{told}, not {shown(value)}")
    return value


def ids(values: object, name: str = "ids") -> list[str]:
    """Return a list of ids, or raise InvalidInputError."""
    return [label(id, "id") for id in several(values, f"{name} takes a list of ids")]


def claim(value: object, name: str) -> bool:
    """Return True or False, or raise InvalidInputError."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} must be True or False, not {shown(value)}")
    return value


def part(value: object, name: str, *methods: str) -> None:
    """Refuse what lacks one of these methods; without any, what is neither None nor callable."""
    if value is None and not methods:
        return
    for method in methods:
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            raise InvalidInputError(f"{name} needs a method {method}(), which {shown(value)} lacks")
    if not methods and not callable(value):
        raise InvalidInputError(f"{name} must be a function, not {shown(value)}")


def instance(value: object, kind: type, name: str) -> None:
    """Refuse what is neither None nor of a class."""
    if value is not None and not isinstance(value, kind):
        raise InvalidInputError(f"{name} must be a {kind.__name__}, not {shown(value)}")


def path(value: object, name: str = "path") -> Path:
    """Return the path of a string or a path that the system can be asked for.

    Raises:
        InvalidInputError: neither, over 4,096 bytes, with a name over 255, or with a NUL.
    """
    told = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(told, str):
        raise InvalidInputError(f"{name} must be a string or a pathlib.Path, not {shown(value)}")
    try:
        size = len(os.fsencode(told))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} has a lone surrogate at {error.start}") from None
    if size > MAX_PATH_BYTES:
        raise InvalidInputError(f"{name} has {size} bytes, more than {MAX_PATH_BYTES}")
    if any(len(os.fsencode(one)) > MAX_NAME_BYTES for one in Path(told).parts):
        raise InvalidInputError(f"{name} has a name of more than {MAX_NAME_BYTES} bytes")
    if "\0" in told:
        raise InvalidInputError(f"{name} has a NUL character at {told.index(chr(0))}")
    return Path(told)


def json_object(
    value: object,
    name: str,
    *,
    max_bytes: int = MAX_METADATA_BYTES,
    max_depth: int = MAX_METADATA_DEPTH,
) -> dict[str, Any]:
    """Return a JSON object as a plain dict.

    Raises:
        MetadataError: not a mapping with string keys, something JSON cannot hold (a NaN, a
            datetime), deeper than `max_depth` levels, or over `max_bytes`.
    """
    if not isinstance(value, Mapping):
        raise MetadataError(f"{name} must be a mapping, not {type(value).__name__}")
    plain: dict[str, Any] = json_value(value, name, max_bytes=max_bytes, max_depth=max_depth)
    return plain


def json_value(
    value: object,
    name: str,
    *,
    max_bytes: int = MAX_METADATA_BYTES,
    max_depth: int = MAX_METADATA_DEPTH,
) -> Any:
    """Return a JSON value as plain lists and dicts, within the bounds of `json_object`."""
    plain = _Plain(name, max_depth, max_bytes).of(value, name, max_depth)
    size = len(to_json(plain).encode())
    if size > max_bytes:
        raise MetadataError(
            f"{name} has {size} bytes as JSON, more than {max_bytes}; "
            "store the bulk as text or documents"
        )
    return plain


def to_json(value: object) -> str:
    """Return compact JSON, keys in their order."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class _Plain:
    """Makes values plain, and stops where there is more than could fit."""

    def __init__(self, name: str, max_depth: int, max_bytes: int) -> None:
        self._name = name
        self._max_depth = max_depth
        self._max_bytes = max_bytes
        # A part or a character has a byte at least. Far above the bound it is not looked at
        # whole: lists of lists that share their parts would be walked for years.
        self._room = 4 * max_bytes

    def of(self, value: object, path: str, depth: int) -> Any:
        """Return a value as plain JSON; `depth` levels are left for what is in it."""
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            raise MetadataError(f"{path} has over {MAX_INTEGER_BITS} bits; store it as a string")
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise MetadataError(f"{path} is {value}, which JSON cannot hold")
            return value
        if isinstance(value, str | Mapping | list | tuple):
            self._take(len(value))
        if isinstance(value, str):
            if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
                raise MetadataError(f"{path} has a NUL or a lone surrogate; remove it")
            return value
        if isinstance(value, Mapping | list | tuple) and depth == 0:
            raise MetadataError(
                f"{path} is nested deeper than {self._max_depth} levels; flatten it"
            )
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise MetadataError(f"{path} has the key {shown(key)}; keys are strings")
                self.of(key, f"a key of {path}", depth)
            return {
                key: self.of(part, f"{path}.{key if _NAME.fullmatch(key) else '...'}", depth - 1)
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.of(part, f"{path}[{i}]", depth - 1) for i, part in enumerate(value)]
        hint = "; use its isoformat()" if isinstance(value, datetime) else ""
        raise MetadataError(f"{path} is a {type(value).__name__}, which JSON cannot hold{hint}")

    def _take(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise MetadataError(
                f"{self._name} has far more than {self._max_bytes} bytes as JSON; "
                "store the bulk as text or documents"
            )


_SURROGATE = re.compile("[\ud800-\udfff]")


def unit_vector(vector: object, *, dim: int) -> Vector:
    """Return a (dim,) float32 vector of norm 1; see `unit_vectors`."""
    if isinstance(vector, np.ndarray) and vector.shape == (dim,) and vector.dtype == np.float32:
        square = float(np.dot(vector, vector))
        if abs(square - 1) < 2e-5:  # a NaN or an infinity would show in it
            return vector
    return unit_vectors([vector], count=1, dim=dim).reshape(-1)


def unit_vectors(vectors: object, *, count: int, dim: int) -> Vectors:
    """Return (count, dim) float32 rows of norm 1.

    A row of zeros stays zero: it is near to nothing and is found by its words only.

    Raises:
        DimensionMismatchError: another dimension.
        VectorError: another shape, a NaN, an infinity, or a norm over 1e6.
    """
    try:
        array = np.asarray(vectors)
    except ValueError as error:
        raise VectorError(f"the embedder gave vectors of different lengths: {error}") from None
    if array.ndim != 2 or array.shape[0] != count or array.dtype.kind not in "fiu":
        raise VectorError(
            f"the embedder gave an array of shape {array.shape} and type {array.dtype} "
            f"for {count} texts; it must be ({count}, {dim}) of floats"
        )
    if array.shape[1] != dim:
        raise DimensionMismatchError(
            f"the embedder says dim={dim} and gave {array.shape[1]} dimensions; "
            "a store keeps to one: open another directory for another embedder"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise VectorError(f"vector {row} of {count} holds a NaN or an infinity")
    norms = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
    if (norms > 1e6).any():
        raise VectorError(f"vector {int(norms.argmax())} of {count} has a norm over 1e6")
    # Below 1e-6 a direction is rounding noise.
    norms = np.where(norms < 1e-6, np.inf, norms)
    return np.ascontiguousarray(array / norms, dtype=np.float32)
