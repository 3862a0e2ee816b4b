"""Words of a text and BM25 over them, against a slow reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory.language import ENGLISH
from hybrid_memory.protocols import Terms
from hybrid_memory.words import (
    K1,
    MAX_QUERY_TERMS,
    B,
    Postings,
    content_words,
    encode,
    terms,
)

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I like Rust.", ["like", "rust"]),
        ("LIKES liked liking", ["like", "like", "like"]),
        ("running runs", ["run", "run"]),
        ("Ana's sister", ["ana", "sister"]),
        ("Ana\u2019s sister", ["ana", "sister"]),
        ("don't, can't, I'm, it's", ["don't, can't, I'm, it's"]),
        ("rock'n'roll", ["rock", "roll"]),
        ("'quoted' words'", ["quot", "word"]),
        ("well-known co-operation", ["know", "co", "oper"]),
        ("snake_case", ["snake", "case"]),
        ("room 101, 2026-05-02", ["room", "101", "2026", "05", "02"]),
        ("a@b.example http://x.org/y", ["b", "exampl", "http", "x", "org", "y"]),
        ("C++ and R2D2", ["c", "r2d2"]),
        ("naïve Übung", ["naïv", "übung"]),
        ("Привет мир", ["привет", "мир"]),
        ("not never no", ["not", "never", "no"]),
        ("", []),
        (" \n\t", []),
        ("?!... --- ___ \U0001f600", []),
    ],
)
def test_a_text_is_cut_into_the_stems_of_its_words(text: str, words: list[str]) -> None:
    if words == [text]:  # nothing but stop words: they are all kept, cut the same way
        words = ["don", "can", "i", "it"]
    assert content_words(text) == words


def test_stop_words_are_left_out_whatever_their_case() -> None:
    assert content_words("What is THE time of the Train") == ["time", "train"]


@pytest.mark.parametrize("text", ["The Who", "to be or not to be", "What is this?", "It"])
def test_a_text_of_stop_words_only_is_not_empty(text: str) -> None:
    assert content_words(text)


def test_a_band_named_by_stop_words_is_found() -> None:
    postings = Postings().extended([terms("The Who"), terms("The Beatles played")])

    assert postings.scores(terms("The Who").tolist(), _all(2)).argmax() == 0


def test_stop_words_are_lower_case_and_hold_no_negation() -> None:
    assert all(word == word.lower() for word in ENGLISH.stop_words)
    assert not ENGLISH.stop_words & {"no", "not", "never", "nothing", "without"}


# -- forms that no rule makes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("I bought a piano", "What did I buy?"),
        ("We flew to Porto", "Where do they fly?"),
        ("She taught chemistry", "What does she teach?"),
        ("He has written a novel", "Who writes?"),
        ("The children slept", "Does a child sleep?"),
        ("Two men and three women", "Is it a man or a woman?"),
        ("My teeth hurt, and both feet", "a tooth, a foot"),
        ("I've known Bob since school", "Whom do I know?"),
        ("I KNEW IT", "know"),
        ("\u201cWe thought of mice\u201d", "Do you think of a mouse?"),
    ],
)
def test_a_past_form_or_a_plural_is_found_by_its_base(said: str, asked: str) -> None:
    assert set(content_words(said)) & set(content_words(asked))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("see", "seed"),
        ("ring", "wrong"),
        ("men", "mental"),
        ("lying", "lay"),
        ("rose", "rise"),
        ("bore", "bear"),
        ("wound", "wind"),
        ("ground", "grind"),
        ("founded", "find"),
    ],
)
def test_a_word_of_its_own_is_no_form_of_another(one: str, other: str) -> None:
    assert not set(content_words(one)) & set(content_words(other))


def test_a_form_has_one_base_which_is_no_form_itself() -> None:
    forms = ENGLISH.base_forms

    assert forms["known"] == forms["knew"] == "know"
    assert not set(forms) & set(forms.values())
    assert all(word.replace("'", "").islower() for word in (*forms, *forms.values()))
    assert all(content_words(form) == content_words(base) for form, base in forms.items())


def test_who_won_is_not_lost() -> None:
    assert content_words("He won the race") == ["win", "race"]
    assert content_words("Who won?") == content_words("Who wins?") == ["win"]


@pytest.mark.parametrize("wont", ["won't", "won\u2019t", "WON'T"])
def test_what_will_not_be_was_not_won(wont: str) -> None:
    assert "win" not in content_words(f"I {wont}, will you?")


def test_what_will_not_be_is_no_word_beside_others() -> None:
    assert content_words("I won't eat lentils") == ["eat", "lentil"]
    assert content_words("I won\u2019t eat lentils") == ["eat", "lentil"]


# -- other scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京都", ["東京", "京都"]),
        ("猫", ["猫"]),
        ("東京。大阪", ["東京", "大阪"]),
        ("カメラ", ["カメ", "メラ"]),
        ("กขค", ["กข", "ขค"]),
        ("Tokyo 東京", ["tokyo", "東京"]),
        ("한국 음식", ["한국", "음식"]),
    ],
)
def test_a_script_without_spaces_is_cut_into_pairs(text: str, words: list[str]) -> None:
    assert content_words(text) == words


@pytest.mark.parametrize("text", ["我喜欢Python语言", "Rustが好き", "iPhone15を買った"])
def test_a_latin_word_inside_of_such_a_script_stays_a_word(text: str) -> None:
    [latin] = [word for word in ("Python", "Rust", "iPhone15") if word in text]

    assert set(content_words(latin)) <= set(content_words(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("\u00c5ngstr\u00f6m", "A\u030angstro\u0308m"),
        ("finance", "\ufb01nance"),
        ("123", "\uff11\uff12\uff13"),
    ],
)
def test_the_same_word_in_another_unicode_form_is_the_same_word(one: str, other: str) -> None:
    assert content_words(one) == content_words(other)


@pytest.mark.parametrize("word", ["हिन्दी", "தமிழ்", "العَرَب"])
def test_a_vowel_sign_does_not_end_a_word(word: str) -> None:
    assert len(content_words(word)) == 1


def test_codes_are_those_of_the_words_in_order_with_repetitions() -> None:
    codes = terms("rust and rust and zig")

    assert codes.dtype == np.uint32
    assert codes.tolist() == encode(["rust", "rust", "zig"]).tolist()
    assert codes[0] == codes[1] != codes[2]
    assert terms("?").tolist() == []


def test_a_code_is_the_same_in_every_process() -> None:
    assert encode(["rust", "lyon"]).tolist() == [3778183840, 1140588367]


@PROPERTY
@given(st.text(max_size=60))
@example("\u0130stanbul")
def test_cutting_twice_gives_the_same_and_never_an_empty_word(text: str) -> None:
    words = content_words(text)

    assert content_words(text) == words
    assert all(words)
    assert all("_" not in word and " " not in word for word in words)


# -- BM25 --------------------------------------------------------------------------------------


def _all(count: int) -> np.ndarray:
    return np.ones(count, bool)


def _reference(
    documents: Sequence[Sequence[int]], alive: Sequence[bool], query: Sequence[int]
) -> list[float]:
    """Score one document after another, in Python's floats, as the formula is printed."""
    living = [document for document, here in zip(documents, alive, strict=True) if here]
    mean = sum(len(document) for document in living) / len(living) if living else 0
    idf = {}
    for term in set(query):
        having = sum(term in document for document in living)
        idf[term] = math.log(1 + (len(living) - having + 0.5) / (having + 0.5))
    asked = (K1 + 1) * sum(idf.values())
    shares = []
    for document, here in zip(documents, alive, strict=True):
        score = 0.0
        counts = Counter(document)
        for term in set(query) & counts.keys() if here else ():
            saturated = counts[term] + K1 * (1 - B + B * len(document) / mean)
            score += idf[term] * counts[term] * (K1 + 1) / saturated
        shares.append(score / asked if asked else 0.0)
    return shares


