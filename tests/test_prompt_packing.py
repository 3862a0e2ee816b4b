"""What is packed into one line, how much each block may take, and the receipt of the rest."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import Budget, Context, Gate, Hit, Record
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.prompt import clean, pack

START = datetime(2026, 5, 2, 12, tzinfo=UTC)


def _words(text: str) -> int:
    return len(text.split())


def _record(text: str, number: int = 0, **others: Any) -> Record:
    values: dict[str, Any] = {"kind": "message", "at": START + timedelta(minutes=number)} | others
    return Record(
        **{"id": f"r{number}", "namespace": ("ana",), "text": text, "created_at": START} | values
    )


def _chunks(
    text: str, spans: Sequence[tuple[int, int]], *, file: str | None = "/a.txt", **others: Any
) -> list[Record]:
    """Cut a text as a splitter does: (start, end) of each chunk, in characters."""
    place = {} if file is None else {"file": file}
    return [
        _record(
            text[start:end],
            number,
            **{"kind": "document", "source": "a.txt"} | others,
            data={"chunk": number, "start": start, "end": end, **place},
        )
        for number, (start, end) in enumerate(spans)
    ]


def _hits(*records: Record) -> list[Hit]:
    return [Hit(one, 0.9 - rank / 1000, rank, {}) for rank, one in enumerate(records, 1)]


def _pack(**changes: Any) -> Context:
    arguments: dict[str, Any] = {
        "hits": (),
        "instructions": (),
        "profile": {},
        "session": (),
        "gate": Gate(),
        "max_tokens": 1000,
        "threshold": 0.14,
        "count_tokens": _words,
        "key": b"of the tests",
    }
    return pack("Which?", **arguments | changes)


def _lines(context: Context, name: str = "documents") -> list[str]:
    block = context.block(name)
    return list(block.lines) if block else []


# -- chunks that adjoin ------------------------------------------------------------------------

TEXT = "The canteen serves lentils. It serves soup too. It is closed on Sunday."


def test_chunks_that_adjoin_are_one_line_in_the_order_of_the_text() -> None:
    first, second, third = _chunks(TEXT, [(0, 27), (28, 47), (48, 71)])

    context = _pack(hits=_hits(third, first, second))

    assert _lines(context) == [f"(a.txt) {TEXT}"]
    [block] = context.blocks
    assert block.by_line == ((first, second, third),)
    assert block.records == (first, second, third)
    assert [hit.record for hit in context.hits] == [third, first, second]


def test_what_two_chunks_share_is_told_once() -> None:
    chunks = _chunks(TEXT, [(0, 35), (28, 60), (48, 71)])

    assert _lines(_pack(hits=_hits(*chunks))) == [f"(a.txt) {TEXT}"]


def test_a_chunk_between_two_that_are_kept_is_not_made_up() -> None:
    first, _, third = _chunks(TEXT, [(0, 27), (28, 47), (48, 71)])

    lines = _lines(_pack(hits=_hits(third, first)))

    assert lines == ["(a.txt) The canteen serves lentils.", "(a.txt) It is closed on Sunday."]


def test_joining_makes_room() -> None:
    chunks = _chunks(TEXT, [(0, 37), (28, 60), (48, 71)], source="a file with a long name")
    apart = [_with(chunk, {"file": str(i)}) for i, chunk in enumerate(chunks)]
    needed = _pack(hits=_hits(*chunks)).tokens

    context = _pack(hits=_hits(*chunks), max_tokens=needed)

    assert context.tokens == needed
    assert len(context.hits) == 3
    assert len(_pack(hits=_hits(*apart), max_tokens=needed).hits) < 3


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text("ab .\n\u00e9<\u732b", min_size=10, max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    overlap=st.integers(0, 12),
    seed=st.integers(0, 5),
)
def test_a_document_whose_chunks_are_all_kept_reads_as_it_is(
    text: str, cuts: list[int], overlap: int, seed: int
) -> None:
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    spans = []
    for start, end in pairwise(bounds):
        at = max(0, start - overlap)
        piece = text[at:end]
        if piece.strip():
            spans.append(
                (at + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
            )
    chunks = _chunks(text, spans)
    random.Random(seed).shuffle(chunks)

    lines = _lines(_pack(hits=_hits(*chunks)))

    assert lines == ([f"(a.txt) {clean(text)}"] if chunks else [])


def test_chunks_of_two_pages_are_one_line_that_names_both() -> None:
    one, two = (
        _record(
            text,
            number,
            kind="document",
            source="a.pdf",
            data={
                "chunk": number,
                "start": 0,
                "end": len(text),
                "page": number + 3,
                "file": "/a.pdf",
            },
        )
        for number, text in enumerate(["It goes on", "over the page."])
    )

    assert _lines(_pack(hits=_hits(two, one))) == ["(a.pdf, pp. 3-4) It goes on over the page."]
    assert _lines(_pack(hits=_hits(two))) == ["(a.pdf, p. 4) over the page."]


def _with(chunk: Record, data: dict[str, Any]) -> Record:
    return replace(chunk, data={**(chunk.data or {}), **data})


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": 2},
        {"file": "/b.txt"},
        {"start": 27, "end": 60},  # not the length of its text
        {"start": "28"},
        {"chunk": None},
        {"start": 20, "end": 39},  # then they share characters, which are not the same
    ],
)
def test_what_only_looks_like_the_next_chunk_is_a_line_of_its_own(change: dict[str, Any]) -> None:
    first, second = _chunks(TEXT, [(0, 27), (28, 47)])

    context = _pack(hits=_hits(first, _with(second, change)))

    assert len(_lines(context)) == 2


def test_chunks_of_two_texts_from_one_source_are_not_joined() -> None:
    first, _ = _chunks(TEXT, [(0, 27), (28, 47)], file=None)
    _, other = _chunks(TEXT * 2, [(0, 50), (71, 98)], file=None)

    assert len(_lines(_pack(hits=_hits(first, other)))) == 2


def test_chunks_of_a_text_that_is_no_file_are_joined_where_they_touch() -> None:
    chunks = _chunks(TEXT, [(0, 27), (28, 47), (48, 71)], file=None)

    assert _lines(_pack(hits=_hits(*chunks))) == [f"(a.txt) {TEXT}"]


def test_chunks_of_two_namespaces_are_not_joined() -> None:
    first, _ = _chunks(TEXT, [(0, 27), (28, 47)])
    _, second = _chunks(TEXT, [(0, 27), (28, 47)], namespace=("team",))

    assert len(_lines(_pack(hits=_hits(first, second)))) == 2


@pytest.mark.parametrize(
    ("data", "citation"),
    [
        ({"title": "Handbook"}, "(a.md, Handbook)"),
        ({"title": "Handbook", "headings": ["Handbook", "Leave"]}, "(a.md, Handbook / Leave)"),
        ({"title": "A", "headings": ["A", "Leave"], "page": 3}, "(a.md, Leave, p. 3)"),
        ({"title": "It is"}, "(a.md)"),
        ({"page": "three"}, "(a.md)"),
        ({"title": "<b>"}, "(a.md, &lt;b&gt;)"),
    ],
)
def test_a_line_of_a_document_names_source_title_heading_and_page(
    data: dict[str, Any], citation: str
) -> None:
    chunk = _record("It is paid.", kind="document", source="a.md", data=data)

    assert _lines(_pack(hits=_hits(chunk))) == [f"{citation} It is paid."]


# -- the shares of the budget ------------------------------------------------------------------


def _full(budget: Budget | None = None, max_tokens: int = 400) -> Context:
    documents = [
        _record("lentils and soup " * 3, i, kind="document", source=f"{i}.md") for i in range(40)
    ]
    memories = [_record("I like Rust " * 3, 100 + i) for i in range(40)]
    return _pack(
        hits=_hits(*[one for pair in zip(documents, memories, strict=True) for one in pair]),
        instructions=[_record("Be concise.", 200 + i, kind="instruction") for i in range(40)],
        profile={f"key{i}": "value" for i in range(40)},
        session=[_record("hello there", 300 + i) for i in range(40)],
        max_tokens=max_tokens,
        budget=budget,
    )


def test_each_block_takes_no_more_than_its_share() -> None:
    shares = {"instructions": 0.1, "profile": 0.2, "session": 0.15, "memories": 0.1}
    context = _full(Budget(**shares, documents=0.3))

    spent = {block.name: block.tokens for block in context.blocks}
    assert spent.keys() == {*shares, "documents"}
    for name, share in {**shares, "documents": 0.3}.items():
        assert 0 < spent[name] <= share * 400


def test_without_a_budget_it_is_the_usual_one() -> None:
    assert _full() == _full(Budget())
    assert Budget() == Budget(
        instructions=0.25, profile=0.15, session=0.30, memories=1.0, documents=1.0
    )


@pytest.mark.parametrize("name", Budget.__dataclass_fields__)
def test_a_share_of_nothing_leaves_a_block_out(name: str) -> None:
    context = _full(Budget(**{name: 0}))

    assert context.block(name) is None
    assert len(context.blocks) == 4


def test_what_is_over_a_share_is_told_apart_from_what_is_over_the_budget() -> None:
    context = _full(Budget(documents=0.1))

    reasons = {(one.hit.record.kind, one.reason) for one in context.dropped}
    assert reasons == {
        ("document", "over the share of the token budget for documents"),
        ("document", "over the token budget"),
        ("message", "over the token budget"),
    }


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "0.5", None, True])
def test_a_share_outside_of_0_and_1_is_refused(share: Any) -> None:
    with pytest.raises(InvalidInputError, match="budget share session"):
        Budget(session=share)


# -- the receipt -------------------------------------------------------------------------------


def test_what_had_no_room_is_named_with_the_reason() -> None:
    long = "word " * 300
    context = _pack(
        instructions=[_record("Be concise.", 1, kind="instruction"), _record(long, 2)],
        profile={"name": "Ana", "novel": long},
        session=[_record("older", 3), _record(long, 4), _record("newest", 5)],
    )

    assert [
        (one.block, one.record.id if one.record else one.key, one.reason)
        for one in context.left_out
    ] == [
        ("instructions", "r2", "over the share of the token budget for instructions"),
        ("profile", "novel", "over the share of the token budget for profile"),
        ("session", "r3", "older than a turn without room"),
        ("session", "r4", "over the share of the token budget for session"),
    ]
    assert context.note == "1 of 2 instructions had no room"


def test_the_json_says_what_was_left_out_without_its_text() -> None:
    weak = Hit(_record("secret", 7), 0.12345678, 2, {}, relevance=0.1)
    context = _pack(
        hits=[Hit(_record("I like Rust.", 6), 0.9, 1, {}, duplicates=2), weak],
        profile={"novel": "secret " * 500},
        confidence=0.123456,
    )

    told = json.loads(json.dumps(context.as_json()))
    assert told["dropped"] == [
        {
            "block": "profile",
            "key": "novel",
            "reason": "over the share of the token budget for profile",
        },
        {
            "block": "memories",
            "id": "r7",
            "score": 0.1235,
            "reason": "relevance below the threshold of 0.14",
        },
    ]
    assert (told["duplicates"], told["confidence"]) == (2, 0.1235)
    assert "secret" not in json.dumps(told)


def test_repetitions_of_hits_that_are_left_out_count_too() -> None:
    hits = [
        Hit(_record("I like Rust.", 1), 0.9, 1, {}, duplicates=2),
        Hit(_record("I like tea.", 2), 0.1, 2, {}, duplicates=1, relevance=0.1),
    ]

    assert _pack(hits=hits).duplicates == 3


def test_a_record_that_is_asked_about_is_there_or_has_its_reason() -> None:
    kept, long, unknown = _record("kept", 1), _record("word " * 2000, 2), _record("unknown", 3)
    rule = _record("word " * 2000, 4, kind="instruction")

    context = _pack(hits=_hits(kept, long), instructions=[rule])

    assert [context.without(one) for one in (kept, long, unknown, rule)] == [
        "",
        "over the token budget",
        "not among the hits",
        "over the token budget",
    ]


def test_the_json_of_a_document_has_its_place() -> None:
    data = {"title": "Handbook", "headings": ["Handbook", "Leave"], "page": 3, "chunk": 0}
    chunk = _record("It is paid.", kind="document", source="a.pdf", data=data)

    [item] = _pack(hits=_hits(chunk)).as_json()["documents"]

    assert {name: item[name] for name in ("source", "title", "headings", "page")} == {
        "source": "a.pdf",
        "title": "Handbook",
        "headings": ["Handbook", "Leave"],
        "page": 3,
    }


# -- always ------------------------------------------------------------------------------------

TEXTS = st.text("ab. ?\n<\u00e9\u732b", min_size=1, max_size=40)
COUNTERS = {
    "words": _words,
    "pieces": lambda text: len(re.findall(r"\w{1,4}|[^\w\s]", text)),
    "characters": len,
    "three quarters of a word": lambda text: round(len(text.split()) / 0.75),
}
SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@pytest.mark.parametrize("counter", COUNTERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    said=st.lists(st.tuples(TEXTS, st.floats(0, 1), st.integers(0, 3)), max_size=10),
    cuts=st.lists(st.integers(1, 79), max_size=6, unique=True),
    overlap=st.integers(0, 9),
    session=st.lists(TEXTS, max_size=4),
    profile=st.dictionaries(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), max_size=4),
    budget=st.builds(Budget, **dict.fromkeys(Budget.__dataclass_fields__, SHARES)),
    max_tokens=st.integers(1, 900),
    seed=st.integers(0, 9),
)
def test_nothing_exceeds_the_budget_and_nothing_is_lost_without_a_reason(
    counter: str,
    said: list[tuple[str, float, int]],
    cuts: list[int],
    overlap: int,
    session: list[str],
    profile: dict[str, dict[str, str]],
    budget: Budget,
    max_tokens: int,
    seed: int,
) -> None:
    count_tokens = COUNTERS[counter]
    bounds = [0, *sorted(cuts), 80]
    spans = [(max(0, a - overlap), b) for a, b in pairwise(bounds)]
    chunks = _chunks("The canteen of Lyon serves lentils. " * 3, spans, id="")
    turns = [
        _record(text, i, at=START + timedelta(days=day)) for i, (text, _, day) in enumerate(said)
    ]
    found = [
        Hit(turn, 0.5, 1, {}, relevance=relevance)
        for turn, (_, relevance, _) in zip(turns, said, strict=True)
    ]
    found += [Hit(replace(one, id=f"c{i}"), 0.5, 1, {}) for i, one in enumerate(chunks)]
    random.Random(seed).shuffle(found)
    heard = [_record(text, 300 + i) for i, text in enumerate(session)]

    def packed(profile: dict[str, dict[str, str]]) -> Context:
        return _pack(
            hits=found,
            session=heard,
            profile=profile,
            budget=budget,
            max_tokens=max_tokens,
            count_tokens=count_tokens,
        )

    context = packed(profile)

    assert context.tokens <= max_tokens
    kept = {hit.record.id for hit in context.hits}
    dropped = {one.hit.record.id: one.reason for one in context.dropped}
    assert len(kept) + len(dropped) == len(found)
    assert not kept & dropped.keys()
    assert all(dropped.values())
    shown = {record.id for block in context.blocks for record in block.records}
    assert kept <= shown
    told = set(context.profile) | {one.key for one in context.left_out if one.key is not None}
    assert told == profile.keys()
    silent = {one.record.id for one in context.left_out if one.record}
    assert {turn.id for turn in heard} == silent | (shown - kept - {t.id for t in turns})
    for block in context.blocks:
        assert len(block.by_line) == len(block.lines)
        assert block.tokens <= getattr(budget, block.name) * max_tokens
    if memories := context.block("memories"):
        times = [record.at for record in memories.records]
        assert times == sorted(times)
    backwards = {key: dict(reversed(value.items())) for key, value in reversed(profile.items())}
    assert packed(backwards).as_system_prompt() == context.as_system_prompt()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(order=st.permutations(range(9)))
def test_the_order_in_which_chunks_were_found_does_not_change_the_prompt(order: list[int]) -> None:
    one = _chunks(TEXT, [(0, 30), (28, 47), (48, 71)])
    other = _chunks(TEXT.upper(), [(0, 27), (28, 47), (48, 71)], file="/b.txt")
    texts = _chunks(TEXT.title(), [(0, 27), (28, 47), (48, 71)], file=None)
    chunks = [replace(chunk, id=f"c{i}") for i, chunk in enumerate([*one, *other, *texts])]

    context = _pack(hits=_hits(*[chunks[i] for i in order]))

    assert context.as_system_prompt() == _pack(hits=_hits(*chunks)).as_system_prompt()
    assert len(_lines(context)) == 3
