"""Our own pairs of memories and questions, and folders of documents like BEIR's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hybrid_memory.errors import InvalidInputError
from hybrid_memory.evaluation import evaluate, load_beir, load_pairs, temporary_memory
from hybrid_memory.testing import HashEmbedder

LYON: dict[str, Any] = {
    "name": "lyon",
    "memories": [
        {"id": "paris", "text": "I live in Paris.", "at": "2026-01-05T10:00Z", "session_id": "s1"},
        {"id": "lyon", "text": "I moved to Lyon.", "at": "2026-05-02T10:00+02:00"},
        {"text": "The flat has a balcony.", "speaker": "Ana", "metadata": {"city": "Lyon"}},
        {"id": "polite", "text": "Be polite.", "kind": "instruction", "at": "2026-05-02"},
    ],
    "questions": [
        {
            "question": "Where do I live now?",
            "evidence": ["lyon"],
            "category": "update",
            "other": "paris",
        },
        {"question": "Which towns did I live in?", "evidence": ["paris", "lyon", "paris"]},
    ],
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[object], Path]:
    def write(value: object) -> Path:
        path = tmp_path / "mine.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


# -- pairs -------------------------------------------------------------------------------------


def test_a_memory_keeps_every_argument_it_is_given(written: Callable[[object], Path]) -> None:
    [case] = load_pairs(written(LYON))

    with temporary_memory(HashEmbedder()) as memory:
        evaluate([case], memory=memory)
        scope = memory.scope(namespace=("evaluation", "lyon"))
        paris, balcony = scope.get("paris"), scope.get("#2")
        instructions = [one.text for one in scope.instructions(now=case.now)]

    assert (paris.text, paris.session_id) == ("I live in Paris.", "s1")
    assert paris.at == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert (balcony.speaker, balcony.metadata) == ("Ana", {"city": "Lyon"})
    assert instructions == ["Be polite."]


def test_a_memory_without_a_time_follows_the_one_before_it(
    written: Callable[[object], Path],
) -> None:
    [case] = load_pairs(written(LYON))

    assert case.turns[2].at == case.turns[1].at + timedelta(seconds=1)


def test_memories_without_any_time_keep_their_order_before_now(
    written: Callable[[object], Path],
) -> None:
    untimed = {
        "now": "2026-06-01",
        "memories": [{"text": "One."}, {"text": "Two.", "id": "two"}],
        "questions": [{"question": "Which number?", "evidence": ["two"]}],
    }

    [case] = load_pairs(written(untimed))

    assert case.name == "mine"
    assert case.turns[0].at < case.turns[1].at < case.now == datetime(2026, 6, 1, tzinfo=UTC)


def test_it_is_asked_just_after_the_last_memory_unless_now_is_given(
    written: Callable[[object], Path],
) -> None:
    [case] = load_pairs(written(LYON))
    [later] = load_pairs(written({**LYON, "now": "2026-07-01T08:00Z"}))

    assert case.now == datetime(2026, 5, 2, 8, 0, 2, tzinfo=UTC)
    assert later.now == datetime(2026, 7, 1, 8, tzinfo=UTC)


def test_a_question_has_its_evidence_once_and_a_category(
    written: Callable[[object], Path],
) -> None:
    [case] = load_pairs(written(LYON))

    first, second = case.questions
    assert (first.category, first.other) == ("update", "paris")
    assert (second.category, second.other) == ("general", None)
    assert second.evidence == ("paris", "lyon")


def test_a_list_has_a_case_each(written: Callable[[object], Path], tmp_path: Path) -> None:
    unnamed = {key: value for key, value in LYON.items() if key != "name"}

    cases = load_pairs(written([LYON, unnamed]))

    assert [case.name for case in cases] == ["lyon", "mine 1"]
    assert {case.sha256 for case in cases} == {
        sha256((tmp_path / "mine.json").read_bytes()).hexdigest()
    }


def changed(value: Any, path: list[str | int], new: object) -> Any:
    """Return a copy of a case with another value at the end of a path; None removes it."""
    copy = json.loads(json.dumps(value))
    place = copy
    for step in path[:-1]:
        place = place[step]
    if new is None:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return copy


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (["memories"], None, r"mine\.json has no 'memories'"),
        (["memories"], [], r"mine\.json\.memories is empty"),
        (["memory"], [], r"mine\.json has the unknown key 'memory'; the nearest is 'memories'"),
        (["now"], "soon", r"mine\.json\.now 'soon' is not a time of ISO 8601"),
        (["name"], "", r"mine\.json\.name is empty"),
        (["memories", 1, "text"], None, r"mine\.json\.memories\[1\]: text must be a string"),
        (["memories", 1, "at"], "May", r"mine\.json\.memories\[1\]\.at 'May' is not a time"),
        (["memories", 1, "kind"], "note", r"mine\.json\.memories\[1\]: unknown kind 'note'"),
        (["memories", 1, "id"], "paris", r"mine\.json\.memories\[1\]\.id 'paris' is taken"),
        (["memories", 1], "I like tea.", r"mine\.json\.memories\[1\] is not an object with text"),
        (
            ["memories", 1, "sesion"],
            "s1",
            r"mine\.json\.memories\[1\] has the unknown key 'sesion'; the nearest is 'session_id'",
        ),
        (["questions", 0, "question"], None, r"mine\.json\.questions\[0\] has no 'question'"),
        (["questions", 0, "question"], " ", r"mine\.json\.questions\[0\]\.question is empty"),
        (["questions", 0, "evidence"], [], r"mine\.json\.questions\[0\]\.evidence is empty"),
        (["questions", 0, "evidence"], "lyon", r"mine\.json\.questions\[0\]\['evidence'\] is not"),
        (
            ["questions", 0, "evidence"],
            ["lion"],
            r"\[0\]\.evidence names 'lion', which is no memory's id; the nearest is 'lyon'",
        ),
        (["questions", 0, "evidence"], [["lyon"]], r"evidence names \['lyon'\]"),
        (["questions", 0, "evidence"], ["polite"], r"evidence names 'polite', which no search"),
        (["questions", 0, "other"], "rome", r"questions\[0\]\.other names 'rome'"),
        (["questions", 0, "other"], "lyon", r"questions\[0\]\.other 'lyon' is evidence too"),
        (["questions", 0, "category"], 4, r"questions\[0\]\.category must be a string"),
        (["questions", 0, "anser"], "x", r"questions\[0\] has the unknown key 'anser'"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_place_and_key(
    path: list[str | int], new: object, message: str, written: Callable[[object], Path]
) -> None:
    file = written(changed(LYON, path, new))

    with pytest.raises(InvalidInputError, match=message):
        load_pairs(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"mine\.json is an empty list"),
        ("3", r"mine\.json is not an object with name, now, memories, questions"),
        ("[3]", r"mine\.json\[0\] is not an object"),
        ("{", r"mine\.json is not JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(
    content: str, message: str, written: Callable[[object], Path]
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_pairs(written(content))


def test_two_cases_of_one_name_are_refused_by_place(written: Callable[[object], Path]) -> None:
    with pytest.raises(InvalidInputError, match=r"mine\.json\[1\]\.name 'lyon' is taken"):
        load_pairs(written([LYON, LYON]))


# -- documents ---------------------------------------------------------------------------------

CORPUS = [
    {"_id": "d1", "title": "Soup", "text": "Lentils are boiled with cumin."},
    {"_id": "d2", "title": "", "text": "Bread is baked.\u2028Rye keeps longer."},
    {"_id": "d3", "text": "Olives are pressed in autumn."},
    {"_id": "d4", "title": " ", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "How are lentils cooked?"},
    {"_id": "q2", "text": "Which bread keeps?"},
    {"_id": "q3", "text": "Judged by nobody."},
]
JUDGED = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq1\td3\t0\nq2\td2\t1\nq2\td9\t1\n"


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    folder = tmp_path / "kitchen"
    (folder / "qrels").mkdir(parents=True)
    for name, items in [("corpus", CORPUS), ("queries", QUERIES)]:
        lines = [json.dumps(item, ensure_ascii=False) for item in items]
        (folder / f"{name}.jsonl").write_text("\r\n".join(lines) + "\n", newline="")
    (folder / "qrels" / "test.tsv").write_text(JUDGED)
    return folder


def test_each_document_is_one_record_with_its_title_and_source(kitchen: Path) -> None:
    [case] = load_beir(kitchen)

    with temporary_memory(HashEmbedder()) as memory:
        evaluate([case], memory=memory)
        scope = memory.scope(namespace=("evaluation", "kitchen"))
        soup, bread, records = scope.get("d1"), scope.get("d2"), scope.stats().records

    assert (soup.kind, soup.source) == ("document", "d1")
    assert soup.text == "Soup\n\nLentils are boiled with cumin."
    assert bread.text == "Bread is baked.\u2028Rye keeps longer."
    assert records["document"] == 3
    assert case.left_out == {"empty documents": 1}


def test_grades_above_0_are_the_evidence(kitchen: Path) -> None:
    [case] = load_beir(kitchen)

    assert [(one.text, dict(one.grades)) for one in case.questions] == [
        ("How are lentils cooked?", {"d1": 2, "d2": 1}),
        ("Which bread keeps?", {"d2": 1}),
    ]
    assert case.questions[0].evidence == ("d1", "d2")


def test_judgements_may_lie_beside_and_have_no_header(kitchen: Path) -> None:
    [nested] = load_beir(kitchen)
    (kitchen / "qrels" / "test.tsv").unlink()
    (kitchen / "qrels.tsv").write_text(JUDGED.partition("\n")[2])

    [beside] = load_beir(kitchen)

    assert beside.questions == nested.questions
    assert beside.sha256 != nested.sha256


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d1"}', r"corpus\.jsonl:1 has no 'text'"),
        ("corpus.jsonl", '\n{"text": "x"}', r"corpus\.jsonl:2 has no '_id'"),
        ("queries.jsonl", "{", r"queries\.jsonl:1 is not JSON"),
        ("queries.jsonl", "[]", r"queries\.jsonl:1 is not an object"),
        ("qrels/test.tsv", "q1\td1", r"test\.tsv:1 has 2 fields between tabs, not 3"),
        ("qrels/test.tsv", "q1\td1\t1\nq2\td2\tgood", r"test\.tsv:2 has no number as grade"),
    ],
)
def test_a_malformed_line_is_named(file: str, content: str, message: str, kitchen: Path) -> None:
    (kitchen / file).write_text(content)

    with pytest.raises(InvalidInputError, match=message):
        load_beir(kitchen)


def test_a_missing_file_of_a_folder_is_named(kitchen: Path) -> None:
    (kitchen / "queries.jsonl").unlink()

    with pytest.raises(InvalidInputError, match=r"cannot read .*queries\.jsonl"):
        load_beir(kitchen)
