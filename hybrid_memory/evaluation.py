"""Beside the read path: how much of the evidence a search finds, on two public data formats.

A file is loaded into cases, each gets a namespace of its own, and its questions are asked at the
end of its last session. Nothing but turns goes in, nothing but the question is asked.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hybrid_memory import limits
from hybrid_memory.errors import HybridMemoryError, InvalidInputError
from hybrid_memory.memory import HybridMemory
from hybrid_memory.protocols import Embedder, Vector, Vectors
from hybrid_memory.types import Record, Role

T = TypeVar("T")

RANKS = 150  # how deep a ranking is looked at
TOKEN_BUDGETS = (250, 500, 1000, 2000)
METRICS = (
    *("recall@5", "recall@10", "recall@20", "any@10", "all@10", "ndcg@10", "mrr"),
    *(f"t{budget}" for budget in TOKEN_BUDGETS),
)
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

_BATCH = 500  # turns an `add_many`, so that progress is seen
_EVIDENCE_ID = re.compile(r"D\s*:?\s*(\d+)\s*:\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, in the words of `Scope.add`; `id` is unique in its case."""

    id: str
    text: str
    session_id: str
    at: datetime
    speaker: str | None = None
    role: Role = "user"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the ids of the turns that answer it: at least one, none twice."""

    text: str
    evidence: tuple[str, ...]
    category: str


@dataclass(frozen=True, slots=True)
class Case:
    """A transcript, in order, and what is asked about it at `now`, the end of its last session.

    `left_out` counts what the file has and the case has not, by reason; `sha256` is the file's.
    """

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    now: datetime
    left_out: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """How one question went; `number` is its place in the case, from 0.

    `ranks` has a rank from 1, or None, for each evidence turn. `search_ms` includes encoding.
    """

    case: str
    number: int
    category: str
    ranks: Mapping[str, int | None]
    scores: Mapping[str, float]
    search_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run, and what a figure has to disclose."""

    results: tuple[Result, ...]
    turns: int
    left_out: Mapping[str, int]
    sha256: tuple[str, ...]
    embedder: str
    weights: Mapping[str, Any]

    @property
    def overall(self) -> dict[str, float]:
        """Every metric as a mean over all questions, in [0, 1]."""
        number = len(self.results)
        return {m: math.fsum(r.scores[m] for r in self.results) / number for m in METRICS}

    def by(self, attribute: str) -> dict[str, Report]:
        """Return a report for each "category" or "case", by name."""
        groups: dict[str, list[Result]] = {}
        for result in self.results:
            groups.setdefault(getattr(result, attribute), []).append(result)
        return {name: replace(self, results=tuple(groups[name])) for name in sorted(groups)}

    def search_ms(self, percentile: float) -> float:
        """Return a percentile (in [0, 100]) of the wall milliseconds of a warm search, k = 150."""
        return float(np.percentile([result.search_ms for result in self.results], percentile))

    def interval(self, metric: str, *, seed: int = 0) -> tuple[float, float] | None:
        """Return the 95 % interval of an overall mean by 2,000 bootstraps; None for one case.

        Cases are drawn, not questions: those of one conversation are not independent.
        """
        cases = self.by("case").values()
        if len(cases) < 2:
            return None
        counts = np.array([len(case.results) for case in cases])
        sums = counts * [case.overall[metric] for case in cases]
        drawn = np.random.default_rng(seed).integers(len(cases), size=(2_000, len(cases)))
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)

    def rows(self) -> list[list[str]]:
        """Return a table: its header, a row for each category, last all questions; in percent."""
        lines = [["category", "questions", *METRICS]]
        for name, part in [*self.by("category").items(), ("all", self)]:
            values = [f"{100 * value:.1f}" for value in part.overall.values()]
            lines.append([name, str(len(part.results)), *values])
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values, without a text of the data."""
        return {
            "questions": len(self.results),
            "turns": self.turns,
            "left_out": dict(self.left_out),
            "overall": self.overall,
            "recall@10_interval_95": self.interval("recall@10"),
            "by_category": {name: part.overall for name, part in self.by("category").items()},
            "by_case": {name: part.overall for name, part in self.by("case").items()},
            "search_ms": {"p50": self.search_ms(50), "p95": self.search_ms(95)},
            "sha256": list(self.sha256),
            "embedder": self.embedder,
            "weights": dict(self.weights),
            "results": [asdict(result) for result in self.results],
        }


def recall_at(ranked: Sequence[str], evidence: Collection[str], k: int) -> float:
    """Fractional recall: the share of the evidence that is in the first k ranks, in [0, 1]."""
    return len(set(ranked[:k]) & set(evidence)) / len(set(evidence))


def ndcg_at(ranked: Sequence[str], evidence: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain of the first k ranks, in [0, 1].

    An evidence turn at rank r (from 1) gains 1 / log2(r + 1), any other nothing; the sum is
    divided by that of a ranking with min(k, number of evidence turns) of them in front.
    """
    gains = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    found = [gain for gain, turn in zip(gains, ranked, strict=False) if turn in evidence]
    return math.fsum(found) / math.fsum(gains[: len(set(evidence))])


