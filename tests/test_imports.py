"""What importing the library costs: nothing that is not used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import hybrid_memory
from hybrid_memory import HybridMemory, Scope

HEAVY = {
    "chromadb",
    "faiss",
    "langchain",
    "langchain_core",
    "llama_index",
    "markdown_it",
    "openai",
    "pypdf",
    "rich",
    "semantic_text_splitter",
    "sentence_transformers",
    "sqlalchemy.orm",
    "torch",
    "typer",
}
# What neither an open nor an add nor a search has to do with.
APART = {
    f"hybrid_memory.{name}"
    for name in (
        "cli",
        "demo",
        "documents",
        "evaluation",
        "redaction",
        "terminal",
        "testing",
        "transfer",
        "upkeep",
    )
}
MODELS_AND_STORES = {"onnxruntime", "sqlalchemy", "tokenizers"}
REMEMBER = """
import sys
from hybrid_memory import HybridMemory
with HybridMemory.open(sys.argv[1]) as memory:
    memory.scope(user_id="ana").add("I like tea.")
"""
RECALL = """
import sys
from hybrid_memory import HybridMemory
with HybridMemory.open(sys.argv[1]) as memory:
    assert memory.scope(user_id="ana").search("What do I like?")
"""


def loaded_after(code: str, *arguments: str | Path) -> set[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\n{code}\nprint(*sys.modules)",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_no_other_library() -> None:
    loaded = loaded_after("import hybrid_memory")

    assert loaded.isdisjoint(HEAVY | APART | MODELS_AND_STORES | {"numpy"})


def test_importing_the_memory_loads_what_recall_needs_and_no_more() -> None:
    loaded = loaded_after("from hybrid_memory import HybridMemory")

    assert "numpy" in loaded
    assert loaded.isdisjoint(HEAVY | APART | MODELS_AND_STORES)


def test_to_remember_and_to_recall_in_a_small_store_loads_no_more_than_they_need(
    tmp_path: Path,
) -> None:
    to_remember = loaded_after(REMEMBER, tmp_path)
    to_recall = loaded_after(RECALL, tmp_path)

    for loaded in (to_remember, to_recall):
        assert loaded >= MODELS_AND_STORES
        assert loaded.isdisjoint(HEAVY | APART)


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_the_command_explains_itself_without_the_memory(arguments: list[str]) -> None:
    loaded = loaded_after(
        f"import contextlib, io\n"
        f"from hybrid_memory.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    assert main({arguments!r}) == 0\n"
    )

    assert "typer" in loaded
    assert loaded.isdisjoint(MODELS_AND_STORES | {"numpy", "hybrid_memory.memory"})


def test_every_public_name_is_found_and_listed() -> None:
    found = {name: getattr(hybrid_memory, name) for name in hybrid_memory.__all__}

    assert found.keys() <= set(dir(hybrid_memory))
    assert found["HybridMemory"].__name__ == "HybridMemory"
    with pytest.raises(AttributeError, match="nothing"):
        hybrid_memory.nothing  # noqa: B018


@pytest.mark.parametrize("handle", [HybridMemory, Scope])
def test_the_types_of_what_is_public_can_be_read_where_the_program_runs(handle: type) -> None:
    methods = [
        member for name, member in inspect.getmembers(handle, callable) if not name.startswith("_")
    ]

    assert len(methods) > 10
    for method in methods:
        assert "return" in get_type_hints(method)
