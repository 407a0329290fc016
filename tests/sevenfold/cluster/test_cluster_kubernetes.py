"""Replicas on Kubernetes: what is made, and what calls do that are killed, repeated or refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.manifests.openapi import mistakes
from tests.mock_kubernetes import deployments
from tests.mock_kubernetes.deployments import READY
from tests.mock_kubernetes.objects import AUTOSCALERS, DEPLOYMENTS, PODS
from tests.mock_kubernetes.server import Fault, MockKubernetes, mock_kubernetes
from tests.pod_security import unrestricted
from tests.toy import MODEL_YAML, spec_in

from sevenfold.cli import main as cli
from sevenfold.cluster import Deployed, Deployment, DeploymentFailed, NotDeployed, kubernetes
from sevenfold.cluster.kubernetes import KubernetesCluster, NoServerImage
from sevenfold.cluster.manifests import NameTooLong
from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.gateway.httproute import service
from sevenfold.kubernetes.api import ClusterRefused, ClusterUnreachable, KubernetesApi
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.traffic import Traffic
from sevenfold.serving.admission import NotAdmitted
from sevenfold.settings import Settings, settings

MODEL, ONE, TWO = "toy", "toy-000000000001", "toy-000000000002"
PRODUCTION, STAGING = "sevenfold-production", "sevenfold-staging"
SCALING = MODEL_YAML.replace("  replicas: 1\n", "  replicas: 2\n  scaling: {most: 4, in_flight: 2.5}\n")
Path_ = "/apis/apps/v1/namespaces/sevenfold-production/deployments"


class Passes:
    """Evidence that lets everybody pass, but whom it is told to refuse."""

    refused: str = ""

    def passed(self, candidate: str, environment: str, /) -> bool:
        return candidate != self.refused


class Killed(BaseException):
    """The process is gone."""


class World:
    """A cluster, the API that it asks, and what it told the gateway."""

    def __init__(self, api: MockKubernetes, home: Path) -> None:
        self.api, self.evidence, self.published = api, Passes(), list[Deployed]()
        self.settings = Settings(
            home=home,
            models=home / "models",
            runtime="kubernetes",
            kubeconfig=api.kubeconfig,
            images={"server": "server:1"},
        )
        self.waits: list[float] = []
        self.client = KubernetesApi(self.settings, self.waits.append)
        self.cluster = KubernetesCluster(
            self.settings, self.client, lambda: self.evidence, self.published.append
        )

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.api.everything()]

    def replicas(self, candidate: str, purpose: str = "live") -> int:
        return int(self.api.there(DEPLOYMENTS)[service(candidate, purpose)]["spec"]["replicas"])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(kubernetes, "POLL_S", 0.02)
    monkeypatch.setenv("SEVENFOLD_MODELS", str(tmp_path / "models"))
    settings.cache_clear()
    spec_in(tmp_path / "models", SCALING)
    with mock_kubernetes(tmp_path) as api:
        yield World(api, tmp_path)
    settings.cache_clear()


def live(candidate: str = ONE, replicas: int = 2, slot: str = "champion") -> Deployment:
    return Deployment(MODEL, candidate, slot, replicas)


def test_a_deployment_is_four_objects_that_the_api_takes(world: World) -> None:
    held = world.cluster.deploy(live())
    assert len(held.endpoints) == 2
    assert world.published == [held]
    assert world.kinds() == [
        *("deployments", "endpointslices", "horizontalpodautoscalers", "poddisruptionbudgets", "services")
    ]
    for (resource, _, _), one in world.api.objects.items():
        if resource.plural not in ("pods", "endpointslices"):
            made = {name: part for name, part in one.raw.items() if name != "status"}
            assert mistakes(made) == []
    (made,) = world.api.there(DEPLOYMENTS, PRODUCTION).values()
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "server:1"
    assert container["args"][:6] == ["--model", MODEL, "--candidate", ONE, "--slot", "champion"]
    assert unrestricted(made["spec"]["template"]) == []
    assert not pod["automountServiceAccountToken"]
    drained = (
        container["lifecycle"]["preStop"]["sleep"]["seconds"] + 3 + 10
    )  # the server's own drain, last requests
    assert drained < pod["terminationGracePeriodSeconds"]
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_autoscaler_says_what_model_yaml_says(world: World) -> None:
    world.cluster.deploy(live())
    (spec,) = [one["spec"] for one in world.api.there(AUTOSCALERS).values()]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 4)
    assert spec["metrics"][0]["resource"]["name"] == "cpu"
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60
    custom = world.settings.model_copy(update={"custom_metrics": True})
    KubernetesCluster(custom, world.client, Passes).deploy(live())
    (spec,) = [one["spec"] for one in world.api.there(AUTOSCALERS).values()]
    metric = spec["metrics"][0]["external"]
    assert metric["target"] == {"type": "AverageValue", "averageValue": "2500m"}
    assert metric["metric"]["selector"] == {"matchLabels": {"envoy_cluster_name": ONE}}


def test_a_repeated_deployment_changes_nothing(world: World) -> None:
    held = world.cluster.deploy(live())
    changes = world.api.changes()
    assert world.cluster.deploy(live()) == held
    assert world.cluster.deploy(live(slot="challenger")) == held  # the same pods, whatever they are called
    assert world.api.changes() == changes


def test_what_an_autoscaler_has_added_stays(world: World) -> None:
    world.cluster.deploy(live())
    world.client.patch(f"{Path_}/{service(ONE)}/scale", {"spec": {"replicas": 4}})
    assert len(world.cluster.deploy(live()).endpoints) == 4
    assert world.replicas(ONE) == 4


def test_an_autoscaler_that_wants_fewer_meanwhile_is_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.deploy(live())
    world.api.pod = NO_NODE
    path, wait = f"{Path_}/{service(ONE)}/scale", world.cluster._await_ready
    world.client.patch(path, {"spec": {"replicas": 4}})

    def two_will_do(held: Any, replicas: int, limit: float) -> Deployed:
        assert replicas == 4
        world.client.patch(path, {"spec": {"replicas": 2}})
        return wait(held, replicas, limit)

    monkeypatch.setattr(world.cluster, "_await_ready", two_will_do)
    assert len(world.cluster.deploy(live(), 60).endpoints) == 2
    assert world.replicas(ONE) == 2


def test_an_autoscaler_that_model_yaml_wants_no_more_goes(world: World) -> None:
    world.cluster.deploy(live())
    spec_in(world.settings.models, MODEL_YAML)
    kubernetes.load_spec.__globals__["_load"].cache_clear()
    world.cluster.deploy(live())
    assert "horizontalpodautoscalers" not in world.kinds()


def test_two_candidates_live_side_by_side_and_elsewhere_the_next_replaces_the_last(world: World) -> None:
    world.cluster.deploy(live(ONE))
    world.cluster.deploy(live(TWO, slot="challenger"))
    found = {(one.candidate, one.slot, len(one.endpoints)) for one in world.cluster.deployments(MODEL)}
    assert found == {(ONE, "champion", 2), (TWO, "challenger", 2)}
    world.cluster.deploy(live(ONE, 1, "staging"))
    world.cluster.deploy(live(TWO, 1, "staging"))
    assert [one.candidate for one in world.cluster.deployments(MODEL, "staging")] == [TWO]
    assert set(world.api.there(DEPLOYMENTS, STAGING)) == {service(TWO, "staging")}
    assert len(world.cluster.endpoints(MODEL, "staging", TWO)) == 1


def test_removing_drains_first_and_leaves_nothing(world: World) -> None:
    world.cluster.deploy(live())
    seen: list[tuple[int, int]] = []

    def look() -> None:
        while world.api.there(DEPLOYMENTS):
            (one,) = world.cluster.deployments(MODEL, "champion") or [Deployed(MODEL, ONE, "champion", ())]
            seen.append((len(one.endpoints), len(one.leaving)))

    looking = threading.Thread(target=look)
    looking.start()
    world.cluster.remove(MODEL, "champion")
    looking.join()
    assert (0, 2) in seen, "while they drain their Service still says so"
    assert world.api.everything() == []
    assert world.api.there(PODS) == {}
    world.cluster.remove(MODEL, "champion")


def test_an_evicted_pod_which_stays_for_reading_stands_in_nobodys_way(world: World) -> None:
    world.cluster.deploy(live())
    evicted = next(iter(world.api.there(PODS).values()))["metadata"]["name"]
    (crash,) = crashed(137, "", restarts=7)["containerStatuses"]
    status = {"phase": "Failed", "reason": "Evicted", "conditions": [], "containerStatuses": [crash]}
    world.api.change((PODS, PRODUCTION, evicted), {"status": status})
    assert len(world.cluster.deploy(live(replicas=3), 60).endpoints) == 3
    assert evicted in world.api.there(PODS)
    world.cluster.remove(MODEL, "champion")
    assert world.api.everything() == []


def test_what_is_deployed_again_while_it_drains_is_not_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.deploy(live())

    def somebody_deploys(held: Any) -> None:
        while world.cluster._pods(held):
            time.sleep(0.02)
        world.client.patch(f"{Path_}/{service(ONE)}/scale", {"spec": {"replicas": 1}})

    monkeypatch.setattr(world.cluster, "_await_gone", somebody_deploys)
    world.cluster.remove(MODEL, "champion")
    assert world.replicas(ONE) == 1


def test_it_scales_and_says_what_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cluster.deploy(live())
    assert len(world.cluster.scale(MODEL, "champion", 3).endpoints) == 3
    assert world.replicas(ONE) == 3
    world.cluster.scale(MODEL, "champion", 1)
    assert world.replicas(ONE) == 1
    with pytest.raises(NotDeployed, match="there is nothing"):
        world.cluster.scale(MODEL, "challenger", 1)
    monkeypatch.setattr(world.cluster, "_of", lambda wanted: None)
    with pytest.raises(NotDeployed, match="was just removed"):
        world.cluster.scale(MODEL, "champion", 2)


def test_nobody_without_evidence_is_deployed(world: World) -> None:
    world.evidence.refused = ONE
    with pytest.raises(NotAdmitted):
        world.cluster.deploy(live())
    assert world.api.asked == []


def test_what_cannot_be_deployed_is_said_before_anything_is_made(world: World) -> None:
    nowhere = KubernetesCluster(
        world.settings.model_copy(update={"images": {}, "images_file": world.settings.home / "none"}),
        world.client,
        Passes,
    )
    with pytest.raises(NoServerImage, match="SEVENFOLD_IMAGES"):
        nowhere.deploy(live())
    with pytest.raises(NameTooLong, match="at most 50"):
        world.cluster.deploy(live(f"{'a' * 60}-000000000001"))
    assert world.api.everything() == []


def crashed(code: int, line: str, restarts: int = 0) -> dict[str, Any]:
    ended = {"exitCode": code, "reason": "Error", "message": f"first\n{line}\n"}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    status = {"name": "server", "ready": False, "restartCount": restarts, "image": "server:1", "imageID": ""}
    return {
        "phase": "Running",
        "containerStatuses": [{**status, "state": waits, "lastState": {"terminated": ended}}],
    }


def waiting(reason: str, message: str = "not here") -> dict[str, Any]:
    status = {"name": "server", "ready": False, "restartCount": 0, "image": "server:1", "imageID": ""}
    why = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{**status, "state": why}]}


NO_NODE = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes: 1 Insufficient cpu.",
        }
    ],
}


@pytest.mark.parametrize(
    ("pod", "limit", "said"),
    [
        (NO_NODE, 0.3, "found no node (0/1 nodes: 1 Insufficient cpu)"),
        (waiting("ErrImageNeverPull"), 30, "could not get image server:1 (ErrImageNeverPull: not here)"),
        (waiting("ImagePullBackOff"), 0.3, "could not get image server:1"),
        (crashed(NO_RETRY_HELPS, "it has no statement of testing"), 30, "it has no statement of testing"),
        (crashed(1, "no database", restarts=3), 30, "exit code 1: no database"),
        ({"phase": "Running"}, 0.3, "0 of 2 are ready in 0 s"),
    ],
    ids=[
        "no node",
        "image is never pulled",
        "image is not pulled",
        "refused for good",
        "crashes",
        "never ready",
    ],
)
def test_what_does_not_become_ready_says_why_and_is_taken_back(
    world: World, pod: dict[str, Any], limit: float, said: str
) -> None:
    world.api.pod = pod
    began = time.monotonic()
    with pytest.raises(DeploymentFailed) as failed:
        world.cluster.deploy(live(), limit)
    assert said in str(failed.value)
    assert str(failed.value).startswith(f"{ONE} as champion is not ready: ")
    assert time.monotonic() - began < 10, "what no waiting mends is not waited for"
    assert world.api.everything() == []
    assert world.published == []


def test_a_busy_kubelet_that_has_not_read_a_secret_yet_is_waited_for() -> None:
    def stuck(message: str) -> str | None:
        spec = {"containers": [{"name": "server", "image": "server:1"}]}
        status = waiting("CreateContainerConfigError", message)
        about = {"name": "toy-1", "namespace": PRODUCTION}
        return kubernetes._hopeless([{"metadata": about, "spec": spec, "status": status}])

    assert 'secret "sevenfold-server" not found' in (stuck('secret "sevenfold-server" not found') or "")
    assert stuck("failed to sync secret cache: timed out waiting for the condition") is None


def test_a_failed_addition_leaves_those_that_serve(world: World) -> None:
    world.cluster.deploy(live())
    world.api.pod = NO_NODE
    with pytest.raises(DeploymentFailed, match="found no node"):
        world.cluster.deploy(live(replicas=3), 0.3)
    assert world.replicas(ONE) == 2
    assert len(world.cluster.endpoints(MODEL, "champion")) == 2


def test_that_a_replica_which_serves_crashed_long_ago_ends_no_wait_for_another(world: World) -> None:
    (ended,) = crashed(1, "no database", restarts=7)["containerStatuses"]
    serves = {**ended, "ready": True, "state": {"running": {"startedAt": "2026-11-26T01:02:03Z"}}}
    world.api.pod = {**deepcopy(READY), "containerStatuses": [serves]}
    world.cluster.deploy(live())
    world.api.pod = NO_NODE
    with pytest.raises(DeploymentFailed, match="found no node"):
        world.cluster.deploy(live(replicas=3), 0.3)


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_a_busy_api_is_asked_again(world: World, status: int) -> None:
    world.api.faults = [Fault(method, "/", status, times=2) for method in ("GET", "PATCH")]
    assert len(world.cluster.deploy(live()).endpoints) == 2
    assert len(world.waits) == 4
    assert world.kinds().count("deployments") == 1


def test_a_slow_api_is_waited_for(world: World) -> None:
    world.api.faults = [Fault("PATCH", "/", times=3, seconds=0.3)]
    assert len(world.cluster.deploy(live()).endpoints) == 2


def test_an_api_that_stays_away_is_said(world: World) -> None:
    world.api.faults = [Fault("PATCH", "/", 503, times=100)]
    with pytest.raises(ClusterUnreachable, match="a fault"):
        world.cluster.deploy(live())


def test_an_api_that_is_not_there_is_no_empty_list(world: World) -> None:
    """A gateway that believed it would take every replica out."""
    assert world.client.list(kubernetes.slices("no-such-namespace"), {})["items"] == []
    world.api.faults = [Fault("GET", "endpointslices", 404)]
    with pytest.raises(ClusterRefused, match="knows nothing of /apis/discovery"):
        world.client.list(kubernetes.slices(PRODUCTION), {})


def test_a_missing_right_is_said_with_its_remedy_and_not_tried_again(world: World) -> None:
    world.api.faults = [Fault("PATCH", "services", 403, times=100)]
    with pytest.raises(ClusterRefused, match=r"apply the roles in include/kubernetes/"):
        world.cluster.deploy(live())
    assert world.waits == []


def test_killed_anywhere_the_next_call_ends_where_one_call_would(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each request that changes something the process may be killed."""
    monkeypatch.setattr(deployments, "LEAVES_S", 0.02)  # eighty pods drain here
    request = KubernetesApi._request

    def run(kill_at: int, after: bool) -> bool:
        count = 0

        def dies(self: KubernetesApi, *given: Any, **more: Any) -> Any:
            nonlocal count
            if given[0] == "GET":
                return request(self, *given, **more)
            count += 1
            if count == kill_at and not after:
                raise Killed
            try:
                return request(self, *given, **more)
            finally:
                if count == kill_at:
                    raise Killed

        monkeypatch.setattr(KubernetesApi, "_request", dies)
        try:
            world.cluster.deploy(live(TWO, 1, "staging"))
            world.cluster.deploy(live(ONE, 2, "staging"))
            world.cluster.remove(MODEL, "staging")
            return False
        except Killed:
            return True
        finally:
            monkeypatch.setattr(KubernetesApi, "_request", request)

    points = 0
    while run(points // 2 + 1, after=points % 2 == 1):
        held = world.cluster.deploy(live(ONE, 2, "staging"))
        assert len(held.endpoints) == 2
        assert set(world.api.there(DEPLOYMENTS)) == {service(ONE, "staging")}
        world.cluster.remove(MODEL, "staging")
        assert world.api.everything() == []
        points += 1
    assert points >= 20


def test_two_at_the_same_time_make_one(world: World) -> None:
    found: list[Any] = []

    def deploy() -> None:
        try:
            found.append(world.cluster.deploy(live()))
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=deploy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one.endpoints) for one in found] == [2] * 4
    assert world.kinds().count("deployments") == 1
    assert world.replicas(ONE) == 2


