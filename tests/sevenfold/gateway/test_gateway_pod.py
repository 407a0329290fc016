"""A gateway as a pod, and whoever waits for it: a real Envoy, replicas of the tiny model, an emulated API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.mock_kubernetes.server import Fault, MockKubernetes, mock_kubernetes
from tests.sevenfold.evidence_world import MODEL, World
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import REPLICA, gateway_port, wait

from sevenfold.cluster import Deployed, Endpoint, ready
from sevenfold.cluster.kubernetes import deployed_of
from sevenfold.evidence.store import open_store
from sevenfold.gateway import pod, remote
from sevenfold.gateway.local import GatewayRefused
from sevenfold.gateway.pod import GatewayPod, Replicas
from sevenfold.gateway.remote import NoGateway, NotInForce, RemoteGateway
from sevenfold.kubernetes.api import KubernetesApi
from sevenfold.monitoring import answers
from sevenfold.release import release
from sevenfold.release.reconcile import reconcile
from sevenfold.release.traffic import Traffic
from sevenfold.settings import REPOSITORY, Settings

NAMESPACE = "sevenfold-production"
WHERE = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


class Cluster:
    """Two candidates, each a replica process, and their EndpointSlices."""

    def __init__(self, api: MockKubernetes, home: Path) -> None:
        self.home, self.api, self.port = home, api, gateway_port()
        self.settings = Settings(
            home=home,
            models=home / "models",
            runtime="kubernetes",
            kubeconfig=api.kubeconfig,
            gateway_plain=True,
            gateway_url=f"http://127.0.0.1:{self.port}",
        )
        (home / "models" / MODEL).mkdir(parents=True)
        (home / "models" / MODEL / "model.yaml").touch()  # its folder's name is all that is asked of it
        self.world = World(open_store(self.settings.evidence_url, self.settings.secrets / "evidence"))
        self.client = KubernetesApi(self.settings)
        self.replicas: dict[str, Endpoint] = {}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, candidate: str, bias: float = 0.0) -> Endpoint:
        endpoint = Endpoint(gateway_port())
        tiny.write(self.home / f"{candidate}.onnx", bias)
        words = [
            "--model",
            MODEL,
            "--candidate",
            candidate,
            "--slot",
            "champion",
            "--port",
            str(endpoint.port),
        ]
        command = [*REPLICA, *words, "--log-dir", str(self.home / "logs")]
        environment = {"PYTHONPATH": str(REPOSITORY / "include"), "SEVENFOLD_HOME": str(self.home)}
        self.processes.append(subprocess.Popen(command, cwd=self.home, env=environment))
        wait(lambda: ready(endpoint, candidate), 60)
        self.tell(candidate, endpoint)
        return endpoint

    def tell(self, candidate: str, *endpoints: Endpoint, **conditions: bool) -> None:
        """The EndpointSlice of a candidate's Service, as the cluster keeps it."""
        labels = {"app.kubernetes.io/part-of": "sevenfold", "app.kubernetes.io/component": "server"}
        labels |= {
            "sevenfold.io/model": MODEL,
            "sevenfold.io/candidate": candidate,
            "sevenfold.io/slot": "champion",
        }
        said = conditions or {"ready": True}
        found = [{"addresses": [one.host], "conditions": said} for one in endpoints]
        ports = [{"port": one.port} for one in endpoints]
        name = candidate.replace("_", "-")
        self.client.apply(
            f"{WHERE}/{name}",
            {"metadata": {"name": name, "labels": labels}, "endpoints": found, "ports": ports},
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with mock_kubernetes(tmp_path) as api:
        made = Cluster(api, tmp_path)
        yield made
        for process in made.processes:
            process.kill()
            process.wait()


class Running:
    """A gateway pod in this process, with its status server at a port of its own."""

    def __init__(self, cluster: Cluster, status_port: int) -> None:
        here = cluster.settings
        self.status_port, self.stop = status_port, threading.Event()
        self.replicas = Replicas(cluster.client, here, "production")
        self.pod = GatewayPod(here, "production", self.replicas, lambda: open_store(here.evidence_url))
        self.failed: list[BaseException] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            pod.serve(self.pod, self.replicas, self.stop, self.status_port)
        except BaseException as error:
            self.failed.append(error)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.status_port}{path}", trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self.get("/ready").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running(cluster: Cluster) -> Iterator[Running]:
    one = Running(cluster, gateway_port())
    one.thread.start()
    try:
        yield one
    finally:
        one.stop.set()
        one.thread.join(30)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "DRAIN_S", 0.5)
    monkeypatch.setattr(pod, "EVERYWHERE", "127.0.0.1")