def reciprocal_rank(ranked: Sequence[str], evidence: Collection[str]) -> float:
    """1 / rank (from 1) of the first evidence turn, 0 where there is none; in [0, 1]."""
    return next((1 / rank for rank, turn in enumerate(ranked, 1) if turn in evidence), 0.0)


def pack(ranked: Sequence[str], tokens: Sequence[int], budget: int) -> list[str]:
    """Return what fits into a budget: down the ranking, a line is taken whole or skipped.

    `tokens` has the cost of each line. What is skipped ends nothing: a shorter one may fit.
    """
    kept = []
    for turn, cost in zip(ranked, tokens, strict=True):
        if cost <= budget:
            budget -= cost
            kept.append(turn)
    return kept


def score(
    ranked: Sequence[str], tokens: Sequence[int], evidence: Collection[str]
) -> dict[str, float]:
    """Return the `METRICS` of one ranking, each in [0, 1].

    - `recall@5`, `@10`, `@20`: fractional, see `recall_at`.
    - `any@10`, `all@10`: 1 if at least one, or all, of the evidence is in the first 10, else 0.
    - `ndcg@10`, `mrr`: see `ndcg_at`, and `reciprocal_rank` over 150 ranks.
    - `t250`, ...: fractional recall of what `pack` fits into that many tokens from 150 ranks.

    `ranked` has no id twice; `tokens` has the cost of each line: its word pieces, and one more.
    """
    ranked, tokens = ranked[:RANKS], tokens[:RANKS]
    at_10 = recall_at(ranked, evidence, 10)
    packed = [pack(ranked, tokens, budget) for budget in TOKEN_BUDGETS]
    values = (
        *(recall_at(ranked, evidence, 5), at_10, recall_at(ranked, evidence, 20)),
        *(float(at_10 > 0), float(at_10 == 1)),
        *(ndcg_at(ranked, evidence, 10), reciprocal_rank(ranked, evidence)),
        *(recall_at(kept, evidence, RANKS) for kept in packed),
    )
    return dict(zip(METRICS, values, strict=True))


def line(record: Record) -> str:
    """Return the line that a record costs in a prompt: `[08 May 2023] Speaker: text`."""
    return f"[{record.at:%d %b %Y}] {record.speaker or record.role}: {record.text}"


