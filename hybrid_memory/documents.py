"""Write path: documents into chunks that keep their source and their place in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hybrid_memory import limits
from hybrid_memory.errors import DocumentError, InvalidInputError
from hybrid_memory.headings import Outline, short
from hybrid_memory.protocols import DocumentReader, DocumentSplitter

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
_MARKDOWN = frozenset({".md", ".markdown"})
# Rules, rows of dashes, and the opening fence of a code block too long for one chunk.
_WORDLESS = re.compile(r"\s*(?:`{3,}|~{3,})[\w+-]*\s*|[\W_]*")
_LETTER = re.compile(r"[^\W\d_]")
_LONGEST_HEADING = 200  # characters that may stand before a chunk although it is full
_LONGEST_TITLE_WORDS = 14


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its source; a paged one has a text a page, one of a file its whole path."""

    source: str
    pages: tuple[str, ...]
    file: str | None = None

    @property
    def markdown(self) -> bool:
        """Whether the text is to be split at Markdown's headings."""
        return PurePath(self.source).suffix.lower() in _MARKDOWN


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: `data` has its number, its span in characters, its page and file.

    And the document's `title` and the `headings` over it, outermost first, where there are any.
    """

    source: str
    text: str
    data: Mapping[str, Any]


def documents(
    items: str | Path | Iterable[str | Path],
    *,
    source: str | None,
    readers: Mapping[str, DocumentReader],
) -> Iterator[Document]:
    """Yield the documents of texts, all from `source`, and of paths.

    Raises:
        InvalidInputError: a text without a source, or neither a text nor a path.
        DocumentError: see `load`.
    """
    if isinstance(items, str | Path):
        items = [items]
    for item in limits.several(items, "documents are texts and paths"):
        if isinstance(item, Path):
            yield from load(limits.path(item, "the path of a document"), readers)
            continue
        if not isinstance(item, str) or not item.strip():
            raise InvalidInputError("a document is a text that is not empty, or a pathlib.Path")
        if source is None:
            raise InvalidInputError("a text needs a source=; for a file pass a pathlib.Path")
        yield Document(limits.label(source, "source"), (item,))


def load(path: Path, readers: Mapping[str, DocumentReader]) -> list[Document]:
    """Return the documents of a file, or of a folder and its folders in the order of their names.

    In a folder, files of other formats and hidden ones are passed over; a file named by itself
    must be readable. Sources are the file's name, behind that of the folder and those in it.

    Raises:
        DocumentError: nothing there, an unknown format, or not readable.
    """
    if path.is_dir():
        known = TEXT_SUFFIXES | readers.keys()
        folder = PurePath(path.resolve().name)
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file()
            and file.suffix.lower() in known
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not files:
            raise DocumentError(f"{path} holds no document; readable are {_listed(known)}")
        texts = [
            _read(file, (folder / file.relative_to(path)).as_posix(), readers) for file in files
        ]
        return [document for document in texts if any(page.strip() for page in document.pages)]
    if not path.exists():
        raise DocumentError(f"{path} does not exist")
    document = _read(path, path.name, readers)
    if not any(page.strip() for page in document.pages):
        raise DocumentError(f"{path} has no text")
    return [document]


def _read(path: Path, source: str, readers: Mapping[str, DocumentReader]) -> Document:
    suffix = path.suffix.lower()
    if suffix in readers:
        return Document(source, tuple(readers[suffix].read(path)), file=str(path.resolve()))
    if suffix not in TEXT_SUFFIXES:
        raise DocumentError(
            f"{path} is of no known format; readable are {_listed(TEXT_SUFFIXES | readers.keys())}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot read {path} as UTF-8 text: {error}") from error
    return Document(source, (text,), file=str(path.resolve()))


def chunks(documents: Iterable[Document], splitter: DocumentSplitter) -> Iterator[Chunk]:
    """Yield the chunks of documents that hold a word, numbered from 0 within each.

    Headings that were cut off from the text below them stand before it again.
    """
    for document in documents:
        number = 0
        pages = [_storable(page) for page in document.pages]
        outlines = [Outline(page) if document.markdown else None for page in pages]
        title = _title(document, pages, outlines)
        for page, (text, outline) in enumerate(zip(pages, outlines, strict=True), 1):
            for start, end in _spans(text, outline, splitter):
                data: dict[str, Any] = {"chunk": number, "start": start, "end": end}
                if document.file is not None:
                    data["file"] = document.file
                if len(document.pages) > 1:
                    data["page"] = page
                if title:
                    data["title"] = title
                if headings := outline.trail(start) if outline else []:
                    data["headings"] = headings
                yield Chunk(document.source, text[start:end], data)
                number += 1


def _storable(text: str) -> str:
    # What cannot be stored is no reason to lose the rest of a document.
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _spans(
    text: str, outline: Outline | None, splitter: DocumentSplitter
) -> Iterator[tuple[int, int]]:
    heading: tuple[int, int] | None = None  # waits for the text that it stands over
    for start, piece in splitter.split(text, markdown=outline is not None):
        end = start + len(piece)
        if _WORDLESS.fullmatch(piece):
            continue
        if heading is not None:
            start = min(start, heading[0])
        if outline and end - start <= _LONGEST_HEADING and outline.is_bare(start, end):
            heading = start, end
            continue
        heading = None
        yield start, end
    if heading is not None:
        yield heading


def _title(
    document: Document, pages: Sequence[str], outlines: Sequence[Outline | None]
) -> str | None:
    """Return what a document is called; of a text that is no file only what its headings say."""
    named = next((outline.title for outline in outlines if outline and outline.title), None)
    if named or document.file is None:
        return named
    first = None if document.markdown else _first_line(pages)
    return short(first or PurePath(document.source).stem)


def _first_line(pages: Sequence[str]) -> str | None:
    """Return the first line with a word in it, if it looks like a title: short and no sentence."""
    lines = next((page.splitlines() for page in pages if page.strip()), [])
    at = next((i for i, line in enumerate(lines) if not _WORDLESS.fullmatch(line)), len(lines))
    line, below = " ".join(lines[at : at + 1]).strip(), lines[at + 1 :]
    # Text that comes from pages has lost its blank lines.
    stands_alone = len(pages) > 1 or (bool(below) and bool(_WORDLESS.fullmatch(below[0])))
    if (
        not stands_alone
        or not any(one.strip() for one in below)
        or len(line.split()) > _LONGEST_TITLE_WORDS
        or short(line) != " ".join(line.split())
        or line.endswith((".", ",", ";", ":"))
        or not _LETTER.search(line)
        or "@" in line
        or "://" in line
    ):
        return None
    return line


def _listed(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))
