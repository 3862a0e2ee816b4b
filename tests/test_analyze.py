"""What a question asks for: its words, the speakers it names and the dates it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory.analyze import analyze
from hybrid_memory.indexing import traits
from hybrid_memory.types import Query
from hybrid_memory.words import encode

NOW = datetime(2026, 5, 2, 15, 30, tzinfo=UTC)  # a Saturday
TODAY = datetime(2026, 5, 2, tzinfo=UTC)
FRIENDS = ("Ana Lima", "Bob", "Will")


def _asked(text: str, *speakers: str) -> Query:
    return analyze(text, now=NOW, speakers=speakers)


def _days(text: str, *, now: datetime = NOW) -> list[tuple[float, float]]:
    """Return the windows of a question in days from the start of today."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    return [
        (round((window.start - midnight) / day, 6), round((window.end - midnight) / day, 6))
        for window in analyze(text, now=now).windows
    ]


def _spans(text: str, *years: int) -> list[tuple[str, str]]:
    """Return the windows of a question as dates, for memories of these years."""
    span = (datetime(years[0], 3, 1, tzinfo=UTC), datetime(years[-1], 3, 1, tzinfo=UTC))
    windows = analyze(text, now=NOW, span=span).windows
    return [(f"{window.start:%Y-%m-%d}", f"{window.end:%Y-%m-%d}") for window in windows]


# -- words -------------------------------------------------------------------------------------


def test_the_words_are_the_stems_of_the_whole_question_each_once() -> None:
    query = _asked("Which languages does Ana Lima like, and which language not?", *FRIENDS)

    assert query.words == ("languag", "ana", "lima", "like", "not")
    assert query.terms == tuple(encode(query.words).tolist())
    assert query.text == "Which languages does Ana Lima like, and which language not?"
    assert query.now == NOW


def test_a_question_of_no_words_is_still_a_question() -> None:
    query = _asked("???", *FRIENDS)

    assert query.dense_text == "???"
    assert (query.words, query.speaker, query.windows) == ((), None, ())


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dense"),
    [
        ("What does Ana Lima like?", "What does like?"),
        ("What does Ana like?", "What does like?"),
        ("What does Lima like?", "What does like?"),
        ("What is Ana's job?", "What is job?"),
        ("What is Ana Lima\u2019s job?", "What is job?"),
        ("Ana, what is your job?", ", what is your job?"),
        ("what does ana lima like?", "what does like?"),
        ("what is lima's job?", "what is job?"),
        ("What does ana like?", "What does ana like?"),
        ("What does Anabel like?", "What does Anabel like?"),
        ("What does Diana like?", "What does Diana like?"),
        ("What does Limas say?", "What does Limas say?"),
    ],
)
def test_names_of_known_speakers_are_stripped(text: str, dense: str) -> None:
    query = _asked(text, *FRIENDS)

    assert query.dense_text == dense
    assert query.speaker == ("Ana Lima" if dense != text else None)


def test_without_known_speakers_nothing_is_stripped() -> None:
    query = _asked("What does Ana like?")

    assert (query.dense_text, query.speaker) == ("What does Ana like?", None)


def test_a_person_is_told_from_a_word_by_the_capital() -> None:
    assert _asked("What did Will cook?", *FRIENDS).speaker == "Will"
    assert _asked("When will Bob cook?", *FRIENDS).dense_text == "When will cook?"
    assert _asked("When will Bob cook?", *FRIENDS).speaker == "Bob"
    assert _asked("What will I cook?", *FRIENDS).speaker is None


def test_a_speaker_stored_in_lower_case_is_known_by_the_capital_too() -> None:
    assert _asked("What does Ana like?", "ana", "will").speaker == "ana"
    assert _asked("When will Ana cook?", "ana", "will").speaker == "ana"


