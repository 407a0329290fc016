"""Security and compliance before any user: who is let in, what the candidate is made of, what is left behind.

Each check is a measurement of its own (how many things are wrong), and all of them stand on one page. What
cannot be checked here is said there, not passed over: known vulnerabilities need a database of the network.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.data.snapshot import snapshot
from sevenfold.environments import before
from sevenfold.evidence.passing import lacking
from sevenfold.monitoring import joined
from sevenfold.reports import page
from sevenfold.security import access, dependencies, leaks, modelfile, privacy
from sevenfold.security.check import Check
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import REPOSITORY
from sevenfold.trials.asking import bodies
from sevenfold.trials.trial import on_trial

SLOT = "shadow-security"
LOCK = REPOSITORY / "requirements.lock"
NOT_CHECKED = (
    "Not checked here: known vulnerabilities. Their database is on the network, and this activity asks "
    "nothing of the network. Where it may be asked: pip-audit --no-deps -r requirements.lock."
)


def main(activity: Activity) -> None:
    """All checks, one measurement each, and their page."""
    activity.progress(NOT_CHECKED)
    bill, made_of = composition(activity)
    checks = [*made_of, *service(activity), provenance(activity)]
    days = joined.folder(activity.settings.shared, activity.promotion.model)
    checks.append(privacy.privacy(activity.spec, activity.settings.logs, days))
    with activity.phase("looking for secrets"):
        checks.append(leaks.in_code(REPOSITORY))
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "security.html"
            written.write_text(report(activity, checks))
            (Path(folder) / "sbom.json").write_text(bill)  # its digests look like secrets to a scanner
            here = activity.settings
            places = {"logs": here.logs, "Airflow's logs": here.airflow_logs, "reports": Path(folder)}
            checks.append(leaks.left_behind(here.secrets, places, [written]))
    for check in checks:
        count = len(check.problems)
        activity.measure(check.metric, count, unit=check.unit, n=check.looked_at)
        for said in (*check.problems, *([check.note] if check.note else [])):
            activity.progress(f"{check.title}: {said}")
    activity.report("security.html", report(activity, checks), "Security and compliance")
    activity.report("sbom.json", bill, "Bill of materials (CycloneDX)")


def composition(activity: Activity) -> tuple[str, list[Check]]:
    """The bill of materials, and the checks of what the candidate is made of."""
    with activity.phase("dependencies, licences, bill of materials, model file"):
        candidate, packages = activity.candidate, dependencies.locked(LOCK)
        bill = dependencies.bill_of_materials(packages, candidate.id, candidate.model_digest)
        return bill, [
            modelfile.model_file(activity.model_file(candidate)),
            dependencies.versions(packages),
            dependencies.licences(packages),
            dependencies.complete(bill, packages, candidate.model_digest),
        ]


def service(activity: Activity) -> list[Check]:
    """The gateway asked with every kind of key, and a deployment that no user reaches with bad bodies."""
    end = activity.promotion.as_of
    rows = snapshot(activity.spec, activity.settings.data).rows(end - timedelta(days=3), end)
    good = next(bodies(activity.spec, rows.slice(max(0, rows.num_rows - 1)), 1))
    with on_trial(activity, SLOT) as target, tempfile.TemporaryDirectory() as stranger:
        asked = access.routes(activity.promotion.model, activity.candidate.id, target.path)
        with target.client(access.LIMIT_S) as client, activity.phase("asking"):
            found = [
                access.matrix(client, target, asked, GatewayKeys(activity.settings.secrets), Path(stranger)),
                access.bodies(client, target, good),
            ]
    return found


def provenance(activity: Activity) -> Check:
    """Each environment before this one has a signed statement that counts, about this very model file.

    A statement names the digest of the model file, so its signature is the file's too.
    """
    candidate, environments = activity.candidate, before(activity.promotion.environment)
    with activity.store.reading() as connection:
        keys = activity.store.keys
        missing = [lacking(connection, keys, candidate.id, name, None) for name in environments]
    title = "Statements and model file are signed"
    activity.model_file(candidate)  # refuses a file whose bytes are not the digest's
    problems = tuple(sentence for sentence in missing if sentence)
    return Check("signature_violations", title, "statements", len(environments) + 1, problems)


def report(activity: Activity, checks: list[Check]) -> str:
    """The page: a line for each check, then everything that is wrong."""
    rows = [
        (c.title, "fine" if not c.problems else f"{len(c.problems)} wrong", c.looked_at, c.unit, c.note)
        for c in checks
    ]
    wrong = [(check.title, problem) for check in checks for problem in check.problems]
    return page.page(
        f"Security and compliance of {activity.candidate.id}",
        page.text(NOT_CHECKED),
        page.table(("check", "result", "looked at", "unit", "what it could not see"), rows),
        page.heading("What is wrong"),
        page.table(("check", "finding"), wrong) if wrong else page.text("Nothing that these checks can see."),
    )


if __name__ == "__main__":
    run(main)
