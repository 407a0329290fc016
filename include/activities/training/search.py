"""search: are there better settings than development's? Many trainings on a sample, the bad ones cut short.

What is found is taken over by train only if it is proven better on the days that say when to stop. Settings
that the run's form fixes are not searched. A search that was killed goes on.
"""

from __future__ import annotations

from activities.training.train import chosen, idea, seed_of, windows_of
from sevenfold.activity import Activity, run
from sevenfold.data.sample import sample
from sevenfold.data.snapshot import snapshot
from sevenfold.search import Budget, Problem, Space, carry_out


def main(activity: Activity) -> None:
    """Leaves the settings to train with, the readings trials, trials_stopped_early and best_stopping_loss."""
    spec, params = activity.spec, activity.promotion.params
    seed, of = seed_of(activity), windows_of(activity)
    budget = Budget.of(params, spec.search)
    start, fixed = chosen(activity, idea(activity)), params.get("hyperparameters") or {}
    with activity.phase("reading the rows"):
        data = snapshot(spec, activity.settings.data, activity.progress)
        fitting, stopping = (
            data.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping)
        )
        fitting = sample(fitting, spec.search.rows, seed)
    problem = Problem(spec, fitting, stopping, Space.of(spec, start, fixed, fitting.num_rows), seed)
    carry_out(activity, problem, budget, data.digest(*of.training, of.as_of))


if __name__ == "__main__":
    run(main)
