"""BentoML, one worker."""

from __future__ import annotations

from typing import Any

import bentoml
import same


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Network:
    """The model behind BentoML."""

    def __init__(self) -> None:
        self.model = same.session()

    @bentoml.api(route="/v2/models/network/infer")
    def infer(self, inputs: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
        """Probabilities."""
        return {"data": same.probability(self.model, *(tensor["data"] for tensor in inputs))}
