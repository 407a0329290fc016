"""select: which kind of model suits the problem? One of each, trained on a sample in seconds.

What comes out is an idea, not a model for users: a small candidate with the hyperparameters that training
takes over. All rows lie inside the training window, so no idea has seen the days it will be tested on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.windows import Window
from sevenfold.development.comparison import NETWORK, Comparison, compare
from sevenfold.development.idea import keep_idea
from sevenfold.development.rehearsal import Sample, rehearse
from sevenfold.measures import quality
from sevenfold.reports import page
from sevenfold.training import tracking


def main(activity: Activity) -> None:
    """Compares the algorithms, logs them to MLflow, and makes the first idea; measures what it gains."""
    spec, promotion = activity.spec, activity.promotion
    hyperparameters = spec.hyperparameters_with(promotion.params.get("hyperparameters") or {})
    with activity.phase("reading the rows"):
        sample = rehearse(spec, promotion.as_of, promotion.params, activity.settings.data, activity.progress)
    activity.progress(
        f"learning from {sample.fitting.num_rows:,} rows of {_days(sample.windows.fitting)}, compared on "
        f"{sample.test.num_rows:,} rows of {_days(sample.windows.test)}"
    )
    found = compare(sample, hyperparameters, activity.progress)
    with (
        activity.phase("logging to MLflow"),
        tracking.tracked(
            activity.settings.mlflow_url,
            f"{spec.name}.development",
            promotion.run,
            promotion.id,
            promotion.reason,
        ) as tracked,
    ):
        rows = sample.fitting.num_rows
        tracked.params({**hyperparameters, "seed": sample.seed, "sample_rows": rows})
        tracked.data(spec.name, spec.data.source, sample.digest, sample.windows.training, rows)
        tracked.metrics({name: of.value for name, of in found.tried[NETWORK].scores.items()})
        for name, one in found.tried.items():
            metrics = {metric: of.value for metric, of in one.scores.items()}
            tracked.child(name, {"algorithm": name}, metrics | {"seconds": one.seconds})
    candidate = keep_idea(activity, sample, found.learned, hyperparameters, tracked.id)
    for name in found.tried:
        if name != NETWORK:
            gain = found.gain_over(spec.task, name)
            quality.measure(activity, f"log_loss_gain_over_{name}", gain, "nats", sample.windows.test)
    report(activity, candidate, sample, found)


def report(activity: Activity, candidate: Candidate, sample: Sample, found: Comparison) -> None:
    """A page that compares the algorithms."""
    activity.progress(found.sentence)
    with tempfile.TemporaryDirectory() as folder:
        content = page.page(
            f"Which kind of model suits {activity.spec.title.lower()}?",
            page.text(
                found.sentence,
                f"All learned from the same sample and were compared on {sample.test.num_rows:,} rows of "
                f"{_days(sample.windows.test)}. Candidate {candidate.id}.",
            ),
            page.table(*found.table(activity.spec.task.second)),
            page.image(found.picture(Path(folder) / "losses.png"), "log loss of each algorithm"),
        )
    activity.report("algorithms.html", content, "Algorithms compared")


def _days(window: Window) -> str:
    return f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}"


if __name__ == "__main__":
    run(main)
