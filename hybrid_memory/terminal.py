"""What goes through a terminal: arguments in, tables, bars and JSON out; the only use of rich."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from hybrid_memory.errors import InvalidInputError, TextError, TimeError
from hybrid_memory.types import Erased, Gate, Hit, Pruned, Record, Stats, Why

if TYPE_CHECKING:
    from hybrid_memory import Answer
    from hybrid_memory.evaluation import Miss
    from hybrid_memory.upkeep import Problem, Report

OnProgress: TypeAlias = Callable[[int, int], None]  # (done, total)

_PIPED_COLUMNS = 120  # of a pipe or file, where there is no width to ask for
_PRUNED_ROWS = 20  # of the records that are pruned; --json has all
_TEXT_CHARACTERS = 300  # of a text in a table; --json has all of it


def console(*, stderr: bool = False) -> Console:
    """Return a console that writes colours and bars to a terminal only."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_COLUMNS
    return Console(file=stream, highlight=False, width=width)


def plain(text: str) -> str:
    """Return the text without control characters: a stored one must not drive the terminal."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) != "Cc" else "\ufffd"
        for character in text
    )


def table(rows: Sequence[Sequence[str]], *, title: str | None = None) -> Table:
    """Return a table of a header and rows; columns of numbers are set to the right."""
    header, *lines = rows
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for i, name in enumerate(header):
        right = bool(lines) and all(_is_number(line[i]) for line in lines)
        made.add_column(Text(name), justify="right" if right else "left", no_wrap=right)
    for line in lines:
        made.add_row(*(Text(plain(cell)) for cell in line))
    return made


def hits_table(hits: Sequence[Hit], *, one_line: bool = False) -> Table:
    """Return a table of hits with a column for each signal; the signals add up to the score."""
    signals = list(dict.fromkeys(name for hit in hits for name in hit.signals))
    made = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    made.add_column("#", justify="right", no_wrap=True)
    made.add_column("score", justify="right", style="bold", no_wrap=True)
    for name in signals:
        made.add_column(Text(name), justify="right", style="cyan", no_wrap=True)
    made.add_column("when", no_wrap=True)
    made.add_column("kind", no_wrap=True)
    made.add_column("text", ratio=1, no_wrap=one_line)
    for hit in hits:
        record = hit.record
        made.add_row(
            str(hit.rank),
            f"{hit.score:.2f}",
            *(f"{hit.signals[name]:.2f}" if name in hit.signals else "" for name in signals),
            f"{record.at:%Y-%m-%d}",
            record.kind,
            Text(_one_line(record.text)),
        )
    return made


def _one_line(text: str) -> str:
    text = " ".join(plain(text).split())
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"


def why_table(why: Why) -> Group:
    """Return where a record stands for a question, and what each signal has to do with it."""
    place = f"rank {why.rank}" if why.rank else why.reason
    rows = [["signal", "contributes", "less than the last hit's by"]]
    names = dict.fromkeys([*why.signals, *why.lacked])
    rows += [
        [name, f"{why.signals.get(name, 0.0):.3f}", f"{why.lacked[name]:.3f}"]
        if name in why.lacked
        else [name, f"{why.signals[name]:.3f}", ""]
        for name in names
    ]
    rows.append(["score", f"{why.score:.3f}", ""])
    said = f"{_one_line(why.record.text)}\n{place}; of {why.candidates} compared"
    return Group(
        panel(f"{said}\nin the context: {why.prompt or 'yes'}", title=why.record.id), table(rows)
    )


def why_as_json(why: Why) -> dict[str, Any]:
    """Return an explanation as JSON values."""
    return {
        "rank": why.rank,
        "reason": why.reason,
        "prompt": why.prompt,
        "candidates": why.candidates,
        "score": why.score,
        "relevance": why.relevance,
        "signals": dict(why.signals),
        "lacked": dict(why.lacked),
        "query": _jsonable(
            {
                "dense_text": why.query.dense_text,
                "words": why.query.words,
                "speaker": why.query.speaker,
                "windows": [(window.start, window.end) for window in why.query.windows],
                "asks_when": why.query.asks_when,
                "asks_how_many": why.query.asks_how_many,
                "asks_assistant": why.query.asks_assistant,
                "version": why.query.version,
            }
        ),
        "record": record_as_json(why.record),
    }


def panel(text: str, *, title: str) -> Panel:
    """Return a frame around a text that is shown as it is."""
    return Panel(Text(plain(text)), title=Text(title), title_align="left", border_style="dim")


def miss(found: Miss) -> Group:
    """Return a missed question: the evidence and its rank, and the hits above it."""
    rank = "not in the first 150" if found.hit is None else f"at rank {found.hit.rank}"
    return Group(
        panel(
            f"{_one_line(found.question)}\n{rank}: {_one_line(found.evidence.text)}",
            title=f"{found.case}, {found.category}",
        ),
        hits_table([*found.above, *([found.hit] if found.hit else [])]),
    )


def miss_as_json(found: Miss) -> dict[str, Any]:
    """Return a missed question, its evidence and the hits above it as JSON values."""
    return {
        "case": found.case,
        "category": found.category,
        "question": found.question,
        "evidence": {"id": found.evidence.id, "text": found.evidence.text},
        "hit": None if found.hit is None else hit_as_json(found.hit),
        "above": [hit_as_json(hit) for hit in found.above],
    }


def stats_table(stats: Stats) -> Table:
    """Return counts as names and values below one another."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column()
    values = stats_as_json(stats) | {
        "namespace": "/".join(stats.namespace),
        "records": ", ".join(f"{n} {kind}" for kind, n in stats.records.items() if n) or "none",
        "bytes": f"{stats.bytes:,}",
    }
    for name, value in values.items():
        made.add_row(
            Text(name.replace("_", " ")), Text("-" if value is None else plain(str(value)))
        )
    return made


