"""MLServer with a runtime of its own, in the server's process."""

from __future__ import annotations

import same
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Network(MLModel):
    """The model behind MLServer."""

    async def load(self) -> bool:
        """Loads it."""
        self.model = same.session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities."""
        numeric, categorical = (tensor.data.root for tensor in payload.inputs)
        found = same.probability(self.model, numeric, categorical)
        output = ResponseOutput(name="probability", datatype="FP32", shape=[len(found)], data=found)
        return InferenceResponse(model_name=self.name, outputs=[output])
