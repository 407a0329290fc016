"""The pages: nothing without a user, everything escaped, reports unaltered and without any origin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi.testclient import TestClient
from tests.rail_world import AS_OF, World

from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.gates.analyse import analyse
from sevenfold.release.promotion import Promotion
from sevenfold_airflow import board_app
from sevenfold_airflow.links import EvidenceLink, ReportLink

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>alert(document.cookie)</script>"


@pytest.fixture
def client() -> Any:
    """A browser whose user may see the UI."""
    [guard] = board_app.app.router.dependencies
    board_app.app.dependency_overrides[guard.dependency] = lambda: None
    yield TestClient(board_app.app, follow_redirects=False, raise_server_exceptions=False)
    board_app.app.dependency_overrides.clear()


def reported(world: World, promotion: Promotion, name: str, content: str) -> str:
    path, digest = open_artifacts().put_report(promotion, "train", name, content)
    world.store.add_report(promotion.id, "train", "Training", path, digest)
    return path


def test_every_route_asks_for_a_user() -> None:
    [guard] = board_app.app.router.dependencies
    assert guard.dependency.__qualname__.startswith(requires_access_view.__qualname__)
    for route in board_app.app.routes:
        guards = [found.call for found in route.dependant.dependencies]  # type: ignore[attr-defined]
        assert guard.dependency in guards, route
    assert {route.path for route in board_app.app.routes} == {  # type: ignore[attr-defined]
        *("/", "/evidence", "/run", "/task", "/report", "/reports/{path:path}")
    }


def test_the_board_tells_the_whole_story_and_escapes_it(world: World, client: TestClient) -> None:
    candidate = world.candidate()
    world.passes(candidate, "training")
    failing = world.begin("testing", "run-1", candidate)
    world.store.end_promotion(failing.id, "refused", "Failed", f"too {EVIL} wrong")
    world.store.add_alert("toy", "harmful_drift", "w1", AS_OF, "critical", 1.0, f"harm {EVIL}")
    answer = client.get("/")
    assert answer.status_code == 200
    assert candidate.id in answer.text
    assert EVIL not in answer.text
    assert "too &lt;script&gt;" in answer.text
    assert "harm &lt;script&gt;" in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_broken_model_is_said_on_the_board(world: World, client: TestClient) -> None:
    (world.models / "broken").mkdir()
    (world.models / "broken" / "model.yaml").write_text("name: broken\nowner: 3\n")
    text = client.get("/").text
    assert "broken/model.yaml" in text
    assert "Toy" in text


def test_the_evidence_of_a_promotion(world: World, client: TestClient) -> None:
    from datetime import UTC, datetime

    promotion = world.begin("training", "run-1", world.candidate(reason=EVIL))
    world.measure(promotion, 0.9)
    world.store.record_analysis(analyse(world.store, promotion.id, datetime.now(UTC)))
    reported(world, promotion, "training.html", "x")
    page = client.get("/evidence", params={"promotion": promotion.id}).text
    for shown in (promotion.candidate, "Failed", "Loss", "Training", "0.9", "1,000"):
        assert str(shown) in page
    assert EVIL not in page


def test_an_unknown_promotion_is_one_sentence(world: World, client: TestClient) -> None:
    answer = client.get("/evidence", params={"promotion": "toy/testing/<b>"})
    assert answer.status_code == 404
    assert "has no promotion toy/testing/&lt;b&gt;" in answer.text


def test_a_report_has_its_scripts_and_no_origin(world: World, client: TestClient) -> None:
    promotion = world.begin("training", "run-1", None)
    path = reported(world, promotion, "training.html", EVIL)
    for address in (f"/{path}", f"/reports/{path}"):
        answer = client.get(address)
        assert (answer.status_code, answer.text) == (200, EVIL)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts;")
        assert "allow-same-origin" not in policy
        assert "connect-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_only_known_reports_are_served(world: World, client: TestClient) -> None:
    promotion = world.begin("training", "run-1", None)
    path = reported(world, promotion, "training.html", "x")
    (world.models.parent / "home" / "artifacts" / "reports" / "secret.html").write_text("secret")
    for address in ("secret.html", "../evidence.db", f"{path}/../../secret.html", "a/b/c/d/e.html", ""):
        assert client.get(f"/reports/{address}").status_code == 404, address
    encoded = f"/reports/{path}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.html"
    assert client.get(encoded).status_code == 404


def test_an_altered_report_is_not_shown(world: World, client: TestClient) -> None:
    promotion = world.begin("training", "run-1", None)
    path = reported(world, promotion, "training.html", "honest")
    (world.models.parent / "home" / "artifacts" / path).write_text("forged")
    answer = client.get(f"/{path}")
    assert answer.status_code == 409
    assert "has been altered" in answer.text
    assert "forged" not in answer.text


def test_what_a_browser_may_not_run_is_downloaded(world: World, client: TestClient) -> None:
    promotion = world.begin("training", "run-1", None)
    answer = client.get(f"/{reported(world, promotion, 'x.onnx', 'x')}")
    assert answer.headers["content-disposition"] == "attachment"


def test_one_click_from_a_task_to_its_report(world: World, client: TestClient) -> None:
    from types import SimpleNamespace

    promotion = world.begin("training", "manual__2026-11-23T10:00:00+00:00", None)
    key = SimpleNamespace(dag_id="toy.training", run_id=promotion.run)
    link = ReportLink().get_link(SimpleNamespace(task_id="train"), ti_key=key)
    evidence = EvidenceLink().get_link(SimpleNamespace(task_id="train"), ti_key=key)
    assert client.get(link.removeprefix("/sevenfold")).headers["location"] == evidence
    path = reported(world, promotion, "new.html", "x")
    assert client.get(link.removeprefix("/sevenfold")).headers["location"] == f"/sevenfold/{path}"
    assert client.get(f"/{path}").text == "x"
    tab = client.get(
        f"/task?dag_id={key.dag_id}&run_id={key.run_id}&task_id=train"
    )  # unquoted, as by Airflow
    assert tab.headers["location"] == f"/sevenfold/{path}"
    assert client.get(evidence.removeprefix("/sevenfold")).status_code == 200


def test_airflow_loads_one_plugin_and_builds_pages_in_the_api_server_only(monkeypatch: Any) -> None:
    from airflow._shared.plugins_manager.plugins_manager import _load_plugins_from_plugin_directory as load

    for command, apps in (("scheduler", 0), ("api-server", 1)):
        monkeypatch.setattr(sys, "argv", ["airflow", command])
        plugins, errors = load(str(ROOT / "plugins"))
        assert errors == {}
        assert [(plugin.name, len(plugin.fastapi_apps)) for plugin in plugins] == [("sevenfold", apps)]
