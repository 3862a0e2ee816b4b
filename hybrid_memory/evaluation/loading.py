"""Evaluation: files into cases: our own pairs, LoCoMo, LongMemEval, and folders like BEIR's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from hybrid_memory import limits
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.evaluation.cases import Case, Question, Turn
from hybrid_memory.records import Item, record

T = TypeVar("T")

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
NO_CATEGORY = "general"

_EVIDENCE_ID = re.compile(r"D\s*:?\s*(\d+)\s*:\s*(\d+)", re.IGNORECASE)
_SECOND = timedelta(seconds=1)


# -- our own -----------------------------------------------------------------------------------

_CASE_KEYS = ("name", "now", "memories", "questions")
_QUESTION_KEYS = ("question", "evidence", "category", "other")
_TIMES = ("at", "expires_at", "valid_from", "valid_to")


def load_pairs(path: str | Path) -> list[Case]:
    """Read memories and questions in our own format: one such object, or a list of them.

    ```
    {"name": "ana", "now": "2026-06-01T09:00Z",
     "memories": [{"id": "m1", "text": "I moved to Lyon.", "at": "2026-05-02"}],
     "questions": [{"question": "Where do I live?", "evidence": ["m1"]}]}
    ```
    A memory has the arguments of `Scope.add_many`, and an `id` if a question names it. One without
    a time follows the one before it by a second. `now` is just after the last memory unless it is
    given. A question may have a `category`, and an `other`: the id of a memory that must rank
    below its evidence. Times are of ISO 8601, in UTC where they have no zone.

    Raises:
        InvalidInputError: something is missing, unknown or malformed; the message names the file,
            the place and the key.
    """
    path = Path(path)
    content, value = _read_json(path)
    single = not isinstance(value, list)
    items = [value] if single else value
    if not items:
        raise InvalidInputError(f"{path.name} is an empty list; it needs a case")
    cases: dict[str, Case] = {}
    for i, item in enumerate(items):
        where = path.name if single else f"{path.name}[{i}]"
        default = path.stem if single else f"{path.stem} {i}"
        case = _pairs_case(item, where, default)
        if case.name in cases:
            raise InvalidInputError(f"{where}.name {case.name!r} is taken by another case")
        cases[case.name] = replace(case, sha256=sha256(content).hexdigest())
    return list(cases.values())


def _pairs_case(item: Any, where: str, name: str) -> Case:
    _refuse_unknown(item, _CASE_KEYS, where)
    memories = _get(item, "memories", list, where)
    now = _iso_time(item["now"], f"{where}.now") if "now" in item else None
    # Where nothing has a time, any will do that keeps the order and is the same every day.
    at = now - len(memories) * _SECOND if now else limits.EPOCH
    turns: dict[str, Turn] = {}
    for i, memory in enumerate(memories):
        place = f"{where}.memories[{i}]"
        turn = _pairs_turn(memory, place, default_id=f"#{i}", default_at=at)
        if turn.id in turns:
            raise InvalidInputError(f"{place}.id {turn.id!r} is taken by another memory")
        turns[turn.id] = turn
        at = turn.at + _SECOND
    if not turns:
        raise InvalidInputError(f"{where}.memories is empty")
    asked = enumerate(_get(item, "questions", list, where))
    return Case(
        name=limits.label(item.get("name", name), f"{where}.name"),
        turns=tuple(turns.values()),
        questions=tuple(_pairs_question(one, f"{where}.questions[{i}]", turns) for i, one in asked),
        now=now or max(turn.at for turn in turns.values()) + _SECOND,
    )


def _pairs_turn(memory: Any, where: str, *, default_id: str, default_at: datetime) -> Turn:
    _refuse_unknown(memory, Item.__annotations__, where)
    given = {"id": default_id, "at": default_at, **memory}
    for key in _TIMES:
        if isinstance(given.get(key), str):
            given[key] = _iso_time(given[key], f"{where}.{key}")
    try:
        made = record(given, namespace=("evaluation",), session_id=None, now=default_at)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None
    own = {name: getattr(made, name) for name in Turn.__dataclass_fields__ if name != "more"}
    return Turn(**own, more={key: given[key] for key in given if key not in own})


def _pairs_question(asked: Any, where: str, turns: Mapping[str, Turn]) -> Question:
    _refuse_unknown(asked, _QUESTION_KEYS, where)
    evidence = _get(asked, "evidence", list, where)
    if not evidence:
        raise InvalidInputError(f"{where}.evidence is empty; it needs the id of a memory")
    for id in evidence:
        _check_searched(id, turns, f"{where}.evidence")
    other = asked.get("other")
    if other is not None:
        _check_searched(other, turns, f"{where}.other")
    if other in evidence:
        raise InvalidInputError(f"{where}.other {other!r} is evidence too")
    return Question(
        text=limits.text(_get(asked, "question", str, where), f"{where}.question"),
        evidence=tuple(dict.fromkeys(evidence)),
        category=limits.label(asked.get("category", NO_CATEGORY), f"{where}.category"),
        other=other,
    )


def _check_searched(id: Any, turns: Mapping[str, Turn], where: str) -> None:
    if not isinstance(id, str) or id not in turns:
        raise InvalidInputError(
            f"{where} names {id!r}, which is no memory's id; the nearest is {_nearest(id, turns)!r}"
        )
    if not turns[id].is_searched:
        raise InvalidInputError(
            f"{where} names {id!r}, which no search finds: it is an instruction or a message of "
            "the system"
        )


def _refuse_unknown(item: Any, names: Collection[str], where: str) -> None:
    if not isinstance(item, dict):
        raise InvalidInputError(f"{where} is not an object with {', '.join(names)}")
    for key in item:
        if key not in names:
            raise InvalidInputError(
                f"{where} has the unknown key {key!r}; the nearest is {_nearest(key, names)!r}"
            )


def _nearest(name: object, names: Collection[str]) -> str:
    return get_close_matches(str(name), names, n=1, cutoff=0)[0]


def _iso_time(text: Any, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{where} {str(text)[:40]!r} is not a time of ISO 8601, such as 2026-05-02T10:00Z"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# -- documents ---------------------------------------------------------------------------------


def load_beir(folder: str | Path) -> list[Case]:
    """Read documents and queries in the layout of BEIR (Thakur et al., NeurIPS 2021): one case.

    `corpus.jsonl` has an `_id`, a `title` (or none) and a `text` a line, `queries.jsonl` an `_id`
    and a `text`; `qrels/test.tsv`, or `qrels.tsv`, has the id of a query, the id of a document and
    a grade, behind a header or none. Grades of 0 and less are no evidence.

    Raises:
        InvalidInputError: a file is missing or malformed; the message names it and the line.
    """
    folder = Path(folder)
    judged = folder / "qrels" / "test.tsv"
    judged = judged if judged.exists() else folder / "qrels.tsv"
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", judged]
    lines = [_read_lines(path) for path in files]
    documents, queries = (
        {_get(item, "_id", str, where): (item, where) for item, where in _objects(found)}
        for found in lines[:2]
    )
    grades: dict[str, dict[str, float]] = {}
    for query, document, grade in _grades(lines[2]):
        if grade > 0:
            grades.setdefault(query, {})[document] = grade
    case = documents_case(
        folder.resolve().name,
        {
            id: (item.get("title") or "", _get(item, "text", str, where))
            for id, (item, where) in documents.items()
        },
        [
            Question(_get(item, "text", str, where), tuple(grades[id]), "documents", grades[id])
            for id, (item, where) in queries.items()
            if id in grades
        ],
    )
    digest = sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return [replace(case, sha256=digest)]


def documents_case(
    name: str, documents: Mapping[str, tuple[str, str]], questions: Iterable[Question]
) -> Case:
    """Return a case of documents, (title, text) by id, and of questions about them.

    Each document is one record of kind `document`, whatever its length, with its id as source.
    Evidence that is no document is dropped, and a question without any is left out.
    """
    left_out: Counter[str] = Counter()
    turns = {}
    for given, parts in documents.items():
        text = _storable("\n\n".join(part for part in parts if part.strip()), left_out)
        id = limits.label(given, "the id of a document")
        if text:
            more = {"source": id}
            turns[given] = Turn(id, text, None, limits.EPOCH, kind="document", more=more)
        else:
            left_out["empty documents"] += 1
    asked = []
    for question in questions:
        evidence = tuple(turns[id].id for id in question.evidence if id in turns)
        grades = {turns[id].id: grade for id, grade in question.grades.items() if id in turns}
        if evidence:
            asked.append(replace(question, evidence=evidence, grades=grades))
        else:
            left_out["questions without evidence"] += 1
    now = limits.EPOCH + _SECOND
    return Case(name, tuple(turns.values()), tuple(asked), now, dict(+left_out))


_Lines = list[tuple[str, str]]  # (line, where it stands)


def _read_lines(path: Path) -> _Lines:
    try:
        lines = _read(path).decode().split("\n")  # `splitlines` knows more ends than JSON does
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error}") from error
    return [(line, f"{path.name}:{i}") for i, line in enumerate(lines, 1) if line.strip()]


def _objects(lines: _Lines) -> Iterator[tuple[dict[str, Any], str]]:
    for line, where in lines:
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidInputError(f"{where} is not JSON: {error}") from error
        if not isinstance(item, dict):
            raise InvalidInputError(f"{where} is not an object with '_id' and 'text'")
        yield item, where


def _grades(lines: _Lines) -> Iterator[tuple[str, str, float]]:
    for i, (line, where) in enumerate(lines):
        fields = line.split("\t")
        if len(fields) != 3:
            raise InvalidInputError(f"{where} has {len(fields)} fields between tabs, not 3")
        try:
            yield fields[0], fields[1], float(fields[2])
        except ValueError:
            if i > 0:  # the first may be a header
                raise InvalidInputError(f"{where} has no number as grade") from None


# -- public conversations ----------------------------------------------------------------------


def load_locomo(path: str | Path) -> list[Case]:
    """Read conversations of two people in the format of LoCoMo (Maharana et al., ACL 2024).

    The caption of a shared photo is appended to the turn's text. Sessions start at their time
    (taken as UTC) and turns follow by the second, so that their order is kept. Evidence ids are
    repaired: several in one text are parted, `D:11:26` is `D11:26`, `D30:05` is `D30:5`, unknown
    ones are dropped. Questions without evidence, and adversarial ones, are left out.

    Raises:
        InvalidInputError: the file has another form; the message says what is missing where.
    """
    return _load(Path(path), "conversation", _locomo_case)


def load_longmemeval(path: str | Path) -> list[Case]:
    """Read questions, each with its sessions, as LongMemEval has them (Wu et al., ICLR 2025).

    Evidence are the turns marked `has_answer`; a question without one is left out, for there is
    no turn to recall. Turns follow the start of their session (taken as UTC) by the second. `now`
    is the question's date, or the end of the last session where the file has that later.

    Raises:
        InvalidInputError: the file has another form; the message says what is missing where.
    """
    return _load(Path(path), "haystack_sessions", _longmemeval_case)


def _load(path: Path, key: str, build: Callable[[Any, str, Counter[str]], Case]) -> list[Case]:
    """Read a list of items that have a key; the list may be the only one of an object."""
    content, items = _read_json(path)
    if isinstance(items, dict):
        lists = [value for value in items.values() if isinstance(value, list)]
        items = lists[0] if len(lists) == 1 else []
    if not isinstance(items, list) or not items:
        raise InvalidInputError(f"{path} has no list of objects with {key!r}")
    digest = sha256(content).hexdigest()
    cases = []
    for i, item in enumerate(items):
        left_out: Counter[str] = Counter()
        case = build(item, f"{path.name}[{i}]", left_out)
        if not case.turns:
            raise InvalidInputError(f"{path.name}[{i}].{key} has no turn with a text")
        now = max(case.now, *(turn.at + _SECOND for turn in case.turns))
        cases.append(replace(case, now=now, left_out=dict(+left_out), sha256=digest))
    return cases


def _locomo_case(item: Any, where: str, left_out: Counter[str]) -> Case:
    conversation = _get(item, "conversation", dict, where)
    turns: dict[str, Turn] = {}
    for session in sorted(int(key[8:]) for key in conversation if re.match(r"session_\d+$", key)):
        name = f"session_{session}"
        for i, said in enumerate(_get(conversation, name, list, f"{where}.conversation")):
            start = _time(conversation, f"{name}_date_time", f"{where}.conversation")
            turn = _get(said, "dia_id", str, f"{where}.conversation.{name}[{i}]")
            text, caption = said.get("text") or "", said.get("blip_caption")
            text = _storable(f"{text} [shares a photo: {caption}]" if caption else text, left_out)
            if text and turn not in turns:
                at = start + timedelta(seconds=i)
                turns[turn] = Turn(turn, text, name, at, speaker=said.get("speaker"))
            else:
                left_out["empty or repeated turns"] += 1
    known = {canonical: turn for turn in turns for canonical in _evidence_ids(turn)}
    questions = []
    for i, asked in enumerate(_get(item, "qa", list, where)):
        text = _get(asked, "question", str, f"{where}.qa[{i}]")
        category = CATEGORIES.get(asked.get("category"), str(asked.get("category")))
        evidence = [known[id_] for id_ in _evidence_ids(asked.get("evidence")) if id_ in known]
        if category == CATEGORIES[5]:
            left_out["adversarial questions"] += 1
        elif evidence:
            questions.append(Question(text, tuple(evidence), category))
        else:
            left_out["questions without evidence"] += 1
    return Case(
        name=str(item.get("sample_id", where)),
        turns=tuple(turns.values()),
        questions=tuple(questions),
        now=limits.EPOCH,  # that is, the end of the last session
    )


def _evidence_ids(evidence: Any) -> list[str]:
    """Return the ids named in LoCoMo's evidence, however written, each once, as `D8:6`."""
    text = json.dumps(evidence)
    found = [f"D{int(session)}:{int(turn)}" for session, turn in _EVIDENCE_ID.findall(text)]
    return list(dict.fromkeys(found))


