"""A network of the flights' size (26 numbers, 5 categories, two layers of 128), and its replica."""

from __future__ import annotations

import json
import sys
from pathlib import Path

NUMERIC = tuple(f"n{column}" for column in range(26))
CATEGORICAL = tuple(f"c{column}" for column in range(5))
VOCABULARY = {name: list("abcdefghij") for name in CATEGORICAL}
HIDDEN = 128


def write(path: Path) -> Path:
    """Writes the network with made-up weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"w1": (31, HIDDEN), "w2": (HIDDEN, HIDDEN), "w3": (HIDDEN, 1)}
    weights = {
        name: random.normal(scale=0.1, size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.float32(0), "zero"))
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    steps = [
        ("IsNaN", ["numeric"], "missing"),
        ("Where", ["missing", "zero", "numeric"], "numbers"),
        ("Concat", ["numbers", "codes"], "x"),
        ("MatMul", ["x", "w1"], "a1"),
        ("Relu", ["a1"], "h1"),
        ("MatMul", ["h1", "w2"], "a2"),
        ("Relu", ["a2"], "h2"),
        ("MatMul", ["h2", "w3"], "logits"),
        ("Squeeze", ["logits", "axis"], "logit"),
        ("Sigmoid", ["logit"], "probability"),
    ]
    nodes = [helper.make_node("Cast", ["categorical"], ["codes"], to=TensorProto.FLOAT)]
    for kind, inputs, output in steps:
        nodes.append(helper.make_node(kind, inputs, [output], **({"axis": 1} if kind == "Concat" else {})))
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", len(NUMERIC)]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["n", len(CATEGORICAL)]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {"model": "network", "numeric": NUMERIC, "categorical": CATEGORICAL, "vocabulary": VOCABULARY}
    helper.set_model_props(model, {"sevenfold": json.dumps(about)})
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    from sevenfold.model.spec import Sla
    from sevenfold.serving import server
    from sevenfold.settings import settings

    server.admitted_file = lambda model, candidate, slot: settings().home / f"{candidate}.onnx"
    server.hidden = lambda model: lambda: None
    server.promised = lambda model: Sla(rate=100, p99_ms=100, error_rate=0.001)
    server.main(sys.argv[1:])
