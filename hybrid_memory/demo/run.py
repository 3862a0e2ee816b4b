"""The demo: one process remembers six sessions and some documents, another is asked about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from hybrid_memory import Context, Hit, HybridMemory, Scope
from hybrid_memory.errors import (
    ChatModelError,
    ChatModelNotConfiguredError,
    DocumentError,
    HybridMemoryError,
    MissingExtraError,
)
from hybrid_memory.protocols import ChatModel
from hybrid_memory.terminal import console, hits_table, panel, progress, table

DISTRIBUTION = "hybrid-rag-memory"
HITS = 4  # shown of each question
PROMPT_TOKENS = 400  # small enough to be read, too small for all hits


@dataclass(frozen=True, slots=True)
class Finding:
    """How a question went: the rank of what answers it (None: not found) and the best score.

    What is in force without being searched has the rank 0.
    """

    kind: str
    question: str
    answerable: bool
    rank: int | None
    best_score: float

    @property
    def place(self) -> str:
        """Where the answer was, in words."""
        if not self.answerable:
            return "nothing to find"
        return {None: "not found", 0: "always in force"}.get(self.rank, f"rank {self.rank}")


@cache
def conversation() -> Mapping[str, Any]:
    """Return the sessions, memories and questions of the demo."""
    text = files(__package__).joinpath("conversation.json").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def demo(store: Path | None = None, docs: Sequence[Path] = ()) -> int:
    """Run both halves and return the exit code; without `store`, nothing is left behind.

    `docs` are files and folders to learn, by default the README of the installed distribution.
    """
    if store is None:
        with tempfile.TemporaryDirectory(prefix="hybrid-memory-demo-") as directory:
            return demo(Path(directory), docs)
    remember(store, docs)
    sys.stdout.flush()
    command = [sys.executable, "-m", "hybrid_memory.demo", str(store)]
    return subprocess.run(command, check=False).returncode  # noqa: S603  # our own module


def remember(store: Path, docs: Sequence[Path] = ()) -> None:
    """Store everything and close the store. A second run changes nothing."""
    told = conversation()
    out = console()
    out.rule("[bold]1. Remember", align="left")
    started = time.perf_counter()
    with HybridMemory.open(store) as memory:
        user = memory.scope(user_id=told["user_id"])
        user.add_many(_turns(told))
        for fact in told["facts"]:
            user.add_fact(
                fact["data"],
                id=fact["id"],
                at=_time(fact["at"]),
                valid_from=_time(fact["valid_from"]),
                valid_to=_time(fact["valid_to"]) if "valid_to" in fact else None,
            )
        for event in told["events"]:
            user.add_event(event["text"], id=event["id"], at=_time(event["at"]))
        for rule in told["instructions"]:
            user.add_instruction(rule["text"], id=rule["id"])
        user.profile.update(told["profile"])
        shared = memory.scope(user_id=told["shared_documents"])
        chunks = _learn(shared, docs)
        stats = user.stats()
    seconds = time.perf_counter() - started
    first, last = (_time(told["sessions"][i]["started"]) for i in (0, -1))
    counts = ", ".join(
        f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in stats.records.items() if n
    )
    out.print(
        f"Of {told['user_id']}: {counts}; {stats.sessions} sessions "
        f"from {first:%d %b %Y} to {last:%d %b %Y}; {stats.profile_keys} keys in the profile."
    )
    sources = ", ".join(f"{source} ({n})" for source, n in chunks.items())
    out.print(f"Shared, in chunks: {sources}.")
    out.print(f"Stored in {seconds:.1f} s, without a model or key; the store is closed.\n")


def _turns(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{session['id']}-{number:02}",
            "session_id": session["id"],
            "role": role,
            "source": role,
            "text": text,
            "at": _time(session["started"]) + timedelta(minutes=number - 1),
        }
        for session in told["sessions"]
        for number, (role, text) in enumerate(session["turns"], 1)
    ]


def _learn(scope: Scope, docs: Sequence[Path]) -> Mapping[str, int]:
    with progress("learning documents") as bar:
        if docs:
            records = scope.add_documents(docs, on_progress=bar)
        else:
            records = scope.add_documents([_readme()], source="README.md", on_progress=bar)
    return Counter(record.source for record in records)


def _readme() -> str:
    try:
        text = metadata(DISTRIBUTION)["Description"]
    except (PackageNotFoundError, KeyError):
        text = None
    if not text:
        raise DocumentError(f"{DISTRIBUTION} is not installed; name documents with --docs PATH")
    return str(text)


def recall_main(arguments: Sequence[str]) -> int:
    """Run the second half on the store that is named and return the exit code."""
    try:
        recall(Path(arguments[0]))
    except HybridMemoryError as error:
        console(stderr=True).print(f"hybrid-memory: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def recall(store: Path) -> list[Finding]:
    """Reopen the store, ask every question and show what comes back."""
    told = conversation()
    now = _time(told["asked_at"])
    out = console()
    out.rule(f"[bold]2. Reopen in a new process ({os.getpid()}) and ask", align="left")
    out.print(f"It is {now:%d %b %Y}. A hit's signals add up to its score.\n")
    findings = []
    with HybridMemory.open(store) as memory:
        scope = memory.scope(
            user_id=told["user_id"], session_id="today", read=[(told["shared_documents"],)]
        )
        model = _model()
        for number, question in enumerate(told["questions"], 1):
            text = question["text"]
            hits = scope.search(text, k=HITS, now=now)
            packed = scope.context(text, max_tokens=PROMPT_TOKENS, now=now)
            findings.append(
                Finding(
                    kind=question["kind"],
                    question=text,
                    answerable=bool(question["expects"]),
                    rank=_rank(question["expects"], hits, packed),
                    best_score=hits[0].score if hits else 0.0,
                )
            )
            out.rule(f"[bold]{number}. {question['kind']}[/]: {text}", align="left", style="dim")
            out.print(hits_table(hits, one_line=True))
            title = f"system prompt, {packed.tokens} of {PROMPT_TOKENS} tokens"
            out.print(panel(packed.as_system_prompt(), title=title))
            if model is not None:
                model = _answer(model, packed)
            out.print()
    _summary(findings)
    if model is None:
        out.print("No model was asked: set OPENAI_API_KEY, or OPENAI_BASE_URL and OPENAI_MODEL.")
    return findings


def _rank(expected: Sequence[str], hits: Sequence[Hit], packed: Context) -> int | None:
    """Return the rank of the first hit that holds one of the texts."""
    instructions = packed.block("instructions")
    for rank, text in [
        (0, instructions.text if instructions else ""),
        *((hit.rank, hit.record.text) for hit in hits),
    ]:
        if any(one in text for one in expected):
            return rank
    return None


def _model() -> ChatModel | None:
    from hybrid_memory.backends.openai import OpenAIChat

    try:
        return OpenAIChat()
    except (ChatModelNotConfiguredError, MissingExtraError):
        return None


def _answer(model: ChatModel, packed: Context) -> ChatModel | None:
    """Show the model's answer, or why there is none; a model that failed is not asked again.

    Not by `Scope.ask`, which remembers the question: the store stays as it was told.
    """
    out = console()
    try:
        answer = model.complete(packed.as_messages())
    except ChatModelError as error:
        out.print(f"No answer: {error}", markup=False)
        return None
    out.print(panel(answer.text, title="answer"))
    return model


def _summary(findings: Sequence[Finding]) -> None:
    out = console()
    header = ["kind", "question", "answer found", "best score"]
    rows = [[one.kind, one.question, one.place, f"{one.best_score:.2f}"] for one in findings]
    out.print(table([header, *rows], title="Summary"))
    said = min(one.best_score for one in findings if one.answerable)
    never = max(one.best_score for one in findings if not one.answerable)
    out.print(
        f"Best score of what was never said: {never:.2f}; of the others, at least {said:.2f}."
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
