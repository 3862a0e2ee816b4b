"""The suite of Reranker on every implementation, and what is particular to cross-encoders."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_memory.backends.onnx import BUNDLED, MaxSim, MiniLMEmbedder
from hybrid_memory.backends.sentence_transformers import CrossEncoderReranker
from hybrid_memory.errors import InvalidInputError, MissingExtraError, ModelFileError
from hybrid_memory.protocols import Reranker
from hybrid_memory.testing import RerankerSuite, WordOverlapReranker
from hybrid_memory.testing.rerankers import QUERY, TEXTS


class TestWordOverlapReranker(RerankerSuite):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return WordOverlapReranker()


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    return MiniLMEmbedder(threads=2)


class TestMaxSim(RerankerSuite):
    @pytest.fixture
    def reranker(self, minilm: MiniLMEmbedder) -> Reranker:
        return MaxSim(minilm)


class TestMaxSimWithoutCache(RerankerSuite):
    @pytest.fixture
    def reranker(self, minilm: MiniLMEmbedder) -> Reranker:
        return MaxSim(minilm, max_cache_bytes=0)


def random_cross_encoder(folder: Path, *, labels: int = 1) -> Path:
    """Save a tiny cross-encoder with the vocabulary of the bundled model and made-up weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=1.0,  # so that texts differ
    )
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")
    }
    PreTrainedTokenizerFast(
        tokenizer_file=str(BUNDLED / "tokenizer.json"), model_max_length=64, **special
    ).save_pretrained(folder)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="module")
def cross_encoder(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(folder, device="cpu")


def loaded(folder: Path, **options: Any) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", **options)


@pytest.mark.model
class TestCrossEncoderReranker(RerankerSuite):
    trained = False

    @pytest.fixture
    def reranker(self, cross_encoder: CrossEncoderReranker) -> Reranker:
        return cross_encoder


@pytest.mark.model
def test_a_cross_encoder_reads_both_the_query_and_the_text(
    cross_encoder: CrossEncoderReranker,
) -> None:
    scores = cross_encoder.scores(QUERY, TEXTS)

    assert np.ptp(scores) > 0.01
    assert np.abs(scores - cross_encoder.scores("Who plays the violin?", TEXTS)).max() > 0.01


@pytest.mark.model
def test_logits_become_scores_and_scores_stay_as_they_are(folder: Path) -> None:
    import torch

    logits = loaded(folder, activation_fn=torch.nn.Identity())
    scores = loaded(folder, activation_fn=torch.nn.Sigmoid())
    pairs = [(QUERY, text) for text in TEXTS]
    expected = scores.predict(pairs)

    assert np.abs(logits.predict(pairs) - expected).max() > 0.1
    assert np.array_equal(CrossEncoderReranker(scores).scores(QUERY, TEXTS), expected)
    assert np.allclose(CrossEncoderReranker(logits).scores(QUERY, TEXTS), expected, atol=1e-6)


class Logits:
    """Stands for a CrossEncoder with extreme logits."""

    activation_fn = None

    def predict(self, pairs: list[tuple[str, str]], **_: Any) -> Any:
        return np.array([-1e30, -100, 0, 100, 1e30], dtype=np.float32)[: len(pairs)]


@pytest.mark.filterwarnings("error")
def test_the_largest_logits_stay_in_0_to_1() -> None:
    scores = CrossEncoderReranker(Logits()).scores(QUERY, TEXTS)  # type: ignore[arg-type]

    assert scores.dtype == np.float32
    assert np.allclose(scores, [0, 0, 0.5, 1, 1])
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.model
def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    reranker = CrossEncoderReranker(random_cross_encoder(tmp_path, labels=3), device="cpu")

    with pytest.raises(InvalidInputError, match=r"3 values.*num_labels=1"):
        reranker.scores(QUERY, TEXTS)


@pytest.mark.model
def test_the_size_of_a_batch_changes_no_score(folder: Path) -> None:
    model = loaded(folder)
    one, many = (CrossEncoderReranker(model, batch_size=size) for size in (1, 32))

    assert np.allclose(one.scores(QUERY, TEXTS), many.scores(QUERY, TEXTS), atol=1e-5)


def test_torch_loads_at_the_first_question() -> None:
    code = (
        "import sys; from hybrid_memory.backends.sentence_transformers import CrossEncoderReranker;"
        "CrossEncoderReranker('any/model').scores('a', []); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="missing"):
        CrossEncoderReranker(tmp_path / "missing")


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="batch_size"):
        CrossEncoderReranker("any/model", batch_size=0)


@pytest.mark.parametrize("make", [MaxSim, lambda: CrossEncoderReranker("any/model")])
def test_one_text_instead_of_a_list_is_refused(make: Any) -> None:
    with pytest.raises(InvalidInputError, match="list"):
        make().scores(QUERY, "a text, not a list of its letters")


def test_without_sentence_transformers_the_pip_line_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)

    with pytest.raises(MissingExtraError, match=r'pip install "\.\[sentence-transformers\]"'):
        CrossEncoderReranker("any/model")
