"""Documents: read, cut, found with their place, learned again, kept in Chroma."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_memory import HybridMemory, Scope
from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.backends.text_splitter import SemanticSplitter
from hybrid_memory.errors import DocumentError, InvalidInputError
from hybrid_memory.testing import HashEmbedder
from tests.pdf import write_pdf

PARAGRAPHS = "\n\n".join(
    f"Paragraph {number} tells of subject{number}. " + "It goes on for a while. " * 20
    for number in range(6)
)


@pytest.fixture
def splitting(tmp_path: Path) -> Scope:
    memory = HybridMemory.open(
        tmp_path / "memory",
        embedder=HashEmbedder(),
        splitter=SemanticSplitter(max_tokens=100),
        durability="normal",
    )
    return memory.scope(user_id="ana")


def test_a_chunk_knows_its_source_and_its_place(splitting: Scope) -> None:
    chunks = splitting.add_documents([PARAGRAPHS], source="notes.txt")

    assert len(chunks) >= 6
    for number, chunk in enumerate(chunks):
        assert (chunk.kind, chunk.source) == ("document", "notes.txt")
        assert chunk.data is not None
        assert chunk.data["chunk"] == number
        assert PARAGRAPHS[chunk.data["start"] : chunk.data["end"]] == chunk.text
    assert "subject4" in splitting.search("subject4")[0].record.text


def test_what_holds_no_word_is_no_chunk(ana: Scope) -> None:
    text = "Above.\n---\n```python\n\n| --- | --- |\n***\nBelow."

    assert [chunk.text for chunk in ana.add_documents([text], source="x")] == ["Above.", "Below."]


def test_files_and_folders_are_read_in_the_order_of_their_names(
    splitting: Scope, tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("Plain text about apples.")
    (folder / "a.md").write_text("# Title\n\nMarkdown about pears.")
    write_pdf(folder / "deep" / "c.pdf", ["Page one about plums.", "Page two about figs."])
    (folder / ".hidden.txt").write_text("secret")
    (folder / "picture.png").write_bytes(b"\x89PNG")

    chunks = splitting.add_documents(folder)

    assert [chunk.source for chunk in chunks] == [
        "docs/a.md",
        "docs/b.txt",
        "docs/deep/c.pdf",
        "docs/deep/c.pdf",
    ]
    assert [chunk.data["page"] for chunk in chunks[2:] if chunk.data] == [1, 2]
    assert splitting.search("figs")[0].record == chunks[3]


def test_learning_a_file_twice_changes_nothing(splitting: Scope, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(PARAGRAPHS)

    first = splitting.add_documents(file)
    again = splitting.add_documents(file)

    assert again == first
    assert splitting.stats().records["document"] == len(first)


def test_learning_a_changed_file_forgets_what_it_says_no_more(
    splitting: Scope, tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("The office is in Lyon.")
    splitting.add_documents(file)
    splitting.add_documents(["The office was founded in 1990."], source="history")

    file.write_text("The office is in Paris.")
    splitting.add_documents(file)

    texts = {hit.record.text for hit in splitting.search("office", k=20)}
    assert texts == {"The office is in Paris.", "The office was founded in 1990."}


def test_two_files_of_one_name_are_two_documents(splitting: Scope, tmp_path: Path) -> None:
    for folder, text in (("a", "Apples."), ("b", "Pears.")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "readme.txt").write_text(text)
        splitting.add_documents(tmp_path / folder / "readme.txt")

    assert splitting.stats().records["document"] == 2


def test_a_file_of_one_user_does_not_replace_anothers(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        ana, bob = memory.scope(user_id="ana"), memory.scope(user_id="bob")
        file.write_text("Lyon.")
        ana.add_documents(file)
        file.write_text("Paris.")
        bob.add_documents(file)

        assert [hit.record.text for hit in ana.search("Lyon")] == ["Lyon."]


def test_progress_is_told_in_chunks(splitting: Scope) -> None:
    told: list[tuple[int, int]] = []

    chunks = splitting.add_documents(
        [PARAGRAPHS] * 1,
        source="notes",
        on_progress=lambda done, total: told.append((done, total)),
    )

    assert told[-1] == (len(chunks), len(chunks))


def test_texts_need_a_source_and_some_text(ana: Scope) -> None:
    with pytest.raises(InvalidInputError, match="source="):
        ana.add_documents(["The canteen serves lentils."])
    with pytest.raises(InvalidInputError, match="not empty"):
        ana.add_documents([" "], source="menu.md")

    assert ana.stats().total == 0


def test_what_cannot_be_read_is_named_and_nothing_is_stored(ana: Scope, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Fine.")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "empty").mkdir()

    for name in ("empty.txt", "binary.txt", "table.xlsx", "broken.pdf", "empty", "missing.md"):
        with pytest.raises(DocumentError, match=name):
            ana.add_documents([tmp_path / "good.txt", tmp_path / name])

    assert ana.stats().total == 0


# -- Chroma ----------------------------------------------------------------------------------


def chroma(path: Path) -> HybridMemory:
    return HybridMemory.open(
        path / "memory", embedder=HashEmbedder(), documents=ChromaDocumentStore(path / "chroma")
    )


def dishes(count: int) -> list[str]:
    return [f"Dish{number} is made of thing{number} and salt." for number in range(count)]


def test_chroma_holds_the_documents_of_a_scope_and_no_others(tmp_path: Path) -> None:
    with chroma(tmp_path) as memory:
        ana = memory.scope(user_id="ana", read=[("kitchen",)])
        kitchen = memory.scope(namespace=("kitchen",))
        ana.add("I like thing3.")
        chunks = kitchen.add_documents(dishes(40), source="menu")

        hits = ana.search("thing3 Dish3", k=5)

        assert {hit.record.kind for hit in hits} == {"message", "document"}
        assert chunks[3] in [hit.record for hit in hits[:2]]
        assert memory.scope(user_id="bob").search("Dish3") == []


def test_chroma_follows_deletes_updates_and_a_new_process(tmp_path: Path) -> None:
    with chroma(tmp_path) as memory:
        kitchen = memory.scope(namespace=("kitchen",))
        chunks = kitchen.add_documents(dishes(10), source="menu")
        kitchen.search("Dish1")
        kitchen.delete(chunks[1].id)
        changed = kitchen.update(chunks[2].id, text="Dish2 is made of plutonium.")

    with chroma(tmp_path) as memory:
        kitchen = memory.scope(namespace=("kitchen",))
        assert chunks[1].id not in [hit.record.id for hit in kitchen.search("Dish1", k=20)]
        assert kitchen.search("plutonium")[0].record == changed
        assert len(kitchen.search("Dish", k=20)) == 9


def test_chroma_is_filled_again_from_the_records_when_it_is_lost(tmp_path: Path) -> None:
    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        memory.scope(namespace=("kitchen",)).add_documents(dishes(10), source="menu")

    with chroma(tmp_path) as memory:
        [hit] = memory.scope(namespace=("kitchen",)).search("Dish7 thing7", k=1)

    assert hit.record.text.startswith("Dish7")
    assert hit.signals["cosine"] > 0.15


def test_learning_a_text_again_with_other_metadata_is_no_conflict(ana: Scope) -> None:
    ana.add_documents(["Lentils on Monday."], source="menu", metadata={"week": 1})
    ana.add_documents(["Lentils on Monday."], source="menu", metadata={"week": 2})

    assert [hit.duplicates for hit in ana.search("lentils")] == [1]
    assert len(ana.search("lentils", where={"week": 1})) == 1
