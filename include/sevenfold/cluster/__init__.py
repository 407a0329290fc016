"""Where replicas of candidates run: processes of this machine, or pods of a Kubernetes cluster.

Whoever deploys says what, where and how many, and never knows which of the two it is: `open_cluster` follows
the setting `runtime`. Every call can be repeated after a kill, also by somebody else at the same time.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sevenfold.errors import SevenfoldError
from sevenfold.serving.admission import arm
from sevenfold.settings import settings


class DeploymentFailed(SevenfoldError):
    """Replicas that did not become ready. None of them is left running."""

    retry = True


class NotDeployed(SevenfoldError):
    """Nothing is deployed in this slot."""


@dataclass(frozen=True)
class Deployment:
    """A candidate in a slot of its model: champion, challenger, shadow, staging, or such as staging-load."""

    model: str
    candidate: str
    slot: str = "champion"
    replicas: int = 1

    def __post_init__(self) -> None:
        arm(self.slot)
        if self.replicas < 1:
            raise SevenfoldError(
                f"{self.candidate} as {self.slot} needs at least one replica, not {self.replicas}"
            )


class Endpoint(NamedTuple):
    """Where a replica answers: on loopback, or at the address of its pod."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Deployed:
    """A deployment and where its replicas answer; `leaving` ones still do but get no new requests.

    While nobody is ready, `last_resort` is who may answer all the same (see `kubernetes.deployed_of`).
    """

    model: str
    candidate: str
    slot: str
    endpoints: tuple[Endpoint, ...]
    leaving: tuple[Endpoint, ...] = ()
    last_resort: tuple[Endpoint, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, slot, candidate."""
        return self.model, self.slot, self.candidate


@dataclass(frozen=True)
class Replica:
    """One process or pod: where it listens, what its keeper says of it, whether it says it is ready.

    `pid` is 0 where it is no process of this machine, or is down. `since` is when it was started, in seconds
    since 1970; 0 while it is down.
    """

    model: str
    candidate: str
    slot: str
    endpoint: Endpoint
    state: str
    pid: int
    ready: bool
    since: float = 0.0


class Cluster(Protocol):
    """Starts, scales and removes replicas."""

    def deploy(self, deployment: Deployment, limit: float | None = None) -> Deployed:
        """Brings a deployment to its number of ready replicas; returns at once when it is there already.

        In a live slot (champion, challenger) another candidate of the slot stays, for the gateway decides who
        gets traffic; in any other slot it is replaced once the new one is ready.

        Raises:
            NotAdmitted: the candidate lacks the evidence for the slot.
            DeploymentFailed: a replica was not ready within `limit` seconds, with what is known of the cause.
        """
        ...

    def scale(self, model: str, slot: str, replicas: int, candidate: str | None = None) -> Deployed:
        """Adds ready replicas, or drains and stops some.

        Raises:
            NotDeployed: nothing, or more than one candidate, is deployed there.
        """
        ...

    def remove(self, model: str, slot: str, candidate: str | None = None) -> None:
        """Takes replicas out of the gateway, drains and stops them.

        All candidates of the slot if none is named; nothing happens if nothing is deployed there.
        """
        ...

    def running(self) -> bool:
        """Whether anything can be served at all."""
        ...

    def deployments(self, model: str | None = None, slot: str | None = None) -> list[Deployed]:
        """What is deployed."""
        ...

    def endpoints(self, model: str, slot: str, candidate: str | None = None) -> list[Endpoint]:
        """Where the replicas answer that take requests."""
        return [
            endpoint
            for deployed in self.deployments(model, slot)
            if candidate in (None, deployed.candidate)
            for endpoint in deployed.endpoints
        ]

    def ready(self, deployed: Deployed) -> bool:
        """Whether at least one of these replicas would answer a request now."""
        ...

    def status(self) -> list[Replica]:
        """Every replica, with what its keeper says of it and whether it says that it is ready."""
        ...

    def given_up(self, deployed: Deployed) -> bool:
        """Whether some of these replicas are started no more, for they failed too often in a row."""
        ...


def open_cluster(*, hurry: bool = False) -> Cluster:
    """The cluster of this process's settings, whose changes the gateway learns of (see open_gateway)."""
    here = settings()
    if here.runtime == "local":
        from sevenfold.cluster.local import local_cluster

        return local_cluster()
    from sevenfold.cluster.kubernetes import kubernetes_cluster

    return kubernetes_cluster(here, hurry=hurry)


def the_one(cluster: Cluster, model: str, slot: str, candidate: str | None = None) -> Deployed:
    """What is deployed in a slot: the candidate if one is named, else the only one that is there.

    Raises:
        NotDeployed: nothing, or more than one candidate, is deployed there.
    """
    found = [one for one in cluster.deployments(model, slot) if candidate in (None, one.candidate)]
    if len(found) != 1:
        held = ", ".join(deployed.candidate for deployed in found) or "nothing"
        raise NotDeployed(f"one candidate of {model} must be deployed as {slot}; there is {held}")
    return found[0]


def ready(endpoint: Endpoint, candidate: str, limit: float = 1.0) -> bool:
    """Whether a replica of `candidate` there says that it is ready."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=limit)
    try:
        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        return answer.status == 200 and answer.headers.get("x-candidate") == candidate
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
