import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_memory import HybridMemory
from hybrid_memory.demo.run import conversation, remember

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "import sys; from hybrid_memory.cli import main; sys.exit(main())"]

# Notes each use of the network, in this process and all that it starts.
WATCH = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            print(event, arguments, file=log)
        raise OSError("the network is off")

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The environment of a process without a network, and the file that notes its attempts."""
    directory = tmp_path_factory.mktemp("offline")
    (directory / "sitecustomize.py").write_text(WATCH)
    log = directory / "network.log"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("OPENAI_")
    }
    path = os.pathsep.join([str(directory), str(ROOT), environment.get("PYTHONPATH", "")])
    return environment | {"PYTHONPATH": path, "NETWORK_LOG": str(log), "COLUMNS": "200"}, log


@pytest.fixture(scope="module")
def shown(offline, tmp_path_factory):
    """What the demo prints, the CPU seconds it took, and where it ran."""
    environment, _ = offline
    directory = tmp_path_factory.mktemp("demo")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(
        [*COMMAND, "demo", "--docs", str(ROOT / "README.md")],
        cwd=directory,
        env=environment | {"TMPDIR": str(directory), "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (ran.returncode, ran.stderr) == (0, "")
    return (
        ran.stdout,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        directory,
    )


def questions(out):
    """Return the part of the output that belongs to each kind of question."""
    parts = re.split(r"^\d\. ([a-z ]+): .*$", out.partition("Reopen")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def hits(part):
    """Return the lines of the table of hits, best first."""
    return re.findall(r"^ \d+ +0\.\d\d .*$", part, flags=re.MULTILINE)


@pytest.mark.slow
def test_each_kind_of_question_finds_its_answer_first(shown):
    found = {kind: hits(part)[0] for kind, part in questions(shown[0]).items()}

    assert "Rust" in found["preference"]
    assert "18" in found["date"]
    assert "September" in found["date"]
    assert "2026-05-02" in found["event"]
    assert "Signed the lease" in found["event"]
    assert "document" in found["document"]
    assert "2026-06-16" in found["changed fact"]
    assert "2026-02-03" in found["said long ago"]
    assert "The Summer Book" in found["said long ago"]


@pytest.mark.slow
def test_what_is_to_be_answered_is_in_the_prompt(shown):
    prompts = {
        # Lines are broken where the panel ends.
        kind: re.sub(r" *│\n│ *", " ", part.partition("system prompt")[2])
        for kind, part in questions(shown[0]).items()
    }

    assert "belongs to somebody else" in prompts["document"]
    assert "PostgreSQL with TimescaleDB" in prompts["changed fact"]
    assert all("Always answer concisely." in prompt for prompt in prompts.values())


@pytest.mark.slow
def test_what_was_never_said_scores_low_and_stays_out_of_the_prompt(shown):
    best = {kind: float(hits(part)[0].split()[1]) for kind, part in questions(shown[0]).items()}
    prompt = questions(shown[0])["never said"].partition("system prompt")[2]

    assert best.pop("never said") < min(best.values()) / 2
    assert "Remembered" not in prompt.partition("Summary")[0]


@pytest.mark.slow
def test_two_processes_take_part_and_leave_nothing_behind(shown):
    assert "the store is closed" in shown[0]
    assert "Reopen in a new process" in shown[0]
    assert list(shown[2].iterdir()) == []


@pytest.mark.slow
def test_the_demo_takes_less_than_20_seconds_of_cpu(shown):
    assert shown[1] < 20


@pytest.mark.slow
def test_the_demo_uses_no_network(shown, offline):
    environment, log = offline
    used = log.exists()

    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert log.exists()  # or the watch saw nothing at all
    assert not used


def test_the_conversation_is_of_six_sessions_in_order():
    sessions = conversation()["sessions"]
    roles = [[role for role, _ in session["turns"]] for session in sessions]

    assert len(sessions) == 6
    assert sum(map(len, roles)) >= 60
    assert [one["started"] for one in sessions] == sorted(one["started"] for one in sessions)
    assert all(one == ["user", "assistant"] * (len(one) // 2) for one in roles)


@pytest.mark.slow
def test_the_readme_of_the_distribution_is_the_default_document(tmp_path):
    remember(tmp_path / "store")

    with HybridMemory.open(tmp_path / "store") as memory:
        found = memory.scope(user_id="handbook").search("How do I install it?", k=1)
    assert found[0].record.source == "README.md"


@pytest.mark.slow
def test_remembering_twice_changes_nothing(tmp_path):
    for _ in range(2):
        remember(tmp_path / "store", [ROOT / "README.md"])

    with HybridMemory.open(tmp_path / "store") as memory:
        stats = memory.scope(user_id="mira").stats()
    assert stats.records["message"] == sum(len(one["turns"]) for one in conversation()["sessions"])
    assert stats.records["fact"] == len(conversation()["facts"])
