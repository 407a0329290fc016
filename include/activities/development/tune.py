"""tune: a small search for better settings, on the sample that the idea learned from.

If settings are proven better on the days that say when to stop, the idea is made again with them: from then
on it is the candidate, and the first one its parent. Settings that the run's form fixes are not searched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.development.beforehand import claim
from sevenfold.development.idea import keep_idea
from sevenfold.development.rehearsal import SEARCH, rehearse
from sevenfold.search import Budget, Problem, Space, carry_out
from sevenfold.training.learning import learn


def main(activity: Activity) -> None:
    """Leaves the settings and the readings of the search, and a new candidate if it is worth one."""
    spec, promotion, first = activity.spec, activity.promotion, activity.candidate
    budget = Budget.of(promotion.params, SEARCH)
    with activity.phase("reading the rows"):
        sample = rehearse(spec, promotion.as_of, promotion.params, activity.settings.data, activity.progress)
    fixed = promotion.params.get("hyperparameters") or {}
    start = spec.hyperparameters_with(fixed)
    space = Space.of(spec, start, fixed, sample.fitting.num_rows)
    problem = Problem(spec, sample.fitting, sample.stopping, space, sample.seed)
    outcome = carry_out(activity, problem, budget, sample.digest)
    if outcome.proven:
        with tempfile.TemporaryDirectory() as folder, activity.phase("training with what was found"):
            checkpoint = Path(folder) / "checkpoint.pt"
            learned = learn(spec, sample.fitting, sample.stopping, outcome.settings, sample.seed, checkpoint)
        keep_idea(activity, sample, learned, outcome.settings, str(first.mlflow_run), parent=first)
    claim(activity, activity.candidate)  # from here on it is the one that is judged


if __name__ == "__main__":
    run(main)