def _codes(numbers: Sequence[int]) -> Terms:
    return np.array(numbers, np.uint32)


# Codes as CRC-32 gives them: over the whole range, the ends included.
CODES = st.sampled_from([0, 1, 7, 2**31 - 1, 2**31, 2**31 + 5, 2**32 - 2, 2**32 - 1])
DOCUMENTS = st.lists(st.lists(CODES, max_size=6), max_size=8)


@PROPERTY
@given(DOCUMENTS, st.lists(CODES, max_size=5), st.integers(0, 2**8 - 1))
@example([[0], [1]], [2**31], 3)
@example([[]], [0], 1)
def test_scores_are_those_of_the_reference(
    documents: list[list[int]], query: list[int], bits: int
) -> None:
    alive = [bool(bits >> i & 1) for i in range(len(documents))]
    postings = Postings().extended([_codes(document) for document in documents])

    scores = postings.scores(query, np.array(alive, bool))

    assert scores.shape == (len(documents),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.tolist() == pytest.approx(_reference(documents, alive, query), abs=1e-5)


def _corpus(seed: int, rows: int = 260, longest: int = 60, vocabulary: int = 400) -> list[Terms]:
    """Return more postings than are looked through unsorted, some words common, most rare."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, vocabulary, dtype=np.uint32)
    drawn = rng.zipf(1.3, (rows, longest)) % vocabulary
    return [words[row[: rng.integers(longest + 1)]] for row in drawn]


def _in_batches(documents: Sequence[Terms], sizes: Sequence[int]) -> Postings:
    postings, start = Postings(), 0
    while start < len(documents):
        size = sizes[start % len(sizes)]
        postings = postings.extended(documents[start : start + size])
        start += size
    return postings


@pytest.mark.parametrize("sizes", [[10**6], [1], [7], [150, 1], [1, 2, 3, 200], [130]], ids=str)
@pytest.mark.parametrize("longest", [4, 60], ids=["few", "many"])
def test_the_size_of_batches_changes_no_score(sizes: list[int], longest: int) -> None:
    documents = _corpus(1, longest=longest)
    alive = _all(len(documents))
    plain = [document.tolist() for document in documents]
    postings = _in_batches(documents, sizes)

    for query in ([documents[5][0]], documents[9][:4], np.concatenate(documents[20:23])[:20]):
        asked = np.asarray(query).tolist()
        expected = _reference(plain, alive.tolist(), asked)
        assert postings.scores(asked, alive).tolist() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 120), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_dead_rows_leave_no_trace(seed: int, sizes: list[int], share: float) -> None:
    documents = _corpus(seed)
    rng = np.random.default_rng(seed)
    alive = rng.random(len(documents)) < share
    query = np.concatenate(documents)[rng.integers(0, 1000, 6)].tolist()
    without = Postings().extended(
        [document for document, here in zip(documents, alive.tolist(), strict=True) if here]
    )

    scores = _in_batches(documents, sizes).scores(query, alive)

    assert scores[alive] == pytest.approx(without.scores(query, _all(int(alive.sum()))), abs=1e-6)
    assert not scores[~alive].any()


def test_every_word_of_a_large_memory_can_be_found() -> None:
    documents = [encode([f"word{i}", "common"]) for i in range(3000)]
    postings = Postings().extended(documents)

    for i in range(0, 3000, 50):
        assert postings.scores(encode([f"word{i}"]).tolist(), _all(3000)).argmax() == i


def test_postings_extended_from_are_left_as_they_were() -> None:
    old = Postings().extended([terms("rust"), terms("zig")])
    before = old.scores(terms("rust").tolist(), _all(2)).tolist()
    small = old.extended([terms("rust lyon")])
    large = old.extended(_corpus(3))

    assert old.scores(terms("rust").tolist(), _all(2)).tolist() == before
    assert len(small.lengths) == 3
    assert len(large.lengths) == 262
    assert small.scores(terms("lyon").tolist(), _all(3))[2] > 0


def test_two_may_be_extended_from_one_without_mixing() -> None:
    base = Postings().extended([terms("rust")])
    one, other = base.extended([terms("lyon")]), base.extended([terms("paris")])

    assert one.scores(terms("paris").tolist(), _all(2)).tolist() == [0, 0]
    assert other.scores(terms("lyon").tolist(), _all(2)).tolist() == [0, 0]


def test_a_word_that_nobody_used_lowers_the_share_of_the_others() -> None:
    postings = Postings().extended([terms("rust lyon"), terms("zig paris")])

    known = postings.scores(terms("rust").tolist(), _all(2))
    with_unseen = postings.scores(terms("rust quokka").tolist(), _all(2))

    assert 0 < with_unseen[0] < known[0]
    assert postings.scores(terms("quokka").tolist(), _all(2)).tolist() == [0, 0]


def test_asking_twice_for_a_word_asks_once() -> None:
    postings = Postings().extended([terms("rust lyon"), terms("zig lyon")])

    once = postings.scores(terms("rust lyon").tolist(), _all(2)).tolist()

    assert postings.scores(terms("lyon rust rust lyon rust").tolist(), _all(2)).tolist() == once


def test_nothing_asked_or_nothing_there_scores_nothing() -> None:
    postings = Postings().extended([terms("rust")])

    assert Postings().scores([1, 2], _all(0)).tolist() == []
    assert postings.scores([], _all(1)).tolist() == [0]
    assert postings.scores(terms("rust").tolist(), ~_all(1)).tolist() == [0]
    assert Postings().extended([]).scores([1], _all(0)).tolist() == []
    assert Postings().extended([terms("?"), terms("!")]).scores([1], _all(2)).tolist() == [0, 0]


def test_known_words_count_however_many_unknown_ones_stand_around_them() -> None:
    postings = Postings().extended([terms("the invoice of Lyon"), terms("something else")])
    question = "invoice Lyon " + " ".join(f"unseen{i}" for i in range(2 * MAX_QUERY_TERMS))

    scores = postings.scores(terms(question).tolist(), _all(2))

    assert scores[0] > 0
    assert scores[1] == 0


def test_a_question_as_long_as_a_page_still_gives_shares() -> None:
    documents = _corpus(5)
    question = np.unique(np.concatenate(documents)).tolist()

    scores = Postings().extended(documents).scores(question, _all(len(documents)))

    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.any()


def test_the_size_grows_with_what_is_held() -> None:
    small, large = (Postings().extended(_corpus(1, rows=rows)) for rows in (400, 800))

    assert 0 < small.nbytes < large.nbytes
