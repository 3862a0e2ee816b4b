"""What importing the LangChain package costs, and what it says where a library is missing."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import langchain_hybrid_memory
import pytest
from langchain_hybrid_memory import _MODULES

FOLDER = Path(langchain_hybrid_memory.__file__).parent
MODULES = sorted(one.name for one in pkgutil.iter_modules([str(FOLDER)]))
# What adapters share; `migrate` serves them all.
SHARED = {
    "aio",
    "documents",
    "embeddings",
    "filters",
    "history",
    "identity",
    "messages",
    "pickles",
    "sources",
    "texts",
}
USES = {
    "middleware": {"tools"},  # the tools that it may give to the model
    "store": {"index_embedder", "sweeper"},
}
HEAVY = {
    "chromadb",
    "faiss",
    "langchain",
    "langchain_classic",
    "langchain_community",
    "langchain_core",
    "langgraph",
    "sqlalchemy",
    "torch",
}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return done.stdout


def test_importing_the_package_loads_no_framework() -> None:
    loaded = run("import sys, langchain_hybrid_memory\nprint(*sys.modules)").split()

    assert HEAVY.isdisjoint(loaded)


def test_every_name_it_offers_has_a_module() -> None:
    assert {*_MODULES, "migrate"} == set(langchain_hybrid_memory.__all__)
    assert set(_MODULES.values()) <= set(MODULES)
    assert set(langchain_hybrid_memory.__all__) <= set(dir(langchain_hybrid_memory))


@pytest.mark.parametrize("module", [one for one in MODULES if one != "migrate"])
def test_each_adapter_may_be_imported_alone_and_without_a_warning(module: str) -> None:
    allowed = {module} | SHARED | USES.get(module, set())
    others = {f"langchain_hybrid_memory.{one}" for one in set(MODULES) - allowed}
    loaded = run(
        "import sys, warnings\n"
        "warnings.simplefilter('error')\n"
        f"import langchain_hybrid_memory.{module}\n"
        "print(*sys.modules)"
    ).split()

    assert others.isdisjoint(loaded)
    assert not {"langchain_community", "chromadb", "faiss", "torch"} & set(loaded)


@pytest.mark.parametrize("name", sorted(one for one in _MODULES if _MODULES[one] in MODULES))
def test_a_name_whose_library_is_missing_says_how_to_install_it(name: str) -> None:
    said = run(
        "import sys\n"
        "for gone in ('langchain', 'langchain_core', 'langchain_classic', 'langgraph'):\n"
        "    sys.modules[gone] = None\n"
        "try:\n"
        f"    from langchain_hybrid_memory import {name}\n"
        "except ImportError as error:\n"
        "    print(error)"
    )

    assert said.startswith(f"{name} needs lang")
    assert 'pip install ".[langchain' in said


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'HybridTelepathy'"):
        _ = langchain_hybrid_memory.HybridTelepathy


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_an_adapter_touches_no_private_part_of_another_object(path: Path) -> None:
    tree = ast.parse(path.read_text())

    touched = [
        f"{node.attr}, line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        and not (isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()")
    ]

    assert touched == []
