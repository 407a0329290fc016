"""Integration: with all dependencies as they should be nothing is broken; and whatever breaks is named."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.staging.real_gate import verdicts

from activities.staging import integration
from sevenfold.activity import Activity
from sevenfold.local import airflow_client
from sevenfold.local.airflow_client import AirflowClient
from sevenfold.release.mlflow_aliases import MlflowAliases


class Others:
    """MLflow and Airflow, as far as integration meets them, as one server on loopback."""

    def __init__(self) -> None:
        self.versions = [{"version": "3"}]
        self.scheduler = "healthy"
        others = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/api/2.0/mlflow/model-versions/search?filter="):
                    return self.say({"model_versions": others.versions})
                if self.path == "/health":
                    return self.say("OK")
                if self.path == "/api/v2/monitor/health":
                    parts = ("metadatabase", "triggerer", "dag_processor")
                    health = {part: {"status": "healthy"} for part in parts}
                    return self.say(health | {"scheduler": {"status": others.scheduler}})
                if self.path.startswith("/api/v2/assets"):
                    found = [{"id": 1, "uri": "sevenfold://coin/drift"}]
                    return self.say({"assets": found, "total_entries": 1})
                return self.send_error(404)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.say({"access_token": "a token"} if self.path == "/auth/token" else {})

            def say(self, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    made = Others()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def activity(live: LiveWorld, others: Others, monkeypatch: pytest.MonkeyPatch) -> Activity:
    monkeypatch.setattr(airflow_client, "PAUSE_S", 0.01)
    others.versions, others.scheduler = [{"version": "3"}], "healthy"
    candidate = live.proven(live.candidate(), until="staging")
    made = live.handle("integration", live.begin(candidate, "staging"))
    made.settings = live.settings.model_copy(update={"mlflow_url": others.url, "airflow_url": others.url})
    return made


def page_of(live: LiveWorld, activity: Activity) -> str:
    return live.artifacts.read(live.store.reports(activity.promotion.id)[-1].path).decode()


def test_what_must_go_on_goes_on_and_what_must_refuse_says_why(
    live: LiveWorld, activity: Activity, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    popen = subprocess.Popen.__init__

    def noted(process: object, command: list[str], *given: object, **more: object) -> None:
        commands.extend(command)
        popen(process, command, *given, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    integration.main(activity)
    assert len([word for word in commands if word == "sevenfold.serving.server"]) == 2
    assert not [word for word in commands if "://" in word], "a password in an address can be read by others"
    [reading] = live.store.measurements(activity.promotion.id)
    page = page_of(live, activity)
    assert (reading.value, reading.n) == (0, 20), page
    assert verdicts(activity, ["broken_promises"]) == ["Successful"]
    for said in ("version 3", "a valid key is needed", "generation 2", "does not answer", "cannot be used"):
        assert said in page
    assert "the gateway at http://127.0.0.1" in page
    assert live.store.alerts("coin") == []
    assert live.store.passed(activity.candidate.id, "testing"), "the real database is up"


def test_a_world_in_which_others_are_wrong_is_found(
    live: LiveWorld, others: Others, activity: Activity, monkeypatch: pytest.MonkeyPatch
) -> None:
    others.versions = []
    monkeypatch.setattr(integration, "START_S", 4.0)
    monkeypatch.setattr(integration, "require_up", lambda _: setattr(others, "scheduler", "unhealthy"))
    monkeypatch.setattr(MlflowAliases, "apply", lambda *_: None)
    monkeypatch.setattr(AirflowClient, "asset_event", lambda *_: None)
    monkeypatch.setattr(integration, "require_gateway", lambda *_, **__: None)
    monkeypatch.setattr(integration.EvidenceDatabase, "cut", lambda _: None)
    integration.main(activity)
    page = page_of(live, activity)
    for wrong in (
        "0 versions of coin are registered",
        "is not healthy",
        "it took a report about",
        "it did not refuse",
    ):
        assert wrong in page
    [reading] = live.store.measurements(activity.promotion.id)
    assert reading.value == 8, page
    assert verdicts(activity, ["broken_promises"]) == ["Failed"]


def test_what_is_down_for_everybody_is_no_fault_of_the_candidate(others: Others, activity: Activity) -> None:
    others.scheduler = "unhealthy"
    with pytest.raises(integration.NotUp, match=r"a part of Airflow at .* is not healthy") as error:
        integration.main(activity)
    assert error.value.retry
    activity.settings = activity.settings.model_copy(update={"mlflow_url": "http://127.0.0.1:9"})
    with pytest.raises(integration.NotUp, match=r"registry at http://127\.0\.0\.1:9 is down for everybody"):
        integration.main(activity)
    assert activity.store.measurements(activity.promotion.id) == []


@pytest.mark.parametrize("said", ["", "two\nlines", "Traceback (most recent call last)", "x" * 500])
def test_what_is_no_clear_sentence_is_a_broken_promise(said: str) -> None:
    with pytest.raises(integration.Broken, match="not one clear sentence"):
        integration.sentence(said)


def test_a_check_that_breaks_down_is_a_broken_promise() -> None:
    checks = integration.Checks()
    checks.see("gateway", "up", "it answers", lambda: str(1 // 0))
    [check] = checks
    assert check.broken == "ZeroDivisionError: integer division or modulo by zero"