def evaluate(
    cases: Sequence[Case],
    *,
    memory: HybridMemory,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Put each case into a namespace of its own, ask its questions and score what is found.

    `on_progress(done, total)` counts turns added and questions asked. Cases without a question
    count in `left_out` and are not stored.

    Raises:
        InvalidInputError: no case has a question, or two have the same name.
        HybridMemoryError: a search returned what is not a turn of its case.
    """
    asked = [case for case in cases if case.questions]
    if not asked:
        raise InvalidInputError("no case has a question with evidence")
    if len({case.name for case in asked}) < len(asked):
        raise InvalidInputError("two cases have the same name; they would share a namespace")
    turns = sum(len(case.turns) for case in asked)
    total = turns + sum(len(case.questions) for case in asked)
    done = 0
    results = []
    for case in asked:
        for step in _run(case, memory):
            done += step if isinstance(step, int) else 1
            if isinstance(step, Result):
                results.append(step)
            if on_progress is not None:
                on_progress(done, total)
    return Report(
        results=tuple(results),
        turns=turns,
        left_out=dict(sum((Counter(case.left_out) for case in cases), Counter())),
        sha256=tuple(dict.fromkeys(case.sha256 for case in cases if case.sha256)),
        embedder=memory._embedder.name,
        weights=asdict(memory._weights),
    )


def _run(case: Case, memory: HybridMemory) -> Iterator[int | Result]:
    """Yield how many turns were added, time and again, then the result of each question."""
    from hybrid_memory.backends.onnx import count_tokens  # loads the tokenizer

    namespace = ("evaluation", case.name)
    scope = memory.scope(namespace=namespace)
    for start in range(0, len(case.turns), _BATCH):
        yield len(scope.add_many([asdict(turn) for turn in case.turns[start : start + _BATCH]]))
    # The first search of a namespace loads it; that is not what `search_ms` is about.
    scope.search("warm up", k=1, now=case.now)
    known = {(namespace, turn.id) for turn in case.turns}
    costs: dict[str, int] = {}
    for number, question in enumerate(case.questions):
        started = time.perf_counter()
        hits = scope.search(question.text, k=RANKS, now=case.now)
        search_ms = 1000 * (time.perf_counter() - started)
        records = [hit.record for hit in hits]
        if not known.issuperset((record.namespace, record.id) for record in records):
            raise HybridMemoryError(f"a search in {namespace} found what is not a turn of its case")
        new = (record for record in records if record.id not in costs)
        costs.update({record.id: count_tokens(line(record)) + 1 for record in new})
        ranked = [record.id for record in records]
        rank_of = {turn: rank for rank, turn in enumerate(ranked, 1)}
        yield Result(
            case=case.name,
            number=number,
            category=question.category,
            ranks={turn: rank_of.get(turn) for turn in question.evidence},
            scores=score(ranked, [costs[turn] for turn in ranked], question.evidence),
            search_ms=search_ms,
        )


class CachedEmbedder:
    """Embeds no stored text twice; many cases share their sessions.

    Questions are embedded each time, so that a search takes as long as it does without.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self.dim = embedder.dim
        self._embedder = embedder
        self._known: dict[bytes, Vector] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1."""
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self._embedder.embed(list(new.values())), strict=True))
        rows = [self._known[key] for key in keys]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, embedded anew."""
        return self._embedder.embed_query(text)


@contextmanager
def temporary_memory(embedder: Embedder | None = None, **settings: Any) -> Iterator[HybridMemory]:
    """Open a memory that is gone afterwards; `settings` are those of `HybridMemory.open`.

    Its embedder (by default the bundled one) is cached; its commits do not wait for the disk.
    """
    from hybrid_memory.backends.onnx import MiniLMEmbedder

    cached = CachedEmbedder(embedder or MiniLMEmbedder())
    settings = {"durability": "normal", "embedder": cached, **settings}
    with (
        tempfile.TemporaryDirectory(prefix="hybrid-memory-") as directory,
        HybridMemory.open(directory, **settings) as memory,
    ):
        yield memory


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
    try:
        content = path.read_bytes()
        items = json.loads(content)
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}") from error
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
        now = max(case.now, *(turn.at + timedelta(seconds=1) for turn in case.turns))
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
    left_out["turns cut to 64 KiB"] += len(content) > limits.MAX_TEXT_BYTES
    return content[: limits.MAX_TEXT_BYTES].decode(errors="ignore")