def _longmemeval_case(item: Any, where: str, left_out: Counter[str]) -> Case:
    sessions = _get(item, "haystack_sessions", list, where)
    dates = _get(item, "haystack_dates", list, where)
    names = item.get("haystack_session_ids", range(len(sessions)))
    if not len(sessions) == len(dates) == len(names):
        raise InvalidInputError(f"{where}: haystack sessions, dates and ids differ in number")
    turns = []
    evidence = []
    for i, name in enumerate(names):
        start = _time(dates, i, f"{where}.haystack_dates")
        for j, said in enumerate(_get(sessions, i, list, where)):
            place = f"{where}.haystack_sessions[{i}][{j}]"
            text = _storable(_get(said, "content", str, place), left_out)
            role = limits.role(_get(said, "role", str, place))
            if not text:
                left_out["empty or repeated turns"] += 1
                continue
            # By place, not by name: a session may stand in a haystack twice.
            turn = Turn(f"{i}:{j}", text, str(name), start + timedelta(seconds=j), role=role)
            turns.append(turn)
            if said.get("has_answer") is True:
                evidence.append(turn.id)
    category = str(item.get("question_type"))
    question = Question(_get(item, "question", str, where), tuple(evidence), category)
    left_out["questions without evidence"] += not evidence
    return Case(
        name=str(item.get("question_id", where)),
        turns=tuple(turns),
        questions=(question,) if evidence else (),
        now=_time(item, "question_date", where),
    )


