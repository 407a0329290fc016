"""contract: does the server that users will meet keep its word? Started for real, and asked."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.errors import SevenfoldError
from sevenfold.reports import page
from sevenfold.trials.conformance import Check, Conformance
from sevenfold.trials.lone_server import server_of, started

GOLDEN_ROWS = 32
CASES = 3
"""Random cases an operation; with the systematic ones nearly five hundred altogether. Cases bound the work,
not seconds: on a busy machine ten seconds may be over before anything has been asked."""
LONGEST_S = 300

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
"""All of schemathesis' that apply. Those that ask whether a body should have been taken are left to the list
of refusals: JSON Schema cannot say that a tensor has as many values as its shape."""


@dataclass(frozen=True)
class Fuzzed:
    """What schemathesis found: cases asked, failures by title and operation, and its own page."""

    cases: int
    failures: tuple[str, ...]
    html: str


def main(activity: Activity) -> None:
    """Measures contract_violations: broken promises and what schemathesis finds."""
    spec, candidate = activity.spec, activity.candidate
    scorer = Scorer(activity.model_file(candidate))
    window = windows(spec, activity.promotion.as_of).test
    rows = snapshot(spec, activity.settings.data, activity.progress).rows(*window, spec.columns)
    golden = rows.slice(0, GOLDEN_ROWS)
    columns = {
        name: [None if value != value else value for value in golden[name].to_pylist()]
        for name in spec.columns
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        started(server_of(spec.name, candidate.id), Path(folder)) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        activity.progress(f"the server answers on {server.url}")
        with activity.phase("protocol, golden requests, refusals"):
            conformance = Conformance(client, candidate.id, scorer.encoder, columns, scorer.predict(golden))
            checks = conformance.check()
        with activity.phase("schemathesis on its OpenAPI document"):
            fuzzed = fuzz(f"{server.url}/openapi.json", Path(folder))
    broken = [check for check in checks if check.violation]
    for check in broken:
        activity.progress(f"broken: {check.promise}: {check.violation}")
    for failure in fuzzed.failures:
        activity.progress(f"schemathesis: {failure}")
    activity.progress(f"{len(checks)} promises, {fuzzed.cases} generated cases")
    activity.measure(
        "contract_violations",
        len(broken) + len(fuzzed.failures),
        unit="checks",
        n=len(checks) + fuzzed.cases,
    )
    answered = {"request": conformance.request(), "prediction": conformance.prediction.tolist()}
    activity.report("golden.json", json.dumps(answered, indent=1), "Golden requests and their answers")
    activity.report("contract.html", table(checks, fuzzed), "Promises of the server")
    activity.report("schemathesis.html", fuzzed.html, "Generated requests (schemathesis)")


def fuzz(document: str, folder: Path) -> Fuzzed:
    """Runs schemathesis on the OpenAPI document at a URL.

    Raises:
        SevenfoldError: schemathesis could not do its work, or not within `LONGEST_S` seconds.
    """
    result = folder / "schemathesis.json"
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        *(str(program), "run", document, "--no-color", "--phases", "coverage,fuzzing", "--checks"),
        *(",".join(CHECKS), "--exclude-path-regex", "/versions/"),
        *("--max-examples", str(CASES), "--seed", "1", "--generation-database", "none", "--no-shrink"),
        *("--report", "json,html", "--report-json-path", str(result)),
        *("--report-html-path", str(folder / "schemathesis")),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SevenfoldError(f"schemathesis had not asked everything after {LONGEST_S} s") from None
    found = json.loads(result.read_text()) if result.is_file() else None
    if found is None or not found["test_cases"]["generated"]:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise SevenfoldError(f"schemathesis could not run: {said[-1] if said else 'it said nothing'}")
    failures = [
        f"{failure['title']}: {operation}"
        for failure in found["failures"]
        for operation in failure["operations"]
    ]
    failures += [f"error: {error}" for error in found["errors"]]
    pages = list((folder / "schemathesis").rglob("*.html"))
    return Fuzzed(found["test_cases"]["generated"], tuple(failures), pages[0].read_text() if pages else "")


def table(checks: list[Check], fuzzed: Fuzzed) -> str:
    """A page with every promise, broken ones first."""
    rows = [
        [check.promise, check.violation or "kept"]
        for check in sorted(checks, key=lambda check: check.violation is None)
    ]
    return page.page(
        "Promises of the server",
        page.text(f"{len(checks)} promises, {sum(check.violation is not None for check in checks)} broken."),
        page.table(["the server", "found"], rows),
        page.heading("Generated requests"),
        page.text(f"{fuzzed.cases} cases, {len(fuzzed.failures)} failures."),
        page.table(["failure"], [[failure] for failure in fuzzed.failures]) if fuzzed.failures else "",
    )


if __name__ == "__main__":
    run(main)
