"""Embeddings and chat from OpenAI, or from any server that speaks its API."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from hybrid_memory.errors import (
    ChatModelNotConfiguredError,
    ChatModelUnavailableError,
    DimensionMismatchError,
    EmbedderUnavailableError,
    HybridMemoryError,
    InvalidInputError,
    MissingExtraError,
)
from hybrid_memory.limits import unit_vectors
from hybrid_memory.protocols import Vector, Vectors
from hybrid_memory.types import Completion, Message, Usage

if TYPE_CHECKING:
    from openai import OpenAI

DEFAULT_CHAT_MODEL = "gpt-4.1"
MAX_TEXTS = 256  # a request; OpenAI takes 2048, and 300,000 tokens in all
MAX_CHARACTERS = 250_000  # a request, so that its tokens stay below that


class OpenAIEmbedder:
    """An Embedder on the embeddings API. Texts are sent to that server.

    `dim` is the dimension the model gives; for the text-embedding-3 models it may also be a
    shorter one that they are asked for. The key is `api_key` or OPENAI_API_KEY, the server
    `base_url` or OPENAI_BASE_URL or OpenAI; a `client` brings its own. A server that is named
    needs no key.

    Raises:
        MissingExtraError: openai is not installed.
        InvalidInputError: neither a key nor a server is given.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dim: int = 1536,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 30.0,
        max_retries: int = 2,
        client: OpenAI | None = None,
    ) -> None:
        self.model = model
        self._dim = dim
        self._client = client or _client(
            api_key, base_url, timeout_s, max_retries, unconfigured=InvalidInputError
        )

    @property
    def name(self) -> str:
        """What identifies the vector space."""
        return f"openai/{self.model}"

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a (len(texts), dim) float32 array whose rows have norm 1.

        Raises:
            EmbedderUnavailableError: no answer after retries.
            DimensionMismatchError: the model gives another dimension.
        """
        rows = [row for part in _batches(texts) for row in self._request(part)]
        if not rows:
            return np.empty((0, self._dim), dtype=np.float32)
        return unit_vectors(rows, count=len(texts), dim=self._dim)

    def embed_query(self, text: str) -> Vector:
        """Return the (dim,) vector of a question, in the space of `embed`."""
        vector: Vector = self.embed([text])[0]
        return vector

    def _request(self, texts: list[str]) -> list[list[float]]:
        options: dict[str, Any] = {}
        if self.model.startswith("text-embedding-3"):
            options["dimensions"] = self._dim
        try:
            reply = self._client.embeddings.create(
                # The API refuses an empty text; a blank one has the same meaning.
                model=self.model,
                input=[text or " " for text in texts],
                **options,
            )
            found = {item.index: item.embedding for item in reply.data}
            rows = [found[i] for i in range(len(texts))]
            dims = {len(row) for row in rows}
        except Exception as error:
            raise EmbedderUnavailableError(
                _reason(error, self._client, self.model, "the model's name")
            ) from None  # the library's message may repeat the texts
        if dims != {self._dim}:
            raise DimensionMismatchError(
                f"{self.model} at {_address(self._client)} gives {sorted(dims)} dimensions, "
                f"not {self._dim}; pass dim= to match"
            )
        return rows


class OpenAIChat:
    """A ChatModel on the chat completions API. The conversation is sent to that server.

    The model is `model` or OPENAI_MODEL or gpt-4.1, the key `api_key` or OPENAI_API_KEY, the
    server `base_url` or OPENAI_BASE_URL or OpenAI; a `client` brings its own. A server that is
    named needs no key. `timeout_s` bounds the wait for each piece of a reply.

    Raises:
        MissingExtraError: openai is not installed.
        ChatModelNotConfiguredError: neither a key nor a server is given.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 2,
        temperature: float | None = None,
        client: OpenAI | None = None,
    ) -> None:
        self.model = model or os.environ.get("OPENAI_MODEL") or DEFAULT_CHAT_MODEL
        self._options = {} if temperature is None else {"temperature": temperature}
        self._client: Any = client or _client(
            api_key, base_url, timeout_s, max_retries, unconfigured=ChatModelNotConfiguredError
        )

    def complete(
        self, messages: Sequence[Message], *, on_token: Callable[[str], None] | None = None
    ) -> Completion:
        """Return the model's reply; with `on_token`, hand over its pieces as they come.

        Raises:
            ChatModelUnavailableError: no answer after retries, or a stream that broke off.
        """
        conversation = [dict(message) for message in messages]
        if on_token is not None:
            return self._stream(conversation, on_token)
        try:
            reply = self._request(conversation)
            message = reply.choices[0].message
            text = message.content or getattr(message, "refusal", None) or ""
        except Exception as error:
            raise self._unavailable(error) from None  # the library's message may repeat the texts
        return Completion(text, _usage(reply))

    def _stream(
        self, messages: list[dict[str, Any]], on_token: Callable[[str], None]
    ) -> Completion:
        try:
            stream = self._request(messages, stream=True, stream_options={"include_usage": True})
        except Exception as error:
            raise self._unavailable(error) from None
        pieces: list[str] = []
        usage = Usage()
        finished = False
        try:
            while True:
                try:
                    chunk = next(stream, None)
                    if chunk is None:
                        break
                    piece = ""
                    for choice in getattr(chunk, "choices", None) or ():
                        delta = choice.delta
                        piece += delta.content or getattr(delta, "refusal", None) or ""
                        finished |= choice.finish_reason is not None
                except Exception as error:
                    raise self._unavailable(error, "broke off its reply") from None
                if getattr(chunk, "usage", None):
                    usage = _usage(chunk)
                if piece:
                    pieces.append(piece)
                    on_token(piece)
        finally:
            stream.close()
        if not finished:  # the connection was closed in the middle, without an error
            raise ChatModelUnavailableError(
                f"{_address(self._client)} broke off its reply; ask again"
            )
        return Completion("".join(pieces), usage)

    def _request(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        return self._client.chat.completions.create(
            model=self.model, messages=messages, **self._options, **options
        )

    def _unavailable(self, error: Exception, what: str = "") -> ChatModelUnavailableError:
        reason = _reason(error, self._client, self.model, "OPENAI_MODEL")
        return ChatModelUnavailableError(
            f"{_address(self._client)} {what}: {reason}" if what else reason
        )


def _client(
    api_key: str | None,
    base_url: str | None,
    timeout_s: float,
    max_retries: int,
    *,
    unconfigured: type[HybridMemoryError],
) -> OpenAI:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError(
            'this needs openai: pip install ".[openai]" in a checkout of hybrid-rag-memory'
        ) from error

    key = api_key or os.environ.get("OPENAI_API_KEY")
    url = base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not url:
        raise unconfigured(
            "no key for OpenAI: set OPENAI_API_KEY or pass api_key=; for a server of your own "
            "set OPENAI_BASE_URL or pass base_url="
        )
    try:
        return openai.OpenAI(
            # The library insists on a key; servers of one's own often have none.
            api_key=key or "none",
            base_url=url or "https://api.openai.com/v1",
            timeout=timeout_s,
            max_retries=max_retries,
        )
    except Exception as error:
        raise unconfigured(
            f"the OpenAI client cannot be made ({type(error).__name__}); check OPENAI_BASE_URL"
        ) from error


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        if part and (len(part) == MAX_TEXTS or size + len(text) > MAX_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part


def _usage(reply: Any) -> Usage:
    usage = getattr(reply, "usage", None)
    return Usage(
        getattr(usage, "prompt_tokens", None) or 0, getattr(usage, "completion_tokens", None) or 0
    )


def _reason(error: Exception, client: Any, model: str, model_setting: str) -> str:
    """Say what went wrong and which setting to look at, without the texts that were sent."""
    import openai

    where = _address(client)
    if isinstance(error, openai.APITimeoutError):
        return f"{where} did not answer within timeout_s={client.timeout}; raise it or try again"
    if isinstance(error, openai.APIConnectionError):
        return f"{where} cannot be reached; check OPENAI_BASE_URL and the network"
    if not isinstance(error, openai.APIStatusError):
        return f"{where} sent what is not a reply ({type(error).__name__}); check OPENAI_BASE_URL"
    status = f"HTTP {error.status_code}"
    if error.code and re.fullmatch(r"[\w.-]{1,64}", error.code):
        status += f", {error.code}"
    if error.status_code in (401, 403):
        return f"{where} refused the key ({status}); check OPENAI_API_KEY"
    if error.status_code == 404:
        return (
            f"{where} has no model {model!r} ({status}); check {model_setting} and OPENAI_BASE_URL"
        )
    if error.status_code == 429:
        return f"{where} is too busy, or the quota is used up ({status}); try again later"
    return f"{where} failed ({status})"


def _address(client: Any) -> str:
    # Without the user and password that an address may carry.
    url = urlsplit(str(getattr(client, "base_url", "the server")))
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}" if host else url.path
