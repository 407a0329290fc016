"""Serving under load while the world around it changes or breaks: every request is counted, none is lost.

Nothing of MLflow or Airflow runs here at all: what answers requests needs neither.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from tests.sevenfold.evidence_world import MODEL, World, candidate
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import ONE, TWO, Load, Local, local, wait

from sevenfold.cluster import Deployment, manifests
from sevenfold.evidence.store import open_store
from sevenfold.gateway import Traffic
from sevenfold.local.sockets import UnixConnection
from sevenfold.release.autoscaling import Scale
from sevenfold.release.mlflow_aliases import MlflowAliases
from sevenfold.release.reconcile import reconcile
from sevenfold.serving import log
from sevenfold.settings import REPOSITORY


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local(tmp_path_factory.mktemp("home")) as running:
        yield running


GENERATIONS = iter(range(1, 1000))


def apply(stack: Local, champion: str, challenger: str | None = None, share: float = 0.0) -> None:
    stack.gateway.apply(Traffic("tiny", champion, challenger, share=share, generation=next(GENERATIONS)))


def request_ids(stack: Local) -> list[str]:
    ids: list[str] = log.predictions(stack.settings.logs, "tiny")["request"].to_pylist()
    return ids


@pytest.fixture
def stack(running: Local) -> Local:
    """A champion with two replicas and all requests."""
    running.cluster.deploy(Deployment("tiny", ONE, "champion", 2))
    apply(running, ONE)
    return running


def test_a_roll_out_and_a_roll_back_lose_no_request(stack: Local) -> None:
    """A challenger comes, grows and takes over, the old one goes and comes back, and all is undone."""

    def split(champion: str, challenger: str | None = None, share: float = 0.0) -> None:
        apply(stack, champion, challenger, share)
        load.wait(30)

    logged = len(request_ids(stack))
    with Load(stack, callers=6) as load:
        load.wait(50)
        stack.cluster.deploy(Deployment("tiny", TWO, "challenger", 2))
        for share in (0.05, 0.25, 0.5):
            split(ONE, TWO, share)
        split(TWO)
        stack.cluster.remove("tiny", "champion", ONE)
        load.wait(50)
        stack.cluster.deploy(Deployment("tiny", ONE, "champion", 2))
        split(ONE)
        stack.cluster.remove("tiny", "challenger", TWO)
        load.wait(50)
    assert load.failures == []
    answered = load.answers.total()
    assert answered > 300
    assert load.answers[TWO] > 50
    ids = request_ids(stack)
    assert len(ids) == len(set(ids)) == logged + answered


def test_the_registry_may_be_down_while_the_split_changes(stack: Local) -> None:
    world = World(open_store(stack.settings.evidence_url, stack.settings.secrets / "evidence"))
    first, second = world.crowned("a"), world.proven("b")
    world.rolling(second, share=0.5)
    for made, bias in ((first, 0.0), (second, 1.0)):
        tiny.write(stack.settings.home / f"{made.id}.onnx", bias)
        stack.cluster.deploy(Deployment(MODEL, made.id, "champion", 1))
    nobody = MlflowAliases("http://127.0.0.1:9", {one.id: one for one in map(candidate, "ab")}.__getitem__)
    with Load(stack) as load:
        load.wait(50)
        done = reconcile(world.store, MODEL, stack.gateway, nobody)
        load.wait(100)
    assert load.failures == []
    assert "does not answer" in str(done.aliases_lag)
    assert stack.gateway.traffic(MODEL) == done.traffic
    assert done.traffic.share == 0.5
    for made in (first, second):
        stack.cluster.remove(MODEL, "champion", made.id)


def test_who_keeps_the_processes_may_be_killed(stack: Local) -> None:
    supervisord = int((stack.settings.home / "run" / "supervisord.pid").read_text())
    with Load(stack) as load:
        load.wait(50)
        os.kill(supervisord, signal.SIGKILL)
        wait(lambda: not stack.supervisor.running())
        apply(stack, ONE)
        load.wait(200)
    assert load.failures == []
    stack.supervisor.start()
    stack.supervisor.add(stack.gateway.program())
    wait(stack.gateway.envoy.running)
    with Load(stack, callers=1) as again:
        again.wait(20, 60)


def test_the_whole_pool_may_be_killed_and_callers_are_told_until_it_is_back(stack: Local) -> None:
    """No retry can help here: what cannot be answered is refused at once, in words."""
    for replica in stack.cluster.status():
        os.kill(replica.pid, signal.SIGKILL)
    with stack.client() as client:
        refused = client.post("/v2/models/tiny/infer", json=tiny.request(1))
        assert refused.status_code == 503
        assert refused.json()["error"]
        wait(lambda: client.post("/v2/models/tiny/infer", json=tiny.request(1)).is_success, 60)
    wait(lambda: all(replica.ready for replica in stack.cluster.status()), 60)


def test_an_autoscaler_asks_for_what_envoy_prints(stack: Local) -> None:
    file = REPOSITORY / "include" / "kubernetes" / "prometheus-adapter.yaml"
    (rule,) = yaml.safe_load(file.read_text())["rules"]["external"]
    owner = {"metadata": {"name": "x", "namespace": "x", "uid": "u", "labels": {manifests.CANDIDATE: ONE}}}
    (asked,) = manifests.autoscaler(owner, Scale(1, 4, 2.0), in_flight=True)["spec"]["metrics"]
    metric = asked["external"]["metric"]
    assert rule["name"]["as"] == metric["name"]
    ((label, value),) = metric["selector"]["matchLabels"].items()
    series = rule["seriesQuery"].partition("{")[0]
    statistics = f"http://127.0.0.1:{urlsplit(stack.settings.gateway_url).port + 1}/stats/prometheus"
    printed = httpx.get(statistics, trust_env=False).text
    assert f'\n{series}{{{label}="{value}"}} ' in printed


def test_requests_in_flight_are_told_by_replica(stack: Local) -> None:
    replicas = stack.cluster.endpoints("tiny", "champion")
    assert set(replicas) <= set(stack.gateway.envoy.in_flight())
    connection = UnixConnection(stack.gateway._admin, 5.0)
    connection.request("GET", "/clusters")
    told = connection.getresponse().read().decode()
    assert f"{ONE}.live::127.0.0.1:{replicas[0].port}::rq_active::0" in told
