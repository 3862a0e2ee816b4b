"""The suite of ChatModel on every implementation, and every way an OpenAI server can fail."""

import sys
import threading
import traceback
from collections.abc import Callable

import pytest

from hybrid_memory.backends.openai import OpenAIChat
from hybrid_memory.errors import (
    ChatModelNotConfiguredError,
    ChatModelUnavailableError,
    MissingExtraError,
)
from hybrid_memory.protocols import ChatModel
from hybrid_memory.testing import ChatModelSuite, ScriptedChat
from hybrid_memory.testing.chat_models import CANARY, MESSAGES
from hybrid_memory.types import Usage
from tests.openai_server import Failure, OpenAIServer, closed_port


class TestScriptedChat(ChatModelSuite):
    @pytest.fixture
    def chat(self) -> ChatModel:
        return ScriptedChat(["No, it is not.\n"])

    @pytest.fixture
    def broken(self) -> ChatModel:
        return ScriptedChat([ChatModelUnavailableError("the server is down")])


class TestOpenAIChat(ChatModelSuite):
    @pytest.fixture
    def chat(self, openai_api: OpenAIServer) -> ChatModel:
        return OpenAIChat(base_url=openai_api.base_url)

    @pytest.fixture
    def broken(self, openai_api: OpenAIServer) -> ChatModel:
        openai_api.failures += [Failure(status=400, code="bad_request")] * 4
        return OpenAIChat(base_url=openai_api.base_url)


def reason(chat: ChatModel, on_token: Callable[[str], None] | None = None) -> str:
    """Return the message of the error that a call raises, after a look for texts in it."""
    with pytest.raises(ChatModelUnavailableError) as caught:
        chat.complete(MESSAGES, on_token=on_token)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.fixture(params=["whole", "streamed"])
def on_token(request: pytest.FixtureRequest) -> Callable[[str], None] | None:
    return None if request.param == "whole" else lambda piece: None


def test_scripted_replies_come_in_turn_and_the_last_repeats() -> None:
    chat = ScriptedChat(["One.", ValueError("two"), "Three."])

    assert chat.complete(MESSAGES).text == "One."
    with pytest.raises(ValueError, match="two"):
        chat.complete(MESSAGES)
    assert [chat.complete(MESSAGES).text for _ in range(2)] == ["Three.", "Three."]
    assert chat.calls == [MESSAGES] * 4


def test_the_reply_and_its_usage_are_the_servers(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None
) -> None:
    reply = OpenAIChat(base_url=openai_api.base_url).complete(MESSAGES, on_token=on_token)

    assert reply.text == f"You said: Is {CANARY} a bird?"
    assert reply.usage == Usage(prompt_tokens=8, completion_tokens=6)


def test_pieces_come_before_the_reply_is_complete(openai_api: OpenAIServer) -> None:
    pieces: list[str] = []
    openai_api.failures.append(Failure(kind="cut"))

    reason(OpenAIChat(base_url=openai_api.base_url), pieces.append)

    assert pieces == ["You"]


@pytest.mark.parametrize("reply", ["", " ", "Zoë 茶 \N{GRINNING FACE}\n\n* a"])
def test_any_reply_arrives_exactly(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None, reply: str
) -> None:
    openai_api.reply = reply

    chat = OpenAIChat(base_url=openai_api.base_url)

    assert chat.complete(MESSAGES, on_token=on_token).text == reply


def test_a_server_that_counts_nothing_gives_a_usage_of_0(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None
) -> None:
    openai_api.failures.append(Failure(kind="bare"))

    reply = OpenAIChat(base_url=openai_api.base_url).complete(MESSAGES, on_token=on_token)

    assert reply.text
    assert reply.usage == Usage(0, 0)


def test_the_settings_come_from_the_environment(
    openai_api: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", openai_api.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "key-1")
    monkeypatch.setenv("OPENAI_MODEL", "model-1")
    OpenAIChat().complete(MESSAGES)
    OpenAIChat("model-2", api_key="key-2", temperature=0.0).complete(MESSAGES)

    assert openai_api.keys == ["Bearer key-1", "Bearer key-2"]
    assert [request["model"] for request in openai_api.requests] == ["model-1", "model-2"]
    assert ["temperature" in request for request in openai_api.requests] == [False, True]
    assert openai_api.requests[0]["messages"] == MESSAGES


def test_the_default_model_is_named_and_a_named_server_needs_no_key(
    openai_api: OpenAIServer,
) -> None:
    OpenAIChat(base_url=openai_api.base_url).complete(MESSAGES)

    assert openai_api.requests[0]["model"] == "gpt-4.1"


@pytest.mark.parametrize("empty", [{}, {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}])
def test_without_key_and_server_the_setting_is_named(
    openai_api: OpenAIServer, monkeypatch: pytest.MonkeyPatch, empty: dict[str, str]
) -> None:
    for name, value in empty.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ChatModelNotConfiguredError, match="OPENAI_API_KEY"):
        OpenAIChat()


