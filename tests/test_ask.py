"""Asking a model with the memory: with a scripted one, and with the real client over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_memory import Gate, HybridMemory, Scope
from hybrid_memory.backends.openai import OpenAIChat
from hybrid_memory.errors import ChatModelNotConfiguredError, ChatModelUnavailableError
from hybrid_memory.testing import HashEmbedder, ScriptedChat
from tests.openai_server import Failure, OpenAIServer


def test_the_model_sees_what_is_remembered_and_both_turns_are_kept(
    ana: Scope, chat: ScriptedChat
) -> None:
    ana.add("I like Rust and hate Python indentation.")

    answer = ana.ask("Which language do I like?")

    assert answer.text == "You like Rust."
    assert any("I like Rust" in str(message["content"]) for message in chat.calls[0])
    assert chat.calls[0][-1] == {"role": "user", "content": "Which language do I like?"}
    assert [(turn.role, turn.text) for turn in ana.messages(last=2)] == [
        ("user", "Which language do I like?"),
        ("assistant", "You like Rust."),
    ]
    assert answer.usage.completion_tokens > 0
    assert answer.context.query == "Which language do I like?"


def test_the_question_is_not_its_own_memory(ana: Scope, chat: ScriptedChat) -> None:
    ana.ask("Which language do I like?")

    assert len(chat.calls[0]) == 1


def test_the_answer_comes_in_pieces_when_they_are_wanted(ana: Scope) -> None:
    pieces: list[str] = []

    answer = ana.ask("Which language do I like?", on_token=pieces.append)

    assert len(pieces) > 1
    assert "".join(pieces) == answer.text


def test_a_closed_gate_sends_the_question_alone(ana: Scope, chat: ScriptedChat) -> None:
    ana.add("I like Rust.")
    ana.add_instruction("Always answer concisely.")

    answer = ana.ask("Which language do I like?", gate=Gate(memory_allowed=False))

    assert chat.calls[0] == [{"role": "user", "content": "Which language do I like?"}]
    assert "not allowed" in answer.context.note


def test_a_model_that_fails_loses_nothing(memory: HybridMemory, chat: ScriptedChat) -> None:
    chat._replies[:] = [ChatModelUnavailableError("down")]
    ana = memory.scope(user_id="ana", session_id="s1")

    with pytest.raises(ChatModelUnavailableError):
        ana.ask("Which language do I like?")

    assert [turn.text for turn in ana.messages()] == ["Which language do I like?"]


def test_without_a_key_the_error_names_the_setting_and_the_question_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with HybridMemory.open(tmp_path, embedder=HashEmbedder()) as memory:
        ana = memory.scope(user_id="ana", session_id="s1")

        with pytest.raises(ChatModelNotConfiguredError, match="OPENAI_API_KEY"):
            ana.ask("Which language do I like?")

        assert [turn.text for turn in ana.messages()] == ["Which language do I like?"]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply="You like Rust.") as running:
        yield running


@pytest.fixture
def online(tmp_path: Path, server: OpenAIServer) -> Iterator[Scope]:
    llm = OpenAIChat("some-model", base_url=server.base_url, timeout_s=0.5, max_retries=1)
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(), llm=llm) as memory:
        yield memory.scope(user_id="ana", session_id="s1")


def test_over_http_the_answer_streams_and_its_tokens_are_counted(online: Scope) -> None:
    pieces: list[str] = []

    whole, streamed = online.ask("Which language?"), online.ask("Sure?", on_token=pieces.append)

    assert whole.text == streamed.text == "".join(pieces) == "You like Rust."
    assert whole.usage.prompt_tokens > 0
    assert streamed.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([Failure(status=401)], "401"),
        ([Failure(status=500)] * 2, "500"),
        ([Failure(hang_s=2)] * 2, "timeout_s=0.5"),
        ([Failure(kind="empty")], "127.0.0.1"),
    ],
)
def test_over_http_a_failure_is_named_and_the_question_kept(
    online: Scope, server: OpenAIServer, failures: list[Failure], message: str
) -> None:
    server.failures += failures

    with pytest.raises(ChatModelUnavailableError, match=message) as caught:
        online.ask("Which language do I like?")

    assert "Which language" not in str(caught.value)
    assert [turn.text for turn in online.messages()] == ["Which language do I like?"]


def test_over_http_a_passing_failure_is_tried_again(online: Scope, server: OpenAIServer) -> None:
    server.failures.append(Failure(status=503))

    assert online.ask("Which language do I like?").text == "You like Rust."


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    llm = OpenAIChat("some-model", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with HybridMemory.open(tmp_path, embedder=HashEmbedder(), llm=llm) as memory:
        ana = memory.scope(user_id="ana")

        with pytest.raises(ChatModelUnavailableError, match=r"127\.0\.0\.1:9"):
            ana.ask("Which language do I like?")


@pytest.mark.parametrize("reply", ["a" * 70_000, "é" * 40_000, "one\0two"])
def test_an_answer_that_is_too_long_or_odd_to_store_whole_is_not_lost(
    memory: HybridMemory, chat: ScriptedChat, reply: str
) -> None:
    chat._replies[:] = [reply]
    ana = memory.scope(user_id="ana", session_id="s1")

    answer = ana.ask("Tell me all.")

    assert answer.text == reply
    told = [turn.text for turn in ana.messages() if turn.role == "assistant"]
    assert "".join(told) == reply.replace("\0", "")