def test_one_speaker_named_is_kept_and_two_are_not() -> None:
    assert _asked("What does Bob like?", *FRIENDS).speaker == "Bob"
    assert _asked("What do Bob and Bob's dog like?", *FRIENDS).speaker == "Bob"
    both = _asked("What do Bob and Ana like?", *FRIENDS)
    assert (both.speaker, both.dense_text) == (None, "What do and like?")


def test_a_first_name_that_two_speakers_share_names_neither() -> None:
    query = _asked("What does Ana like?", "Ana Lima", "Ana Costa")

    assert query.dense_text == "What does like?"
    assert query.speaker is None


def test_a_full_name_is_not_taken_for_somebody_with_a_part_of_it() -> None:
    assert _asked("What does Ana Lima like?", "Ana", "Ana Lima").speaker == "Ana Lima"


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("Who drives the van?", "Vincent van Gogh"),
        ("Where is the house of my aunt?", "Duke of York"),
        ("What is la vie en rose?", "Juan de la Cruz"),
        ("What happened 7 days ago?", "Agent 7"),
        ("A dog bit me, when?", "Mary A"),
        ("The Louvre is where?", "The Boss"),
        ("What is my last name?", "Name"),
        ("What will I march for, and may I?", "May"),
        ("Is it mine or art?", "Art"),
    ],
)
def test_a_word_that_is_no_name_by_itself_is_not_stripped(text: str, speaker: str) -> None:
    query = _asked(text, speaker)

    assert query.dense_text == text
    assert query.speaker is None


@pytest.mark.parametrize("name", ["a.b", "(", "[x", "C++", "\\d+", "*", "^Ana$", "Ana|Bob"])
def test_a_name_is_no_pattern(name: str) -> None:
    assert _asked("What does 12 like about x and ab?", name).speaker is None


@pytest.mark.parametrize(
    "name", ["Jos\u00e9", "\u0391\u03bd\u03bd\u03b1", "\u592a\u90ce", "Zo\u00eb"]
)
def test_a_name_of_any_script_is_stripped(name: str) -> None:
    query = _asked(f"What does {name} like?", name)

    assert (query.dense_text, query.speaker) == ("What does like?", name)


@pytest.mark.parametrize("text", ["ılker nerede?", "ilker nerede?", "İlker nerede?"])
def test_a_letter_that_changes_with_its_case_is_no_obstacle(text: str) -> None:
    assert _asked(text, "Ilker").speaker in ("Ilker", None)


@pytest.mark.parametrize("text", ["Ana", "Ana?", "ana lima", "Ana's", "Bob, Ana!"])
def test_a_question_that_is_a_name_only_is_encoded_with_it(text: str) -> None:
    query = _asked(text, *FRIENDS)

    assert "ana" in query.dense_text.lower()


def test_one_of_thousands_of_speakers_is_known() -> None:
    many = [f"Person{i} Name{i}" for i in range(5000)] + ["Ana"]

    query = _asked("What does Ana like?", *many)

    assert query.speaker == "Ana"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.text(max_size=40),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=3),
)
def test_any_text_and_any_names_give_a_query(text: str, names: list[str]) -> None:
    query = analyze(text, now=NOW, speakers=names)

    assert query == analyze(text, now=NOW, speakers=list(reversed(names)))
    assert query.speaker is None or query.speaker in names
    assert bool(query.dense_text.strip()) >= bool(text.strip())


