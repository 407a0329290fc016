"""A model's own tests: what any good model of its problem must do, run by pytest against one ONNX file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sevenfold.errors import SevenfoldError
from sevenfold.reports import page

KINDS = ("minimum", "invariance", "direction", "calibration", "slices")
"""What a suite should ask, a file test_<kind>.py each: the least that anybody expects, what must not matter,
what must matter which way, what a prediction means, and whom it serves."""
LONGEST_S = 600


@dataclass(frozen=True)
class Case:
    """One test of the suite: its kind, its name, passed, failed or skipped, and the message of a failure."""

    kind: str
    name: str
    outcome: str
    message: str
    seconds: float


def run_suite(suite: Path, model: Path, as_of: str, data: Path) -> str:
    """Runs the suite in a process of its own; returns its JUnit XML.

    Raises:
        SevenfoldError: there is no suite, pytest ended without a result, with what it said last, or it took
            longer than `LONGEST_S` seconds.
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
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LONGEST_S, check=False, env=lean
            )
        except subprocess.TimeoutExpired:
            raise SevenfoldError(f"the test suite {suite} was not done after {LONGEST_S} s") from None
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
        kind = case.get("classname", "").split(".")[-1].removeprefix("test_")
        cases.append(Case(kind, case.get("name", ""), outcome, message, float(case.get("time", 0))))
    return cases


def table(title: str, candidate: str, cases: Sequence[Case]) -> str:
    """A page with the kinds of tests, those that nobody wrote too, and all tests, failures first."""
    order = {"failed": 0, "skipped": 1, "passed": 2}
    rows = [
        [case.kind, case.name.replace("_", " "), case.outcome, case.message[:500], round(case.seconds, 3)]
        for case in sorted(cases, key=lambda case: order[case.outcome])
    ]
    failed = sum(case.outcome == "failed" for case in cases)
    by_kind = []
    for kind in dict.fromkeys((*KINDS, *(case.kind for case in cases))):
        of_kind = [case.outcome for case in cases if case.kind == kind]
        counts = [of_kind.count(outcome) for outcome in order]
        by_kind.append([kind, *(counts if of_kind else ["nobody asks", None, None])])
    return page.page(
        f"{title}: the model's own tests",
        page.text(f"{len(cases)} tests, {failed} failed. Candidate {candidate}."),
        page.table(["kind", *order], by_kind),
        page.table(["kind", "test", "outcome", "message", "seconds"], rows),
    )
