"""The network of all-MiniLM-L6-v2 as an ONNX graph: one text in, its unit vector out.

BERT (Devlin et al., 2018, arXiv:1810.04805) with 6 layers, then the mean over the tokens and L2 normalisation, as
sentence-transformers computes it. One text has no padding, so the graph needs no attention mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from memcube_embedding.embedders.minilm import DIMENSIONS, MAX_TOKENS, MODEL_NAME

LAYERS = 6
HEADS = 12
OPSET = 20
IR_VERSION = 9
LAYER_NORM_EPSILON = 1e-12

Weights = Mapping[str, NDArray[np.float32]]


def build_graph(weights: Weights) -> ModelProto:
    """The fp32 graph: input `input_ids` int64 (1, tokens ≤ 256), output `embedding` float32 (1, 384)."""
    return _Graph(weights).build()


class _Graph:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def build(self) -> ModelProto:
        hidden = self._embed()
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        mean = self._op("ReduceMean", hidden, self._constant("axis_1", np.array([1])), keepdims=0)
        self._nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=-1, p=2))
        graph = helper.make_graph(
            self._nodes,
            MODEL_NAME,
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        checker.check_model(model)  # pyright: ignore[reportUnknownMemberType]  (a bare PathLike)
        return model

    def _embed(self) -> str:
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        tokens = self._op("Shape", "input_ids", start=1, end=2)
        places = self._constant("places", self._weights["embeddings.position_embeddings.weight"][:MAX_TOKENS])
        zero = self._constant("zero", np.array([0]))
        used = self._op("Slice", places, zero, tokens, zero)
        kind = self._constant("kind", self._weights["embeddings.token_type_embeddings.weight"][0])
        return self._norm(self._op("Add", self._op("Add", words, used), kind), "embeddings.LayerNorm")

    def _layer(self, hidden: str, name: str) -> str:
        attended = self._linear(self._attend(hidden, f"{name}attention.self."), f"{name}attention.output.dense")
        hidden = self._norm(self._op("Add", hidden, attended), f"{name}attention.output.LayerNorm")
        inner = self._op("Gelu", self._linear(hidden, f"{name}intermediate.dense"))
        outer = self._linear(inner, f"{name}output.dense")
        return self._norm(self._op("Add", hidden, outer), f"{name}output.LayerNorm")

    def _attend(self, hidden: str, name: str) -> str:
        per_head = self._constant("per_head", np.array([0, 0, HEADS, DIMENSIONS // HEADS]))
        joined = self._constant("joined", np.array([0, 0, DIMENSIONS]))
        scale = self._constant("scale", np.array((DIMENSIONS // HEADS) ** -0.5, dtype=np.float32))

        def heads(part: str, perm: list[int]) -> str:
            return self._op("Transpose", self._op("Reshape", self._linear(hidden, name + part), per_head), perm=perm)

        scores = self._op("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        shares = self._op("Softmax", self._op("Mul", scores, scale), axis=-1)
        mixed = self._op("MatMul", shares, heads("value", [0, 2, 1, 3]))
        return self._op("Reshape", self._op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)

    def _linear(self, hidden: str, name: str) -> str:
        kernel = self._constant(f"{name}.kernel", self._weights[f"{name}.weight"].T)
        return self._op("Add", self._op("MatMul", hidden, kernel), self._weight(f"{name}.bias"))

    def _norm(self, hidden: str, name: str) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", hidden, weight, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output