def test_an_address_that_is_none_is_a_typed_error(openai_api: OpenAIServer) -> None:
    with pytest.raises((ChatModelNotConfiguredError, ChatModelUnavailableError), match="BASE_URL"):
        OpenAIChat(base_url="http://[bad", max_retries=0).complete(MESSAGES)


def test_a_clients_own_settings_are_kept(openai_api: OpenAIServer) -> None:
    import openai

    client = openai.OpenAI(api_key="key-3", base_url=openai_api.base_url)
    OpenAIChat(client=client).complete(MESSAGES)

    assert openai_api.keys == ["Bearer key-3"]


def test_without_the_library_the_pip_line_is_given(
    openai_api: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(MissingExtraError, match=r'pip install "\.\[openai\]"'):
        OpenAIChat(api_key="key")


def test_a_busy_server_is_asked_again(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None
) -> None:
    openai_api.failures += [Failure(status=429), Failure(status=500)]

    chat = OpenAIChat(base_url=openai_api.base_url, max_retries=2)

    assert chat.complete(MESSAGES, on_token=on_token).text
    assert len(openai_api.requests) == 3


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(status=400, code="context_length_exceeded"), "400, context_length_exceeded"),
        (Failure(status=401, code="invalid_api_key"), "401, invalid_api_key.*OPENAI_API_KEY"),
        (Failure(status=403), "403.*OPENAI_API_KEY"),
        (Failure(status=404), "404.*OPENAI_MODEL"),
        (Failure(status=429, code="insufficient_quota"), "429, insufficient_quota"),
        (Failure(status=500), "500"),
        (Failure(status=503, code=f"{CANARY} in a code"), "503"),
        (Failure(kind="json"), "OPENAI_BASE_URL"),
        (Failure(kind="html"), "OPENAI_BASE_URL"),
        (Failure(kind="empty"), "127.0.0.1"),
        (Failure(kind="cut"), "127.0.0.1"),
    ],
    ids=lambda value: f"{value.status}{value.kind}" if isinstance(value, Failure) else "",
)
@pytest.mark.parametrize("retries", [0, 1])
def test_every_failure_is_typed_and_names_the_server(
    openai_api: OpenAIServer,
    on_token: Callable[[str], None] | None,
    failure: Failure,
    expected: str,
    retries: int,
) -> None:
    import re

    if on_token is not None and failure.kind in ("json", "html"):
        expected = "127.0.0.1"
    openai_api.failures += [failure] * 5

    said = reason(OpenAIChat(base_url=openai_api.base_url, max_retries=retries), on_token)

    assert re.search(expected, said)
    assert openai_api.base_url in said


@pytest.mark.parametrize("kind", ["cut", "end", "error"])
def test_a_stream_that_breaks_off_is_an_error(openai_api: OpenAIServer, kind: str) -> None:
    pieces: list[str] = []
    openai_api.failures.append(Failure(kind=kind))  # type: ignore[arg-type]

    said = reason(OpenAIChat(base_url=openai_api.base_url), pieces.append)

    assert "broke off" in said
    assert pieces == ["You"]
    assert len(openai_api.requests) == 1


def test_a_server_that_hangs_is_given_up(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None
) -> None:
    openai_api.failures.append(Failure(hang_s=2.0))

    said = reason(OpenAIChat(base_url=openai_api.base_url, timeout_s=0.2, max_retries=0), on_token)

    assert "timeout_s=0.2" in said


def test_a_server_that_is_not_there_is_named(
    openai_api: OpenAIServer, on_token: Callable[[str], None] | None
) -> None:
    port = closed_port()

    said = reason(OpenAIChat(base_url=f"http://127.0.0.1:{port}/v1", max_retries=0), on_token)

    assert f"http://127.0.0.1:{port}/v1" in said
    assert "OPENAI_BASE_URL" in said


def test_a_password_in_the_address_is_not_shown(openai_api: OpenAIServer) -> None:
    chat = OpenAIChat(base_url=f"http://user:hunter2@127.0.0.1:{closed_port()}/v1", max_retries=0)

    assert "hunter2" not in reason(chat)


def test_a_callback_that_raises_ends_the_stream(openai_api: OpenAIServer) -> None:
    openai_api.reply = "word " * 1000
    seen: list[str] = []

    def stop(piece: str) -> None:
        seen.append(piece)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        OpenAIChat(base_url=openai_api.base_url).complete(MESSAGES, on_token=stop)
    assert len(seen) == 1
    assert threading.active_count() < 50