# -- dates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("What did I do today?", (0, 1)),
        ("What did I do yesterday?", (-1, 0)),
        ("What did I eat last night?", (-1, 1)),
        ("What happened last week?", (-9, 0)),
        ("What happened past week?", (-9, 0)),
        ("What happened the previous week?", (-9, 0)),
        ("What did I do this week?", (-7, 1)),
        ("Where was I last weekend?", (-8, 0)),
        ("Where was I the past weekend?", (-8, 0)),
        ("What happened last month?", (-45, 0)),
        ("What happened the previous month?", (-45, 0)),
        ("What happened this month?", (-31, 1)),
        ("What happened last year?", (-500, -1)),
        ("What happened the past year?", (-500, -1)),
        ("What happened this year?", (-366, 1)),
        ("LAST WEEK?", (-9, 0)),
        # k units ago: tolerance max(1, 0.3 * unit * min(k, 4))
        ("What did I do a day ago?", (-2, 1)),
        ("What did I do 2 days ago?", (-3, 0)),
        ("What did I do ten days ago?", (-11.2, -7.8)),
        ("What did I do a week ago?", (-9.1, -3.9)),
        ("What did I do two weeks ago?", (-18.2, -8.8)),
        ("What did I do a couple of weeks ago?", (-18.2, -8.8)),
        ("What did I do couple weeks back?", (-18.2, -8.8)),
        ("What did I do a few days ago?", (-4, -1)),
        ("What did I do 3 months ago?", (-117, -62)),
        ("What did I do 6 months earlier?", (-216, -143)),
        ("What did I do a year ago?", (-474.5, -254.5)),
        ("What did I do 5 years ago?", (-2263, -1386)),
        # past k units
        ("What did I do the past 3 days?", (-3, 1)),
        ("What did I do the last two weeks?", (-14, 1)),
        ("What did I do over the last few months?", (-93, 1)),
        ("What did I do the previous couple of years?", (-732, 1)),
        # the last of a weekday; today is a Saturday
        ("What did I do last Friday?", (-1, 0)),
        ("What did I do last Sunday?", (-6, -5)),
        ("What did I do last saturday?", (-7, -6)),
        ("What did I do last Monday?", (-5, -4)),
    ],
)
def test_a_relative_date_is_the_window_of_the_table(text: str, window: tuple[float, float]) -> None:
    assert _days(text) == [window]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("What was on 2023-05-08?", "2023-05-08", "2023-05-09"),
        ("What was on 8 May 2023?", "2023-05-08", "2023-05-09"),
        ("What was on the 8th of May, 2023?", "2023-05-08", "2023-05-09"),
        ("What was on May 8, 2023?", "2023-05-08", "2023-05-09"),
        ("What was on May 8th 2023?", "2023-05-08", "2023-05-09"),
        ("What was on Sept. 1st, 2023?", "2023-09-01", "2023-09-02"),
        ("What was on 31 Dec 2023?", "2023-12-31", "2024-01-01"),
        ("What was on 29 February 2024?", "2024-02-29", "2024-03-01"),
        ("What was in May 2023?", "2023-05-01", "2023-06-01"),
        ("What was in December of 2023?", "2023-12-01", "2024-01-01"),
        ("What was in Feb 2024?", "2024-02-01", "2024-03-01"),
        ("May, 2023: what was it?", "2023-05-01", "2023-06-01"),
        ("What was in 2022?", "2022-01-01", "2023-01-01"),
        ("What was during 1999?", "1999-01-01", "2000-01-01"),
        ("What was since 2024?", "2024-01-01", "2025-01-01"),
        ("What was in mid-2024?", "2024-01-01", "2025-01-01"),
    ],
)
def test_a_date_with_its_year_is_one_window(text: str, start: str, end: str) -> None:
    assert _spans(text, 2020, 2026) == [(start, end)]


@pytest.mark.parametrize(
    "before", ["in", "during", "since", "of", "early", "late", "mid", "last", "this", "from",
               "until", "by"],
)  # fmt: skip
def test_a_month_after_a_preposition_is_the_month(before: str) -> None:
    assert _spans(f"What happened {before} May?", 2026, 2026) == [("2026-05-01", "2026-06-01")]
    assert _spans(f"What happened {before}-March?", 2026, 2026) == [("2026-03-01", "2026-04-01")]


