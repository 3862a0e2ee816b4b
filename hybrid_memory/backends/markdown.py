"""Finds the headings of Markdown with markdown-it-py, a parser of CommonMark."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


class Heading(NamedTuple):
    """A heading: its level from 1 to 6, its words without markup, its span in characters."""

    level: int
    text: str
    start: int
    end: int


def headings(text: str) -> list[Heading]:
    """Return the headings of a text in order, without those inside of quotes and lists."""
    lines = [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]
    return [
        Heading(int(opened.tag[1:]), _words(said.content), lines[opened.map[0]], lines[end])
        for opened, said in pairwise(_parser(inline=False).parse(text))
        if opened.type == "heading_open" and opened.level == 0 and opened.map
        for end in [min(opened.map[1], len(lines) - 1)]
    ]


_LINE_END = re.compile(r"\r\n?|\n")  # what the parser takes for one
_MAX_MARKUP = 1000  # characters of a heading that are looked at
_UNSEEN = frozenset({"html_inline"})
_BREAKS = frozenset({"softbreak", "hardbreak"})


def _words(markup: str) -> str:
    children = _parser(inline=True).parseInline(markup[:_MAX_MARKUP])[0].children or []
    shown = [
        " " if child.type in _BREAKS else child.content
        for child in children
        if child.type not in _UNSEEN
    ]
    return " ".join("".join(shown).split())


@cache
def _parser(*, inline: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt  # a tenth of a second, which only Markdown pays

    parser = MarkdownIt("commonmark")
    # Looking into the headings alone takes a tenth of the time on prose.
    return parser if inline else parser.disable("inline")
