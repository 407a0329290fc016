"""benchmark: as good as champion and anchor, better than simple models? On days that none has seen."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.tabular import Encoder
from sevenfold.data.windows import Windows, of_candidate, windows
from sevenfold.measures import evaluation, quality
from sevenfold.measures.evaluation import Floats, Interval
from sevenfold.measures.quality import Rows
from sevenfold.reports import page, plots
from sevenfold.training import Examples
from sevenfold.training.baselines import baselines as simple_models

SAMPLE = 40_000
"""Rows that simple models learn from, evenly of all days: here they are a floor that is cheap to have;
training compares with what they learn from all rows."""


def main(activity: Activity) -> None:
    """The headline metrics on the test window, alone and as paired differences from all its rivals."""
    spec, as_of = activity.spec, activity.promotion.as_of
    of = windows(spec, as_of)
    data = snapshot(spec, activity.settings.data, activity.progress)
    looks = activity.store.use_test_set(activity.promotion.id, data.digest(*of.test, as_of))
    test = data.labelled(*of.test, as_of, spec.columns)
    rows = Rows.of(test, of.test)
    activity.progress(f"{test.num_rows:,} labelled rows; look number {looks} at these days")
    scorer = Scorer(activity.model_file(activity.candidate))
    scored: dict[str, Floats] = {"candidate": scorer.predict(test)}
    found = quality.measure_alone(activity, rows, scored["candidate"])
    differences: dict[str, Interval] = {}
    known: dict[str, Floats] = {}
    for baseline, other in baselines(activity):
        theirs = known.get(other.id)
        if theirs is None:
            theirs = known[other.id] = scored[baseline] = Scorer(activity.model_file(other)).predict(test)
        against = quality.measure_against(activity, rows, scored["candidate"], theirs, other, baseline)
        differences |= {f"{metric}, less the {baseline}'s": of for metric, of in against.items()}
    if not differences:
        activity.progress("no champion: nothing compared")
    learned = of_candidate(spec, activity.candidate)
    for name, prediction in simple(activity, data, learned, scorer.encoder, test).items():
        scored[name] = prediction
        losses, ours = (spec.task.losses(rows.label, scored[one]) for one in (name, "candidate"))
        gain = evaluation.mean(losses - ours, rows.days)
        quality.measure(activity, f"log_loss_gain_over_{name}", gain, "nats", of.test)
        differences[f"log loss gained over {name}"] = gain
    report(activity, rows, scored, found, differences)


def baselines(activity: Activity) -> list[tuple[Literal["champion", "anchor"], Candidate]]:
    """Who the candidate is held against: nobody before the first champion."""
    held: list[tuple[Literal["champion", "anchor"], Candidate | None]] = [
        ("champion", activity.champion),
        ("anchor", activity.anchor),
    ]
    return [(name, other) for name, other in held if other is not None]


def simple(activity: Activity, data: Snapshot, of: Windows, encoder: Encoder, test: Any) -> dict[str, Floats]:
    """What each simple model predicts for the test rows, fitted to a sample of the candidate's days."""
    fitting, stopping = (
        data.labelled(*window, of.as_of, activity.spec.columns) for window in (of.fitting, of.stopping)
    )
    few = np.linspace(0, fitting.num_rows - 1, min(SAMPLE, fitting.num_rows)).astype(np.int64)
    examples, last, compared = (Examples.of(rows, encoder) for rows in (fitting.take(few), stopping, test))
    found: dict[str, Floats] = {}
    for name, fit in simple_models(activity.spec.task).items():
        with activity.phase(f"{name.replace('_', ' ')} on {len(examples):,} of {fitting.num_rows:,} rows"):
            found[name] = fit(examples, last, encoder.cardinalities, 0)(compared)
    return found


def report(
    activity: Activity,
    rows: Rows,
    scored: dict[str, Floats],
    found: dict[str, Interval],
    differences: dict[str, Interval],
) -> None:
    """A page with the numbers, their intervals and the calibration of both."""
    cells: list[list[object]] = [
        [name.replace("_", " "), of.value, f"{of.low:.4f} to {of.high:.4f}"] for name, of in found.items()
    ]
    cells += [
        [name.replace("_", " "), of.value, f"{of.low:.4f} to {of.high:.4f}"]
        for name, of in differences.items()
    ]
    held = [f"{name.capitalize()}: {other.id}." for name, other in baselines(activity)]
    against = " ".join(held) or "There is no champion yet."
    with tempfile.TemporaryDirectory() as folder:
        task = activity.spec.task
        losses = {name: task.log_loss(rows.label, one, rows.days) for name, one in scored.items()}
        bars = [(name.replace("_", " "), of.value, of.low, of.high) for name, of in losses.items()]
        loss_plot = plots.intervals(
            Path(folder) / "loss.png", bars, "Log loss, 95 % intervals by day", "nats"
        )
        bins = {name: task.calibration_curve(rows.label, one, rows.days) for name, one in scored.items()}
        calibration = plots.calibration(Path(folder) / "calibration.png", bins, task, "Calibration by tenths")
        content = page.page(
            f"{activity.spec.title}: the candidate and its rivals on the same rows",
            page.text(
                f"Candidate: {activity.candidate.id}. {against}",
                f"{len(rows.label):,} rows of {rows.window[0]:%Y-%m-%d} to {rows.window[1]:%Y-%m-%d}.",
            ),
            page.table(["measure", "value", "95 % by day"], cells),
            page.image(loss_plot, "log loss"),
            page.image(calibration, "calibration"),
        )
    activity.report("benchmark.html", content, "Against champion, anchor and simple models")


if __name__ == "__main__":
    run(main)