def test_a_date_without_a_year_is_that_day_in_each_year_of_the_memories() -> None:
    expected = [("2023-05-08", "2023-05-09"), ("2024-05-08", "2024-05-09")]

    assert _spans("What was on 8 May?", 2023, 2024) == expected
    assert _spans("What was on May 8th?", 2023, 2024) == expected
    assert _spans("What was in May?", 2023, 2024) == [
        ("2023-05-01", "2023-06-01"),
        ("2024-05-01", "2024-06-01"),
    ]


def test_without_memories_a_date_without_a_year_is_of_this_year() -> None:
    [window] = _asked("What was on 8 May?").windows

    assert window.start == datetime(2026, 5, 8, tzinfo=UTC)


def test_the_29th_of_february_is_only_in_leap_years() -> None:
    assert _spans("What was on 29 February?", 2023, 2025) == [("2024-02-29", "2024-03-01")]
    assert _spans("What was on 29 February?", 2021, 2023) == []
    assert _spans("What was on 29 February 2023?", 2020, 2026) == []


def test_a_leap_day_as_today_breaks_no_rule() -> None:
    leap = datetime(2024, 2, 29, 12, tzinfo=UTC)
    texts = ["in 2023", "in May", "last month", "a year ago", "on 8 May", "last Friday", "in 2100"]

    for text in texts:
        assert analyze(f"What was {text}?", now=leap).windows or text == "in 2100"


def test_two_dates_are_two_windows() -> None:
    assert _spans("Was it on 8 May 2023 or in June 2024?", 2020, 2026) == [
        ("2023-05-08", "2023-05-09"),
        ("2024-06-01", "2024-07-01"),
    ]
    assert sorted(_days("Was it yesterday or two weeks ago?")) == [(-18.2, -8.8), (-1, 0)]


def test_a_longer_date_uses_up_the_shorter_one_inside_of_it() -> None:
    assert len(_spans("What was on May 8, 2023?", 2020, 2026)) == 1
    assert len(_spans("What was in May 2023?", 2020, 2026)) == 1
    assert len(_days("What did I do the last 3 weeks?")) == 1


@pytest.mark.parametrize("text", ["last Saturday", "last Monday", "last Sunday", "last Wednesday"])
@pytest.mark.parametrize("ahead", range(7))
def test_the_last_of_a_weekday_is_1_to_7_days_ago(text: str, ahead: int) -> None:
    now = NOW + timedelta(days=ahead)

    [window] = analyze(f"What did I do {text}?", now=now).windows

    assert f"{window.start:%A}" == text.split()[1]
    assert 1 <= (now.replace(hour=0, minute=0) - window.start).days <= 7


@pytest.mark.parametrize(
    "text",
    [
        "March on, they said?",
        "I may be late, or may I not?",
        "Do you think this may help?",
        "Who may march with us?",
        "These 2 may differ, why?",
        "Did we march 1000 miles?",
        "What was the second thing?",
        "Wait a second or a minute, why?",
        "Who came second?",
        "What about the year 3000?",
        "What happens in 3000?",
        "Do I have 2023 stamps?",
        "Is 1999 my code?",
        "What is my last name?",
        "What is the last thing I said?",
        "Who was first?",
        "What does my sun dress cost?",
        "Is it a decent mark?",
        "What did Augusta say to June Carter?",
        "Where is the Marriott?",
        "Is 2023-13-45 a date?",
        "What was on 2023-02-30?",
        "What was on 99 May?",
        "What was on 31 April?",
        "How old is the week?",
        "Which second came first?",
        "Is the last supper past the previous page?",
        "What did I pay this once, and early?",
        "Who is in, or of, 12 people?",
        "Is flat 1999 in the house?",
        "What costs 2023 euros?",
        "Was I born in 20235?",
        "Who marched in the Marches?",
        "Are a few weeks enough?",
        "Is two days ahead too late?",
        "What is due in 3 weeks?",
        "Whose lastweek is it?",
        "Which year?",
        "",
    ],
)
def test_what_is_no_date_opens_no_window(text: str) -> None:
    assert _days(text) == []


