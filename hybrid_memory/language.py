"""What is particular to English: one table, to which another language can be added.

A language without a table loses the boosts below and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

    `base_forms` are those of words that a stemmer does not know for the same. The patterns are to
    be searched in a text in small letters, which takes half the time. `asks_*` match questions:
    for a time, for a number, for what an assistant said, for what is so now or was so before.
    `tells_*` match statements that name a time or a number. `no_names` are parts of names that do
    not name anybody by themselves.
    """

    stop_words: frozenset[str]
    base_forms: Mapping[str, str]
    no_names: frozenset[str]
    asks_when: re.Pattern[str]
    asks_how_many: re.Pattern[str]
    asks_assistant: re.Pattern[str]
    asks_now: re.Pattern[str]
    asks_before: re.Pattern[str]
    tells_time: re.Pattern[str]
    tells_number: re.Pattern[str]


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b")


# Each word and its forms that no rule makes; without those that are words of their own ("lay").
_IRREGULAR = """
    beat beaten, become became, begin began begun, bend bent, bite bitten, bleed bled, blow
    blew blown, break broke broken, breed bred, bring brought, build built, burn burnt, buy
    bought, catch caught, choose chose chosen, come came, creep crept, deal dealt, dig dug,
    draw drew drawn, dream dreamt, drink drank drunk, drive drove driven, eat ate eaten,
    fall fell fallen, feed fed, feel felt, fight fought, find found, flee fled, fly flew
    flown, forbid forbade forbidden, forget forgot forgotten, forgive forgave forgiven,
    freeze froze frozen, give gave given, go went gone goes, grow grew grown, hang hung,
    hear heard, hide hid hidden, hold held, keep kept, kneel knelt, know knew known, lay
    laid, lead led, lean leant, learn learnt, leave left, lend lent, light lit, lose lost,
    make made, mean meant, meet met, pay paid, prove proven, ride rode ridden, ring rang
    rung, rise risen, run ran, see saw seen, seek sought, sell sold, send sent, sew sewn,
    shake shook shaken, shine shone, shoot shot, show shown, shrink shrank shrunk, sing sang
    sung, sink sank sunk, sit sat, sleep slept, slide slid, smell smelt, speak spoke spoken,
    spell spelt, spend spent, spill spilt, spin spun, spit spat, spoil spoilt, spring sprang
    sprung, stand stood, steal stole stolen, stick stuck, sting stung, strike struck, strive
    strove, swear swore sworn, sweep swept, swell swollen, swim swam swum, swing swung, take
    took taken, teach taught, tear tore torn, tell told, think thought, throw threw thrown,
    understand understood, wake woke woken, wear wore worn, weave wove woven, weep wept, win
    won, withdraw withdrew withdrawn, write wrote written, child children, man men, woman
    women, foot feet, tooth teeth, mouse mice, goose geese, person people, wife wives, knife
    knives, half halves, shelf shelves, loaf loaves,
    will won't, shall shan't
"""


def _base_forms(table: str) -> dict[str, str]:
    entries = [entry.split() for entry in table.split(",")]
    return {form: base for base, *forms in entries for form in forms}


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
        whom whose why will with within would wouldn yes yet you your yours yourself
        yourselves
        """.split()  # noqa: SIM905  # a list of 150 lines reads worse
    ),
    base_forms=_base_forms(_IRREGULAR),
    no_names=frozenset(
        "a an and da de di dr la le miss mr mrs ms of prof the van von".split()  # noqa: SIM905
    ),
    asks_when=_any("when", "how long", r"(?:what|which) (?:date|day|month|year|time)"),
    asks_how_many=_any("how (?:many|much|often)"),
    asks_assistant=_any(
        # What it did, but for what it cannot have done, and what it is asked to know.
        r"did you (?:ever |first |just |also )?(?!know|remember|see|hear|notice|read|forget|get"
        r"|like|miss|save|store|learn|find|think (?:i|about)\b)\w+",
        r"(?<!what )you (?:had |have |once |just |also )?(?:recommended|suggested|advised"
        r"|mentioned|proposed|listed|explained|warned|gave|named|compared|described|quoted"
        r"|estimated|told me|said|picked|chose|favou?red|preferred)",
        r"your (?:advice|suggestions?|recommendations?|favou?rites?|answers?|lists?|estimates?"
        r"|tips?|explanations?|opinions?)",
        r"(?:recommended|suggested|advised|mentioned|proposed) by (?:you|the assistant)",
    ),
    asks_now=_any(
        "now", "current(?:ly)?", "these days", "nowadays", "latest", "most recent(?:ly)?",
        "at the moment", "today", "still", "any ?more", "up to date", "as of", "newest",
        "last time",
    ),
    asks_before=_any(
        "before", "previous(?:ly)?", "used to", "original(?:ly)?", "earlier", "former(?:ly)?",
        "(?<!how )(?<!how very )(?<!year )(?<!years )(?<!year-)(?<!years-)old",
        "at first", "initially", "back then", "ago", "prior", "in the past",
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
