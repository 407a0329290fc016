"""validate: does the idea hold on days that neither the comparison nor the search has decided by?

It is scored on the whole holdout of the rehearsal, which lies inside the window that training will have; and
the model's own tests are run on it. Both are a rehearsal of what testing does with the real candidate: a test
that a small network of a sample fails is said, and decides nothing here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.development.rehearsal import rehearse
from sevenfold.measures import evaluation, quality
from sevenfold.measures.evaluation import Floats, Interval
from sevenfold.measures.quality import Rows
from sevenfold.model import suite
from sevenfold.reports import page, plots


def main(activity: Activity) -> None:
    """Measures the task's headline metrics, the gain over the constant, and the tests that fail."""
    spec, promotion, candidate = activity.spec, activity.promotion, activity.candidate
    with activity.phase("reading the rows"):
        sample = rehearse(spec, promotion.as_of, promotion.params, activity.settings.data, activity.progress)
        holdout = sample.labelled(sample.holdout)
    rows, model = Rows.of(holdout, sample.holdout), activity.model_file(candidate)
    prediction = Scorer(model).predict(holdout)
    found = quality.measure_alone(activity, rows, prediction)
    one = spec.task.constant(np.asarray(sample.fitting["label"], np.float32))
    constant = np.broadcast_to(one, (len(rows), *one.shape))
    losses = [spec.task.losses(rows.label, values) for values in (constant, prediction)]
    gain = evaluation.mean(losses[0] - losses[1], rows.days)
    quality.measure(activity, "log_loss_gain_over_constant", gain, "nats", rows.window)
    with activity.phase(f"running the tests of {spec.name}"):
        moment = sample.windows.as_of.isoformat()
        junit = suite.run_suite(spec.folder / "tests", model, moment, activity.settings.data)
    cases = suite.read(junit)
    ran = [case for case in cases if case.outcome != "skipped"]
    failed = [case for case in ran if case.outcome == "failed"]
    for case in failed:
        activity.progress(f"failed: {case.name}: {case.message.splitlines()[0] if case.message else ''}")
    activity.measure("failed_tests", len(failed), unit="tests", n=len(ran))
    activity.report("tests.html", suite.table(spec.title, candidate.id, cases), "The model's own tests")
    report(activity, rows, prediction, found | {"log_loss_gain_over_constant": gain})


def report(activity: Activity, rows: Rows, prediction: Floats, found: dict[str, Interval]) -> None:
    """The idea's quality with intervals, and its calibration."""
    task = activity.spec.task
    cells = [
        [name.replace("_", " "), of.value, f"{of.low:.4f} to {of.high:.4f}", of.n]
        for name, of in found.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        curve = task.calibration_curve(rows.label, prediction, rows.days)
        plot = plots.calibration(Path(folder) / "calibration.png", {"the idea": curve}, task)
        content = page.page(
            f"{activity.spec.title}: does the idea hold?",
            page.text(
                f"Candidate {activity.candidate.id} on {len(rows):,} rows of {rows.window[0]:%Y-%m-%d} to "
                f"{rows.window[1]:%Y-%m-%d}, which lie inside the window that training will have."
            ),
            page.table(["metric", "value", "95 % by day", "rows"], cells),
            page.image(plot, "calibration"),
        )
    activity.report("validation.html", content, "Does the idea hold?")


if __name__ == "__main__":
    run(main)
