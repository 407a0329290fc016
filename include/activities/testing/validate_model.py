"""validate_model: does the candidate do what any good model of this problem must do? The model's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import page, quality
from sevenfold.activity import Activity, run
from sevenfold.artefact import Scorer
from sevenfold.errors import SevenfoldError
from sevenfold.evaluation import Floats
from sevenfold.quality import Rows
from sevenfold.snapshot import snapshot
from sevenfold.windows import windows

LONGEST_S = 600
SMALLEST_SLICE = 500
"""Rows below which a slice is not measured."""


@dataclass(frozen=True)
class Case:
    """One test of the suite: its name, passed, failed or skipped, and the message of a failure."""

    name: str
    outcome: str
    message: str
    seconds: float


def main(activity: Activity) -> None:
    """Measures failed_tests, and calibration_ratio on the test window as a whole and by group."""
    spec, as_of = activity.spec, activity.promotion.as_of
    data = snapshot(spec, activity.settings.data, activity.progress)
    model = activity.model_file(activity.candidate)
    with activity.phase(f"running the test suite of {spec.name}"):
        junit = run_suite(spec.folder / "tests", model, as_of.isoformat(), activity.settings.data)
    cases = read(junit)
    failed = [case for case in cases if case.outcome == "failed"]
    for case in failed:
        activity.progress(f"failed: {case.name}: {case.message.splitlines()[0] if case.message else ''}")
    ran = [case for case in cases if case.outcome != "skipped"]  # a suite that skips everything shows nothing
    activity.measure("failed_tests", len(failed), unit="tests", n=len(ran))

    window = windows(spec, as_of).test
    test = data.labelled(*window, as_of, (*spec.columns, *spec.groups))
    rows = Rows.of(test, window)
    prediction = Scorer(model).predict(test)
    ratio = spec.task.observed_over_expected(rows.label, prediction, rows.days)
    quality.measure(activity, "calibration_ratio", ratio, "ratio", window)
    for column in spec.groups:
        by_slice(activity, rows, prediction, column, np.asarray(test[column]))
    activity.report("junit.xml", junit, "Test suite (JUnit)")
    activity.report("tests.html", table(activity, cases), "Test suite")


def run_suite(suite: Path, model: Path, as_of: str, data: Path) -> str:
    """Runs the suite in a process of its own; returns its JUnit XML.

    Raises:
        SevenfoldError: there is no suite, or pytest ended without a result, with what it said last.
    """
    if not any(suite.glob("test_*.py")):
        raise SevenfoldError(f"{suite} holds no tests: a model needs a suite of its own to be validated by")
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        options = ["-p", "no:cacheprovider", "-q", "--import-mode=importlib", "-o", "junit_family=xunit2"]
        command = [
            *(sys.executable, "-m", "pytest", str(suite), "--rootdir", str(suite), "-c", os.devnull),
            *(*options, f"--junitxml={junit}", f"--basetemp={folder}/pytest"),
            *("--candidate-file", str(model), "--as-of", as_of, "--data", str(data)),
        ]
        lean = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # locust's plugin would patch all sockets
        }
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_S, check=False, env=lean
        )
        if done.returncode not in (0, 1) or not junit.is_file():
            said = (done.stdout + done.stderr).strip().splitlines()
            raise SevenfoldError(f"the test suite {suite} did not run: {said[-1] if said else 'no word'}")
        return junit.read_text()


def read(junit: str) -> list[Case]:
    """The cases of a JUnit XML file; an error while preparing a test counts as its failure."""
    cases = []
    for case in ET.fromstring(junit).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        trouble = next((part for part in case if part.tag in ("failure", "error")), None)
        skipped = case.find("skipped") is not None
        outcome = "failed" if trouble is not None else "skipped" if skipped else "passed"
        message = trouble.get("message", "") if trouble is not None else ""
        name = f"{case.get('classname', '').split('.')[-1].removeprefix('test_')}: {case.get('name', '')}"
        cases.append(Case(name, outcome, message, float(case.get("time", 0))))
    return cases


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


def table(activity: Activity, cases: list[Case]) -> str:
    """A page with all tests, failures first."""
    order = {"failed": 0, "skipped": 1, "passed": 2}
    rows = [
        [case.name.replace("_", " "), case.outcome, case.message[:500], round(case.seconds, 3)]
        for case in sorted(cases, key=lambda case: order[case.outcome])
    ]
    failed = sum(case.outcome == "failed" for case in cases)
    return page.page(
        f"{activity.spec.title}: the model's own tests",
        page.text(f"{len(cases)} tests, {failed} failed. Candidate {activity.candidate.id}."),
        page.table(["test", "outcome", "message", "seconds"], rows),
    )


if __name__ == "__main__":
    run(main)
