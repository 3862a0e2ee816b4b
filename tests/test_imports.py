"""What importing the library costs: nothing that is not used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "faiss",
    "chromadb",
    "openai",
    "sqlalchemy",
    "onnxruntime",
    "tokenizers",
    "sentence_transformers",
    "pypdf",
    "typer",
    "langchain",
    "langchain_core",
    "llama_index",
)


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(done.stdout.split())


def test_importing_the_library_loads_no_heavy_one() -> None:
    assert loaded_after("import hybrid_memory").isdisjoint(HEAVY)


def test_a_search_in_a_small_store_needs_neither_faiss_nor_the_orm() -> None:
    loaded = loaded_after(
        "import tempfile\n"
        "from hybrid_memory import HybridMemory\n"
        "with tempfile.TemporaryDirectory() as path, HybridMemory.open(path) as memory:\n"
        "    ana = memory.scope(user_id='ana')\n"
        "    ana.add('I like tea.')\n"
        "    assert ana.search('What do I like?')\n"
    )

    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(
        {"faiss", "torch", "chromadb", "openai", "sqlalchemy.orm", "pypdf", "typer"}
    )
