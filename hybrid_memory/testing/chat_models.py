"""The contract of ChatModel, as tests."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid_memory.errors import ChatModelUnavailableError
from hybrid_memory.protocols import ChatModel
from hybrid_memory.types import Completion, Message

CANARY = "canary-5417"
MESSAGES: list[Message] = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": f"Is {CANARY} a bird?"},
]


class ChatModelSuite:
    """Override `chat`, a model that answers, and `broken`, one that cannot be reached."""

    @pytest.fixture
    def chat(self) -> ChatModel:
        """Return the chat model under test."""
        raise NotImplementedError("override the fixture chat")

    @pytest.fixture
    def broken(self) -> ChatModel:
        """Return a model of the same class that fails at each call."""
        raise NotImplementedError("override the fixture broken")

    def test_a_reply_is_a_text_with_its_usage(self, chat: ChatModel) -> None:
        reply = chat.complete(MESSAGES)

        assert isinstance(reply, Completion)
        assert isinstance(reply.text, str)
        assert reply.text
        assert isinstance(reply.usage.prompt_tokens, int)
        assert isinstance(reply.usage.completion_tokens, int)
        assert min(reply.usage.prompt_tokens, reply.usage.completion_tokens) >= 0

    def test_the_pieces_of_a_stream_add_up_to_the_reply(self, chat: ChatModel) -> None:
        pieces: list[str] = []

        reply = chat.complete(MESSAGES, on_token=pieces.append)

        assert pieces
        assert all(pieces)
        assert "".join(pieces) == reply.text

    def test_the_messages_are_left_as_they_are(self, chat: ChatModel) -> None:
        messages = [dict(message) for message in MESSAGES]

        chat.complete(messages)
        chat.complete(messages, on_token=lambda piece: None)

        assert messages == MESSAGES

    def test_the_error_of_a_callback_reaches_the_caller(self, chat: ChatModel) -> None:
        def stop(piece: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            chat.complete(MESSAGES, on_token=stop)
        assert chat.complete(MESSAGES).text

    def test_threads_are_answered_side_by_side(self, chat: ChatModel) -> None:
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: chat.complete(MESSAGES), range(8)))

        assert all(reply.text for reply in replies)

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_model_that_fails_raises_a_typed_error_without_the_texts(
        self, broken: ChatModel, streaming: bool
    ) -> None:
        pieces: list[str] = []

        with pytest.raises(ChatModelUnavailableError) as caught:
            broken.complete(MESSAGES, on_token=pieces.append if streaming else None)

        assert str(caught.value)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
