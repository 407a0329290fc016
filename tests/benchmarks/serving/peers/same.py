"""What every peer computes: the floor's own steps, so that servers are compared and not models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime

CODE = {text: code for code, text in enumerate("abcdefghij", start=1)}


def session() -> Any:
    """The model, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])


def probability(model: Any, numeric: Any, categorical: Any) -> list[float]:
    """Probabilities of n rows of numbers and texts."""
    codes = [[CODE[text] for text in row] for row in categorical]
    feed = {"numeric": np.asarray(numeric, np.float32), "categorical": np.array(codes, np.int64)}
    return model.run(["probability"], feed)[0].tolist()
