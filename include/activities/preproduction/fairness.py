"""Does the candidate treat groups differently, more so than the champion? Bounds for the gate and a table."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.errors import SevenfoldError
from sevenfold.measures import fairness
from sevenfold.measures.fairness import Change, Gap
from sevenfold.model.tasks import Task
from sevenfold.reports import plots

Columns = Any


def main(activity: Activity) -> None:
    """Gap of each group to all others in each rate of the task, on the holdout."""
    spec, as_of = activity.spec, activity.promotion.as_of
    if not spec.groups:
        raise SevenfoldError(f"{spec.folder / 'model.yaml'} names no groups: fairness has nothing to look at")
    held_out = windows(spec, as_of)
    window = (held_out.test[0], held_out.sealed[1])
    columns = (*spec.columns, *spec.groups)
    rows = snapshot(spec, activity.settings.data).labelled(*window, known_by=as_of, columns=columns)
    label, days = rows["label"].to_numpy(), rows["day"].to_numpy()
    activity.progress(f"{len(label):,} labelled rows of {len(np.unique(days))} days")
    task = spec.task
    candidate = Scorer(activity.model_file(activity.candidate)).predict(rows)
    champion = activity.champion
    theirs = Scorer(activity.model_file(champion)).predict(rows) if champion else None
    if theirs is None:
        activity.progress("no champion: nothing compared")
    found: dict[str, list[Gap]] = {}
    for column in spec.groups:
        group = rows[column].to_numpy(zero_copy_only=False)
        counted = fairness.count(task, days, group, label, candidate)
        found[column] = fairness.gaps(counted)
        measure_gaps(activity, column, found[column], window)
        if theirs is not None:
            baseline = fairness.count(task, days, group, label, theirs)
            measure_changes(activity, column, fairness.changes(counted, baseline), window)
    _plot(activity, found)
    with activity.phase("table by fairlearn"):
        groups = {column: rows[column].to_numpy(zero_copy_only=False) for column in spec.groups}
        page = table(spec.title, task, label, candidate, groups)
        activity.report("fairness.html", page, "Rates per group (fairlearn)")


def measure_gaps(
    activity: Activity, column: str, gaps: Sequence[Gap], window: tuple[datetime, datetime]
) -> None:
    """One reading a group and rate: the size of its gap to all other groups."""
    for gap in gaps:
        activity.measure(
            f"{gap.rate}_gap",
            gap.size,
            unit="share",
            n=gap.rows,
            low=gap.low,
            high=gap.high,
            slice=f"{column}={gap.group}",
            window=window,
        )


def measure_changes(
    activity: Activity, column: str, changes: Sequence[Change], window: tuple[datetime, datetime]
) -> None:
    """One reading a group and rate: how much larger the gap is than the champion's, on the same rows."""
    for change in changes:
        activity.measure(
            f"{change.rate}_gap",
            change.champion + change.value,
            unit="share",
            n=change.rows,
            baseline="champion",
            baseline_candidate=activity.champion.id if activity.champion else None,
            baseline_value=change.champion,
            slice=f"{column}={change.group}",
            window=window,
            counts={"mean_diff": change.value, "se": change.se, "clusters": float(change.days)},
        )


def table(title: str, task: Task, label: Columns, prediction: Columns, groups: dict[str, Columns]) -> str:
    """A page with fairlearn's MetricFrame of each column of groups."""
    from fairlearn.metrics import MetricFrame, count

    def rate(above: Columns, below: Columns) -> float:
        return float(np.sum(above) / np.sum(below)) if np.sum(below) else float("nan")

    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>Fairness of {html.escape(title)}</title>",
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:60rem;color:#222}"
        "table{border-collapse:collapse;margin:0 0 2rem}td,th{padding:.3rem .8rem;text-align:right;"
        "border-bottom:1px solid #ddd}tbody th,thead tr:first-child th:first-child{text-align:left}</style>",
        f"<h1>Fairness of {html.escape(title)}</h1><p>{html.escape(task.decision)} "
        "Which groups are large enough to be judged, the gate says.</p>",
    ]
    for column, group in groups.items():
        frame = MetricFrame(
            metrics={"rows": count}, y_true=label, y_pred=label, sensitive_features=group
        ).by_group
        for name, (above, below) in task.group_rates(label, prediction).items():
            by_group = MetricFrame(
                metrics=rate, y_true=above, y_pred=below, sensitive_features=group
            ).by_group
            frame[name] = by_group
        frame["rows"] = frame["rows"].astype(int)
        frame.index.name = None
        parts += [f"<h2>{html.escape(column)}</h2>", frame.to_html(float_format="{:.3f}".format, border=0)]
    return "\n".join([*parts, "</html>"])


def _plot(activity: Activity, found: dict[str, list[Gap]]) -> None:
    rows = [
        (f"{gap.group}: {gap.rate.replace('_', ' ')} ({gap.rows:,})", gap.size, gap.low, gap.high)
        for gaps in found.values()
        for gap in gaps
    ]
    with tempfile.TemporaryDirectory() as folder:
        title = "Gap of each group to all others, with the 95 % interval by day"
        path = plots.intervals(Path(folder) / "gaps.png", rows, title, "size of the gap")
        activity.report(path.name, path.read_bytes(), "Gaps between groups")


if __name__ == "__main__":
    run(main)
