"""validate_model: does the candidate do what any good model of this problem must do? The model's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.measures import quality
from sevenfold.measures.evaluation import Floats
from sevenfold.measures.quality import Rows
from sevenfold.model.suite import read, run_suite, table

SMALLEST_SLICE = 500
"""Rows below which a slice is not measured."""


def main(activity: Activity) -> None:
    """Measures failed_tests in all and by kind, and calibration_ratio on the test window and by group."""
    spec, as_of = activity.spec, activity.promotion.as_of
    data = snapshot(spec, activity.settings.data, activity.progress)
    model = activity.model_file(activity.candidate)
    with activity.phase(f"running the test suite of {spec.name}"):
        junit = run_suite(spec.folder / "tests", model, as_of.isoformat(), activity.settings.data)
    cases = read(junit)
    failed = [case for case in cases if case.outcome == "failed"]
    for case in failed:
        said = case.message.splitlines()[0] if case.message else ""
        activity.progress(f"failed: {case.kind}: {case.name}: {said}")
    ran = [case for case in cases if case.outcome != "skipped"]  # a suite that skips everything shows nothing
    activity.measure("failed_tests", len(failed), unit="tests", n=len(ran))
    for kind in sorted({case.kind for case in ran}):
        of_kind = [case for case in ran if case.kind == kind]
        bad = sum(case.outcome == "failed" for case in of_kind)
        activity.measure("failed_tests", bad, unit="tests", n=len(of_kind), slice=kind)

    window = windows(spec, as_of).test
    test = data.labelled(*window, as_of, (*spec.columns, *spec.groups))
    rows = Rows.of(test, window)
    prediction = Scorer(model).predict(test)
    ratio = spec.task.observed_over_expected(rows.label, prediction, rows.days)
    quality.measure(activity, "calibration_ratio", ratio, "ratio", window)
    for column in spec.groups:
        by_slice(activity, rows, prediction, column, np.asarray(test[column]))
    activity.report("junit.xml", junit, "Test suite (JUnit)")
    activity.report("tests.html", table(spec.title, activity.candidate.id, cases), "Test suite")


def by_slice(
    activity: Activity, rows: Rows, prediction: Floats, column: str, groups: np.ndarray[Any, Any]
) -> None:
    """Measures calibration_ratio of every group that is large enough."""
    for group, size in zip(*np.unique(groups, return_counts=True), strict=True):
        if size < SMALLEST_SLICE:
            continue
        inside = groups == group
        found = activity.spec.task.observed_over_expected(
            rows.label[inside], prediction[inside], rows.days[inside]
        )
        activity.measure(
            "calibration_ratio",
            quality.number(found.value),
            unit="ratio",
            n=found.n,
            slice=f"{column}={group}",
            window=rows.window,
            **found.limits,
        )


if __name__ == "__main__":
    run(main)