def test_a_person_named_like_a_month_is_no_month() -> None:
    query = _asked("What did May say?", "May", "Bob")

    assert (query.speaker, query.windows, query.dense_text) == ("May", (), "What did say?")


def test_a_month_is_still_a_month_where_a_person_has_its_name() -> None:
    query = _asked("What did Bob do in May 2023?", "May", "Bob")

    assert [f"{window.start:%Y-%m}" for window in query.windows] == ["2023-05"]
    assert query.speaker == "Bob"


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01",
        "on 8 May 0000",
        "999 years ago",
        "the last 999 years",
        "in May 9999",
        "9999-12-31",
    ],
)
def test_a_date_out_of_range_is_passed_over(text: str) -> None:
    early = datetime(50, 1, 1, tzinfo=UTC)

    analyze(text, now=early)
    analyze(text, now=datetime(9999, 12, 30, tzinfo=UTC))


def test_days_begin_where_the_one_who_asks_is() -> None:
    tokyo = timezone(timedelta(hours=9))
    now = datetime(2026, 5, 2, 3, tzinfo=tokyo)

    [window] = analyze("What did I do today?", now=now).windows

    assert window.start == datetime(2026, 5, 2, tzinfo=tokyo)


PIECES = [
    "in",
    "on",
    "of",
    "last",
    "this",
    "past",
    "the",
    "May",
    "may",
    "march",
    "8",
    "29",
    "8th",
    "2023",
    "2024,",
    "February",
    "weeks",
    "ago",
    "two",
    "couple",
    "a",
    "yesterday",
    "Monday",
    "since",
    "2023-05-08",
    "mid-May",
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(PIECES),
        max_size=8,
    ).map(" ".join),
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_every_window_is_open_and_of_whole_years_at_most(text: str, now: datetime) -> None:
    for window in analyze(text, now=now).windows:
        assert window.start < window.end <= window.start + timedelta(days=999 * 366)
        assert window.start.tzinfo is not None


@pytest.mark.parametrize(
    "text", ["Did I get there in 2023 steps?", "Is it sold in 1999 shops?", "Of 2000 people, who?"]
)
def test_a_number_of_things_is_no_year(text: str) -> None:
    assert _days(text) == []


# -- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("When did I move?", True),
        ("WHEN did I move?", True),
        ("Since when do I run?", True),
        ("How long have I lived here?", True),
        ("What date is it?", True),
        ("What day, which month, what year?", True),
        ("Which year was it?", True),
        ("What time does it leave?", True),
        ("Where did I move?", False),
        ("Whenever I run?", False),
        ("How far is it?", False),
        ("How longing is she?", False),
        ("What daydream was it?", False),
        ("What timetable is it?", False),
        ("What a day!", False),
        ("Did it rain that day?", False),
        ("What is the date palm?", False),
        ("", False),
    ],
)
def test_some_questions_ask_for_a_time(text: str, asks: bool) -> None:
    assert _asked(text).asks_when == asks


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("How many cats do I have?", True),
        ("how much did it cost?", True),
        ("How often do I run?", True),
        ("I wonder how many there are", True),
        ("How do I run?", False),
        ("How come many ran?", False),
        ("Show many cats", False),
        ("How muchness?", False),
        ("Are there many?", False),
        ("Is it often?", False),
    ],
)
def test_some_questions_ask_for_a_number(text: str, asks: bool) -> None:
    assert _asked(text).asks_how_many == asks


@pytest.mark.parametrize(
    "text",
    [
        "Where do I live now?",
        "Where do I currently live?",
        "What is my current job?",
        "What do I drink these days?",
        "What do I drink nowadays?",
        "What is the latest on the flat?",
        "What was my most recent trip?",
        "Whom did I see most recently?",
        "What am I reading at the moment?",
        "What should I do today?",
        "Do I still run?",
        "Don't I run anymore?",
        "Don't I run any more?",
        "Is my address up to date?",
        "Who is my boss as of this week?",
        "Which is my newest bike?",
        "Where did I eat last time?",
        "NOW?",
    ],
)
def test_some_questions_ask_for_what_is_so_now(text: str) -> None:
    assert _asked(text).version == "newest"


