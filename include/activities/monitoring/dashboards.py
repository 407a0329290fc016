"""dashboards: one page that says how a model is doing, made of what this run has measured and judged."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.data.weeks import of_key
from sevenfold.gates.measurement import Measurement
from sevenfold.release import release
from sevenfold.reports import page

INPUTS_AND_SERVICE = {
    "score_psi": "score's PSI of its limit",
    "drifted_features": "drifted features",
    "service_p50": "p50, ms",
    "service_p99": "p99, ms",
    "error_rate": "errors",
}
ALERTS = 20


def main(activity: Activity) -> None:
    """Writes the page: what serves, the weeks measured, alerts with their reasons, and the plots."""
    promotion, title = activity.promotion, activity.spec.title
    measured = activity.store.measurements(promotion.id)
    content = page.page(
        f"{title}: how it is doing, as of {promotion.as_of:%-d %B %Y}",
        page.heading("What serves"),
        _serving(activity),
        page.heading("Was the champion right?"),
        page.text("± is half of the 95 % interval over days. Losses are nats a row."),
        _weeks(measured, _outcomes(activity)),
        page.heading("What was it asked, and how fast did it answer?"),
        _weeks(measured, INPUTS_AND_SERVICE),
        page.heading("Alerts, newest first"),
        _alerts(activity),
        *_plots(activity),
    )
    activity.report("dashboard.html", content, f"Dashboard of {promotion.model}")


def _outcomes(activity: Activity) -> dict[str, str]:
    task = activity.spec.task
    return {
        "rows": "answers",
        "label_coverage": "labels known",
        task.outcome_metric: task.outcome_metric.replace("_", " "),
        "observed_over_expected": "over expected",
        "log_loss": "log loss",
        "expected_log_loss": "expected",
        task.second: task.second.replace("_", " "),
    }


def _serving(activity: Activity) -> str:
    row = release.row(activity.store, activity.promotion.model)
    facts: list[tuple[str, object]] = [("champion", row.champion or "none"), ("before it", row.previous)]
    if row.champion:
        start, end = activity.store.candidate(row.champion).train_window
        facts.append(("learned from", f"{start:%-d %B %Y} up to {end:%-d %B %Y}"))
    facts += [("tried against it", row.candidate or "nobody"), ("its share of requests", row.share)]
    facts += [
        ("its mirror of requests", row.mirror),
        ("held", row.held or "no"),
        ("generation", row.generation),
    ]
    return page.table(["what", "now"], facts)


def _weeks(measurements: list[Measurement], columns: Mapping[str, str]) -> str:
    weeks: dict[str, dict[str, Measurement]] = defaultdict(dict)
    for reading in measurements:
        if reading.interval and reading.slice is None and reading.metric in columns:
            weeks[reading.interval][reading.metric] = reading
    if not weeks:
        return page.text("No week is complete and has its labels yet.")
    rows = [
        [_unbroken(str(of_key(key))), *(_cell(found.get(metric)) for metric in columns)]
        for key, found in sorted(weeks.items())
    ]
    return page.table(["week", *columns.values()], rows)


def _cell(reading: Measurement | None) -> object:
    if reading is None or reading.value is None:
        return None
    if reading.unit == "rows" or reading.metric == "drifted_features":
        return int(reading.value)
    limit = (reading.counts or {}).get("limit")
    if limit is not None:
        return _unbroken(f"{reading.value:.2f} of {limit:.2f}")
    if reading.low is not None and reading.high is not None:
        return _unbroken(f"{reading.value:.2f} ± {(reading.high - reading.low) / 2:.2f}")
    return f"{reading.value:.3g}"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _alerts(activity: Activity) -> str:
    known = activity.store.alerts(activity.promotion.model)
    alerts = [alert for alert in known if alert.as_of <= activity.promotion.as_of]
    if not alerts:
        return page.text("None.")
    rows = [[alert.reason, alert.kind, alert.state] for alert in reversed(alerts[-ALERTS:])]
    return page.table(["reason", "kind", "state"], rows)


def _plots(activity: Activity) -> list[str]:
    parts = []
    for report in activity.store.reports(activity.promotion.id):
        if report.path.endswith(".png"):
            with tempfile.TemporaryDirectory() as folder:
                image = Path(folder) / "plot.png"
                image.write_bytes(activity.artifacts.read(report.path))
                parts += [page.heading(report.title), page.image(image, report.title)]
    return parts


if __name__ == "__main__":
    run(main)
