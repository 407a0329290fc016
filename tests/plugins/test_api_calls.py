"""What the operators do when the cluster or the way to it misbehaves: in the worker, in the triggerer."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions._internal.logging_mixin import LoggingMixin as WorkersLog
from airflow.sdk.definitions._internal.node import DAGNode
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred
from airflow.utils.log.logging_mixin import LoggingMixin as TriggerersLog
from kubernetes.client import models as k8s  # noqa: TID253
from tests.airflow_home import context
from tests.mock_kubernetes.batch import Life
from tests.mock_kubernetes.objects import EVENTS, JOBS, PODS
from tests.mock_kubernetes.server import Fault, MockKubernetes, mock_kubernetes

from sevenfold.settings import REPOSITORY
from sevenfold_airflow.nodes import NodesOperator
from sevenfold_airflow.pod import PodOperator

ROLE = REPOSITORY / "include" / "kubernetes" / "base" / "environments" / "every" / "launcher.yaml"
HERE = "sevenfold-training"
NAMESPACE = f"/namespaces/{HERE}"
LABELS = {"model": "toy", "environment": "training", "activity": "train", "run": "{{ run_id }}"}
WAITING = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MockKubernetes]:
    with mock_kubernetes(tmp_path, ROLE) as running:
        yield running


class Task:
    """One task of one run on the server; `run` is one try of it."""

    def __init__(
        self, server: MockKubernetes, patch: pytest.MonkeyPatch, deferrable: bool, **here: Any
    ) -> None:
        quick = {"poll_seconds": 0.3, "log_seconds": 1, "schedule_seconds": 5, "start_seconds": 5}
        settings = {"runtime": "kubernetes", "deferrable": deferrable, **quick, **here}
        extra = {"kube_config_path": str(server.kubeconfig), "sevenfold": settings}
        patch.setenv(
            "AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra})
        )
        patch.setenv("KUBECONFIG", str(server.kubeconfig))  # somebody's own, beside the connection's
        self.kept: dict[str, Any] = {}
        self.nodes: int | None = None
        self.arguments: dict[str, Any] = {}
        self.operator: PodOperator | None = None
        self.events: list[dict[str, Any]] = []

    def run(self, try_number: int = 1, stop_when_deferred: bool = False) -> Any:
        """One try to its end; a deferral ends its first process, and another one comes after it."""
        state = type("State", (), {"get": self.kept.get, "set": self.kept.__setitem__})()
        task = self._new()
        found = context(task, try_number=try_number, task_state_store=state, started=datetime.now(UTC))
        task.render_template_fields(found)
        method, arguments = "execute", {}
        while True:
            try:
                return getattr(task, method)(found, **arguments)
            except TaskDeferred as deferred:
                if stop_when_deferred:
                    raise
                event = asyncio.run(first_event(deferred.trigger))
                self.events.append(event)
                task = self._new()
                task.render_template_fields(found)
                method, arguments = deferred.method_name, {"event": event, **(deferred.kwargs or {})}

    def _new(self) -> Any:
        given: dict[str, Any] = {
            "task_id": "train",
            "name": "toy-training-train",
            "image": "trainer",
            "cmds": ["python"],
            "labels": LABELS,
            "retries": 2,
            "startup_check_interval_seconds": 0.05,
            "container_resources": k8s.V1ResourceRequirements(limits={"memory": "2Gi"}),
            **self.arguments,
        }
        with DAG("toy.training", schedule=None):
            made = NodesOperator(nodes=self.nodes, **given) if self.nodes else PodOperator(**given)
        self.operator = made.prepare_for_execution()
        return self.operator


async def first_event(trigger: Any) -> dict[str, Any]:
    """What another process would see of the trigger: built anew from what was written down of it."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**arguments)
    async for event in again.run():
        payload: dict[str, Any] = event.payload
        return json.loads(json.dumps(payload, default=str))
    raise AssertionError("the trigger fired nothing")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What a person would read in the task's log so far."""
    seen: list[str] = []
    logger = logging.Logger("task", logging.INFO)
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    for parent in (WorkersLog, TriggerersLog, DAGNode):
        monkeypatch.setattr(parent, "log", logger)
    return lambda: "\n".join(seen)


def after(seconds: float, work: Any) -> None:
    threading.Timer(seconds, work).start()


