"""Replicas of the local cluster, as real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import ONE, REPLICA, TWO, wait

from sevenfold.cluster import Deployed, Deployment, DeploymentFailed, Endpoint, NotDeployed, ready
from sevenfold.cluster.local import SERVER, LocalCluster, program_name
from sevenfold.errors import SevenfoldError
from sevenfold.local.supervision import Supervisor
from sevenfold.serving.admission import NotAdmitted
from sevenfold.settings import Settings


class Recorded(LocalCluster):
    """A cluster that writes down what it published."""

    published: list[dict[str, int]]


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path_factory.mktemp("home"))
    yield supervisor
    supervisor.shutdown()


@pytest.fixture
def cluster(supervisor: Supervisor) -> Iterator[Recorded]:
    made = Recorded(
        Settings(home=supervisor.home),
        supervisor,
        tiny.Passes,
        lambda: made.published.append({d.candidate + d.slot: len(d.endpoints) for d in made.deployments()}),
        REPLICA,
    )
    made.published = []
    for candidate in (ONE, TWO):
        tiny.write(supervisor.home / f"{candidate}.onnx")
    yield made
    for deployed in made.deployments():
        made.remove(*deployed.key)


def test_replicas_come_scale_and_go(cluster: Recorded) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion", 2))
    assert len(held.endpoints) == 2
    assert all(one.port < 32_768 and ready(one, ONE) for one in held.endpoints)
    assert cluster.deploy(Deployment("tiny", ONE, "champion", 2)) == held  # again: nothing happens
    answer = httpx.post(
        f"http://127.0.0.1:{held.endpoints[0].port}/v2/models/tiny/infer", json=tiny.request(1)
    )
    assert answer.json()["model_version"] == ONE
    assert cluster.scale("tiny", "champion", 1).endpoints == held.endpoints[:1]
    wider = cluster.scale("tiny", "champion", 2)
    assert wider.endpoints[0] == held.endpoints[0]
    assert [(r.candidate, r.slot, r.ready) for r in cluster.status()] == [(ONE, "champion", True)] * 2
    assert cluster.endpoints("tiny", "champion") == list(wider.endpoints)
    cluster.remove("tiny", "champion")
    cluster.remove("tiny", "champion")
    assert cluster.status() == []
    assert not any(ready(one, ONE) for one in wider.endpoints)
    assert cluster.published[-1] == {f"{ONE}champion": 0}


def test_a_live_slot_keeps_both_any_other_one_replaces(cluster: Recorded) -> None:
    for slot in ("champion", "staging-load"):
        cluster.deploy(Deployment("tiny", ONE, slot))
        cluster.deploy(Deployment("tiny", TWO, slot))
    assert [(d.slot, d.candidate) for d in cluster.deployments()] == [
        ("champion", ONE),
        ("champion", TWO),
        ("staging-load", TWO),
    ]
    with pytest.raises(NotDeployed, match=f"deployed as champion; there is {ONE}, {TWO}"):
        cluster.scale("tiny", "champion", 2)
    cluster.remove("tiny", "champion", ONE)
    assert [d.candidate for d in cluster.deployments("tiny", "champion")] == [TWO]


def test_replicas_leave_the_gateway_before_they_stop(cluster: Recorded) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion"))
    seen = []
    cluster._publish = lambda: seen.append(
        (cluster.endpoints("tiny", "champion"), ready(held.endpoints[0], ONE))
    )
    cluster.remove("tiny", "champion")
    assert seen == [([], True)]


@pytest.mark.parametrize(
    ("slot", "waits"), [("champion", True), ("challenger", True), ("shadow-load", False)]
)
def test_who_has_callers_drains_and_who_is_on_trial_goes_at_once(
    cluster: Recorded, slot: str, waits: bool
) -> None:
    cluster._server = SERVER
    command = cluster._program(Deployed("tiny", ONE, slot, ()), Endpoint(21_000)).command
    assert ("--drain" not in command) == waits


def test_a_killed_replica_comes_back_on_its_port(cluster: Recorded) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion"))
    os.kill(cluster.status()[0].pid, signal.SIGKILL)
    wait(lambda: not ready(held.endpoints[0], ONE))
    wait(lambda: ready(held.endpoints[0], ONE))


def test_a_candidate_without_evidence_is_not_started(cluster: Recorded) -> None:
    cluster._evidence = lambda: tiny.Passes((ONE, "training"))
    with pytest.raises(NotAdmitted, match="may not serve as shadow"):
        cluster.deploy(Deployment("tiny", ONE, "shadow"))
    assert cluster.deployments() == []


def test_what_does_not_start_is_told_with_its_last_words_and_taken_back(cluster: Recorded) -> None:
    (cluster._settings.home / f"{TWO}.onnx").write_bytes(b"not a model")
    with pytest.raises(DeploymentFailed, match=r"not ready \(\w+\); it said last: .* is not an ONNX"):
        cluster.deploy(Deployment("tiny", TWO, "champion"))
    assert cluster.deployments() == []
    assert cluster._supervisor.status() == []


def test_what_takes_too_long_is_taken_back(cluster: Recorded) -> None:
    cluster._server = ("/bin/sh", "-c", "sleep 1000", "--")
    with pytest.raises(DeploymentFailed, match="too late"):
        cluster.deploy(Deployment("tiny", ONE, "champion"), limit=0.5)
    assert cluster._supervisor.status() == []


def test_replicas_that_a_killed_call_left_are_ended_by_the_next(cluster: Recorded) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion", 2))
    cluster._write(
        replace(held, endpoints=held.endpoints[:1], leaving=held.endpoints[1:])
    )  # killed between two steps
    again = cluster.deploy(Deployment("tiny", ONE, "champion", 1))
    assert again.endpoints == held.endpoints[:1]
    assert [replica.endpoint for replica in cluster.status()] == [held.endpoints[0]]
    assert not ready(held.endpoints[1], ONE)


def test_a_replica_whose_port_is_lost_gets_another(
    cluster: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion"))
    monkeypatch.setattr(
        cluster, "_hopeless", lambda program: program == program_name(held, held.endpoints[0])
    )
    again = cluster.deploy(Deployment("tiny", ONE, "champion"))
    assert len(again.endpoints) == 1
    assert again.endpoints != held.endpoints
    assert [replica.endpoint for replica in cluster.status()] == list(again.endpoints)


def test_another_server_on_the_port_is_not_ours(cluster: Recorded) -> None:
    held = cluster.deploy(Deployment("tiny", ONE, "champion"))
    assert not ready(held.endpoints[0], TWO)


def test_a_deployment_must_make_sense() -> None:
    with pytest.raises(SevenfoldError, match="at least one replica"):
        Deployment("tiny", ONE, "champion", 0)
    with pytest.raises(SevenfoldError, match="there is no slot 'live'"):
        Deployment("tiny", ONE, "live")


def test_the_port_of_somebody_else_is_not_taken(cluster: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(sys.modules["sevenfold.cluster.local"], "PORTS", (taken, taken + 500))
        assert taken not in cluster._free_ports(100)
