"""The article's usage example, and the page that maps the article to this library."""

from __future__ import annotations

import re
from pathlib import Path

from hybrid_memory import HybridMemory
from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.backends.openai import OpenAIChat
from tests.openai_server import OpenAIServer

ROOT = Path(__file__).parents[1]


def test_the_articles_usage_example(tmp_path: Path) -> None:
    with (
        OpenAIServer(reply="You said that you prefer Rust.") as server,
        HybridMemory.open(
            tmp_path / "memory",
            documents=ChromaDocumentStore(tmp_path / "chroma"),
            llm=OpenAIChat("gpt-4.1", api_key="key", base_url=server.base_url),
        ) as memory,
    ):
        user = memory.scope(user_id="ana", session_id="today", read=[("docs",)])
        memory.scope(namespace=("docs",)).add_documents(
            ["Rust is a language without a garbage collector."], source="languages.md"
        )
        user.add("I like Rust and hate Python indentation.")
        user.add_fact(
            {
                "intent": "user_preference",
                "language_like": ["Rust"],
                "language_dislike": ["Python"],
            }
        )
        user.add_event("Rewrote the parser in Rust.")
        user.add_instruction("Always answer concisely.")
        user.profile["user_profile"] = {"name": "Ana", "role": "engineer"}
        query = "What did I say about my preferred programming language?"

        context = user.context(query)
        answer = user.ask(query)

    assert user.namespace == ("ana",)
    assert {block.name for block in context.blocks} == {
        "instructions",
        "profile",
        "session",
        "memories",
        "documents",
    }
    prompt = context.as_system_prompt()
    for text in ("I like Rust", "Always answer concisely.", "engineer", "garbage collector"):
        assert text in prompt
    assert answer.text == "You said that you prefer Rust."
    sent = server.requests[-1]["messages"]
    assert sent[-1] == {"role": "user", "content": query}
    assert "I like Rust" in str(sent)


def test_what_was_stored_by_one_process_is_there_for_the_next(tmp_path: Path) -> None:
    with HybridMemory.open(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        ana.profile["user_profile"] = "prefers Rust"
        ana.add("I like Rust and hate Python indentation.")

    with HybridMemory.open(tmp_path) as memory:
        ana = memory.scope(user_id="ana")
        assert ana.profile.get("user_profile") == "prefers Rust"
        [hit] = ana.search("What is my preferred programming language?", k=3)
        assert hit.record.text == "I like Rust and hate Python indentation."


def test_every_test_and_module_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "article.md").read_text()

    tests = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    modules = set(re.findall(r"`((?:backends/)?\w+(?:\.py|/))`", page))

    assert len(tests) > 10
    assert [name for name in tests if not (ROOT / name).is_file()] == []
    assert [name for name in modules if not (ROOT / "hybrid_memory" / name).exists()] == []