@pytest.mark.parametrize(
    "text",
    [
        "Where did I live before?",
        "Where did I previously work?",
        "What was my previous job?",
        "Where did I use to run? I used to run.",
        "What was the original plan?",
        "What did I originally want?",
        "What did I want earlier?",
        "What was my former name?",
        "Whom did I formerly work for?",
        "What was my old address?",
        "What did I think at first?",
        "What did I initially want?",
        "What did I like back then?",
        "What did I like two years ago?",
        "What was a prior job?",
        "What did I like in the past?",
    ],
)
def test_some_questions_ask_for_what_was_so_before(text: str) -> None:
    assert _asked(text).version == "oldest"


def test_a_question_for_both_asks_for_the_past() -> None:
    assert _asked("What did I do before my current job?").version == "oldest"
    assert _asked("Do I still like my old bike?").version == "oldest"


@pytest.mark.parametrize(
    "text",
    [
        "How old is she?",
        "HOW OLD is the house?",
        "What happened on the first weekend of May?",
        "Who came first?",
        "What is my last name?",
        "Did you know my sister?",
        "What do I know of Nowak?",
        "Do I own a snowboard?",
        "Whose agony is it?",
        "Is gold sold here?",
        "Is the door shut?",
        "Did I hold on to it?",
        "What is the priority?",
        "Who is older?",
        "Is there more tea, any at all?",
        "What was it last Monday?",
        "Which assets do I have?",
        "Where do I live?",
        "",
    ],
)
def test_other_questions_ask_for_neither(text: str) -> None:
    assert _asked(text).version is None


@pytest.mark.parametrize(
    "text",
    [
        "What did I buy for my 5-year-old?",
        "Is she 5 years old?",
        "How  old is she?",
        "How\nold is she?",
        "How very old is the house?",
    ],
)
def test_an_age_is_no_question_for_the_past(text: str) -> None:
    assert _asked(text).version is None


@pytest.mark.parametrize(
    "text",
    [
        "What did you recommend?",
        "Which film did you suggest?",
        "What was your advice?",
        "What is your advice on wine?",
        "What did you advise me to read?",
        "What have you told me about Lyon?",
        "What did you say about the lease?",
        "Which wine did you mention?",
        "What did you propose?",
        "Which books did you list?",
        "What recipe did you give me?",
        "How did you explain it?",
        "What was your explanation?",
        "Did you warn me?",
        "What did you answer?",
        "How did you compare them?",
        "What price did you quote?",
        "What is your favourite?",
        "Which film was recommended by you?",
        "Which was suggested by the assistant?",
        "WHAT DID YOU SAY?",
    ],
)
def test_some_questions_ask_what_the_assistant_said(text: str) -> None:
    assert _asked(text).asks_assistant


@pytest.mark.parametrize(
    "text",
    [
        "Where do I live?",
        "What did I tell Bob?",
        "What did I say about Lyon?",
        "What did Bob recommend?",
        "Which film was recommended by Bob?",
        "Did you know that I moved?",
        "Did you know?",
        "Do you remember my sister?",
        "Do you know where I live?",
        "Where does your uncle live?",
        "Who was younger?",
        "Is it youthful to suggest it?",
        "What do you think of the plan, which after many a long week of talking we told Bob?",
        "",
    ],
)
def test_other_questions_do_not(text: str) -> None:
    assert not _asked(text).asks_assistant


@pytest.mark.parametrize(
    "text",
    [
        "Can you tell me where I live?",
        "Could you give me the name of my dentist?",
        "Can you list the places I went to?",
        "Do you remember what I told you about my sister?",
        "Do you know what my boss said?",
        "Did you know that I listen to jazz?",
        "Did you know I gave up smoking?",
        "Where was your photo taken?",
    ],
)
def test_what_i_said_is_not_asked_for_as_what_the_assistant_said(text: str) -> None:
    assert not _asked(text).asks_assistant


