"""What came of a search: the best settings, and whether they are proven better than those there were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Interval
from sevenfold.search.study import INCUMBENT
from sevenfold.search.trials import BY_DAY, SETTINGS, Problem

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Outcome:
    """The trials, which of them is best, and by how much it beats the settings that the search began with."""

    trials: Sequence[FrozenTrial]
    start: dict[str, Any]
    best: FrozenTrial | None
    gain: Interval | None
    """Loss of the settings as they were less that of the best, on the same stopping rows, by day; None
    where they are the same trial."""

    @property
    def proven(self) -> bool:
        """Whether the best is better by more than chance: the interval of the gain lies above zero."""
        return self.gain is not None and self.gain.low > 0

    @property
    def settings(self) -> dict[str, Any]:
        """What should be trained with: the best settings where they are proven better, else the old ones."""
        if self.best is None or not self.proven:
            return self.start
        return dict(self.best.user_attrs[SETTINGS])

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials that were trained to their end."""
        return [trial for trial in self.trials if trial.value is not None and BY_DAY in trial.user_attrs]

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        if self.best is None:
            return "nothing was searched: the settings are taken as they are"
        early = len(self.trials) - len(self.complete)
        tried = f"{len(self.trials)} trials, {early} of them stopped early"
        if self.gain is None:
            return f"{tried}: the settings as they are stay the best"
        by = f"{self.gain.value:+.4f} nats (95 % by day {self.gain.low:+.4f} to {self.gain.high:+.4f})"
        if self.proven:
            return f"{tried}: trial {self.best.number} is better by {by} and its settings are taken"
        return f"{tried}: trial {self.best.number} gains {by}, not more than chance: the settings stay"


def outcome_of(problem: Problem, trials: Sequence[FrozenTrial]) -> Outcome:
    """Compares the best trial with the one that tried the settings as they are."""
    start = dict(problem.space.start)
    complete = [trial for trial in trials if trial.value is not None and BY_DAY in trial.user_attrs]
    if not complete:
        return Outcome(trials, start, None, None)
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    incumbent = next((trial for trial in complete if trial.user_attrs.get(INCUMBENT)), None)
    if incumbent is None or incumbent is best:
        return Outcome(trials, start, best, None)
    days, rows = np.unique(np.asarray(problem.stopping["day"]), return_counts=True)
    gained = np.subtract(incumbent.user_attrs[BY_DAY], best.user_attrs[BY_DAY])
    return Outcome(trials, start, best, evaluation.ratio(gained, rows.astype(np.float64), days))
