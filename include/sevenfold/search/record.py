"""What a search leaves for people: a run in MLflow for every trial, and a page with its pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sevenfold.reports import page, plots
from sevenfold.search.outcome import Outcome
from sevenfold.search.trials import SETTINGS, TROUBLE, curve
from sevenfold.training.tracking import TrackedRun

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TRIAL = "sevenfold.trial"
FEWEST_FOR_IMPORTANCE = 10
"""Complete trials below which nothing is said of a setting's importance: it would be chance."""


class TrialLog:
    """The runs of the trials below a search's own run. Every trial is logged once, by whichever try."""

    def __init__(self, tracked: TrackedRun) -> None:
        self._client = tracked.mlflow.MlflowClient()
        self._parent = self._client.get_run(tracked.id)
        self._known = {run.data.tags[TRIAL] for run in self._children()}

    def add(self, trials: Iterable[FrozenTrial]) -> None:
        """Logs those trials that ended and are not there yet: their settings, losses, and how they ended."""
        for trial in trials:
            if str(trial.number) not in self._known:
                self._log(trial)
                self._known.add(str(trial.number))

    def _log(self, trial: FrozenTrial) -> None:
        from mlflow.entities import Metric, Param

        if not trial.datetime_start or not trial.datetime_complete:
            return
        times = (trial.datetime_start, trial.datetime_complete)
        began, ended = (int(moment.timestamp() * 1000) for moment in times)
        tags = {
            "mlflow.parentRunId": self._parent.info.run_id,
            TRIAL: str(trial.number),
            "sevenfold.end": how_it_ended(trial),
        }
        run = self._client.create_run(
            self._parent.info.experiment_id, began, tags, run_name=f"trial {trial.number}"
        )
        metrics = [Metric("stopping_loss", loss, ended, epoch) for epoch, loss in curve(trial).items()]
        if trial.value is not None and np.isfinite(trial.value):
            metrics.append(Metric("best_stopping_loss", trial.value, ended, 0))
        params = [Param(name, str(value)) for name, value in trial.user_attrs.get(SETTINGS, {}).items()]
        self._client.log_batch(run.info.run_id, [m for m in metrics if np.isfinite(m.value)], params)
        self._client.set_terminated(run.info.run_id, "FINISHED", ended)

    def _children(self) -> list[Any]:
        return list(
            self._client.search_runs(
                [self._parent.info.experiment_id],
                f"tags.`mlflow.parentRunId` = '{self._parent.info.run_id}'",
                max_results=10_000,
            )
        )


def how_it_ended(trial: FrozenTrial) -> str:
    """complete, stopped early, or why it could not learn."""
    if TROUBLE in trial.user_attrs:
        return str(trial.user_attrs[TROUBLE])
    return "stopped early" if trial.state.name == "PRUNED" else "complete"


def pictures(folder: Path, study: Study, outcome: Outcome) -> list[tuple[Path, str]]:
    """The history of the search, the trials' learning curves, and the settings' importance if it is known."""
    made = [
        (_history(folder, outcome), "loss of each trial"),
        (_curves(folder, outcome), "stopping loss by part of a trial's way"),
    ]
    if len(outcome.complete) >= FEWEST_FOR_IMPORTANCE:
        made.append((_importance(folder, study), "importance of each setting"))
    return made


def report(title: str, study: Study, outcome: Outcome, tracked: TrackedRun) -> str:
    """The page of a search; its pictures become artifacts of the run in MLflow too."""
    names = list(dict.fromkeys(name for trial in outcome.trials for name in trial.params))
    best = outcome.best.number if outcome.best is not None else None
    rows = [
        [
            trial.number,
            trial.value if how_it_ended(trial) == "complete" else None,
            *(_shown(trial.params.get(name)) for name in names),
            how_it_ended(trial) + (", the best" if trial.number == best else ""),
            round(trial.duration.total_seconds(), 2) if trial.duration else None,
        ]
        for trial in outcome.trials
    ]
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for path, alternative in pictures(Path(folder), study, outcome):
            images.append(page.image(path, alternative))
            tracked.mlflow.log_artifact(str(path))
        parts = [page.text(outcome.sentence[0].upper() + outcome.sentence[1:] + "."), *images]
    if len(outcome.complete) < FEWEST_FOR_IMPORTANCE:
        parts.append(
            page.text(
                f"With fewer than {FEWEST_FOR_IMPORTANCE} complete trials nothing can be said of the "
                "settings' importance."
            )
        )
    parts.append(page.table(["trial", "stopping loss", *names, "end", "seconds"], rows))
    return page.page(title, *parts)


def _history(folder: Path, outcome: Outcome) -> Path:
    complete = outcome.complete
    numbers = [float(trial.number) for trial in complete]
    losses = [float(trial.value) for trial in complete if trial.value is not None]
    best = np.minimum.accumulate(losses).tolist()
    return plots.series(
        folder / "history.png",
        numbers,
        {"complete trials": (losses, None, None), "best so far": (best, None, None)},
        "Stopping loss of each complete trial",
        "nats",
    )


def _curves(folder: Path, outcome: Outcome) -> Path:
    best = outcome.best.number if outcome.best is not None else None
    lines = []
    for trial in outcome.trials:
        epochs = int(trial.user_attrs.get(SETTINGS, {}).get("epochs", 1))
        found = curve(trial)
        kind = "the best" if trial.number == best else how_it_ended(trial)
        kind = "stopped early" if TROUBLE in trial.user_attrs else kind
        lines.append(([epoch / epochs for epoch in found], list(found.values()), kind))
    return plots.bundle(
        folder / "curves.png",
        lines,
        "Trials are compared, and stopped, at equal parts of their way",
        "part of a trial's epochs",
        "stopping loss, nats",
    )


def _importance(folder: Path, study: Study) -> Path:
    from optuna.importance import get_param_importances

    found = get_param_importances(study)
    bars = [(name, value, None, None) for name, value in found.items()]
    title = "Importance of each setting for a good loss (PED-ANOVA)"
    return plots.intervals(folder / "importance.png", bars, title, "share")


def _shown(value: object) -> object:
    return f"{value:.3g}" if isinstance(value, float) else value
