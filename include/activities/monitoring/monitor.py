"""monitor: was the champion right, week by week, and how fast did it answer?"""

from __future__ import annotations

import tempfile
from math import isfinite
from pathlib import Path
from typing import Any

from sevenfold import plots
from sevenfold.activity import Activity, run
from sevenfold.evaluation import Interval
from sevenfold.watch import Watch
from sevenfold.weekly import WeekReading, by_week
from sevenfold.weeks import complete

COLUMNS = ("probability", "row", "service_us")


def main(activity: Activity) -> None:
    """Measures the champion's last complete weeks, and draws all weeks of production."""
    watch = Watch(activity)
    if watch.champion is None:
        activity.progress(f"{activity.promotion.model} has no champion: there is nothing to monitor")
        return
    found = by_week(watch.champion_rows(COLUMNS), watch.weeks, watch.rule.min_rows)
    if not found:
        activity.progress(
            f"{watch.champion.id} has no complete week with {watch.rule.min_rows:,} labelled answers "
            f"before {watch.end:%Y-%m-%d}: nothing is measured"
        )
    for reading in found:
        measure(activity, reading)
    draw(activity, watch)


def measure(activity: Activity, reading: WeekReading) -> None:
    """Leaves the readings of one week."""
    week = reading.week
    intervals = {
        "positive_rate": (reading.positive_rate, "share"),
        "observed_over_expected": (reading.over_expected, "ratio"),
        "log_loss": (reading.log_loss, "nats"),
        "excess_log_loss": (reading.excess_log_loss, "nats"),
        "auc": (reading.auc, ""),
    }
    values = {
        "rows": (reading.rows, "rows"),
        "expected_log_loss": (reading.expected_log_loss, "nats"),
        "service_p50": (reading.p50_ms, "ms"),
        "service_p99": (reading.p99_ms, "ms"),
    }
    where: dict[str, Any] = {"window": (week.start, week.end), "interval": week.key, "n": reading.labelled}
    for metric, (interval, unit) in intervals.items():
        if isfinite(interval.value):
            activity.measure(metric, interval.value, unit=unit, **interval.limits, **where)
    for metric, (value, unit) in values.items():
        if isfinite(value):
            activity.measure(metric, value, unit=unit, **where)


def draw(activity: Activity, watch: Watch) -> None:
    """Draws every complete week of production, whoever was champion."""
    rows = watch.rows(COLUMNS)
    if not rows.num_rows:
        return
    every = complete(activity.spec.data.starts, rows["time"][0].as_py(), watch.end)
    weekly = by_week(rows, every, watch.rule.min_rows)
    if not weekly:
        return
    ends = [reading.week.end for reading in weekly]
    changes = [
        (reading.week.start, f"champion {reading.candidate.rpartition('-')[2]}")
        for before, reading in zip([None, *weekly], weekly, strict=False)
        if before is None or before.candidate != reading.candidate
    ]
    with tempfile.TemporaryDirectory() as folder:
        ratio = {"observed over expected": _line([reading.over_expected for reading in weekly])}
        limits = {"as expected": 1.0, "harm": watch.rule.harm_ratio}
        title = f"{activity.spec.title}: how often '{activity.spec.positive}', against what was expected"
        path = plots.series(
            Path(folder) / "observed_over_expected.png", ends, ratio, title, "ratio", changes, limits
        )
        activity.report(path.name, path, "Outcomes against expectation, week by week")
        loss = {
            "log loss": _line([reading.log_loss for reading in weekly]),
            "expected by the model": ([reading.expected_log_loss for reading in weekly], None, None),
        }
        title = f"{activity.spec.title}: log loss of the champion"
        path = plots.series(Path(folder) / "log_loss.png", ends, loss, title, "nats a row", changes)
        activity.report(path.name, path, "Log loss, week by week")


def _line(intervals: list[Interval]) -> tuple[plots.Values, plots.Values, plots.Values]:
    return [one.value for one in intervals], [one.low for one in intervals], [one.high for one in intervals]


if __name__ == "__main__":
    run(main)
