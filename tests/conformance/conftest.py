"""Fixtures that several suites share."""

import os
from collections.abc import Iterator

import pytest

from tests.chroma_server import running_chroma
from tests.openai_server import OpenAIServer


@pytest.fixture(scope="module")
def openai_server() -> Iterator[OpenAIServer]:
    """Run a server that speaks the OpenAI API on the loopback interface."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def openai_api(openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIServer:
    """Return the server, well-behaved again, in an environment without OpenAI's settings."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    openai_server.reset()
    return openai_server


@pytest.fixture(scope="module")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a Chroma server and return its port."""
    with running_chroma(tmp_path_factory.mktemp("chroma-server")) as (port, _):
        yield port