def erased_as_json(erased: Erased) -> dict[str, Any]:
    """Return what an erasure or a purge did."""
    values = {name: getattr(erased, name) for name in erased.__dataclass_fields__}
    values["records"] = dict(erased.records)
    return values | {"is_complete": erased.is_complete}


def erased_lines(erased: Erased) -> list[str]:
    """Return what an erasure or a purge did, in words."""
    lines = []
    if erased.namespace is not None:
        lines.append(
            f"erased {erased.total} records, {erased.profile_keys} keys of the profile, "
            f"{erased.quarantined} damaged rows"
        )
    lines.append(f"{len(erased.files)} files written anew, {erased.bytes} bytes smaller")
    lines += [f"unfinished: {plain(sentence)}" for sentence in erased.unfinished]
    return lines + [f"not reached: {plain(sentence)}" for sentence in erased.outside]


def stats_as_json(stats: Stats) -> dict[str, Any]:
    """Return counts as JSON values."""
    return {name: _jsonable(getattr(stats, name)) for name in stats.__dataclass_fields__}


def problems_table(problems: Sequence[Problem]) -> Table:
    """Return what `check` or `repair` found, a line each."""
    header = ("what", "namespace", "beside", "record", "detail", "repaired")
    lines = [
        (
            problem.kind,
            "/".join(problem.namespace or ()) or "-",
            problem.beside or "-",
            problem.id or ("-" if problem.key is None else f"number {problem.key}"),
            problem.detail or "-",
            "yes" if problem.is_repaired else "no",
        )
        for problem in problems
    ]
    return table([header, *lines])


def report_line(report: Report) -> str:
    """Return what `check` or `repair` found as one line."""
    found = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
    parts = [
        f"{report.records:,} records looked at",
        f"problems: {found} ({report.left:,} left)" if found else "no problems",
        f"{report.refreshed:,} refreshed" if report.refreshed else "",
        f"{report.quarantined:,} in quarantine" if report.quarantined else "",
    ]
    return "; ".join(part for part in parts if part)


def report_as_json(report: Report) -> dict[str, Any]:
    """Return what `check` or `repair` found as JSON values."""
    problems = [
        {name: _jsonable(getattr(one, name)) for name in one.__dataclass_fields__}
        for one in report.problems
    ]
    values = {name: _jsonable(getattr(report, name)) for name in report.__dataclass_fields__}
    return values | {"problems": problems, "is_clean": report.is_clean}


