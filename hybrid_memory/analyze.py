"""Read path, stage 1: what a question asks for: words, speakers, dates, intent."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from hybrid_memory.language import ENGLISH
from hybrid_memory.types import Query, Window
from hybrid_memory.words import content_words, encode

_Days = tuple[float, float]  # days from the start of today, the second not included


def analyze(
    text: str,
    *,
    now: datetime,
    speakers: Collection[str] = (),
    span: tuple[datetime, datetime] | None = None,
) -> Query:
    """Return what a question asks for.

    `speakers` are the names known in the scope. `span` is the time its memories cover: a date
    without a year means that day in each of its years (only the year of `now` without a span).
    """
    windows, dateless = _dates(text, now, span or (now, now))
    dense, named = _without_names(text, dateless, speakers)
    words = content_words(text)
    small = text.lower()
    return Query(
        text=text,
        dense_text=dense,
        words=tuple(dict.fromkeys(words)),
        terms=tuple(dict.fromkeys(encode(words).tolist())),
        now=now,
        speaker=named[0] if len(named) == 1 else None,
        windows=tuple(windows),
        asks_when=bool(ENGLISH.asks_when.search(small)),
        asks_how_many=bool(ENGLISH.asks_how_many.search(small)),
        asks_assistant=bool(ENGLISH.asks_assistant.search(small)),
        version=_version(" ".join(small.split())),
    )


def _version(small: str) -> Literal["newest", "oldest"] | None:
    if ENGLISH.asks_before.search(small):
        return "oldest"
    return "newest" if ENGLISH.asks_now.search(small) else None


def _without_names(text: str, searched: str, speakers: Collection[str]) -> tuple[str, list[str]]:
    """Return the text without names, and the speakers that were named.

    A name in a question draws the encoder to greetings that hold the name. A name is known by its
    capital ("Will" is a person, "will" is not), unless the question has none at all. `searched`
    is the text with its dates blanked out: in "May 2023" May is nobody.
    """
    if not speakers:
        return text, []
    said = _words_of(searched)
    if said.isdisjoint(_words_of(" ".join(speakers))):
        return text, []
    lower = text == text.lower()
    owners: dict[str, set[str]] = {}
    for speaker in speakers:
        if said.isdisjoint(_words_of(speaker)):
            continue
        for form in _forms(speaker):
            if not (
                lower and form.lower() in ENGLISH.stop_words
            ):  # in small letters "will" is a verb
                owners.setdefault(form, set()).add(speaker)
    if not owners:
        return text, []
    either = "|".join(re.escape(form) for form in sorted(owners, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE if lower else 0)
    by_case = {form.casefold(): names for form, names in owners.items()}
    named: set[str] = set()
    kept, end = [], 0
    for match in pattern.finditer(searched):
        # Of a form that several share, all are named, so that none is the one.
        named |= owners.get(match[0]) or by_case.get(match[0].casefold(), set())
        kept.append(text[end : match.start()])
        possessive = _POSSESSIVE.match(text, match.end())
        end = possessive.end() if possessive else match.end()
    if not named:
        return text, []
    stripped = " ".join(" ".join([*kept, text[end:]]).split())
    # Nothing but names and signs: then the name is the question.
    return (stripped if re.search(r"\w", stripped) else text), sorted(named)


_POSSESSIVE = re.compile(r"['’]s\b")
_WORD = re.compile(r"\w+")


def _words_of(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _forms(speaker: str) -> set[str]:
    """Return how a speaker may be named: in full, and by the parts that are names themselves."""
    parts = speaker.split()
    if speaker != speaker.lower():  # in "Vincent van Gogh" the small word is no name
        parts = [part for part in parts if part[0] != part[0].lower() or part == part.upper()]
    names = [part for part in parts if len(part) > 1 or not part.isascii()]
    names = [
        part for part in names if part.lower() not in ENGLISH.no_names and not part.isdecimal()
    ]
    return {name[0].upper() + name[1:] for name in [" ".join(speaker.split()), *names] if name}


# -- dates -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Calendar:
    """What a date rule needs to know: the day of the question, and the years that count."""

    today: datetime
    years: range

    def days(self, start: datetime, end: datetime) -> _Days:
        day = timedelta(days=1)
        return (start - self.today) / day, (end - self.today) / day

    def date(self, year: int, month: int, day: int) -> Iterator[_Days]:
        if 1 <= day <= calendar.monthrange(year, month)[1]:
            start = self.today.replace(year=year, month=month, day=day)
            yield self.days(start, start + timedelta(days=1))

    def month(self, year: int, month: int) -> Iterator[_Days]:
        start = self.today.replace(year=year, month=month, day=1)
        yield self.days(start, start + timedelta(days=calendar.monthrange(year, month)[1]))


_Rule = Callable[[re.Match[str], _Calendar], Iterator[_Days]]

_MONTHS = {
    name: number
    for number in range(1, 13)
    for name in (calendar.month_name[number].lower(), calendar.month_abbr[number].lower())
} | {"sept": 9}
_VERBS = {"may", "march", "mar"}  # in small letters these are months only beside a year or "in"
_WEEKDAYS = {calendar.day_name[number].lower(): number for number in range(7)}
_COUNTS = {"a": 1, "an": 1, "one": 1, "two": 2, "couple": 2, "few": 3, "three": 3, "four": 4,
           "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}  # fmt: skip
_UNITS = {"day": 1, "week": 7, "month": 30, "year": 365}
_LONG_UNITS = {"day": 1, "week": 7, "month": 31, "year": 366}
# People tell of a week or a year when it is over, and loosely: the spans overlap on purpose.
_RELATIVE: dict[str, _Days] = {
    "today": (0, 1),
    "yesterday": (-1, 0),
    "last night": (-1, 1),
    "last week": (-9, 0),
    "this week": (-7, 1),
    "last weekend": (-8, 0),
    "last month": (-45, 0),
    "this month": (-31, 1),
    "last year": (-500, -1),
    "this year": (-366, 1),
}

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_COUNT = r"(?P<count>\d{1,3}|" + "|".join(_COUNTS) + r")(?: of)?"
_YEAR = r"(?:19|20)\d\d"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"


def _iso(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    month = int(match["month"])
    if 1 <= month <= 12:
        yield from cal.date(int(match["year"]), month, int(match["day"]))


def _day_of_month(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    if match["month"] in _VERBS and not match["year"]:
        raise ValueError("these 2 may differ")
    years = [int(match["year"])] if match["year"] else cal.years
    for year in years:
        yield from cal.date(year, _MONTHS[match["month"].lower()], int(match["day"]))


def _month(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    if match["month"] in _VERBS and match[0].lower().startswith(("this", "last")):
        raise ValueError("this may be")
    years = [int(match["year"])] if match["year"] else cal.years
    for year in years:
        yield from cal.month(year, _MONTHS[match["month"].lower()])


def _year(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    start = cal.today.replace(year=int(match["year"]), month=1, day=1)
    yield cal.days(start, start.replace(year=start.year + 1))


def _relative(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    words = re.sub("past|previous", "last", " ".join(match[0].lower().split()))
    yield _RELATIVE[words]


def _ago(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    count, unit = _number(match["count"]), _UNITS[match["unit"].lower()]
    slack = max(1.0, 0.3 * unit * min(count, 4))
    yield -count * unit - slack, -count * unit + slack + 1


def _past_units(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    yield -_number(match["count"]) * _LONG_UNITS[match["unit"].lower()], 1


def _last_weekday(match: re.Match[str], cal: _Calendar) -> Iterator[_Days]:
    back = (cal.today.weekday() - _WEEKDAYS[match["weekday"].lower()] - 1) % 7 + 1
    yield -back, 1 - back


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _COUNTS[word.lower()]


# Longest forms first; each match uses up its characters. Another language adds its own rows.
# "in 2023 steps" counts steps.
_THINGS = r" (?:people|(?!does|was|is|has|his|this|as|plus|versus|always|perhaps)[a-z]+s)\b"
_DATE_RULES: list[tuple[str, _Rule]] = [
    (r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b", _iso),
    (rf"\b{_DAY}(?: of)? (?P<month>{_MONTH})\b\.?(?:,? (?P<year>{_YEAR}))?\b", _day_of_month),
    (rf"\b(?P<month>{_MONTH})\.? {_DAY}\b(?:,? (?P<year>{_YEAR}))?\b", _day_of_month),
    (rf"\b(?P<month>{_MONTH})\b\.?,? (?:of )?(?P<year>{_YEAR})\b", _month),
    (
        r"\b(?:in|during|since|of|early|late|mid|last|this|from|until|by)[ -]"
        rf"(?P<month>{_MONTH})\b(?P<year>)",
        _month,
    ),
    (
        r"\b(?:in|during|since|of|from|until|by|early|late|mid)[ -]"
        rf"(?P<year>{_YEAR})\b(?!{_THINGS})",
        _year,
    ),
    (rf"\b{_COUNT} (?P<unit>day|week|month|year)s? (?:ago|back|earlier)\b", _ago),
    (rf"\b(?:past|last|previous) {_COUNT} (?P<unit>day|week|month|year)s?\b", _past_units),
    (rf"\blast (?P<weekday>{'|'.join(_WEEKDAYS)})\b", _last_weekday),
    (
        r"\b(?:today|yesterday|last night|(?:last|past|previous|this) (?:week|month|year)"
        r"|(?:last|past|previous) weekend)\b",
        _relative,
    ),
]
_COMPILED = [(re.compile(pattern, re.IGNORECASE), rule) for pattern, rule in _DATE_RULES]
# What every date holds: most questions have none of it and need not go through the rules.
_DIGIT = re.compile(r"\d")
_HINTS = {*_MONTHS, "today", "yesterday", "last", "past", "previous", "this"}
_HINTS |= {"ago", "back", "earlier"}


def _dates(text: str, now: datetime, span: tuple[datetime, datetime]) -> tuple[list[Window], str]:
    """Return the windows of all dates in a text, and the text with the dates blanked out."""
    windows: list[Window] = []
    if not _DIGIT.search(text) and _HINTS.isdisjoint(_words_of(text)):
        return windows, text
    cal = _Calendar(
        today=now.replace(hour=0, minute=0, second=0, microsecond=0),
        years=range(span[0].year, span[1].year + 1),
    )
    for pattern, rule in _COMPILED:
        for match in pattern.finditer(text):
            try:
                found = [
                    Window(cal.today + timedelta(days=low), cal.today + timedelta(days=high))
                    for low, high in rule(match, cal)
                ]
            except (ValueError, OverflowError):  # no date, the year 0, a century of months ago
                continue
            windows += found
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return windows, text
