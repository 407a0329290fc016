"""A day of real rows through the real gateway: monitoring must say what the same rows say offline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.weeks import Week
from sevenfold.gates.rules import words
from sevenfold.measures import evaluation
from sevenfold.monitoring import alarm, weekly
from sevenfold.reports import page
from sevenfold.trials.asking import ask, bring_labels
from sevenfold.trials.trace import Trace, Window, newest_day
from sevenfold.trials.trial import on_trial

SLOT = "staging"
Numbers = Mapping[str, float]


def main(activity: Activity) -> None:
    """Counts the rows that got lost on the way, and how far monitoring's numbers are from those expected."""
    spec, window = activity.spec, newest_day(activity.promotion.as_of)
    data, maturity = snapshot(spec, activity.settings.data), alarm.load_rule(spec.folder).maturity
    rows, labels = data.rows(*window, columns=spec.columns), data.labels(*window)
    with tempfile.TemporaryDirectory() as folder:
        trace = Trace.begin(Path(folder), activity.settings.logs, spec.name, activity.candidate.id, SLOT)
        with on_trial(activity, SLOT, keep=True) as target:
            asked = ask(target, spec, rows)
            activity.progress(f"{window[0]:%-d %B %Y}: {asked}")
            taken = bring_labels(target, labels)
            activity.progress(f"{taken:,} of {labels.num_rows:,} labels taken")
        trace.collect()
        as_of = window[1] + maturity  # by then, monitoring says, every label has come
        lost = unmatched(rows, labels, trace.logged(window), trace.labels())
        table = trace.joined(as_of, maturity)
    said, expected = monitored(activity, table, window), offline(activity, data, window, as_of)
    activity.measure(
        "unmatched_rows", sum(lost.values()), unit="rows", n=rows.num_rows + labels.num_rows, window=window
    )
    activity.measure(
        "monitoring_difference", difference(said, expected), unit="ratio", n=table.num_rows, window=window
    )
    for name, value in expected.items():
        activity.progress(f"{name}: {value:.6g} offline, {said.get(name, np.nan):.6g} by monitoring")
    activity.report(
        "day.html", day_page(activity, window, said, expected, lost), "A day through the pipeline"
    )


def unmatched(rows: pa.Table, labels: pa.Table, logged: pa.Table, returned: pa.Table) -> dict[str, int]:
    """Rows that got lost or doubled at each hop, by what happened to them."""
    asked, answered, labelled, back = (
        set(table["id"].to_pylist()) for table in (rows, logged, labels, returned)
    )
    return {
        "asked and not logged": len(asked - answered),
        "logged and not asked": len(answered - asked),
        "logged twice": logged.num_rows - len(answered),
        "labels that did not come back": len(labelled - back),
    }


def monitored(activity: Activity, table: pa.Table, window: Window) -> Numbers:
    """What monitoring makes of the joined table; nothing of one without a label."""
    task = activity.spec.task
    if table.num_rows == table["label"].null_count:
        return {"rows": table.num_rows, "labelled": 0}
    found = weekly.read(task, table, Week(window[0]), activity.candidate.id)
    return {
        "rows": found.rows,
        "labelled": found.labelled,
        task.outcome_metric: found.observed.value,
        "observed_over_expected": found.over_expected.value,
        "log_loss": found.log_loss.value,
        "expected_log_loss": found.expected_log_loss,
        task.second: found.second.value,
    }


def offline(activity: Activity, data: Snapshot, window: Window, as_of: datetime) -> Numbers:
    """The same numbers from the snapshot and the artefact, without anything of the pipeline."""
    task, columns = activity.spec.task, activity.spec.columns
    labelled = data.labelled(*window, known_by=as_of, columns=columns)
    answers = Scorer(activity.model_file(activity.candidate)).predict(labelled).astype(np.float64)
    label = np.asarray(labelled["label"].to_numpy(), np.float64)
    days = np.asarray(labelled["day"].to_numpy())
    headline = task.headline(label, answers, days)
    return {
        "rows": data.rows(*window, columns=[]).num_rows,
        "labelled": len(label),
        task.outcome_metric: evaluation.mean(task.observed(label, answers), days).value,
        "observed_over_expected": headline["observed_over_expected"].value,
        "log_loss": headline["log_loss"].value,
        "expected_log_loss": float(task.expected_losses(answers).mean()),
        task.second: headline[task.second].value,
    }


def difference(said: Numbers, expected: Numbers) -> float:
    """The largest distance of a number from the expected one, in parts of it if it is above 1.

    A number that only one side has is as wrong as can be: 1.
    """
    found = [0.0]
    for name, value in expected.items():
        other = said.get(name, np.nan)
        if np.isnan(value) and np.isnan(other):
            continue  # such as the AUC of a day on which all labels are the same
        distance = abs(other - value) / max(1.0, abs(value))
        found.append(float(distance) if np.isfinite(distance) else 1.0)
    return max(found)


def day_page(
    activity: Activity, window: Window, said: Numbers, expected: Numbers, lost: Mapping[str, int]
) -> str:
    """The numbers side by side, and what was lost."""
    numbers = [
        [words.name(name), f"{value:,.6g}", f"{said.get(name, np.nan):,.6g}"]
        for name, value in expected.items()
    ]
    return page.page(
        f"{activity.spec.title}: {window[0]:%-d %B %Y} from request to monitoring",
        page.text(
            "The rows of one day were asked through the gateway, their labels brought back, and both joined "
            "and read as monitoring does. The numbers must be those of the artefact and the snapshot alone."
        ),
        page.table(["number", "expected", "monitoring says"], numbers),
        page.heading("Rows lost on the way"),
        page.table(["what", "rows"], [[what, count] for what, count in lost.items()]),
    )


if __name__ == "__main__":
    run(main)