def pruned_table(pruned: Pruned) -> Group:
    """Return how many records go for each reason, and the first of them."""
    counted = [(f"{count:,}", reason) for reason, count in pruned.reasons.items()]
    first = [
        (
            one.id,
            one.kind,
            f"{one.at:%Y-%m-%d}",
            f"{one.importance:g}",
            f"{one.bytes:,}",
            one.reason,
        )
        for one in pruned.victims[:_PRUNED_ROWS]
    ]
    left = len(pruned.victims) - len(first)
    title = f"the first {len(first)}; --json has all" if left else None
    return Group(
        table([("records", "reason"), *counted]),
        table([("id", "kind", "when", "importance", "bytes", "reason"), *first], title=title),
    )


def pruned_line(pruned: Pruned) -> str:
    """Return what was pruned, or would be, as one line."""
    count = len(pruned.victims)
    left = f"{pruned.records:,} records of {pruned.bytes:,} bytes"
    if not count:
        return f"nothing to prune; there are {left}"
    if pruned.dry_run:
        return f"would delete {count:,}, leaving {left}; repeat with --yes to do it"
    return f"deleted {count:,}; {left} are left"


def pruned_as_json(pruned: Pruned) -> dict[str, Any]:
    """Return what was pruned, or would be, as JSON values."""
    victims = [
        {name: _jsonable(getattr(one, name)) for name in one.__dataclass_fields__}
        for one in pruned.victims
    ]
    values = {name: _jsonable(getattr(pruned, name)) for name in pruned.__dataclass_fields__}
    return values | {"victims": victims, "reasons": dict(pruned.reasons), "freed": pruned.freed}


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer, what it was given and what it cost, as JSON values."""
    usage = {
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
    }
    return {"text": answer.text, "context": answer.context.as_json(), "usage": usage}


def record_as_json(record: Record) -> dict[str, Any]:
    """Return what a record has as JSON values, without what it has not."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: _jsonable(value) for name, value in values.items() if value is not None}


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """Return a hit and its record as JSON values."""
    return {
        "rank": hit.rank,
        "score": hit.score,
        "signals": dict(hit.signals),
        "duplicates": hit.duplicates,
        "record": record_as_json(hit.record),
    }


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def progress(description: str) -> Iterator[OnProgress]:
    """Show a bar on stderr while the block runs; nothing where stderr is not a terminal."""
    shown = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=shown, transient=True, disable=not shown.is_terminal
    ) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True


def questions() -> Iterator[str]:
    """Yield what is typed, or the lines of a pipe, up to an empty one or the end."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if not line:
            return
        yield line


def read_stdin() -> str:
    """Return all of stdin without the blank around it."""
    try:
        return sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        raise TextError(f"stdin is not UTF-8 at byte {error.start}; convert it first") from error


def read_time(text: str | None, option: str) -> datetime | None:
    """Read a time of ISO 8601 with a zone; `option` is what an error names."""
    if text is None:
        return None
    example = "2026-05-02T10:00+02:00 or 2026-05-02T08:00Z"
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise TimeError(f"{option} {text!r} is not a time of ISO 8601; write {example}") from error
    if at.tzinfo is None:
        raise TimeError(f"{option} {text!r} has no zone; write {example}")
    return at


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_span(text: str | None, option: str) -> timedelta | None:
    """Read a span of time as in `90d`; `option` is what an error names."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)([mhdw])", text.strip())
    try:
        if found:
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        pass
    raise TimeError(f"{option} {text!r} is no span of time; write 90d, 12h, 30m or 4w")


def read_json_object(
    text: str | None, option: str, error_type: type[InvalidInputError]
) -> dict[str, Any] | None:
    """Read a JSON object; `option` is what an error names."""
    if text is None:
        return None
    way_out = f"""write {option} '{{"city": "Lyon"}}'"""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise error_type(f"{option} is not JSON ({error}); {way_out}") from error
    if not isinstance(value, dict):
        raise error_type(f"{option} is not a JSON object; {way_out}")
    return value


def read_gate(text: str | None) -> Gate | None:
    """Read a gate, as in `{"memory_allowed": false}`."""
    return None if text is None else Gate.from_json(text)


def print_json(value: Any) -> None:
    """Write JSON to stdout, as it is for another program."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_text(text: str) -> None:
    """Write a text to stdout; only a pipe gets its control characters."""
    print(plain(text) if sys.stdout.isatty() else text)


def print_piece(text: str) -> None:
    """Write a piece of an answer to stdout at once."""
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