def when(holds: Callable[[], Any], work: Any, seconds: float = 20) -> None:
    """Does something from outside as soon as it can be done."""

    def wait() -> None:
        until = time.monotonic() + seconds
        while not holds() and time.monotonic() < until:
            time.sleep(0.05)
        work()

    threading.Thread(target=wait, daemon=True).start()


def running(server: MockKubernetes) -> bool:
    """Whether a pod runs now."""
    return any(pod["status"]["phase"] == "Running" for pod in server.there(PODS).values())


def warn(server: MockKubernetes, reason: str, message: str) -> None:
    """Something of the cluster warns of every pod."""
    for name in server.there(PODS):
        event = {"type": "Warning", "reason": reason, "message": message}
        about = {"metadata": {"name": f"{name}.1"}, "involvedObject": {"name": name, "fieldPath": "spec"}}
        server.put((EVENTS, HERE, f"{name}.1"), {**about, **event})


@WAITING
def test_a_pod_runs_is_logged_and_deleted(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str], deferrable: bool
) -> None:
    Task(server, monkeypatch, deferrable).run()
    assert server.there(PODS) == {}, "what succeeded is deleted"
    assert server.count("POST", "/pods$") == 1
    assert "working" in logged()
    assert "done" in logged()


@pytest.mark.parametrize("nodes", [None, 2])
def test_every_line_is_shown_once_however_it_falls_between_two_looks(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str], nodes: int | None
) -> None:
    lines = tuple(f"line {number}" for number in range(140))
    life = Life(
        lines=lines, pause=0.02, holds=True
    )  # on a busy machine it is all written before the second look
    server.lives[:] = [life]
    when(lambda: server.count("GET", "/log.*sinceSeconds") >= (nodes or 1), life.goes_on.set, 60)
    server.faults.append(Fault("GET", "/log", 500, times=1))
    task = Task(server, monkeypatch, deferrable=True)
    task.nodes = nodes
    task.run()
    told = [line for line in logged().splitlines() if "line " in line]
    assert server.count("GET", "/log.*sinceSeconds") >= (nodes or 1), "it was read while it was written"
    for prefix in ("[node 0] ", "[node 1] ") if nodes else ("",):
        assert [line for line in told if line.startswith(prefix)] == [f"{prefix}{line}" for line in lines]


@WAITING
def test_a_pod_that_fails_is_explained_and_kept(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(exit_code=1, lines=("working", "no rows in April"))]
    with pytest.raises(AirflowException, match="train ended with exit code 1: no rows in April"):
        Task(server, monkeypatch, deferrable).run()
    [pod] = server.there(PODS).values()
    assert pod["metadata"]["labels"]["already_checked"] == "True"


@WAITING
def test_exit_64_is_not_tried_again(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(exit_code=64, lines=("the data are empty",))]
    with pytest.raises(AirflowFailException, match=r"^the data are empty$"):
        Task(server, monkeypatch, deferrable).run()


@WAITING
def test_memory_is_named(server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool) -> None:
    server.lives = [Life(exit_code=137, reason="OOMKilled")]
    with pytest.raises(AirflowException, match=r"needed more memory than its limit of 2Gi .* raise memory"):
        Task(server, monkeypatch, deferrable).run()


@WAITING
@pytest.mark.parametrize(
    ("life", "said"),
    [
        (Life(scheduled=False), r"found no node \(0/1 nodes are available: 1 Insufficient memory\)"),
        (
            Life(waiting=("ErrImageNeverPull", "image is not present")),
            "could not get image sevenfold/trainer:dev",
        ),
        (Life(waiting=("CreateContainerConfigError", 'secret "x" not found')), 'secret "x" not found'),
        (Life(status=False), "did not start on node None in time"),
    ],
    ids=["no node", "no image", "no secret", "no status at all"],
)
def test_a_pod_that_does_not_start_is_explained_and_leaves_nothing_that_could_start_later(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool, life: Life, said: str
) -> None:
    server.lives = [life]
    task = Task(server, monkeypatch, deferrable, schedule_seconds=1, start_seconds=1)
    with pytest.raises(AirflowException, match=said):
        task.run()
    assert server.there(PODS) == {}


