"""A home with the toy model and an MLflow of its own, for activities that make candidates and test them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import toy

from sevenfold.activity import Activity
from sevenfold.candidates.candidate import Candidate
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import Store, open_store
from sevenfold.settings import Settings

AS_OF = datetime(2020, 3, 1, tzinfo=UTC)


class ToyWorld:
    """Runs activities of the toy's promotions; `folder` is its own."""

    def __init__(self, folder: Path, model: str = toy.MODEL_YAML) -> None:
        self.folder = folder
        self.spec = toy.spec_in(folder / "models", model)
        self.settings = Settings(
            home=folder / "home", models=folder / "models", mlflow_url=f"sqlite:///{folder}/mlflow.db"
        )
        self.store: Store = open_store(self.settings.evidence_url, self.settings.secrets / "evidence")
        self.artifacts = open_artifacts(self.settings.artifacts_url, folder / "cache")

    def activity(
        self,
        name: str,
        environment: str,
        run: str,
        candidate: str | None = None,
        champion: Candidate | None = None,
        as_of: datetime = AS_OF,
        **params: Any,
    ) -> Activity:
        """The handle of one activity in the promotion of `run`."""
        promotion = self.store.begin_promotion(
            "toy", environment, run, candidate, as_of, "a test", params, "tests"
        )
        activity = Activity(name, promotion, self.store, self.settings)
        activity.__dict__["champion"] = champion
        return activity

    def measured(self, activity: Activity) -> Mapping[str, Any]:
        """The readings of one activity without a slice or a baseline, by metric."""
        readings = self.store.measurements(activity.promotion.id, activity.name)
        return {m.metric: m for m in readings if m.slice is None and m.baseline == "none"}
