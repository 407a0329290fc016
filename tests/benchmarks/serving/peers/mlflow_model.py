"""The model as an MLflow model from code."""

from __future__ import annotations

from typing import Any

import mlflow  # noqa: TID253 - this file runs in a process of MLflow alone
import same


class Network(mlflow.pyfunc.PythonModel):
    """The model behind `mlflow models serve`."""

    def load_context(self, context: Any) -> None:
        """Loads it."""
        self.model = same.session()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        """Probabilities."""
        return same.probability(self.model, model_input["numeric"], model_input["categorical"])


mlflow.models.set_model(Network())
