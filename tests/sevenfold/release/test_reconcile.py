"""Router and aliases follow the row: they may lag, never lead, and a registry that is down stops nothing."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from tests.sevenfold.evidence_world import MODEL, OPERATOR, World, candidate

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.database import StoreUnavailable
from sevenfold.evidence.store import Store
from sevenfold.release import reconciler, release
from sevenfold.release.mlflow_aliases import GENERATION, MlflowAliases
from sevenfold.release.reconcile import Reconciled, RegistryUnavailable, RouterAhead, reconcile
from sevenfold.release.reconciler import Follower
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.traffic import BadTraffic, Traffic


class Router:
    """Refuses older generations, as every router has to."""

    def __init__(self) -> None:
        self.now: Traffic | None = None
        self.seen: list[int] = []

    def traffic(self, model: str) -> Traffic | None:
        return self.now

    def apply(self, traffic: Traffic) -> None:
        if self.now is not None and traffic.generation < self.now.generation:
            raise SevenfoldError("older")
        self.now = traffic
        self.seen.append(traffic.generation)


class Mlflow:
    """The few calls of MLflow's REST API that are used, with MLflow's own errors."""

    def __init__(self) -> None:
        self.model: dict[str, Any] | None = None
        self.versions: list[dict[str, Any]] = []
        self.writes = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        given = json.loads(request.content) if request.content else dict(request.url.params)
        self.writes += request.method != "GET"
        if path == "registered-models/create":
            self.model = {"name": given["name"], "tags": {}, "aliases": {}}
        if self.model is None:
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"})
        if path == "registered-models/alias" and request.method == "POST":
            self.model["aliases"][given["alias"]] = given["version"]
        elif path == "registered-models/alias":
            del self.model["aliases"][given["alias"]]
        elif path == "registered-models/set-tag":
            self.model["tags"][given["key"]] = given["value"]
        elif path == "model-versions/search":
            found = [v for v in self.versions if v["tags"][0]["value"] in given["filter"]]
            return httpx.Response(200, json={"model_versions": found})
        elif path == "model-versions/create":
            self.versions.append({**given, "version": str(len(self.versions) + 1)})
            return httpx.Response(200, json={"model_version": self.versions[-1]})
        tags = [{"key": key, "value": value} for key, value in self.model["tags"].items()]
        aliases = [{"alias": alias, "version": v} for alias, v in self.model["aliases"].items()]
        return httpx.Response(
            200, json={"registered_model": {**self.model, "tags": tags, "aliases": aliases}}
        )


def aliases_of(server: Any) -> MlflowAliases:
    """Aliases against the fake."""
    known = {candidate(letter).id: candidate(letter) for letter in "abc"}
    return MlflowAliases("http://mlflow", known.__getitem__, httpx.MockTransport(server))


def test_router_and_aliases_become_those_of_the_row(world: World) -> None:
    first = world.crowned("a")
    second = world.proven("b")
    world.rolling(second, share=0.25)
    router, mlflow = Router(), Mlflow()
    done = reconcile(world.store, MODEL, router, aliases_of(mlflow))
    assert done.aliases_lag is None
    assert router.now == Traffic(MODEL, first.id, second.id, 0.25, generation=world.row.generation)
    assert mlflow.model is not None
    named = {v["version"]: v["tags"][0]["value"] for v in mlflow.versions}
    assert {alias: named[v] for alias, v in mlflow.model["aliases"].items()} == {
        "champion": first.id,
        "challenger": second.id,
    }
    assert mlflow.model["tags"][GENERATION] == str(world.row.generation)


def test_doing_it_again_writes_nothing(world: World) -> None:
    world.crowned("a")
    router, mlflow = Router(), Mlflow()
    reconcile(world.store, MODEL, router, aliases_of(mlflow))
    writes = mlflow.writes
    reconcile(world.store, MODEL, router, aliases_of(mlflow))
    assert mlflow.writes == writes


def test_nothing_is_routed_before_the_first_change(world: World) -> None:
    router, mlflow = Router(), Mlflow()
    reconcile(world.store, MODEL, router, aliases_of(mlflow))
    assert (router.now, mlflow.model) == (None, None)


def test_a_registry_that_is_down_stops_nothing_and_is_caught_up_with_later(world: World) -> None:
    made = world.crowned("a")

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    router = Router()
    done = reconcile(world.store, MODEL, router, aliases_of(down))
    assert router.now is not None
    assert router.now.champion == made.id
    assert "http://mlflow does not answer (connection refused); its aliases will follow later" in (
        done.aliases_lag or ""
    )
    mlflow = Mlflow()
    assert reconcile(world.store, MODEL, router, aliases_of(mlflow)).aliases_lag is None
    assert mlflow.model is not None
    assert mlflow.model["aliases"] == {"champion": "1"}


def test_a_registry_is_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None: ...

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        aliases = MlflowAliases(f"http://127.0.0.1:{server.server_port}", candidate)
        with pytest.raises(RegistryUnavailable, match=r"refuses registered-models/get: status 403"):
            aliases.apply(ReleaseRow(MODEL, "a", generation=1))


def test_a_registry_that_refuses_says_why() -> None:
    aliases = aliases_of(lambda request: httpx.Response(500, json={"message": "disk full"}))
    with pytest.raises(RegistryUnavailable, match="refuses registered-models/get: disk full"):
        aliases.apply(ReleaseRow(MODEL, champion=candidate("a").id, generation=1))


def test_aliases_of_a_later_generation_are_left_alone() -> None:
    mlflow = Mlflow()
    aliases = aliases_of(mlflow)
    first, second = candidate("a").id, candidate("b").id
    aliases.apply(ReleaseRow(MODEL, champion=second, generation=5))
    aliases.apply(ReleaseRow(MODEL, champion=first, generation=4))
    assert mlflow.model is not None
    assert mlflow.versions[int(mlflow.model["aliases"]["champion"]) - 1]["tags"][0]["value"] == second


def test_aliases_that_somebody_set_by_hand_are_set_right(world: World) -> None:
    world.crowned("a")
    mlflow, router = Mlflow(), Router()
    reconcile(world.store, MODEL, router, aliases_of(mlflow))
    assert mlflow.model is not None
    mlflow.model["aliases"] = {"champion": "99", "challenger": "7"}
    reconcile(world.store, MODEL, router, aliases_of(mlflow))
    assert mlflow.model["aliases"] == {"champion": "1"}


def test_a_router_that_is_ahead_was_set_by_somebody_faster(world: World) -> None:
    made = world.proven("a")

    class Overtaken(Router):
        def apply(self, traffic: Traffic) -> None:
            if not self.seen:
                world.rolling(made)
                super().apply(release.traffic(world.row))
            super().apply(traffic)

    release.hold(world.store, MODEL, OPERATOR, "so that there is a row")
    release.release_hold(world.store, MODEL, OPERATOR, "go on")
    router = Overtaken()
    done = reconcile(world.store, MODEL, router)
    assert done.traffic == router.now == release.traffic(world.row)


def test_a_router_ahead_of_the_row_means_a_database_that_was_set_back(world: World) -> None:
    world.crowned("a")
    router = Router()
    router.now = Traffic(MODEL, candidate("b").id, generation=99)
    with pytest.raises(RouterAhead, match="generation 99, ahead of the release row's 3"):
        reconcile(world.store, MODEL, router)


def test_a_router_that_fails_for_another_reason_is_heard(world: World) -> None:
    world.crowned("a")

    class Down(Router):
        def apply(self, traffic: Traffic) -> None:
            raise SevenfoldError("envoy is down")

    with pytest.raises(SevenfoldError, match="envoy is down"):
        reconcile(world.store, MODEL, Down())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 1.5}, "share 1.5"),
        ({"mirror": -0.1}, "mirror -0.1"),
        ({"challenger": None}, "no challenger"),
        ({"champion": None}, "nobody serves the champion's part"),
    ],
)
def test_traffic_that_nobody_could_serve_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadTraffic, match=said):
        Traffic(**{"model": MODEL, "champion": "a", "challenger": "b", "share": 0.5, **wrong})


def test_who_follows_asks_for_all_rows_at_once_and_says_once_that_it_cannot(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brought: list[str] = []
    asked: list[int] = []
    both = (MODEL, "dice")

    def bring(model: str) -> Reconciled:
        brought.append(model)
        return Reconciled(Traffic(model, None))

    def looked(store: Store) -> dict[str, int]:
        asked.append(1)
        return release.generations(store)

    def away(store: Store) -> dict[str, int]:
        raise StoreUnavailable("the database is away")

    follower = Follower(world.store, bring)
    monkeypatch.setattr(reconciler, "generations", looked)
    follower.look(both)
    follower.look(both)
    assert (brought, len(asked)) == ([*both], 2)
    release.hold(world.store, MODEL, OPERATOR, "look at it")
    follower.look(both)
    assert brought == [*both, MODEL]
    monkeypatch.setattr(reconciler, "generations", away)
    follower.look(both)
    follower.look(both)
    monkeypatch.setattr(reconciler, "generations", looked)
    follower.look(both)
    assert brought == [*both, MODEL, *both], "what may have changed meanwhile is made sure of"
    said = [f"{model}: {what}" for what in ("the database is away", "in step again") for model in both]
    assert capsys.readouterr().out.splitlines() == said
