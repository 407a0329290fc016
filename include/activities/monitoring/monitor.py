"""monitor: was the champion right, week by week, and how fast did it answer?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.activity import Activity, run
from sevenfold.data.weeks import LENGTH, complete, midnight, within
from sevenfold.measures.evaluation import Interval
from sevenfold.monitoring.answers import AccessLog, count
from sevenfold.monitoring.watch import Watch
from sevenfold.monitoring.weekly import WeekReading, by_week
from sevenfold.reports import plots

COLUMNS = ("wall", "prediction", "row", "service_us")


def main(activity: Activity) -> None:
    """Measures the champion's last complete weeks, and draws all weeks of production."""
    watch = Watch(activity)
    if watch.champion is None:
        activity.progress(f"{activity.promotion.model} has no champion: there is nothing to monitor")
        return
    rows = watch.champion_rows(COLUMNS)
    found = by_week(activity.spec.task, rows, watch.served(rows), watch.rule.min_rows)
    if not found:
        activity.progress(
            f"{watch.champion.id} has no complete week with {watch.rule.min_rows:,} labelled answers "
            f"before {watch.end:%Y-%m-%d}: nothing is measured"
        )
    for reading in found:
        measure(activity, reading)
        measure_errors(activity, reading, within(rows, reading.week))
    if activity.promotion.params.get("report", True):
        draw(activity, watch)


def measure(activity: Activity, reading: WeekReading) -> None:
    """Leaves the readings of one week."""
    week, task = reading.week, activity.spec.task
    intervals = {
        task.outcome_metric: (reading.observed, task.outcome_unit),
        "observed_over_expected": (reading.over_expected, "ratio"),
        "log_loss": (reading.log_loss, "nats"),
        "excess_log_loss": (reading.excess_log_loss, "nats"),
        task.second: (reading.second, task.second_unit),
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
            activity.measure(metric, interval.value, unit=unit, **where | interval.limits)
    for metric, (value, unit) in values.items():
        if isfinite(value):
            activity.measure(metric, value, unit=unit, **where)


def measure_errors(activity: Activity, reading: WeekReading, rows: pa.Table) -> None:
    """Leaves the share of requests that the gateway could not get answered while the week was served.

    The gateway's log knows only the time of the clock on the wall, so the week is found by when its rows were
    answered: in a replay that is not the time of the events.
    """
    first, last = (pc.min_max(rows["wall"])[end].as_py() for end in ("min", "max"))
    log = AccessLog(activity.settings.logs, activity.promotion.model, since=first)
    answers = log.between(first, last + timedelta(microseconds=1))
    arm = count(answers, slow_ms=float("inf")).get(reading.candidate)
    if arm is None:
        activity.progress(f"{reading.week}: not in the gateway's access log, so errors are not counted")
        return
    activity.measure(
        "error_rate",
        arm.errors / arm.requests,
        unit="share",
        n=arm.requests,
        window=(reading.week.start, reading.week.end),
        interval=reading.week.key,
        counts={"bad": arm.errors, "n": arm.requests},
    )


def draw(activity: Activity, watch: Watch) -> None:
    """Draws every week of production, one line a champion."""
    rows = watch.rows(COLUMNS)
    if not rows.num_rows:
        return
    began = midnight(rows["time"][0].as_py().date()) - LENGTH
    weeks = complete(activity.spec.data.starts, began, watch.end)
    weekly = by_week(activity.spec.task, rows, weeks, watch.rule.min_rows)
    if not weekly:
        return
    first = {reading.candidate: reading.week.start for reading in reversed(weekly)}
    changes = [(start, _short(champion)) for champion, start in sorted(first.items(), key=lambda one: one[1])]
    ends = [reading.week.end for reading in weekly]
    what, words = activity.spec.title, activity.spec.task.words
    with tempfile.TemporaryDirectory() as folder:
        path = plots.series(
            Path(folder) / "observed_over_expected.png",
            ends,
            _lines(weekly, lambda reading: reading.over_expected),
            f"{what}: how {words.as_} was {words.outcome}, against what was expected",
            "observed over expected",
            changes,
            {"as expected": 1.0, "harm": watch.rule.harm_ratio},
        )
        activity.report(path.name, path, "Outcomes against expectation, week by week")
        expected = {"expected by the model": ([one.expected_log_loss for one in weekly], None, None)}
        path = plots.series(
            Path(folder) / "log_loss.png",
            ends,
            {**_lines(weekly, lambda reading: reading.log_loss), **expected},
            f"{what}: log loss of the champion",
            "nats a row",
            changes,
        )
        activity.report(path.name, path, "Log loss, week by week")


def _lines(weekly: list[WeekReading], read: Callable[[WeekReading], Interval]) -> dict[str, plots.Line]:
    """One line a champion, with gaps where another one served."""
    lines: dict[str, plots.Line] = {}
    for champion in dict.fromkeys(reading.candidate for reading in weekly):
        mine = [read(reading) if reading.candidate == champion else None for reading in weekly]
        lines[_short(champion)] = (
            [one.value if one else None for one in mine],
            [one.low if one else None for one in mine],
            [one.high if one else None for one in mine],
        )
    return lines


def _short(candidate: str) -> str:
    return f"champion {candidate.rpartition('-')[2]}"


if __name__ == "__main__":
    run(main)
