"""LitServe, one worker. (Its annotations are read while it runs: no `from __future__` here.)"""

import sys
from typing import Any

import litserve
import same


class Network(litserve.LitAPI):
    """The model behind LitServe."""

    def setup(self, device: str) -> None:
        """Loads it."""
        self.model = same.session()

    def decode_request(self, request: dict[str, Any]) -> list[Any]:
        """Both tensors."""
        return [tensor["data"] for tensor in request["inputs"]]

    def predict(self, x: list[Any]) -> list[float]:
        """Probabilities."""
        return same.probability(self.model, *x)

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """As JSON."""
        return {"data": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Network(api_path="/v2/models/network/infer"), accelerator="cpu", workers_per_device=1
    )
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", num_api_servers=1, generate_client_file=False,
        log_level="warning", access_log=False,
    )  # fmt: skip