def asked(cluster: Cluster, one: Running) -> httpx.Response:
    headers = {"authorization": f"Bearer {one.pod.gateway.keys.standing()['predict']}"}
    url = f"{cluster.settings.gateway_url}/v2/models/{MODEL}/infer"
    return httpx.post(url, json=tiny.request(1), headers=headers, trust_env=False)


def test_it_serves_what_rows_and_cluster_say_comes_back_and_goes_in_order(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod, "DRAIN_S", 2.0)  # it is asked meanwhile
    first, second = cluster.world.crowned("a"), cluster.world.proven("b")
    cluster.start(first.id)
    with running(cluster) as one:
        wait(one.is_ready, 30)
        assert asked(cluster, one).json()["model_version"] == first.id
        assert one.get("/status").json()["traffic"][MODEL]["champion"] == first.id
        (mark,) = one.get("/marks").json()["marks"]
        (log,) = (cluster.home / "logs" / answers.FOLDER).iterdir()
        above, below = log.read_text().split(f"{answers.MARK}{mark}")
        assert "/infer" in above and "/infer" not in below

        where = cluster.start(second.id, 1.0)  # two side by side
        promotion = cluster.world.rolling(second, 0.5)
        wait(lambda: one.get("/status").json()["traffic"][MODEL]["share"] == 0.5)
        seen = Counter(asked(cluster, one).json()["model_version"] for _ in range(60))
        assert set(seen) == {first.id, second.id}

        cluster.api.faults = [
            Fault("GET", "/", 500, times=10_000)
        ]  # the cluster's API is away, and then Envoy dies
        os.kill(_envoy(cluster), signal.SIGKILL)
        wait(lambda: _answers(lambda: asked(cluster, one)), 10)
        assert one.get("/status").json()["traffic"][MODEL]["share"] == 0.5
        cluster.api.faults = []

        release.vacate(cluster.world.store, promotion.id, "test", "seen enough")
        wait(lambda: one.get("/status").json()["traffic"][MODEL]["share"] == 0.0)
        cluster.tell(second.id)
        wait(lambda: not one.pod.gateway.envoy.healthy().get(f"{second.id}.live"), 20)
        assert ready(where, second.id)
        assert {asked(cluster, one).json()["model_version"] for _ in range(20)} == {first.id}

        one.stop.set()
        wait(lambda: not one.is_ready(), 5)
        assert asked(cluster, one).headers["connection"] == "close", "who stays is sent elsewhere"
        one.thread.join(20)
        assert one.failed == []
        assert not _answers(lambda: asked(cluster, one))
    written = (cluster.settings.logs / answers.FOLDER).glob("*.jsonl")
    lines = [json.loads(line) for file in written for line in file.read_text().splitlines()]
    assert {line["gateway"] for line in lines} == {answers.CALLERS}, (
        "whose log it is, where several share a disk"
    )


