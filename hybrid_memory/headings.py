"""What a chunk of a document stands under: the title of the document and a trail of headings.

Writing and prompting share this module, so that both tell a chunk's place in the same way.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from hybrid_memory.backends import markdown
from hybrid_memory.types import NOTHING, Record

MAX_CHARS = 120  # of a title or a heading
MAX_TRAIL_CHARS = 160  # some 40 tokens: with a chunk of 200, what the encoder reads at once

_WORD = re.compile(r"\w+")
_IN_FRONT_MATTER = re.compile(r"[\w-]+[ \t]*:.*|[ \t].*|-[ \t].*|")


class Outline:
    """The headings of a Markdown text. YAML in front of it holds none, but may name the title."""

    def __init__(self, text: str) -> None:
        self._text = text
        size, self._named = _front_matter(text)
        self._headings = [one for one in markdown.headings(text) if one.start >= size]
        self._ends = [heading.end for heading in self._headings]
        self._trails = list(_trails(self._headings))

    @property
    def title(self) -> str | None:
        """The title that is named in front of the text, or the first heading of level 1."""
        first = next((one.text for one in self._headings if one.level == 1 and one.text), "")
        return short(self._named or first) or None

    def trail(self, start: int) -> list[str]:
        """Return the headings, outermost first, over what begins at this character.

        Of a heading, those over the text below it: its own is the last of them.
        """
        at = bisect_right(self._ends, self._below(start)) - 1
        return self._trails[at] if at >= 0 else []

    def is_bare(self, start: int, end: int) -> bool:
        """Tell whether a part of the text is headings and nothing else."""
        return not self._text[self._below(start) : end].strip()

    def _below(self, start: int) -> int:
        """Return where the headings end that stand here, which is here if there are none."""
        for heading in self._headings[bisect_right(self._ends, start) :]:
            if self._text[start : heading.start].strip():
                break
            start = heading.end
        return start


def short(text: str) -> str:
    """Return a title or heading as one line of at most 120 characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1].rstrip()}…"


def place(record: Record) -> list[str]:
    """Return a document's title and the headings over it, as its data has them; each once."""
    data = record.data or NOTHING
    if record.kind != "document":
        return []
    title, headings = data.get("title"), data.get("headings")
    named = [title, *(headings if isinstance(headings, list | tuple) else ())]
    shown = [short(name) for name in named if isinstance(name, str) and _WORD.search(name)]
    return list(dict.fromkeys(shown))


def above(record: Record) -> list[str]:
    """Return of `place` what the text does not say itself at its start, and what is short."""
    names = place(record)
    said = _words(record.text[: 2 * MAX_CHARS * (len(names) + 1)]) if names else []
    for first in range(len(names)):
        opening = _words(" ".join(names[first:]))
        if said[: len(opening)] == opening:
            names = names[:first]
            break
    # The heading next to the text says most about it, then the title.
    while len(names) > 1 and len(" / ".join(names)) > MAX_TRAIL_CHARS:
        del names[1 if len(names) > 2 else 0]
    return names


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _trails(headings: Sequence[markdown.Heading]) -> Iterator[list[str]]:
    open_: list[markdown.Heading] = []
    for heading in headings:
        while open_ and open_[-1].level >= heading.level:
            open_.pop()
        open_.append(heading)
        yield [short(one.text) for one in open_ if one.text]


def _front_matter(text: str) -> tuple[int, str]:
    """Return the length of YAML between `---` at the start of a text, and the title in it."""
    title = ""
    size = 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        size += len(line)
        bare = line.rstrip()
        if number == 0 and bare == "---":
            continue
        if number and bare == "---":
            return size, title
        if number == 0 or not _IN_FRONT_MATTER.fullmatch(bare):
            break
        key, _, value = bare.partition(":")
        if key.strip().lower() == "title":
            title = title or value.strip().strip("\"'")
    return 0, ""
