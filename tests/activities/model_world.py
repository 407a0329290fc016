"""Carries any model through the activities of its environments, in this process, and asks its own gates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.gate_case import spoken_of

from activities.development import explore, select, tune, validate, version
from activities.preproduction import fairness, final_validation
from activities.testing import benchmark as against_champion
from activities.testing import validate_data, validate_model
from activities.training import benchmark, train
from sevenfold.activity import Activity
from sevenfold.candidates.candidate import Candidate
from sevenfold.evidence.store import open_store
from sevenfold.gates.analysis import judge
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import load_gate
from sevenfold.gates.verdict import Verdict
from sevenfold.model.spec import load_spec
from sevenfold.settings import Settings

Main = Callable[[Activity], object]
DEVELOPMENT: dict[str, Main] = {
    "explore": explore.main,
    "select": select.main,
    "tune": tune.main,
    "validate": validate.main,
    "version": version.main,
}
UNASKED = {"select", "tune"}
"""They make the idea; the gate asks those who look at it."""
TRAINING: dict[str, Main] = {"train": train.main, "benchmark": benchmark.main}
TESTING: dict[str, Main] = {
    "validate_data": validate_data.main,
    "validate_model": validate_model.main,
    "benchmark": against_champion.main,
}
PREPRODUCTION: dict[str, Main] = {"final_validation": final_validation.main, "fairness": fairness.main}


class ModelWorld:
    """A home of its own for one model of the folder `models`, as of a moment."""

    def __init__(self, folder: Path, models: Path, model: str, as_of: datetime) -> None:
        self.spec, self.as_of = load_spec(model, models), as_of
        self.settings = Settings(
            home=folder / "home", models=models, mlflow_url=f"sqlite:///{folder}/mlflow.db"
        )
        self.store = open_store(self.settings.evidence_url, self.settings.secrets / "evidence")

    def run(
        self,
        environment: str,
        mains: dict[str, Main],
        candidate: Candidate | None = None,
        champion: Candidate | None = None,
        **params: object,
    ) -> Candidate:
        """Runs some activities of an environment and returns the candidate that they were about.

        All that the environment's own gate asks of them must pass. A champion is its anchor too.
        """
        promotion = self.store.begin_promotion(
            self.spec.name,
            environment,
            f"{environment}-{len(self.store.promotions(self.spec.name))}",
            candidate.id if candidate else None,
            self.as_of,
            "a test",
            {"search_trials": 0} | params,
            "tests",
        )
        for name, main in mains.items():
            activity = Activity(name, promotion, self.store, self.settings)
            activity.__dict__["champion"] = activity.__dict__["anchor"] = champion
            main(activity)
        measured = self.store.measurements(promotion.id)
        self.require_passed(environment, promotion.id, measured, set(mains), activity.candidate, champion)
        self.store.end_promotion(promotion.id, "promoted", "Successful", "good")
        return activity.candidate

    def require_passed(
        self,
        environment: str,
        promotion: str,
        measured: list[Measurement],
        activities: set[str],
        candidate: Candidate,
        champion: Candidate | None,
    ) -> None:
        """Asserts that the gate asks something of these activities, and lets all of it pass.

        What they measure it asks for, or names as not asked.
        """
        gate = load_gate(self.settings.models, self.spec.name, environment)
        assert {(found.activity, found.metric) for found in measured} <= spoken_of(gate)
        analysis = judge(
            gate,
            measured,
            candidate,
            self.store.promotion(promotion),
            datetime.now(UTC),
            champion=champion,
            anchor=champion,
            accepted={gate.hash: ""},
            uses=1,
        )
        mine = [found for found in analysis.metrics if found.activity in activities]
        failed = [found.reason for found in mine if found.verdict is not Verdict.SUCCESSFUL and found.decides]
        assert not failed, failed
        assert {found.activity for found in mine} == activities - UNASKED
