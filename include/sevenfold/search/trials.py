"""One trial is one training on the sample; several processes may run trials of the same study."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec
from sevenfold.search.space import Space
from sevenfold.search.study import INCUMBENT, Study
from sevenfold.training import CannotLearn, Epoch
from sevenfold.training.learning import Learned, learn

if TYPE_CHECKING:
    import pyarrow as pa
    from optuna.trial import FrozenTrial, Trial

SETTINGS, BY_DAY, TROUBLE = "settings", "loss_by_day", "trouble"
"""User attributes of a trial: all its settings, its losses summed by stopping day, why it could not learn."""

OnTrial = Callable[[Study, "FrozenTrial"], None]
"""Hears of a trial that ended in this process."""

PARTS = 4
"""Looks at a trial: one after each quarter of its epochs."""


@dataclass(frozen=True)
class Problem:
    """What a search is about: the rows, the settings to start from, what may be tried, and the seed.

    All trials share the seed, so what differs between them is what their settings do.
    """

    spec: ModelSpec
    fitting: pa.Table
    stopping: pa.Table
    space: Space
    seed: int


def search(
    problem: Problem,
    open_study: Callable[[], Study],
    on_trial: OnTrial = lambda study, trial: None,
) -> Study:
    """Runs trials until the budget is spent; a study that has trials already goes on.

    With more workers than one the
    others are forks of this process, made before it touches torch; each opens the study by itself.
    """
    study = open_study()
    study.prepare(problem.space.at_start)
    context = multiprocessing.get_context("fork")
    others = [
        context.Process(target=_work, args=(problem, open_study), daemon=True)
        for _ in range(study.budget.workers - 1)
    ]
    for other in others:
        other.start()
    try:
        _work(problem, lambda: study, on_trial)
    finally:
        for other in others:
            other.join()
    if any(other.exitcode for other in others):
        raise SevenfoldError("a worker of the search broke; its last lines are in this log")
    return study


def _work(
    problem: Problem,
    open_study: Callable[[], Study],
    on_trial: OnTrial = lambda study, trial: None,
) -> None:
    study, taken = open_study(), False

    def objective(trial: Trial) -> float:
        nonlocal taken
        if not study.claim(trial):
            taken = True
            return float("nan")  # ends as failed, and counts for nothing
        return run(problem, trial)

    def ended(_: Any, trial: FrozenTrial) -> None:
        if trial.state.name != "FAIL":
            on_trial(study, trial)

    while not taken and study.may_go_on():
        study.optuna.optimize(objective, n_trials=1, callbacks=[ended])


def run(problem: Problem, trial: Trial) -> float:
    """Trains with the trial's settings; the best stopping loss.

    Trials are compared after each quarter of their epochs, not after the same number of them: the learning
    rate falls over a trial's own epochs, so only equal parts of the way are comparable. Settings from which
    nothing can be learned end like a trial that is stopped early.
    """
    from optuna import TrialPruned

    settings = problem.space.settings(trial)
    trial.set_user_attr(SETTINGS, settings)
    epochs = int(settings.get("epochs", 1))

    def on_epoch(epoch: Epoch) -> None:
        part = PARTS * epoch.number // epochs
        trial.set_user_attr(f"epoch {epoch.number}", epoch.stopping_loss)
        if part == PARTS * (epoch.number - 1) // epochs:
            return
        trial.report(epoch.stopping_loss, part)
        if not trial.user_attrs.get(INCUMBENT) and trial.should_prune():
            raise TrialPruned

    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.pt"
            learned = learn(
                problem.spec, problem.fitting, problem.stopping, settings, problem.seed, checkpoint, on_epoch
            )
    except CannotLearn as trouble:
        if trial.user_attrs.get(INCUMBENT):
            raise
        trial.set_user_attr(TROUBLE, str(trouble))
        raise TrialPruned from trouble
    trial.set_user_attr(BY_DAY, losses_by_day(learned, problem.stopping).tolist())
    return learned.fitted.best.stopping_loss


def losses_by_day(learned: Learned, rows: pa.Table) -> NDArray[np.float64]:
    """Sum of the losses of each day's rows, days in order."""
    label = np.asarray(rows["label"], np.float64)
    loss = learned.encoder.task.losses(label, learned.predict(rows))
    _, day = np.unique(np.asarray(rows["day"]), return_inverse=True)
    return np.bincount(day, weights=loss).astype(np.float64)


def curve(trial: FrozenTrial) -> Mapping[int, float]:
    """Stopping loss by epoch, as far as a trial came."""
    losses = {
        int(name.removeprefix("epoch ")): float(loss)
        for name, loss in trial.user_attrs.items()
        if name.startswith("epoch ")
    }
    return dict(sorted(losses.items()))
