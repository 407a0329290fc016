"""A model of five columns whose answers can be computed by hand, and a replica that serves it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

NUMERIC = ("distance", "delay", "wind")
CATEGORICAL = ("origin", "carrier")
VOCABULARY = {"origin": ["EWR", "JFK", "LGA"], "carrier": ["AA", "UA"]}
MODEL = "tiny"
CANDIDATE = "tiny-0123456789ab"


def write(path: Path, bias: float = 0.0) -> Path:
    """Writes sigmoid(bias + sum of the numbers + sum of the codes / 10)."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ours = {"model": MODEL, "numeric": NUMERIC, "categorical": CATEGORICAL, "vocabulary": VOCABULARY}
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["numbers"]),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["total"], keepdims=0),
        helper.make_node("Cast", ["categorical"], ["codes"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["codes", "tenth"], ["tenths"]),
        helper.make_node("ReduceSum", ["tenths", "axis"], ["coded"], keepdims=0),
        helper.make_node("Add", ["total", "coded"], ["both"]),
        helper.make_node("Add", ["both", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants: dict[str, Any] = {
        "zero": np.float32(0),
        "axis": np.array([1], np.int64),
        "tenth": np.float32(0.1),
        "bias": np.float32(bias),
    }
    graph = helper.make_graph(
        nodes,
        MODEL,
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", len(NUMERIC)]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["n", len(CATEGORICAL)]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"sevenfold": json.dumps(ours)})
    onnx.save(model, path)
    return path


def probability(numbers: list[float | None], texts: list[str | None], bias: float = 0.0) -> float:
    """What the model must answer to one row."""
    codes = [
        VOCABULARY[name].index(text) + 1 if text in VOCABULARY[name] else 0
        for name, text in zip(CATEGORICAL, texts, strict=True)
    ]
    return 1 / (1 + math.exp(-(bias + sum(value or 0.0 for value in numbers) + sum(codes) / 10)))


def request(rows: int = 1, **more: Any) -> dict[str, Any]:
    """A request of `rows` rows; row i has numbers i/100, missing, 0.5."""
    return {
        "inputs": [
            {
                "name": "numeric",
                "shape": [rows, 3],
                "datatype": "FP32",
                "data": [[i / 100, None, 0.5] for i in range(rows)],
            },
            {
                "name": "categorical",
                "shape": [rows, 2],
                "datatype": "BYTES",
                "data": [["JFK", "AA"] for _ in range(rows)],
            },
        ],
        **more,
    }


def answers(rows: int, bias: float = 0.0) -> list[float]:
    """What must be answered to `request(rows)`."""
    return [probability([i / 100, None, 0.5], ["JFK", "AA"], bias) for i in range(rows)]


class Passes:
    """Evidence that lets everybody pass, or those named."""

    def __init__(self, *passed: tuple[str, str]) -> None:
        self._passed = passed

    def passed(self, candidate: str, environment: str) -> bool:
        return not self._passed or (candidate, environment) in self._passed


if __name__ == "__main__":  # a replica of LocalCluster: admission is tested elsewhere
    import time

    from sevenfold.model.spec import Sla
    from sevenfold.serving import server
    from sevenfold.serving.model import ServedModel
    from sevenfold.settings import settings

    def thinks_for(seconds: float) -> None:
        """Every prediction takes so long, as a larger model's would."""
        predict = ServedModel.predict

        def slow(self: ServedModel, *rows: Any) -> Any:
            time.sleep(seconds)
            return predict(self, *rows)

        ServedModel.predict = slow  # type: ignore[method-assign]

    server.admitted_file = lambda model, candidate, slot: settings().home / f"{candidate}.onnx"
    server.hidden = lambda model: lambda: None
    server.promised = lambda model: Sla(rate=100, p99_ms=100, error_rate=0.001)
    given = sys.argv[1:]
    if "--think" in given:
        at = given.index("--think")
        thinks_for(float(given[at + 1]))
        del given[at : at + 2]
    server.main(given)
