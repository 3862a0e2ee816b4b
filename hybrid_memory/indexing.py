"""Write path: what a record is found by: the text for the encoder, its words, its digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hybrid_memory import words
from hybrid_memory.language import ENGLISH
from hybrid_memory.limits import unit_vectors
from hybrid_memory.protocols import Draft, Embedder, Traits
from hybrid_memory.types import Record


def is_ranked(record: Record) -> bool:
    """Tell whether a record is found by search.

    Instructions are always in force and system messages are the application's own words: neither
    answers a question.
    """
    is_system_message = record.kind == "message" and record.role == "system"
    return record.kind != "instruction" and not is_system_message


def index_text(record: Record) -> str:
    """Return the text that is encoded and cut into words: who said it, and what."""
    return f"{record.speaker}: {record.text}" if record.speaker else record.text


def digest(record: Record) -> int:
    """Return a number, equal for texts that are equal but for case and white space.

    Only of one author: "yes" said by two people is said twice. A user without a name is another
    one in each namespace.
    """
    author = [] if record.kind == "document" else [record.speaker or record.role]
    if author and not record.speaker:
        author += record.namespace
    said = "\0".join([*author, "", *record.text.casefold().split()])
    hashed = hashlib.blake2b(said.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


def drafts(
    records: Sequence[Record], embedder: Embedder, *, at_given: Sequence[bool]
) -> list[Draft]:
    """Return the records ready to be stored, encoded in one batch.

    Raises:
        VectorError: the embedder gave something else than finite vectors of its dimension.
    """
    texts = [index_text(record) for record in records if is_ranked(record)]
    vectors: Iterator[Any] = iter(())
    if texts:
        encoded = embedder.embed(texts)
        vectors = iter(unit_vectors(encoded, count=len(texts), dim=embedder.dim))
    return [
        Draft(
            record=record,
            vector=next(vectors) if is_ranked(record) else None,
            terms=words.terms(index_text(record)) if is_ranked(record) else words.encode(()),
            digest=digest(record),
            at_given=given,
            traits=traits(record.text),
        )
        for record, given in zip(records, at_given, strict=True)
    ]


def traits(text: str) -> Traits:
    """Return what a text is like: how much of it asks, and whether it tells a time or a number."""
    asking, total = 0, 0
    if "?" in text:
        for sentence in _SENTENCE.findall(text):
            size = len(sentence.split())
            total += size
            asking += size if sentence.rstrip().endswith("?") else 0
    return Traits(
        question=asking / total if total else 0.0,
        tells_time=bool(ENGLISH.tells_time.search(text)),
        tells_number=bool(ENGLISH.tells_number.search(text)),
    )


_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def fact_text(data: Mapping[str, Any]) -> str:
    """Return the words of a fact, `user preference: language like: Rust`; empty without values."""
    parts = [
        f"{_plain(key)}: {', '.join(_values(value))}"
        for key, value in data.items()
        if key != "intent" and _values(value)
    ]
    intent = [_plain(str(data["intent"]))] if data.get("intent") else []
    return ": ".join([*intent, "; ".join(parts)]) if parts else ""


def slots(data: Mapping[str, Any]) -> list[str]:
    """Return the slots that a fact fills: `user_preference.language_like`."""
    intent = f"{data['intent']}." if data.get("intent") else ""
    return [f"{intent}{key}" for key in data if key != "intent"]


def _plain(key: str) -> str:
    return key.replace("_", " ")


def _values(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{_plain(str(key))} {', '.join(_values(part))}" for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _values(part)]
    return [] if value is None else [str(value)]