def test_a_volume_that_cannot_be_mounted_is_found_among_the_events(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lives = [Life(waiting=("ContainerCreating", ""))]
    task = Task(server, monkeypatch, deferrable=True, start_seconds=1)
    said = 'MountVolume.SetUp failed for volume "data": no such share'
    when(lambda: server.there(PODS), lambda: warn(server, "FailedMount", said))
    with pytest.raises(
        AirflowException, match=r"did not start \(FailedMount: MountVolume.SetUp failed .* share\)"
    ):
        task.run()


@WAITING
@pytest.mark.parametrize("after_it_was_done", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("status", [500, 429, 0], ids=["500", "429", "connection lost"])
def test_a_creation_that_is_not_answered_makes_one_pod(
    server: MockKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
    status: int,
    after_it_was_done: bool,
) -> None:
    server.faults = [Fault("POST", f"{NAMESPACE}/pods$", status, 2, after=after_it_was_done)]
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable)
    seen: list[int] = []

    def look() -> None:
        seen.append(len(server.there(PODS)))
        server.lives[0].goes_on.set()

    when(lambda: running(server), lambda: after(0.5, look))
    task.run()
    assert seen == [1], "one pod, whatever became of the answers"
    assert server.faults[0].times == 0, "both faults were met"
    if not after_it_was_done:
        assert server.count("POST", "/pods$") == 3


def test_another_tasks_pod_of_the_same_name_is_not_taken(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lives = [Life(holds=True)]
    other = Task(server, monkeypatch, deferrable=True)
    other.arguments = {"random_name_suffix": False, "task_id": "other"}
    with pytest.raises(TaskDeferred):
        other.run(stop_when_deferred=True)
    task = Task(server, monkeypatch, deferrable=False)
    task.arguments["random_name_suffix"] = False
    with pytest.raises(AirflowException, match=r"did not serve train \(409 .*exists"):
        task.run()


def test_it_waits_as_long_as_the_server_asks(server: MockKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = [Fault("POST", "/pods$", 429, headers={"Retry-After": "2"})]
    started = time.monotonic()
    Task(server, monkeypatch, deferrable=False).run()
    assert time.monotonic() - started > 2


@WAITING
@pytest.mark.parametrize("status", [500, 429, 410])
def test_questions_that_fail_for_a_while_change_nothing(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool, status: int
) -> None:
    """410: the watch is too old. Events, the pod's state and its log all fail twice."""
    server.lives = [Life(holds=True)]
    server.faults = [
        Fault("GET", "/events", status, 2),
        Fault("GET", r"/pods/[^/]+$", 500 if status == 410 else status, 2),
        Fault("GET", "/log", 500 if status == 410 else status, 2),
    ]
    when(lambda: all(fault.times == 0 for fault in server.faults[1:]), server.lives[0].goes_on.set, 4)
    Task(server, monkeypatch, deferrable).run()
    assert server.count("POST", "/pods$") == 1
    assert server.there(PODS) == {}


@WAITING
def test_slow_answers_are_waited_for(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.faults = [Fault("GET", "/pods", None, 4, seconds=0.7), Fault("POST", "/pods$", None, seconds=1)]
    Task(server, monkeypatch, deferrable).run()
    assert server.count("POST", "/pods$") == 1


@WAITING
def test_an_api_server_that_stays_away_leaves_the_pod_to_the_next_try(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable)
    fault = Fault("GET", r"/pods/[^/]+($|/log)", 500, 10**6)
    server.faults = [fault]
    with pytest.raises(AirflowException, match=r"the API server did not serve train \(500"):
        task.run()
    [name] = server.there(PODS)
    assert "already_checked" not in server.there(PODS)[name]["metadata"]["labels"]
    fault.times = 0
    after(0.5, server.lives[0].goes_on.set)
    task.run(try_number=2)
    assert server.count("POST", "/pods$") == 1, "the second try watches the pod of the first"
    assert server.there(PODS) == {}


@WAITING
def test_a_task_whose_worker_died_finds_its_pod(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    with pytest.raises(TaskDeferred):  # and nobody ever comes back to it
        Task(server, monkeypatch, deferrable=True).run(stop_when_deferred=True)
    after(1, server.lives[0].goes_on.set)
    Task(server, monkeypatch, deferrable).run(try_number=2)  # it knows no more than the labels
    assert server.count("POST", "/pods$") == 1
    assert server.there(PODS) == {}


@WAITING
@pytest.mark.parametrize("code", [0, 1])
def test_a_pod_that_ended_while_nobody_looked_counts(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool, code: int
) -> None:
    server.lives = [Life(exit_code=code, lines=("its last line",))]
    task = Task(server, monkeypatch, deferrable=True)
    with pytest.raises(TaskDeferred):
        task.run(stop_when_deferred=True)
    time.sleep(0.5)
    again = Task(server, monkeypatch, deferrable)
    if code:
        with pytest.raises(AirflowException, match="exit code 1: its last line"):
            again.run(try_number=2)
        server.lives = [Life()]
        again.run(try_number=3)
        assert server.count("POST", "/pods$") == 2, "after a failure comes a new pod"
    else:
        again.run(try_number=2)
        assert server.count("POST", "/pods$") == 1, "what is done is not done twice"


@WAITING
def test_a_pod_that_vanishes_is_no_success(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable)
    when(lambda: running(server), lambda: server.remove((PODS, HERE, next(iter(server.there(PODS))))))
    with pytest.raises(AirflowException, match="has vanished from namespace sevenfold-training") as raised:
        task.run()
    assert not isinstance(raised.value, AirflowFailException)
    server.lives = [Life()]
    task.run(try_number=2)
    assert server.count("POST", "/pods$") == 2


@WAITING
def test_a_pod_that_vanishes_when_it_has_succeeded_is_no_success(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    task = Task(server, monkeypatch, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.run(stop_when_deferred=True)
    event = asyncio.run(first_event(deferred.value.trigger))
    assert event["status"] == "success"
    server.remove((PODS, HERE, event["name"]))
    operator = task._new()
    with pytest.raises(AirflowException, match="has vanished"):
        operator.trigger_reentry(context(operator), event)


QUEUED: dict[str, Any] = {"queues": {"training": "gpus"}}
SHORT = (
    "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor a, 500m more needed"
)
MORE_URGENT = "Preempted to accommodate a workload (UID: 27) due to prioritization in the ClusterQueue"


def by_kueue(server: MockKubernetes, kind: str, name: str, reason: str, message: str) -> None:
    """An event as Kueue 0.20 writes it: with the time of another API than the kubelet's."""
    said = {"type": "Warning" if kind == "Workload" else "Normal", "reason": reason, "message": message}
    about = {"metadata": {"name": f"{name}.1"}, "involvedObject": {"kind": kind, "name": name}}
    server.put((EVENTS, HERE, f"{name}.1"), {**about, **said, "eventTime": "2026-11-26T08:59:54.855279Z"})


@WAITING
@pytest.mark.parametrize(
    ("nodes", "resource", "warned", "said"),
    [
        (
            None,
            PODS,
            True,
            r"not admitted to queue gpus in time \(couldn't .* more needed\): free",
        ),
        (2, JOBS, True, r"not admitted to queue gpus in time \(couldn't .* more needed\): free"),
        (None, PODS, False, f"look whether namespace {HERE} has this LocalQueue"),
        (2, JOBS, False, f"look whether namespace {HERE} has this LocalQueue"),
    ],
    ids=["pod, no quota", "job, no quota", "pod, no queue", "job, no queue"],
)
def test_who_is_not_admitted_says_what_its_queue_lacks(
    server: MockKubernetes,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
    nodes: int | None,
    resource: Any,
    warned: bool,
    said: str,
) -> None:
    server.lives = [Life(queues=True)]
    task = Task(server, monkeypatch, deferrable, **QUEUED)
    task.nodes, task.arguments = nodes, {"execution_timeout": timedelta(seconds=2)}
    mine, kind = "Workload", "job" if nodes else "pod"

    def warn_of_it() -> None:
        by_kueue(server, mine, f"{kind}-{next(iter(server.there(resource)))}-f00d", "WaitingForQuota", SHORT)
        by_kueue(server, mine, f"{kind}-another-f00d", "WaitingForQuota", "another one's quota")

    if warned:
        when(lambda: server.there(resource), warn_of_it)
    with pytest.raises(AirflowException, match=said):
        task.run()
    assert (server.there(JOBS), server.there(PODS)) == ({}, {})


@WAITING
def test_a_pod_that_gave_way_in_its_queue_says_so(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable, **QUEUED)

    def preempt() -> None:
        name = next(iter(server.there(PODS)))
        by_kueue(server, "Pod", name, "Stopped", f"{MORE_URGENT}; preemptor path: /a; preemptee path: /a")
        server.remove((PODS, HERE, name))

    when(lambda: running(server), preempt)
    with pytest.raises(AirflowException, match=r"^Kueue stopped train \(Preempted .*Queue\): it is tried"):
        task.run()


REFUSALS = {
    "role": (403, 'pods is forbidden: User "airflow" cannot create pods', "roles of Airflow", False),
    "quota": (403, 'pods "x" is forbidden: exceeded quota: all, requested: pods=1', "ResourceQuota", True),
    "priority": (403, 'pods "x" is forbidden: no PriorityClass with name y', "priorityClassName", False),
    "security": (403, 'pods "x" is forbidden: violates PodSecurity "restricted"', "take that out", False),
    "account": (403, "error looking up service account a/b: not found", "which has the account", False),
    "limits": (403, "maximum memory usage per Container is 1Gi, but limit is 2Gi", "LimitRange", False),
    "policy": (403, 'admission webhook "v" denied the request: no', "who runs the cluster", False),
    "namespace": (404, 'namespaces "sevenfold-training" not found', "there is no place for train", False),
    "spec": (422, "Pod is invalid: spec.containers[0].image: Required value", "cannot make sense", False),
    "login": (401, "Unauthorized", "does not know who asks for train", True),
    "down": (503, "the server is currently unable to handle the request", "did not serve train", True),
}  # fmt: skip


@pytest.mark.parametrize("nodes", [None, 2], ids=["pod", "job"])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_sentence_and_tried_again_only_where_it_may_pass(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, case: str, nodes: int | None
) -> None:
    status, message, said, retry = REFUSALS[case]
    server.faults = [Fault("POST", "/(pods|jobs)$", status, 10, message, reason="Forbidden")]
    task = Task(server, monkeypatch, deferrable=True)
    task.nodes = nodes
    with pytest.raises(AirflowException, match=said) as raised:
        task.run()
    assert isinstance(raised.value, AirflowFailException) is not retry
    assert message.rstrip(".") in str(raised.value)
    assert server.there(PODS) == {}


def test_an_api_server_that_is_not_there_is_named(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [Fault("POST", "/pods$", 0, 10**6)]
    with pytest.raises(
        AirflowException, match=r"the API server does not answer train \(.*: look whether it is up"
    ):
        Task(server, monkeypatch, deferrable=False).run()


@WAITING
def test_what_takes_too_long_is_deleted(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    from airflow.sdk.execution_time.timeout import timeout

    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable)
    task.arguments["execution_timeout"] = timedelta(seconds=2)
    if deferrable:
        with pytest.raises(AirflowException, match="reached the task's execution_timeout"):
            task.run()
    else:
        after(20, server.lives[0].goes_on.set)  # an alarm may strike where Python swallows it
        with pytest.raises(AirflowTaskTimeout), timeout(2):
            task.run()
        assert task.operator is not None
        task.operator.on_kill()  # as Airflow does then
    assert server.there(PODS) == {}


def test_who_is_stopped_deletes_the_pod_and_says_so(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable=False)
    when(lambda: running(server), lambda: after(0.5, lambda: task.operator and task.operator.on_kill()))
    with pytest.raises(AirflowException, match="train was stopped by Airflow, and its pod deleted"):
        task.run()
    assert server.there(PODS) == {}


@pytest.mark.parametrize("nodes", [None, 2], ids=["pod", "job"])
def test_who_is_stopped_while_deferred_leaves_nothing(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, nodes: int | None
) -> None:
    server.lives = [Life(holds=True)]
    task = Task(server, monkeypatch, deferrable=True)
    task.nodes = nodes
    with pytest.raises(TaskDeferred) as deferred:
        task.run(stop_when_deferred=True)
    asyncio.run(deferred.value.trigger.on_kill())
    assert server.there(PODS) == {}
    assert server.there(JOBS) == {}


def test_pods_that_failed_long_ago_go_when_the_next_comes(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lives = [Life(exit_code=1), Life()]
    with pytest.raises(AirflowException):
        Task(server, monkeypatch, deferrable=False).run()
    [pod] = server.there(PODS)
    server.change((PODS, HERE, pod), {"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}})
    Task(server, monkeypatch, deferrable=False).run()
    assert [*server.there(PODS)] == [pod], "it ran for long and stays for reading"
    server.faults = [Fault("GET", "fieldSelector", 500)]
    Task(server, monkeypatch, deferrable=False, keep_failed_hours=0).run()
    assert len(server.there(PODS)) == 1, "a sweep that fails fails no task"
    Task(server, monkeypatch, deferrable=False, keep_failed_hours=0).run()
    assert server.there(PODS) == {}


def on_nodes(task: Task) -> Task:
    task.nodes = 2
    return task


@WAITING
def test_a_job_runs_on_all_nodes_is_logged_and_deleted(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str], deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = on_nodes(Task(server, monkeypatch, deferrable))
    pods: list[str] = []

    def go_on() -> None:
        pods.extend(server.there(PODS))
        shown.append("[node 0] working" in logged())
        server.lives[0].goes_on.set()

    shown: list[bool] = []
    when(lambda: "[node 0] working" in logged(), go_on)
    task.run()
    assert len(pods) == 2
    assert shown == [True], "what they write is shown while they run"
    assert "[node 1] done" in logged()
    assert logged().count("[node 1] working") == 1
    assert (server.there(JOBS), server.there(PODS)) == ({}, {})


@WAITING
def test_a_job_whose_node_fails_says_which_first(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True), Life(exit_code=137, reason="OOMKilled")]
    task = on_nodes(Task(server, monkeypatch, deferrable))
    with pytest.raises(AirflowException, match="needed more memory than its limit of 2Gi"):
        task.run()
    [job] = server.there(JOBS).values()
    assert job["spec"]["ttlSecondsAfterFinished"] == 72 * 3600, "it stays for reading, but not for ever"
    server.lives = [Life()]
    task.run(try_number=2)
    assert server.count("POST", "/jobs$") == 2, "after a failure comes a new Job"


@WAITING
def test_a_job_of_an_interrupted_try_is_found(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    with pytest.raises(TaskDeferred):
        on_nodes(Task(server, monkeypatch, deferrable=True)).run(stop_when_deferred=True)
    after(1, server.lives[0].goes_on.set)
    on_nodes(Task(server, monkeypatch, deferrable)).run(try_number=2)
    assert server.count("POST", "/jobs$") == 1


@WAITING
@pytest.mark.parametrize("status", [500, 429, 0])
def test_a_job_whose_creation_is_not_answered_is_one(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool, status: int
) -> None:
    server.faults = [
        Fault("POST", "/jobs$", status, 1, after=True),
        Fault("GET", "/jobs/", status, 3),
        Fault("GET", "/pods", status, 3),
        Fault("GET", "/log", status, 1),
    ]
    task = on_nodes(Task(server, monkeypatch, deferrable))
    task.run()
    assert (server.there(JOBS), server.there(PODS)) == ({}, {})


@WAITING
def test_a_job_that_vanishes_is_no_success(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = on_nodes(Task(server, monkeypatch, deferrable))
    when(
        lambda: running(server),
        lambda: server.remove((JOBS, HERE, next(iter(server.there(JOBS))))),
    )
    with pytest.raises(AirflowException, match=r"Job job-toy-training-train-.* of train has vanished"):
        task.run()


@WAITING
@pytest.mark.parametrize(
    ("life", "said"),
    [
        (Life(scheduled=False), "found no node"),
        (Life(waiting=("ErrImageNeverPull", "none")), "could not get image"),
    ],
    ids=["no node", "no image"],
)
def test_a_job_whose_pods_do_not_start_is_explained_and_deleted(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool, life: Life, said: str
) -> None:
    server.lives = [life]
    task = on_nodes(Task(server, monkeypatch, deferrable, schedule_seconds=1, start_seconds=1))
    with pytest.raises(AirflowException, match=said):
        task.run()
    assert (server.there(JOBS), server.there(PODS)) == ({}, {})


@WAITING
def test_a_job_that_takes_too_long_is_deleted(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    server.lives = [Life(holds=True)]
    task = on_nodes(Task(server, monkeypatch, deferrable))
    task.arguments["execution_timeout"] = timedelta(seconds=1)
    with pytest.raises(AirflowException, match="train: it reached its execution_timeout"):
        task.run()
    assert (server.there(JOBS), server.there(PODS)) == ({}, {})


def test_an_api_server_that_stays_away_leaves_the_job_to_the_next_try(
    server: MockKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lives = [Life(holds=True)]
    task = on_nodes(Task(server, monkeypatch, deferrable=True))
    fault = Fault("GET", r"/jobs/[^?/]+$", 500, 10**6)
    server.faults = [fault]
    with pytest.raises(AirflowException, match="the API server says 500"):
        task.run()
    fault.times = 0
    after(0.5, server.lives[0].goes_on.set)
    task.run(try_number=2)
    assert server.count("POST", "/jobs$") == 1
