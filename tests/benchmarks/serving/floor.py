"""The floor: a bare ASGI function around the same model, without checks, log, metrics or refusals."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

CODE = {text: code for code, text in enumerate("abcdefghij", start=1)}


def application(path: str) -> Any:
    """An ASGI application that believes whatever it is sent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        numeric, categorical = orjson.loads(body)["inputs"]
        rows = numeric["shape"][0]
        feed = {
            "numeric": np.array(numeric["data"], np.float32).reshape(rows, -1),
            "categorical": np.array([[CODE[text] for text in row] for row in categorical["data"]], np.int64),
        }
        probability = session.run(["probability"], feed)[0]
        output = {"name": "probability", "datatype": "FP32", "shape": [rows], "data": probability}
        answer = orjson.dumps({"outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1]), port=int(sys.argv[2]), loop="uvloop", http="httptools", lifespan="off",
        ws="none", access_log=False, log_level="warning", timeout_keep_alive=75,
    )  # fmt: skip
