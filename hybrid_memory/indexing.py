"""Write path: what a record is found by: the text for the encoder, its words, its digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hybrid_memory import headings, words
from hybrid_memory.language import ENGLISH
from hybrid_memory.limits import unit_vectors
from hybrid_memory.protocols import Draft, Embedder, Traits, Vector
from hybrid_memory.types import Record

# The version of what this module derives, and of `words`, `language` and `headings` by which it
# does. Raise it when anything derived changes: stores then say that they want to be repaired.
RULES = 2


def is_ranked(record: Record) -> bool:
    """Tell whether a record is found by search.

    Instructions are always in force and system messages are the application's own words: neither
    answers a question. What its metadata call `unranked` is read by its id alone
    (not documents, which are there to be found).
    """
    is_system_message = record.kind == "message" and record.role == "system"
    is_unranked = record.kind != "document" and record.metadata.get("unranked") is True
    return record.kind != "instruction" and not is_system_message and not is_unranked


def index_text(record: Record, *, rules: int = RULES) -> str:
    """Return the text that is encoded and cut into words: who said it, and what.

    Of a document's chunk also the title and the headings it stands under. With the `rules` of an
    older store, the text that was encoded by them: where it is the same, so is the vector.
    """
    said = f"{record.speaker}: {record.text}" if record.speaker else record.text
    above = headings.above(record) if rules > 1 else []
    return f"{' / '.join(above)}\n{said}" if above else said


def digest(record: Record) -> int:
    """Return a number, equal for texts of the same words.

    Case, white space and the marks at the ends of words do not count. Every word does: sketches of
    shingles took more than half of the long texts, and every tenth short one, for the same that
    differ in one word, which may be a name; and "not very good" is not "not good".

    Only of one author: "yes" said by two people is said twice. A user without a name is another
    one in each namespace.
    """
    words = [_MARKS.sub("", word) or word for word in record.text.casefold().split()]
    said = "\0".join([*_author(record), "", *words])
    hashed = hashlib.blake2b(said.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


# Not "?", for a question is no statement, and nothing that may belong to a word: "C++", 6".
_MARKS = re.compile(r"^[“‘„«]+|[.,;:!…”’»]+$")


def _author(record: Record) -> list[str]:
    if record.kind == "document":
        return []
    return [record.speaker] if record.speaker else [record.role, *record.namespace]


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
        draft(record, next(vectors) if is_ranked(record) else None, at_given=given)
        for record, given in zip(records, at_given, strict=True)
    ]


def draft(record: Record, vector: Vector | None, *, at_given: bool = True) -> Draft:
    """Return a record with its vector and all else that it is found by."""
    return Draft(
        record=record,
        vector=vector,
        terms=words.terms(index_text(record)) if is_ranked(record) else words.encode(()),
        digest=digest(record),
        at_given=at_given,
        traits=traits(record.text),
    )


def traits(text: str) -> Traits:
    """Return what a text is like: how much of it asks, and whether it tells a time or a number."""
    asking, total = 0, 0
    if _ASKS.search(text):
        for sentence in _SENTENCE.findall(text):
            size = len(sentence.split())
            total += size
            asking += size if _ASKS.search(sentence) else 0
    return Traits(
        question=asking / total if total else 0.0,
        tells_time=bool(ENGLISH.tells_time.search(text.lower())),
        tells_number=bool(ENGLISH.tells_number.search(text.lower())),
    )


_ASKS = re.compile(r"[?？؟](?!\w)")  # not within a link
_SENTENCE = re.compile(r"(?:[^.!?？؟。\n]|[?.](?=\w))+[.!?？؟。]*")


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
