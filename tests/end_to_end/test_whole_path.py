"""One candidate through all seven environments of the real stack, on a small slice of the data.

The tests build on each other, in this order, on one stack: that is what makes it affordable.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import httpx
import pytest
from tests.end_to_end.conftest import MODEL, Stack

from sevenfold.demo.story import Narrator, origin_run
from sevenfold.environments import ENVIRONMENTS
from sevenfold.evidence.verify import verify
from sevenfold.model.spec import load_spec
from sevenfold.release import release
from sevenfold.serving.keys import GatewayKeys

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


def test_every_gate_has_decided_on_evidence_and_said_why(running: Stack, carried: str) -> None:
    moves = {move.environment: move for move in running.store.promotions(MODEL, candidate=carried)}
    for environment in ENVIRONMENTS[1:6]:
        move = moves[environment]
        assert (move.state, move.verdict) == ("promoted", "Successful")
        assert "good enough to go on" in (move.outcome or "")
        assert running.store.measurements(move.id), f"{environment} was promoted without a measurement"
        assert running.store.passed(carried, environment)
    assert "no champion" in (moves["production"].outcome or "") + running.run("explain", carried).stdout


def test_all_evidence_is_as_it_was_written(running: Stack, carried: str) -> None:
    assert verify(running.store) == []
    assert "all evidence is as it was written" in running.run("verify").stdout


def test_the_environments_woke_each_other(running: Stack, carried: str) -> None:
    client = running.airflow("admin")
    for environment in ENVIRONMENTS[1:6]:
        [move] = running.store.promotions(MODEL, environment, candidate=carried)
        kinds = {run["dag_run_id"]: run["run_type"] for run in client.runs(f"{MODEL}.{environment}")}
        assert kinds[move.run] == "asset_triggered", f"{environment} was started by {kinds[move.run]}"


def test_the_gateway_serves_the_champion_to_those_with_a_key(running: Stack, carried: str) -> None:
    assert release.row(running.store, MODEL).champion == carried
    spec, tokens = load_spec(MODEL), GatewayKeys(running.settings.secrets)
    body = {
        "inputs": [
            {
                "name": "numeric",
                "datatype": "FP32",
                "shape": [1, len(spec.numeric)],
                "data": [None] * len(spec.numeric),
            },
            {
                "name": "categorical",
                "datatype": "BYTES",
                "shape": [1, len(spec.categorical)],
                "data": ["new"] * len(spec.categorical),
            },
        ]
    }
    url = f"{running.settings.gateway_url}/v2/models/{MODEL}/infer"
    assert httpx.post(url, json=body, trust_env=False).status_code == httpx.codes.UNAUTHORIZED
    feedback = {"authorization": f"Bearer {tokens.token('test', ['feedback'])}"}
    assert httpx.post(url, json=body, headers=feedback, trust_env=False).status_code == httpx.codes.FORBIDDEN
    key = {"authorization": f"Bearer {tokens.token('test', ['predict'])}"}
    answer = httpx.post(url, json=body, headers=key, trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.headers["x-candidate"] == carried
    assert 0 < answer.json()["outputs"][0]["data"][0] < 1


def test_mlflow_names_the_champion(running: Stack, carried: str) -> None:
    url = f"{running.settings.mlflow_url}/api/2.0/mlflow/registered-models/alias"
    answer = httpx.get(url, params={"name": MODEL, "alias": "champion"}, trust_env=False).json()
    tags = {tag["key"]: tag["value"] for tag in answer["model_version"]["tags"]}
    assert tags["sevenfold.candidate"] == carried


def test_monitoring_joins_labels_to_what_was_answered(
    running: Stack, narrator: Narrator, carried: str
) -> None:
    narrator.play(date(2013, 4, 9), date(2013, 4, 19))
    narrator.monitor(date(2013, 4, 19))
    move = running.store.promotions(MODEL, "monitoring")[-1]
    found = {reading.metric: reading for reading in running.store.measurements(move.id)}
    assert found["label_coverage"].value and found["label_coverage"].value > 0.9
    assert found["log_loss"].candidate == carried
    titles = {report.activity for report in running.store.reports(move.id)}
    assert {"monitor", "drift"} <= titles


def test_a_broken_candidate_is_refused_by_a_gate(running: Stack, narrator: Narrator, carried: str) -> None:
    end = narrator.follow(origin_run("broken"), goal="training")
    assert (end.state, end.verdict) == ("refused", "Failed")
    assert "asked" in (end.outcome or "")
    assert release.row(running.store, MODEL).champion == carried


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"candidate": f"{MODEL}-000000000000"}, "has no candidate"),
        ({"as_of": "1999-01-01"}, "outside the data"),
    ],
)
def test_a_wrong_form_is_refused_with_one_sentence(
    running: Stack, narrator: Narrator, conf: dict[str, str], sentence: str
) -> None:
    run = f"wrong-{next(iter(conf))}"
    client = running.airflow("admin")
    client.trigger(f"{MODEL}.testing", conf, run)
    narrator.wait(lambda: client.run(f"{MODEL}.testing", run)["state"] == "failed", "a refusal", limit=120)
    logs = (running.settings.home / "airflow" / "logs").rglob(f"run_id={run}/task_id=admit/*.log")
    told = [json.loads(line).get("event", "") for log in logs for line in log.read_text().splitlines()]
    assert any(sentence in str(line) for line in told) or any(
        sentence in log.read_text() for log in Path(running.settings.home).rglob(f"*{run}*/**/*.log")
    )


def test_an_asset_event_from_outside_wakes_training(running: Stack, narrator: Narrator, carried: str) -> None:
    """An event is a wake-up, not a message: nothing is due, so nothing is trained."""
    client = running.airflow("admin")
    before = {run["dag_run_id"] for run in client.runs(f"{MODEL}.training")}
    client.asset_event(f"sevenfold://{MODEL}/drift", {"from": "a test"})

    def woken() -> bool:
        new = [run for run in client.runs(f"{MODEL}.training") if run["dag_run_id"] not in before]
        return bool(new) and all(run["state"] == "success" for run in new)

    candidates = len(running.store.candidates(MODEL))
    narrator.wait(woken, "training to wake up", limit=120)
    assert len(running.store.candidates(MODEL)) == candidates


def test_the_stack_comes_back_as_it_was(running: Stack, carried: str) -> None:
    running.run("down")
    assert "nothing runs" in running.run("status").stdout
    running.run("up")
    assert release.row(running.store, MODEL).champion == carried
    token = GatewayKeys(running.settings.secrets).token("test", ["predict"])
    url = f"{running.settings.gateway_url}/v2/models/{MODEL}"
    answer = httpx.get(url, headers={"authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == httpx.codes.OK