# -- questions in a language without a table -----------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Où est-ce que j'habite maintenant\u00a0?",
        "Quand ai-je déménagé l'an dernier\u00a0?",
        "今、どこに住んでいますか？",
        "いつ引っ越しましたか？",
        "Wie alt ist sie, und wo habe ich früher gewohnt?",
        "¿Cuántos gatos tengo ahora?",
        "Где я живу сейчас?",
    ],
)
def test_a_question_in_another_language_has_words_and_no_intent(text: str) -> None:
    query = _asked(text)

    assert query.dense_text == text
    assert query.words
    assert (query.version, query.windows, query.speaker) == (None, (), None)
    assert (query.asks_when, query.asks_how_many, query.asks_assistant) == (False, False, False)


def test_names_and_dates_in_figures_are_known_in_any_language() -> None:
    query = _asked("Qu'est-ce que José a dit le 2023-05-08 ?", "José")

    assert query.speaker == "José"
    assert [f"{window.start:%Y-%m-%d}" for window in query.windows] == ["2023-05-08"]


# -- what a statement tells ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("We moved yesterday.", True),
        ("I leave tonight, or tomorrow.", True),
        ("The trip was last week.", True),
        ("next Monday", True),
        ("this spring", True),
        ("past December", True),
        ("a couple of weeks ago", True),
        ("3 years later", True),
        ("long ago", True),
        ("since then", True),
        ("I recently moved.", True),
        ("I just moved.", True),
        ("in March", True),
        ("on May 8", True),
        ("on Tuesday", True),
        ("in 2023", True),
        ("for the first time", True),
        ("for about two hours", True),
        ("for almost a year", True),
        ("I like tea.", False),
        ("It may rain.", False),
        ("The justice of it.", False),
        ("The decline of art", False),
        ("in 1850, in 20231", False),
        ("the last train", False),
        ("Is a second enough?", False),
        ("the lagoon", False),
        ("Sundays", False),
        ("", False),
    ],
)
def test_a_statement_may_tell_a_time(text: str, tells: bool) -> None:
    assert traits(text).tells_time == tells


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("I have 3 cats.", True),
        ("1,250.00 EUR", True),
        ("two cats", True),
        ("TEN", True),
        ("once or twice", True),
        ("several of them", True),
        ("a couple", True),
        ("I have a cat.", False),
        ("Someone came.", False),
        ("often a weight", False),
        ("nevertheless", False),
        ("the network", False),
        ("a severe couplet", False),
    ],
)
def test_a_statement_may_tell_a_number(text: str, tells: bool) -> None:
    assert traits(text).tells_number == tells


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("I live in Lyon.", 0),
        ("Where do you live?", 1),
        ("Where?!", 1),
        ("Where!?", 1),
        ("\u3069\u3053\u306b\u4f4f\u3093\u3067\u3044\u307e\u3059\u304b\uff1f", 1),
        ("\u0623\u064a\u0646 \u062a\u0633\u0643\u0646\u061f", 1),
        ("I moved\u3002 And you\uff1f", 0.5),
        ("Have you seen http://x.org/?q=a there?", 1),
        ("See http://x.org/?q=a there. And you?", 0.4),
        ("Really??", 1),
        ("I moved. And you?", 0.5),
        ("And you? I moved.", 0.5),
        ("a b c\nd e f?", 0.5),
        ("Is it so? ", 1),
        ("No sign of a question", 0),
        ("?", 0),
        ("", 0),
    ],
)
def test_the_share_of_a_text_that_asks_is_counted_in_words(text: str, share: float) -> None:
    assert traits(text).question == pytest.approx(share)


def test_a_link_asks_nothing() -> None:
    assert traits("See http://x.org/?q=a for more").question == 0