def test_the_command_shows_what_runs_and_what_is_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.deploy(live())
    labels = {"app.kubernetes.io/part-of": "sevenfold", "app.kubernetes.io/component": "gateway"}
    pod = {
        "metadata": {"name": "gateway-x", "labels": labels},
        "spec": {"nodeName": "n1"},
        "status": deepcopy(READY),
    }
    world.api.put((PODS, PRODUCTION, "gateway-x"), pod)
    monkeypatch.setattr(cli, "settings", lambda: world.settings)
    monkeypatch.setattr(kubernetes, "KubernetesApi", lambda settings: world.client)
    parts, replicas, _, split = cli._on_cluster()
    assert [list(column.cells) for column in parts.columns] == [["gateway-x"], ["ready"], ["n1"], [""]]
    assert {(one.candidate, one.ready) for one in replicas} == {(ONE, True)}
    row = ReleaseRow(MODEL, champion=ONE, generation=3)
    assert split(row) == Traffic(MODEL, ONE, generation=3)


def test_status_names_every_pod(world: World) -> None:
    world.cluster.deploy(live(replicas=1))
    world.api.pod = crashed(1, "no database")
    with pytest.raises(DeploymentFailed):
        world.cluster.deploy(live(TWO, 1, "staging"), 0.2)
    world.api.pod = deepcopy(READY)
    (replica,) = world.cluster.status()
    assert (replica.candidate, replica.slot, replica.state, replica.ready) == (
        ONE,
        "champion",
        "Running",
        True,
    )
