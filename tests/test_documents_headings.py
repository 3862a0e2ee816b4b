"""Titles and headings of documents: found in Markdown, kept with the chunk, searched with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Record, Scope
from hybrid_memory.backends.markdown import headings
from hybrid_memory.backends.text_splitter import SemanticSplitter
from hybrid_memory.headings import MAX_CHARS, MAX_TRAIL_CHARS, Outline, above
from hybrid_memory.indexing import index_text
from hybrid_memory.testing import HashEmbedder, ManualClock
from tests.pdf import write_pdf

HANDBOOK = """# Handbook

Welcome to the office.

## Leave

Everybody has thirty days.

### Parental leave

It is paid for six months.

## Travel

```bash
# this is a comment
```

Trains are paid.
"""


@pytest.fixture
def splitting(tmp_path: Path) -> Scope:
    memory = HybridMemory.open(
        tmp_path / "memory",
        embedder=HashEmbedder(),
        splitter=SemanticSplitter(max_tokens=20),
        durability="normal",
    )
    return memory.scope(user_id="ana")


def _placed(chunks: list[Record]) -> dict[str, Any]:
    """Return the headings of each chunk by its last line."""
    return {chunk.text.splitlines()[-1]: (chunk.data or {}).get("headings", ()) for chunk in chunks}


def _title(chunk: Record) -> Any:
    return (chunk.data or {}).get("title")


def _chunk(text: str, **data: Any) -> Record:
    at = ManualClock()()
    return Record(
        id="r", namespace=("ana",), kind="document", text=text, at=at, created_at=at, data=data
    )


# -- Markdown ----------------------------------------------------------------------------------


def test_a_chunk_knows_the_title_and_the_headings_it_stands_under(ana: Scope) -> None:
    chunks = ana.add_documents([HANDBOOK], source="handbook.md")

    assert {_title(chunk) for chunk in chunks} == {"Handbook"}
    placed = _placed(chunks)
    assert placed["Welcome to the office."] == ["Handbook"]
    assert placed["Everybody has thirty days."] == ["Handbook", "Leave"]
    assert placed["It is paid for six months."] == ["Handbook", "Leave", "Parental leave"]
    assert placed["Trains are paid."] == ["Handbook", "Travel"]


def test_a_comment_in_a_block_of_code_is_no_heading() -> None:
    assert [heading.text for heading in headings(HANDBOOK)] == [
        "Handbook",
        "Leave",
        "Parental leave",
        "Travel",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("plain text", []),
        ("#hashtag", []),
        ("# One", ["One"]),
        ("# One #\r\n## Two\r## Three\n", ["One", "Two", "Three"]),
        ("One\n===\n\nTwo lines\nof it\n---\n", ["One", "Two lines of it"]),
        ("# A **bold** `code` [link](https://x.org) &amp; <b>tag</b>", ["A bold code link & tag"]),
        ("    # indented code\n", []),
        ("~~~\n# tildes\n~~~\n# One", ["One"]),
        ("```\n# never closed", []),
        ("> # quoted\n\n- # listed\n\n# One", ["One"]),
        ("<!--\n# hidden\n-->\n\n# One", ["One"]),
        ("##\n\n# One", ["", "One"]),
    ],
)
def test_headings_are_those_of_the_document_itself(text: str, found: list[str]) -> None:
    assert [heading.text for heading in headings(text)] == found


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("# \n\r\t>-`=*[]()<!a\x0c\u2028é", max_size=80))
def test_a_heading_stands_where_it_says(text: str) -> None:
    end = 0
    for heading in headings(text):
        assert end <= heading.start < heading.end <= len(text)
        assert 1 <= heading.level <= 6
        if heading.text.isalnum():
            assert heading.text in text[heading.start : heading.end]
        end = heading.end


def test_a_heading_ends_those_of_its_level_and_below() -> None:
    text = "# A\na\n## B\nb\n### C\nc\n## D\nd\n# E\ne\n### F\nf"
    outline = Outline(text)

    trails = ["".join(outline.trail(text.index(f"\n{name}") + 1)) for name in "abcdef"]

    assert trails == ["A", "AB", "ABC", "AD", "E", "EF"]


def test_a_chunk_that_begins_with_headings_stands_under_them_too() -> None:
    text = "intro\n# A\n## B\n\nb"

    assert Outline(text).trail(text.index("# A")) == ["A", "B"]
    assert Outline(text).trail(0) == []


def test_headings_cut_off_from_their_text_stand_before_it_again(splitting: Scope) -> None:
    long = "The canteen serves lentils on Mondays. " * 12
    text = f"# Canteen\n\n## Menu\n\n{long}\n\n## Address\n\n{long}"

    chunks = splitting.add_documents([text], source="canteen.md")

    assert chunks[0].text.startswith("# Canteen\n\n## Menu\n\nThe canteen")
    assert sum("## Address\n\nThe canteen" in chunk.text for chunk in chunks) == 1
    assert all("lentils" in chunk.text for chunk in chunks)
    for chunk in chunks:
        assert chunk.data is not None
        assert text[chunk.data["start"] : chunk.data["end"]] == chunk.text
    assert [(chunk.data or {})["chunk"] for chunk in chunks] == list(range(len(chunks)))


def test_a_document_of_headings_alone_is_kept(splitting: Scope) -> None:
    [chunk] = splitting.add_documents(["# Canteen\n\n## Menu"], source="canteen.md")

    assert chunk.text == "# Canteen\n\n## Menu"


def test_front_matter_holds_no_heading_and_names_the_title(splitting: Scope) -> None:
    text = '---\ntitle: "The canteen"\ntags:\n  - food\n---\n\n## Menu\n\nLentils.'

    chunks = splitting.add_documents([text], source="canteen.md")

    assert {_title(chunk) for chunk in chunks} == {"The canteen"}
    assert _placed(chunks)["Lentils."] == ["Menu"]


def test_rules_at_the_start_of_a_text_are_no_front_matter() -> None:
    outline = Outline("---\n\n# Canteen\n\n---\n\nLentils.")

    assert outline.title == "Canteen"


@pytest.mark.parametrize("source", ["notes.txt", "notes", "notes.rst"])
def test_only_markdown_has_headings(splitting: Scope, source: str) -> None:
    for chunk in splitting.add_documents([HANDBOOK], source=source):
        assert chunk.data is not None
        assert not {"title", "headings"} & chunk.data.keys()


def test_a_heading_of_any_length_can_be_stored(ana: Scope) -> None:
    text = f"# {'very ' * 12_000}long\n\n## {'word ' * 300}\n\nLentils."

    chunks = ana.add_documents([text], source="long.md")

    for chunk in chunks:
        names = [_title(chunk), *(chunk.data or {}).get("headings", ())]
        assert max(len(name) for name in names) <= MAX_CHARS


# -- titles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("menu.md", "Intro\n\n# Canteen\n\n# Garden\n\nLentils.", "Canteen"),
        ("menu.md", "## Only below\n\nLentils.", "menu"),
        ("menu.txt", "The canteen of Lyon\n\nLentils on Mondays.", "The canteen of Lyon"),
        ("menu.rst", "===\nThe canteen\n===\n\nLentils on Mondays.", "The canteen"),
        ("menu.txt", "Lentils are served on Mondays.\n\nSoup on Fridays.", "menu"),
        ("menu.txt", "The canteen has\nlentils on Mondays.", "menu"),
        ("menu.txt", "The canteen of Lyon", "menu"),
        ("menu.txt", "12 / 2026\n\nLentils.", "menu"),
        ("menu.txt", "ana@example.org\n\nLentils.", "menu"),
        ("menu.txt", f"{'word ' * 15}\n\nLentils.", "menu"),
    ],
)
def test_a_file_is_called_by_its_first_line_if_that_is_a_title_or_else_by_its_name(
    ana: Scope, tmp_path: Path, name: str, text: str, title: str
) -> None:
    (tmp_path / name).write_text(text)

    assert {_title(chunk) for chunk in ana.add_documents(tmp_path / name)} == {title}


def test_a_pdf_is_called_by_the_first_line_of_its_first_page(ana: Scope, tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", ["The canteen of Lyon\nLentils on Mondays.", "Soup."])
    write_pdf(tmp_path / "b.pdf", ["Lentils are served on Mondays.", "Soup."])

    chunks = ana.add_documents([tmp_path / "a.pdf", tmp_path / "b.pdf"])

    titles = {(chunk.source, _title(chunk)) for chunk in chunks}
    assert titles == {("a.pdf", "The canteen of Lyon"), ("b.pdf", "b")}


def test_nothing_is_invented_for_a_plain_text(ana: Scope) -> None:
    [chunk, _] = ana.add_documents(["The canteen of Lyon\n\nLentils."], source="menu.txt")

    assert chunk.data == {"chunk": 0, "start": 0, "end": 19}


# -- what a chunk is found by ------------------------------------------------------------------


def test_a_chunk_is_found_by_the_words_of_its_title_and_headings(splitting: Scope) -> None:
    splitting.add_documents([HANDBOOK], source="handbook.md")
    splitting.add_documents(["# Garden\n\nSix months of roses."], source="garden.md")

    [hit] = splitting.search("handbook months", k=1)

    assert hit.record.text.endswith("It is paid for six months.")


def test_the_index_text_begins_with_title_and_headings() -> None:
    chunk = _chunk("It is paid.", title="Handbook", headings=["Handbook", "Leave"])

    assert index_text(chunk) == "Handbook / Leave\nIt is paid."


@pytest.mark.parametrize(
    ("text", "said_before"),
    [
        ("# Handbook\n\n## Leave\n\nIt is paid.", ""),
        ("Handbook\n========\n\n**Leave**: it is paid.", ""),
        ("## Leave\n\nIt is paid.", "Handbook\n"),
        ("Leave it.", "Handbook\n"),
        ("Leaves fall.", "Handbook / Leave\n"),
        ("It is paid. # Handbook", "Handbook / Leave\n"),
    ],
)
def test_what_the_text_begins_with_is_not_said_twice(text: str, said_before: str) -> None:
    chunk = _chunk(text, title="Handbook", headings=["Handbook", "Leave"])

    assert index_text(chunk) == f"{said_before}{text}"


def test_a_long_trail_keeps_its_end_and_then_its_title() -> None:
    names = [f"{name * 50} {name}" for name in "abcde"]

    kept = above(_chunk("Lentils.", title="Canteen", headings=names))

    assert kept == ["Canteen", names[3], names[4]]
    assert len(" / ".join(kept)) <= MAX_TRAIL_CHARS


def test_a_document_that_is_added_as_a_record_is_found_by_its_title(ana: Scope) -> None:
    ana.add("Lentils on Mondays.", kind="document", data={"title": "Canteen"})
    ana.add("Roses on Mondays.", kind="document", data={"title": "Garden"})

    assert ana.search("canteen Mondays")[0].record.text == "Lentils on Mondays."


@pytest.mark.parametrize(
    "data",
    [
        {"title": 7},
        {"title": ["Canteen"]},
        {"title": "  "},
        {"title": "---"},
        {"headings": "Canteen"},
        {"headings": [7, None, {"a": 1}]},
        {"headings": {"a": "b"}},
    ],
)
def test_a_title_of_another_form_is_the_users_own(ana: Scope, data: dict[str, Any]) -> None:
    record = ana.add("Lentils.", kind="document", data=data)

    assert index_text(record) == "Lentils."
    assert ana.context("lentils").hits[0].record == record


def test_only_documents_are_found_by_a_title(ana: Scope) -> None:
    fact = ana.add_fact({"title": "Canteen", "dish": "Lentils"})

    assert index_text(fact) == fact.text


def test_a_changed_title_is_learned_with_every_chunk(splitting: Scope, tmp_path: Path) -> None:
    file = tmp_path / "handbook.md"
    file.write_text(HANDBOOK)
    splitting.add_documents(file)

    file.write_text(HANDBOOK.replace("# Handbook", "# Yearbook"))
    chunks = splitting.add_documents(file)

    assert {_title(hit.record) for hit in splitting.search("leave", k=20)} == {"Yearbook"}
    assert splitting.stats().records["document"] == len(chunks)
