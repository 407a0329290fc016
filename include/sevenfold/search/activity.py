"""A search as activities carry it out: with progress, in MLflow, with a page, and with its settings kept."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sevenfold.development.beforehand import Beforehand
from sevenfold.errors import SevenfoldError
from sevenfold.reports import page
from sevenfold.search import record
from sevenfold.search.outcome import Outcome, outcome_of
from sevenfold.search.study import Budget, Study, name_of
from sevenfold.search.trials import Problem, search
from sevenfold.training import tracking

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from sevenfold.activity import Activity

FILE = "settings.json"


def carry_out(activity: Activity, problem: Problem, budget: Budget, data: str) -> Outcome:
    """Searches, logs every trial, and leaves a page and the settings; a killed search goes on.

    Args:
        data: hash of the data that the rows are drawn from; the readings of the search count for the
            candidate that is made of the same.
    """
    spec, promotion, space = activity.spec, activity.promotion, problem.space
    title = f"{spec.title}: the search for settings"
    if budget.trials == 0 or not space.searched:
        why = "the budget is 0 trials" if budget.trials == 0 else "no setting is left to be searched"
        outcome = Outcome((), dict(space.start), None, None)
        activity.progress(f"{why}: {outcome.sentence}")
        activity.report("search.html", page.page(title, page.text(f"No search: {why}.")), "Search")
        return _kept(activity, outcome, data)
    question = (data, space.start, sorted(space.searched), problem.seed, len(problem.fitting))
    name = name_of(promotion.id, *question)
    activity.progress(
        f"searching {', '.join(space.searched)} with {budget} on {problem.fitting.num_rows:,} rows"
    )

    def open_study() -> Study:
        here = activity.settings
        return Study(name, here.evidence_url, here.data / "searches", budget, problem.seed)

    with tracking.tracked(
        activity.settings.mlflow_url,
        f"{spec.name}.{promotion.environment}",
        f"{activity.name} of {promotion.run}",
        f"{promotion.id}/{activity.name}",
        promotion.reason,
    ) as tracked:
        tracked.params({"trials": budget.trials, "rows": problem.fitting.num_rows, "seed": problem.seed})
        log = record.TrialLog(tracked)

        def on_trial(study: Study, trial: FrozenTrial) -> None:
            loss = f"{trial.value:.4f}" if trial.value is not None else "no loss"
            activity.progress(f"trial {trial.number}: {loss}, {record.how_it_ended(trial)}")
            log.add(study.trials)

        study = search(problem, open_study, on_trial)
        log.add(study.trials)
        outcome = outcome_of(problem, study.trials)
        activity.progress(outcome.sentence)
        activity.report("search.html", record.report(title, study.optuna, outcome, tracked), "Search")
    return _kept(activity, outcome, data)


def found(activity: Activity, by: str = "search") -> dict[str, Any] | None:
    """The settings that activity `by` of this promotion has left, or None.

    Raises:
        SevenfoldError: they were altered since.
    """
    reports = [
        report
        for report in activity.store.reports(activity.promotion.id)
        if report.activity == by and report.path.endswith(f"/{FILE}")
    ]
    if not reports:
        return None
    content = activity.artifacts.read(reports[-1].path)
    if hashlib.sha256(content).hexdigest() != reports[-1].sha256:
        raise SevenfoldError(f"{reports[-1].path} was altered since {by} wrote it: run {by} again")
    settings: dict[str, Any] = json.loads(content)
    return settings


def _kept(activity: Activity, outcome: Outcome, data: str) -> Outcome:
    """Leaves the settings for whoever trains with them, and the readings for the candidate."""
    activity.report(FILE, json.dumps(outcome.settings, indent=1), "Settings found")
    readings, trials = Beforehand(activity, data), len(outcome.trials)
    readings.measure("trials", trials, unit="trials", n=trials)
    if trials:
        early = trials - len(outcome.complete)
        readings.measure("trials_stopped_early", early / trials, unit="share", n=trials)
    if outcome.best is not None and outcome.best.value is not None:
        readings.measure("best_stopping_loss", outcome.best.value, unit="nats", n=trials)
    readings.keep()
    return outcome
