"""Write path: takes what a context put into a prompt out of a transcript that comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hybrid_memory.prompt.rendering import BARE, HELPING, REQUIRED, TAG, TITLES

_MARGIN = " \t>|*"  # of lines that mail or Markdown quotes, indents or lists
_EDGE = _MARGIN + "\r"
_SHOWN = rf"(?:<|&lt;|\\u003c)(/?)({TAG})(?:>|&gt;|\\u003e)"
_TAGS = re.compile(_SHOWN)
_TAG_ALONE = re.compile(rf"(?:{_SHOWN})[ \t]*(?:\\[nr].*)?")
_RULES = re.compile(
    "|".join(re.escape(one).replace(r"\{tag\}", TAG) for one in (HELPING, REQUIRED))
)
_HINT = re.compile("|".join([TAG, re.escape(BARE), *map(re.escape, TITLES.values())]))
_BEGINNING = re.compile(rf"Below, in {TAG}, is your memory\.")
_TELLS_WHEN = re.compile(r"- \[\d\d [A-Z][a-z]{2} \d{4}\] ")  # see `rendering.memory_line`
# The items of our blocks, where they are unlike a list of anybody else. The title of the
# instructions is unlike anything by itself.
_ANY = re.compile("- ")
_ITEMS = {
    TITLES["memories"]: _TELLS_WHEN,
    TITLES["session"]: _TELLS_WHEN,
    TITLES["documents"]: re.compile(r"- \("),
    TITLES["instructions"]: _ANY,
}
_NAMES = frozenset(TITLES.values())


def without_memory(text: str) -> str:
    """Return a text without what `Context.as_system_prompt` put into it.

    Whole blocks, the rule and the instructions that stand before them, and the lines that are
    left where a block was cut off at its beginning, at its end or at both, quoted or not. Other
    lines stay as they are; what holds nothing of the kind comes back unchanged.
    """
    if not _HINT.search(text):
        return text
    spans = [*_whole_blocks(text), *(found.span() for found in _RULES.finditer(text))]
    lines = _lines(text, sorted(spans))
    bare = [line.lstrip(_EDGE).rstrip(" \t\r") if line else "" for line in lines]
    cut = _cut_blocks(bare)
    sure = bool(spans or cut)
    cut |= _titled(bare, sure=sure)
    if cut and not sure:
        cut |= _titled(bare, sure=True)
    if sure or cut:
        names = set(re.findall(TAG, text))
        cut |= {at for at, line in enumerate(bare) if line and _is_left_over(line, names)}
    kept = [None if at in cut else line for at, line in enumerate(lines)]
    return text if None not in kept and not spans else _joined(kept)


def without_memory_message(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a chat message without what the memory put into it; None if nothing is left of it.

    Of a message that has tool calls, or answers one, something is always left.
    """
    content = message.get("content")
    kept: Any
    if isinstance(content, str):
        kept = without_memory(content)
    elif isinstance(content, Sequence):
        parts = [_without_memory_part(part) for part in content]
        kept = [part for part in parts if part is not None]
        if kept == list(content):
            return message
    else:
        return message
    if kept == content:
        return message
    bound = message.get("tool_calls") or message.get("role") in ("tool", "function")
    return {**message, "content": kept or None} if kept or bound else None


def _without_memory_part(part: Any) -> Any:
    told = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(told, str):
        return part
    kept = without_memory(told)
    if kept == told:
        return part
    if not kept:
        return None
    return {**part, "text": kept} if isinstance(part, Mapping) else kept


def _whole_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield where blocks with both of their tags stand, also those put on one line."""
    opened: dict[str, int] = {}
    for tag in _TAGS.finditer(text):
        closes, name = tag.groups()
        if not closes:
            opened.setdefault(name, tag.start())
        elif name in opened:
            yield opened[name], tag.end()
            opened.clear()


def _lines(text: str, spans: Sequence[tuple[int, int]]) -> list[str | None]:
    """Return the lines of a text without the spans; None for one of which they left nothing."""
    lines: list[str | None] = []
    pieces, at = [], 0
    for start, end in spans:
        if start < at:
            continue  # a rule that is told within a block
        pieces.append(text[at:start])
        at = end
    pieces.append(text[at:])
    for number, piece in enumerate(pieces):
        first, *others = piece.split("\n")
        if number == 0:
            lines.append(first)
        else:
            joined = f"{lines[-1] or ''}{first}"
            lines[-1] = joined if joined.strip(_EDGE) else None
        lines += others
    return lines


def _cut_blocks(lines: Sequence[str]) -> set[int]:
    """Return the lines of blocks of which one tag is missing."""
    cut: set[int] = set()
    for at, line in enumerate(lines):
        if not (tag := _TAG_ALONE.fullmatch(line)):
            continue
        cut.add(at)
        step = -1 if tag[1] else 1
        beside = at + step
        while 0 <= beside < len(lines) and beside not in cut and _is_of_block(lines[beside]):
            cut.add(beside)
            beside += step
        if beside == len(lines) - 1 and step == 1 and _begins_of_block(lines[beside]):
            cut.add(beside)
    return cut


def _is_of_block(line: str) -> bool:
    return line in _NAMES or line.startswith("- ")


def _begins_of_block(line: str) -> bool:
    return any(one.startswith(line) for one in (*_NAMES, "- "))


def _titled(lines: Sequence[str], *, sure: bool) -> set[int]:
    """Return the lines that stand under a title of ours, with the title.

    Somebody may write "Profile of the user:" over a list of their own, so of a block without its
    tags only items count that look like nothing else, unless it is `sure` that a prompt is here.
    """
    cut: set[int] = set()
    for at, (line, below) in enumerate(pairwise([*lines, ""])):
        item = _ANY if sure and line in _NAMES else _ITEMS.get(line)
        is_last = sure and at == len(lines) - 1  # its items were cut off
        if item is None or not (item.match(below) or is_last):
            continue
        cut.add(at)
        for under in range(at + 1, len(lines)):
            if not item.match(lines[under]):
                break
            cut.add(under)
    return cut


def _is_left_over(line: str, names: set[str]) -> bool:
    """Tell whether a line is what a cut left of a rule or of a tag; the text held more of them."""
    if line == BARE or _BEGINNING.match(line):
        return True
    if len(line) > 20 and any(rule.endswith(line) for rule in (HELPING, REQUIRED)):
        return True
    return any(f"<{name}>".startswith(line) or f"</{name}>".startswith(line) for name in names)


def _joined(lines: Sequence[str | None]) -> str:
    """Return the lines that are left, without the empty ones and fences around what is gone."""
    kept: list[str] = []
    gap: int | None = (
        None  # how many lines were kept when the last ones went, if all since are empty
    )
    for line in lines:
        if line is None:
            del kept[len(kept) if gap is None else gap :]
            gap = len(kept)
        elif gap is not None and line.strip(_EDGE) == "```" and _opens_fence(kept[gap - 1 : gap]):
            del kept[gap - 1 :]
            gap = len(kept)
        elif gap is not None and not line.strip(_EDGE):
            if len(kept) > gap or _is_text(kept[gap - 1 : gap]):
                kept.append(line)
        else:
            gap = None
            kept.append(line)
    while kept and not _is_text(kept[:1]):
        del kept[0]
    return "\n".join(kept).rstrip(_EDGE + "\n")


def _opens_fence(lines: Sequence[str]) -> bool:
    return any(line.strip(_EDGE).startswith("```") for line in lines)


def _is_text(lines: Sequence[str]) -> bool:
    return any(line.strip(_EDGE) for line in lines)