# -- all of them -------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error


def _read_json(path: Path) -> tuple[bytes, Any]:
    content = _read(path)
    try:
        return content, json.loads(content)
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}") from error


def _get(item: Any, key: str | int, kind: type[T], where: str) -> T:
    """Return what must be there; the error says where in the file it is missing."""
    try:
        value = item[key]
    except (KeyError, IndexError, TypeError):
        raise InvalidInputError(f"{where} has no {key!r}") from None
    if not isinstance(value, kind):
        raise InvalidInputError(f"{where}[{key!r}] is not a {kind.__name__}")
    return value


def _time(item: Any, key: str | int, where: str) -> datetime:
    """Read `1:56 pm on 8 May, 2023`, `2023/05/30 (Tue) 23:40` or `2023-05-30T23:40:00`, as UTC."""
    text = _get(item, key, str, where)
    plain = re.sub(r"\s*\(\w+\)", "", text.strip())  # without a weekday
    for form in ("%I:%M %p on %d %B, %Y", "%Y/%m/%d %H:%M", "%Y-%m-%dT%H:%M:%S"):
        with suppress(ValueError):
            return datetime.strptime(f"{plain} +0000", f"{form} %z")
    raise InvalidInputError(f"{where}[{key!r}] is not a time: {text[:40]!r}")


def _storable(text: str, left_out: Counter[str]) -> str:
    """Return what a record may hold of a text: no NUL, no lone surrogate, at most 64 KiB."""
    content = text.replace("\0", " ").strip().encode(errors="replace")
    left_out["texts cut to 64 KiB"] += len(content) > limits.MAX_TEXT_BYTES
    return content[: limits.MAX_TEXT_BYTES].decode(errors="ignore")