class LateReplica(BaseHTTPRequestHandler):
    """Fails every health check, and answers every request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say(503, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._say(200, {"model_version": "late"})

    def _say(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def late() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LateReplica)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Endpoint(server.server_port)
    server.shutdown()
    server.server_close()


def test_replicas_of_which_none_is_ready_in_time_answer_all_the_same(
    cluster: Cluster, late: Endpoint
) -> None:
    first, second = cluster.world.crowned("a"), cluster.world.proven("b")
    champion, challenger = cluster.start(first.id), cluster.start(second.id, 1.0)
    with running(cluster) as one:
        wait(one.is_ready, 30)
        cluster.world.rolling(second, 0.5)
        wait(lambda: one.get("/status").json()["traffic"][MODEL]["share"] == 0.5)

        def who() -> set[str]:
            found = [asked(cluster, one) for _ in range(12)]
            assert [answer.status_code for answer in found] == [200] * 12
            return {answer.json()["model_version"] for answer in found}

        wait(lambda: who() == {first.id, second.id}, 60)
        cluster.tell(second.id, challenger, ready=False)  # a challenger in doubt: the champion takes its part
        wait(lambda: who() == {first.id}, 60)
        cluster.tell(first.id, champion, ready=False)  # both are: it is the cluster that is late
        wait(lambda: who() == {first.id, second.id}, 60)
        cluster.tell(first.id, late, ready=False)  # Envoy's own check fails, too
        wait(lambda: who() == {"late", second.id}, 60)
        cluster.tell(first.id, late, champion)  # ready, as the cluster has it; Envoy knows better
        wait(lambda: who() == {first.id}, 60)


READY, LATE = {"ready": True}, {"ready": False, "serving": False, "terminating": False}
ENDS, DRAINS = ({"ready": False, "serving": serving, "terminating": True} for serving in (True, False))


@pytest.mark.parametrize(
    ("conditions", "asked", "leaving"),
    [
        ([READY, LATE, ENDS], [[1]], [3]),
        ([LATE, ENDS, DRAINS], [[], [2]], [2, 3]),
        ([LATE, DRAINS], [[], [1, 2]], [2]),
        ([{}], [[1]], []),  # unknown is ready, says the API
        ([], [[], []], []),
    ],
)
def test_the_ready_go_before_those_that_end_and_these_before_the_late(
    conditions: list[dict[str, bool]], asked: list[list[int]], leaving: list[int]
) -> None:
    labels = {"sevenfold.io/model": MODEL, "sevenfold.io/candidate": "a", "sevenfold.io/slot": "champion"}
    slices = [
        {
            "metadata": {"labels": labels},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": said}],
            "ports": [{"port": number}],
        }
        for number, said in enumerate(conditions, start=1)
    ]
    slices = slices or [{"metadata": {"labels": labels}}]
    (found,) = deployed_of(slices)
    there = [[one.port for one in where] for where in (found.endpoints, found.last_resort)]
    assert there == [*asked, []][:2]
    assert [one.port for one in found.leaving] == leaving


def test_a_container_that_starts_again_without_database_and_api_serves_the_last_split(
    cluster: Cluster,
) -> None:
    first = cluster.world.crowned("a")
    cluster.start(first.id)
    with running(cluster) as one:
        wait(one.is_ready, 30)
    cluster.api.faults = [Fault("GET", "/", 503, times=10_000)]
    (cluster.home / "evidence.db").rename(cluster.home / "away.db")
    (cluster.home / "evidence.db").mkdir()
    with running(cluster) as one:
        wait(one.is_ready, 30)
        assert asked(cluster, one).json()["model_version"] == first.id


def test_a_new_one_is_not_ready_before_it_has_seen_rows_and_cluster(cluster: Cluster) -> None:
    cluster.world.crowned("a")
    cluster.api.faults = [Fault("GET", "endpointslices", 503, times=10_000)]
    with running(cluster) as one:
        wait(lambda: _answers(lambda: one.get("/live")), 30)
        wait(lambda: MODEL in one.get("/status").json()["traffic"], 20)
        assert not one.is_ready()
        cluster.api.faults = []
        wait(one.is_ready, 40)


def test_a_split_that_envoy_refuses_keeps_a_new_gateway_waiting_and_an_old_one_serving(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cluster.world.crowned("a"), cluster.world.proven("b")
    cluster.start(first.id)
    tried = 0

    def refuses(traffic: Traffic) -> None:
        nonlocal tried
        tried += 1
        raise GatewayRefused("no")

    with running(cluster) as one:
        with monkeypatch.context() as envoy:  # of its own: undoing all would undo `quick`, and drain for 10 s
            envoy.setattr(one.pod.gateway, "apply", refuses)
            wait(lambda: tried > 1, 20)
            assert not one.is_ready()
        wait(one.is_ready, 30)
        with monkeypatch.context() as envoy:
            envoy.setattr(one.pod.gateway, "apply", refuses)
            tried = 0
            cluster.world.rolling(second, 0.5)
            wait(lambda: tried > 1, 20)
            assert one.is_ready(), "the other models are served here"
            share = one.get("/status").json()["traffic"][MODEL]["share"]
            assert share == 0.0, "what is in force, not what is wanted"


class Stub:
    """Gateway pods that say what they are told to; one answers at 127.0.0.<n>."""

    def __init__(self, client: KubernetesApi) -> None:
        self.client, self.said, self.servers = (
            client,
            dict[str, dict[str, Any]](),
            list[ThreadingHTTPServer](),
        )

    def says(self, address: str, generation: int, replicas: dict[str, int] | None = None) -> None:
        split = asdict(Traffic(MODEL, "a", generation=generation))
        self.said[address] = {"ready": True, "traffic": {MODEL: split}, "replicas": replicas or {}}
        self.said[address]["marks"] = [f"mark of {address}"]

    def start(self, address: str, port: int) -> None:
        said = self.said

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(said[address]).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((address, port), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)

    def list(self, **ready: bool) -> None:
        """The EndpointSlice of the Service `gateway`; names are addresses with _ for a dot."""
        found = [
            {
                "addresses": [name.replace("_", ".")[1:]],
                "conditions": {"ready": sent},
                "targetRef": {"name": f"gateway{name}"},
            }
            for name, sent in ready.items()
        ]
        labels = {"kubernetes.io/service-name": "gateway"}
        self.client.apply(
            f"{WHERE}/gateway", {"metadata": {"name": "gateway", "labels": labels}, "endpoints": found}
        )


@pytest.fixture
def stub(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    port = gateway_port()
    monkeypatch.setattr(remote, "STATUS_PORT", port)
    monkeypatch.setattr(remote, "LIMIT_S", 0.6)
    monkeypatch.setattr(remote, "ASK_S", 0.3)
    monkeypatch.setattr(remote, "HURRIED_ASK_S", 0.3)
    made = Stub(cluster.client)
    for address in ("127.0.0.1", "127.0.0.2"):
        made.start(address, port)
        made.says(address, 1)
    made.list(_127_0_0_1=True, _127_0_0_2=True)
    yield made
    for server in made.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gateways(cluster: Cluster, stub: Stub) -> RemoteGateway:
    return RemoteGateway(cluster.settings, cluster.client, "production")


def test_a_split_is_in_force_when_every_gateway_serves_it(stub: Stub, gateways: RemoteGateway) -> None:
    wanted = Traffic(MODEL, "a", generation=2)
    stub.says("127.0.0.1", 2)
    with pytest.raises(
        NotInForce, match=r"^gateway_127_0_0_2 of sevenfold-production did not serve generation 2"
    ):
        gateways.apply(wanted)
    assert gateways.traffic(MODEL) == Traffic(MODEL, "a", generation=1), "the oldest"
    threading.Timer(0.2, stub.says, ("127.0.0.2", 2)).start()
    gateways.apply(wanted)
    stub.says("127.0.0.2", 7)
    gateways.apply(wanted)  # somebody has gone further


def test_another_split_of_the_same_generation_is_not_it(stub: Stub, gateways: RemoteGateway) -> None:
    with pytest.raises(NotInForce):
        gateways.apply(Traffic(MODEL, "b", generation=1))


def test_who_is_sent_no_callers_and_does_not_answer_is_not_waited_for(
    stub: Stub, gateways: RemoteGateway
) -> None:
    stub.says("127.0.0.1", 2)
    stub.says("127.0.0.2", 2)
    stub.list(_127_0_0_1=True, _127_0_0_2=True, _127_0_0_3=True)
    with pytest.raises(NotInForce, match="gateway_127_0_0_3"):
        gateways.apply(Traffic(MODEL, "a", generation=2))
    stub.list(_127_0_0_1=True, _127_0_0_2=True, _127_0_0_3=False)
    gateways.apply(Traffic(MODEL, "a", generation=2))
    stub.says("127.0.0.2", 1)
    stub.list(_127_0_0_1=True, _127_0_0_2=False)
    with pytest.raises(NotInForce, match="gateway_127_0_0_2"):  # it still answers those that came before
        gateways.apply(Traffic(MODEL, "a", generation=2))


@pytest.fixture
def dead(stub: Stub) -> Iterator[str]:
    """A gateway that is listed as ready, and whose node has died: nothing comes back from there."""
    with socket.create_server(("127.0.0.3", remote.STATUS_PORT)):
        stub.list(_127_0_0_1=True, _127_0_0_2=True, _127_0_0_3=True)
        yield "gateway_127_0_0_3"


def test_who_goes_back_does_not_wait_for_a_gateway_that_is_silent_and_names_it(
    cluster: Cluster, stub: Stub, dead: str
) -> None:
    hurried = RemoteGateway(cluster.settings, cluster.client, "production", hurry=True)
    wanted = Traffic(MODEL, "a", generation=2)
    with pytest.raises(NotInForce, match=r"^gateway_127_0_0_1, gateway_127_0_0_2, gateway_127_0_0_3 of"):
        hurried.apply(wanted)  # those that answer are waited for
    for address in ("127.0.0.1", "127.0.0.2"):
        stub.says(address, 2, {"a.live": 1})
    said = hurried.apply(wanted)
    assert said is not None
    assert f"but {dead} of {NAMESPACE} does not" in said
    assert f"kubectl --namespace {NAMESPACE} delete pod {dead} --wait=false" in said
    hurried.await_replicas(Deployed(MODEL, "a", "champion", (Endpoint(1),)))
    stub.list(_127_0_0_1=True, _127_0_0_2=True)
    assert hurried.apply(wanted) is None
    stub.list(_127_0_0_3=True)
    with pytest.raises(NotInForce):  # nobody has said that it is in force
        hurried.apply(wanted)


def test_who_goes_forward_waits_for_all_that_are_sent_callers(
    stub: Stub, gateways: RemoteGateway, dead: str
) -> None:
    for address in ("127.0.0.1", "127.0.0.2"):
        stub.says(address, 2)
    with pytest.raises(NotInForce, match=f"^{dead} of"):
        gateways.apply(Traffic(MODEL, "a", generation=2))


def test_nothing_goes_forward_where_no_gateway_is_up(
    cluster: Cluster, stub: Stub, gateways: RemoteGateway
) -> None:
    stub.list(_127_0_0_3=False)  # starts, and does not answer yet
    with pytest.raises(NotInForce, match=r"^no gateway of sevenfold-production is up"):
        gateways.apply(Traffic(MODEL, "a", generation=1))
    hurried = RemoteGateway(cluster.settings, cluster.client, "production", hurry=True)
    assert hurried.apply(Traffic(MODEL, "a", generation=1)) is None, "nobody is served what was before"


def test_every_gateway_that_answers_marks_its_log(
    stub: Stub, gateways: RemoteGateway, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MARKS_S", 0.3)
    assert gateways.marks() == {"mark of 127.0.0.1", "mark of 127.0.0.2"}, f"{dead} is waited for in vain"
    stub.list(_127_0_0_3=True)
    with pytest.raises(NotInForce, match="no gateway"):
        gateways.marks()


def test_replicas_are_waited_for_at_every_gateway(stub: Stub, gateways: RemoteGateway) -> None:
    deployed = Deployed(MODEL, "a", "champion", (Endpoint(1), Endpoint(2)))
    stub.says("127.0.0.1", 1, {"a.live": 2})
    stub.says("127.0.0.2", 1, {"a.live": 1})
    with pytest.raises(NotInForce, match="the replicas of a as champion"):
        gateways.await_replicas(deployed)
    stub.says("127.0.0.2", 1, {"a.live": 2})
    gateways.await_replicas(deployed)


def test_a_namespace_without_a_gateway_is_said(cluster: Cluster) -> None:
    with pytest.raises(NoGateway, match="no Service gateway: apply the overlay"):
        RemoteGateway(cluster.settings, cluster.client, "production").apply(Traffic(MODEL, "a", generation=1))


def test_reconciling_waits_and_never_leads(cluster: Cluster, stub: Stub, gateways: RemoteGateway) -> None:
    first = cluster.world.crowned("a")
    row = release.row(cluster.world.store, MODEL)
    split = asdict(release.traffic(row))
    for address in ("127.0.0.1", "127.0.0.2"):
        stub.said[address]["traffic"] = {MODEL: split}
    before = len(cluster.api.asked)
    done = reconcile(cluster.world.store, MODEL, gateways)
    assert (done.traffic.champion, done.traffic.generation) == (first.id, row.generation)
    assert {method for method, _ in cluster.api.asked[before:]} == {"GET"}


def _envoy(cluster: Cluster) -> int:
    admin = str(cluster.settings.home)
    found = subprocess.run(["pgrep", "-f", f"envoy -c {admin}"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def _answers(ask: Callable[[], httpx.Response]) -> bool:
    try:
        return ask().status_code == 200
    except httpx.HTTPError:
        return False
