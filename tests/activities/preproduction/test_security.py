"""Security on a real gateway: everything is looked at, and what is wrong is found."""

from __future__ import annotations

import json

import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import MODEL
from tests.sevenfold.evidence_world import tamper

from activities.preproduction import security
from sevenfold.gateway import filters, local_gateway
from sevenfold.security import access
from sevenfold.trials.trial import Target

METRICS = {
    "access_violations",
    "body_violations",
    "licence_violations",
    "model_findings",
    "privacy_violations",
    "sbom_gaps",
    "secrets_in_code",
    "secrets_left",
    "signature_violations",
    "unlocked_dependencies",
}


def test_a_sound_candidate_and_the_page_that_says_so(
    live: LiveWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = live.proven(live.candidate(), until="preproduction")
    activity = live.handle("security", live.begin(candidate, "preproduction"))
    security.main(activity)
    said = capsys.readouterr().out
    readings = {m.metric: m for m in live.store.measurements(activity.promotion.id)}
    assert set(readings) == METRICS
    assert {name: m.value for name, m in readings.items()} == dict.fromkeys(METRICS, 0), said
    assert all(m.n > 0 for m in readings.values())
    assert readings["access_violations"].n >= 150
    assert "Not checked here: known vulnerabilities" in said
    pages = {report.title: report.path for report in live.store.reports(activity.promotion.id)}
    page = live.artifacts.read(pages["Security and compliance"]).decode()
    assert "modelscan has no scanner for this format" in page
    bill = json.loads(live.artifacts.read(pages["Bill of materials (CycloneDX)"]))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", candidate.id)


def test_a_gateway_that_lets_too_many_in_is_found(live: LiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = local_gateway()
    token = gateway.keys.standing()["admin"]
    target = Target(live.settings.gateway_url, f"/v2/models/{MODEL}", token)
    asked = access.routes(MODEL, "coin-1", "/shadow/none")

    def violations(folder: str) -> tuple[str, ...]:
        with target.client(timeout=5) as client:
            return access.matrix(client, target, asked, gateway.keys, live.folder / folder).problems

    assert violations("stranger-1") == ()
    scopes = filters._scopes()
    scopes["rules"]["policies"]["feedback"]["principals"].append(filters._scope("predict"))
    monkeypatch.setattr(filters, "_scopes", lambda: scopes)
    gateway.refresh()
    try:
        found = violations("stranger-2")
    finally:
        monkeypatch.undo()
        gateway.refresh()
    assert [line for line in found if "feedback with a predict key" in line], found
    assert len(found) == 1


def test_a_statement_whose_signature_was_taken_off_is_found(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(), until="preproduction")
    activity = live.handle("security", live.begin(candidate, "preproduction"))
    assert security.provenance(activity).problems == ()
    unsigned = "UPDATE statements SET envelope = json_set(envelope, '$.signatures', json('[]'))"
    tamper(
        live.store, "statements", f"{unsigned} WHERE candidate = '{candidate.id}' AND environment = 'staging'"
    )
    [problem] = security.provenance(activity).problems
    assert "has not passed staging" in problem and "it is not signed" in problem
