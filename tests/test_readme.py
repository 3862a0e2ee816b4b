import re
import shlex
import tomllib
from pathlib import Path

import pytest
from langchain_hybrid_memory import HybridStore, HybridVectorStore

from hybrid_memory import HybridMemory
from hybrid_memory.cli import main
from tests.langchain.scripted import ScriptedModel
from tests.openai_server import OpenAIServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(*languages):
    """Return (line number, code) of the fenced blocks in these languages."""
    return [
        (README.count("\n", 0, match.start(2)) + 1, match[2])
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        if match[1] in languages
    ]


def commands():
    """Return (line number, words) of each command in the shell blocks."""
    return [
        (number, words)
        for start, code in blocks("bash", "console")
        for number, line in enumerate(code.splitlines(), start)
        if (words := shlex.split(line.removeprefix("$ "), comments=True))
    ]


@pytest.fixture
def model(monkeypatch):
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


@pytest.fixture
def chat(monkeypatch):
    """In place of the chat model that the README names, which needs its provider's package."""
    scripted = ScriptedModel(replies=["On Thursday at nine."])
    named = {"openai:gpt-4.1": scripted}
    monkeypatch.setattr("langchain.chat_models.init_chat_model", named.__getitem__)
    return scripted


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(model, chat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code in blocks("python"):
        # As many line breaks before it as in the file, so that a traceback points there.
        exec(compile("\n" * (line - 1) + code, "README.md", "exec"), names)
    out = capsys.readouterr().out

    assert out.index("I like Rust") < out.index("My bicycle")
    assert out.count("Hold both keys to reset the router.") == 1
    assert names["context"].tokens <= 400
    assert "Finished the half marathon in Turin" in names["context"].as_system_prompt()
    assert "Which language do I like?" in names["answer"].text
    assert "The architect comes on Thursday" in chat.prompts[0]
    with HybridMemory.open("memory") as memory:
        for session, said in (
            ("tuesday", ["When does the architect come?", "On Thursday at nine."]),
            ("chain", ["My bicycle is back from the repair shop.", "On Thursday at nine."]),
        ):
            turns = memory.scope(user_id="ana", session_id=session).messages()
            assert [turn.text for turn in turns] == said
        [tea] = HybridStore(memory).search(("ana",), query="drink", filter={"cups": 3})
        assert tea.value["likes"] == "green tea"
        vectors = HybridVectorStore(memory, namespace=("team", "manuals"))
        [found] = vectors.similarity_search("How is the router reset?", filter={"page": 7})
        assert found.page_content == "Hold both keys to reset the router."


@pytest.mark.slow
def test_the_command_lines_run_one_after_the_other(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ran = {}
    for line, words in commands():
        if words[0] == "hybrid-memory":
            ran[line] = (main(words[1:]), capsys.readouterr().err)

    assert {line: one for line, one in ran.items() if one != (0, "")} == {}
    assert len(ran) > 5


def test_every_other_command_line_is_one_that_exists():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    unknown = []
    for line, words in commands():
        match words:
            case ["hybrid-memory", *_] | ["git", "clone", _] | ["cd", _]:
                known = True
            case ["make", target]:
                known = target in targets
            case ["pip", "install", "."]:
                known = True
            case ["pip", "install", where]:
                extra = re.fullmatch(r"\.\[([\w,-]+)\]", where)
                extras = project["optional-dependencies"]
                known = extra is not None and all(one in extras for one in extra[1].split(","))
            case ["export", setting]:
                known = setting.split("=")[0].startswith("OPENAI_")
            case _:
                known = False
        if not known:
            unknown.append((line, words))

    assert unknown == []


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_first_commands_are_the_demo_and_the_tests():
    assert [words for _, words in commands()[:2]] == [["make", "demo"], ["make", "test"]]


def test_the_name_on_pypi_that_is_somebody_elses_is_never_installed():
    assert not re.search(r"pip install[^\n]*hybrid-memory", README)
