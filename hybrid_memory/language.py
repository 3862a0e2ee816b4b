"""What is particular to English: one table, to which another language can be added.

A language without a table loses the boosts below and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COUNT = r"(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|few|couple of|several)"
_UNIT = r"(?:second|minute|hour|day|night|week|weekend|month|year|decade)s?"
_MONTH = (
    r"(?:january|february|march|april|june|july|august|september|october|november|december"
    r"|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec)"
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"


@dataclass(frozen=True, slots=True)
class Language:
    """The words of a language that say something about a question or a statement.

    `asks_*` match questions: for a time, for a number, for what is so now or was so before.
    `tells_*` match statements that name a time or a number. `no_names` are parts of names that do
    not name anybody by themselves.
    """

    stop_words: frozenset[str]
    no_names: frozenset[str]
    asks_when: re.Pattern[str]
    asks_how_many: re.Pattern[str]
    asks_now: re.Pattern[str]
    asks_before: re.Pattern[str]
    tells_time: re.Pattern[str]
    tells_number: re.Pattern[str]


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b", re.IGNORECASE)


ENGLISH = Language(
    # An ordinary list plus question words and auxiliaries; negations stay words.
    stop_words=frozenset(
        """
        a about above again all also am an and any are aren as at be because been being below
        between both but by can could couldn did didn do does doesn doing don done down during each
        else every few for from further get go got had hadn has hasn have haven having he her here
        hers herself him himself his how i if in into is isn it its itself just kind let ll long m
        many me might mine more most much must mustn my myself of off often on one only onto or
        other ought our ours ourselves out over own per please quite rather re really s said same
        say shall shan she should shouldn since so some such t tell than that the their theirs them
        themselves then there these they thing this those though through to too type under until up
        upon us ve very was wasn we well were weren what whatever when where whether which while who
        whom whose why will with within won would wouldn yes yet you your yours yourself yourselves
        """.split()  # noqa: SIM905  # a list of 150 lines reads worse
    ),
    no_names=frozenset(
        "a an and da de di dr la le miss mr mrs ms of prof the van von".split()  # noqa: SIM905
    ),
    asks_when=_any("when", "how long", r"(?:what|which) (?:date|day|month|year|time)"),
    asks_how_many=_any("how (?:many|much|often)"),
    asks_now=_any(
        "now", "current(?:ly)?", "these days", "nowadays", "latest", "most recent(?:ly)?",
        "at the moment", "today", "still", "any ?more", "up to date", "as of", "newest",
        "last time",
    ),
    asks_before=_any(
        "before", "previous(?:ly)?", "used to", "original(?:ly)?", "earlier", "former(?:ly)?",
        "old", "first", "initially", "back then", "ago", "prior", "in the past",
    ),
    tells_time=_any(
        "yesterday", "today", "tonight", "tomorrow",
        rf"(?:last|next|this|past) (?:{_UNIT}|{_WEEKDAY}|{_MONTH}|night|morning|spring|summer|fall"
        r"|autumn|winter)",
        rf"{_COUNT} {_UNIT} (?:ago|later|back)", "ago", "since", "recently", "just", _MONTH,
        r"may \d+", _WEEKDAY, r"in (?:19|20)\d\d", "first time",
        rf"for (?:about |almost |over )?{_COUNT} {_UNIT}",
    ),
    tells_number=_any(
        r"\d[\d.,]*", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "once", "twice", "several", "couple",
    ),
)  # fmt: skip
