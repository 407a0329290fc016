"""The last look before users: quality on the newest days, which no environment before this one has seen."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import evaluation, plots
from sevenfold.activity import Activity, run
from sevenfold.artefact import Scorer
from sevenfold.evaluation import Interval
from sevenfold.snapshot import snapshot
from sevenfold.windows import windows

Columns = Any


def main(activity: Activity) -> None:
    """Log loss, AUC and observed over expected on the sealed days, alone and paired with the champion."""
    spec, as_of = activity.spec, activity.promotion.as_of
    window = windows(spec, as_of).sealed
    data = snapshot(spec, activity.settings.data)
    looks = activity.store.use_test_set(activity.promotion.id, data.digest(*window, as_of))
    rows = data.labelled(*window, known_by=as_of, columns=spec.columns)
    label, days = rows["label"].to_numpy(), rows["day"].to_numpy()
    activity.progress(
        f"{len(label):,} labelled rows of {len(np.unique(days))} sealed days, "
        f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}; look number {looks} at them"
    )
    candidate = _probability(activity, rows, activity.candidate.model_digest)
    measure_alone(activity, label, candidate, days, window)
    curves = {"candidate": candidate}
    if activity.champion is None:
        activity.progress("no champion: nothing compared")
    else:
        champion = _probability(activity, rows, activity.champion.model_digest)
        measure_against_champion(activity, label, candidate, champion, days, window, looks)
        curves["champion"] = champion
    _plot(activity, label, curves, days)


def measure_alone(
    activity: Activity, label: Columns, probability: Columns, days: Columns, window: tuple[datetime, datetime]
) -> None:
    """The candidate's own quality, with intervals by day."""
    losses = evaluation.log_losses(label, probability)
    for metric, found, unit in (
        ("log_loss", evaluation.mean(losses, days), "nats"),
        ("auc", evaluation.auc(label, probability, days), ""),
        ("observed_over_expected", evaluation.ratio(label, probability, days), "ratio"),
    ):
        low, high = found.limits["low"], found.limits["high"]
        activity.measure(
            metric, _number(found.value), unit=unit, n=found.n, low=low, high=high, window=window
        )


def measure_against_champion(
    activity: Activity,
    label: Columns,
    candidate: Columns,
    champion: Columns,
    days: Columns,
    window: tuple[datetime, datetime],
    looks: int,
) -> None:
    """The same rows scored by both: the difference knows what the difficulty of the days hides."""
    ours, theirs = evaluation.log_losses(label, candidate), evaluation.log_losses(label, champion)
    compared: list[tuple[str, str, Interval, Interval, Interval]] = [
        (
            "log_loss",
            "nats",
            evaluation.mean(ours, days),
            evaluation.mean(theirs, days),
            evaluation.mean(ours - theirs, days),
        ),
        (
            "auc",
            "",
            evaluation.auc(label, candidate, days),
            evaluation.auc(label, champion, days),
            evaluation.auc_difference(label, candidate, champion, days),
        ),
    ]
    for metric, unit, mine, baseline, difference in compared:
        activity.measure(
            metric,
            _number(mine.value),
            unit=unit,
            n=mine.n,
            baseline="champion",
            baseline_candidate=activity.champion.id if activity.champion else None,
            baseline_value=_number(baseline.value),
            window=window,
            counts=(difference.difference_counts or {}) | {"uses": float(looks)},
        )
        activity.progress(
            f"{metric}: {difference.value:+.4f} against the champion "
            f"(95 % {difference.low:+.4f} to {difference.high:+.4f})"
        )


def _number(value: float) -> float | None:
    """None for what is no number, such as an AUC of days without one positive label."""
    return value if np.isfinite(value) else None


def _probability(activity: Activity, rows: Columns, digest: str) -> Columns:
    return Scorer(activity.artifacts.get(digest)).probability(rows)


def _plot(activity: Activity, label: Columns, curves: dict[str, Columns], days: Columns) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = {}
        for name, probability in curves.items():
            bins = evaluation.calibration_curve(label, probability, days)
            shown[name] = (
                [bin.predicted for bin in bins],
                [bin.observed.value for bin in bins],
                [bin.observed.low for bin in bins],
                [bin.observed.high for bin in bins],
            )
        path = plots.calibration(Path(folder) / "calibration.png", shown, "Calibration on the sealed days")
        activity.report(path.name, path.read_bytes(), "Calibration on the sealed days")


if __name__ == "__main__":
    run(main)
