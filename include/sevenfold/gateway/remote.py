"""The gateways of an environment on a cluster, asked from elsewhere what they serve.

Each gateway pod follows the release rows by itself (see `pod`). Who has changed a row waits here until all of
them serve it, and tells them nothing: what is in force never leads the row.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sevenfold import direct_http
from sevenfold.cluster import Deployed
from sevenfold.cluster.kubernetes import slices
from sevenfold.errors import SevenfoldError
from sevenfold.gateway.envoy import soon
from sevenfold.gateway.pools import Pools
from sevenfold.kubernetes.api import KubernetesApi
from sevenfold.release.traffic import Traffic
from sevenfold.settings import Settings

SERVICE = "gateway"
CALLERS_PORT, STATUS_PORT = 8000, 8002
LIMIT_S = 75.0
"""A gateway whose node has died is out of the list by then: Kubernetes notices after 50 s."""
ASK_S, HURRIED_ASK_S = 2.0, 1.0
MARKS_S = 20.0
"""For its log a gateway asks its own Envoy, and syncs it."""
SILENCES = 2
"""How often in a row a gateway does not answer before who is in a hurry goes on without it."""
EVERY_S = 0.1
Status = Mapping[str, Any]


class NotInForce(SevenfoldError):
    """Some gateway does not serve yet what it should."""

    retry = True


class NoGateway(SevenfoldError):
    """There is no gateway in the environment's namespace."""


class RemoteGateway:
    """All gateway pods of one environment."""

    def __init__(
        self, settings: Settings, api: KubernetesApi, environment: str, *, hurry: bool = False
    ) -> None:
        """
        Args:
            settings: where the gateways are, and callers of them.
            api: the Kubernetes API, which lists them.
            environment: whose gateways.
            hurry: goes on without those that do not answer, as long as one does, or none is up. They follow
                the row by themselves; dead ones until the cluster notices serve nobody, but one that is only
                cut off from here may.
        """
        self._settings, self._api, self._environment = settings, api, environment
        self._namespace, self._hurry = settings.namespace_of(environment), hurry

    def running(self) -> bool:
        """Whether callers are answered."""
        here = self._settings
        url = here.callers_url if self._environment == "production" else here.gateway_url
        return direct_http.answers(f"{url.rstrip('/')}/healthz", ASK_S)

    def apply(self, traffic: Traffic) -> str | None:
        """Returns when every gateway serves this split, or a later one; in a hurry with a sentence about
        those that did not answer.

        Raises:
            NotInForce: one does not within `LIMIT_S`, or none is up and this is in no hurry.
        """

        def serves(status: Status) -> bool:
            there = _traffic(status, traffic.model)
            return there is not None and (there == traffic or there.generation > traffic.generation)

        return self._await(serves, f"generation {traffic.generation} of {traffic.model}'s traffic")

    def traffic(self, model: str) -> Traffic | None:
        """The split in force: where gateways differ the oldest; None if one serves none yet."""
        found = [_traffic(status, model) for status in self._statuses().values() if status is not None]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        return min(known, key=lambda one: one.generation, default=None)

    def await_replicas(self, deployed: Deployed) -> None:
        """Returns when every gateway finds these replicas healthy.

        Raises:
            NotInForce: one does not within `LIMIT_S`.
        """
        pools = {pool.name: len(pool.endpoints) for pool in Pools.of([deployed]).all}

        def knows(status: Status) -> bool:
            return all(status["replicas"].get(name, 0) >= number for name, number in pools.items())

        self._await(knows, f"the replicas of {deployed.candidate} as {deployed.slot}")

    def marks(self) -> set[str]:
        """See Router. One that is sent callers and does not answer is asked again, and then left out: what it
        has logged lately nobody can wait for.

        Raises:
            NotInForce: none answers.
        """
        found = set[str]()
        silent = self._pods()
        for _ in range(SILENCES):
            with ThreadPoolExecutor(max(1, len(silent))) as asking:
                said = list(asking.map(lambda pod: _ask(pod[0], MARKS_S, "/marks"), silent))
            found |= {mark for one in said if one is not None for mark in one["marks"]}
            silent = [pod for pod, one in zip(silent, said, strict=True) if one is None and pod[2]]
            if not silent:
                break
        if not found:
            raise NotInForce(f"no gateway of {self._namespace} says how far its log goes: its log says why")
        return found

    def _await(self, done: Callable[[Status], bool], what: str) -> str | None:
        lagging: list[str] = []
        silent = Counter[str]()

        def all_do() -> bool:
            said = self._statuses()
            lagging[:] = [pod for pod, status in said.items() if status is None or not done(status)]
            for pod, status in said.items():
                silent[pod] = silent[pod] + 1 if status is None else 0
            given_up = [pod for pod in lagging if self._hurry and silent[pod] >= SILENCES]
            if not said:  # what goes back is in force where nobody is served; nothing goes forward there
                return self._hurry
            return lagging == given_up and len(given_up) < len(said)

        if not soon(all_do, LIMIT_S, EVERY_S):
            raise NotInForce(
                f"{', '.join(lagging)} of {self._namespace} did not serve {what} within {LIMIT_S:.0f} s: "
                "its log says why"
                if lagging
                else f"no gateway of {self._namespace} is up to serve {what}: kubectl describes its pods"
            )
        return _in_doubt(lagging, self._namespace) if lagging else None

    def _statuses(self) -> dict[str, Status | None]:
        """What each gateway says of itself; None for one that callers are sent to and that does not answer.

        One that is neither sent callers nor answers serves nobody, and is left out.
        """
        pods = self._pods()
        with ThreadPoolExecutor(max(1, len(pods))) as asking:
            limit = HURRIED_ASK_S if self._hurry else ASK_S
            said = asking.map(lambda pod: _ask(pod[0], limit), pods)
        return {
            name: status
            for (_, name, ready), status in zip(pods, said, strict=True)
            if ready or status is not None
        }

    def _pods(self) -> list[tuple[str, str, bool]]:
        """Address, name, and whether it is sent callers, of each gateway.

        Raises:
            NoGateway: the namespace has no Service of this name.
        """
        found = self._api.list(slices(self._namespace), {"kubernetes.io/service-name": SERVICE})["items"]
        if not found:
            raise NoGateway(
                f"namespace {self._namespace} has no Service {SERVICE}: apply the overlay in "
                "include/kubernetes/overlays"
            )
        return [
            (
                endpoint["addresses"][0],
                (endpoint.get("targetRef") or {}).get("name", endpoint["addresses"][0]),
                (endpoint.get("conditions") or {}).get("ready", True),
            )
            for one in found
            for endpoint in one.get("endpoints") or []
        ]


def _in_doubt(silent: list[str], namespace: str) -> str:
    return (
        f"in force at every gateway that answers, but {', '.join(silent)} of {namespace} does not: on a dead "
        "node it serves nobody, and is sent nobody once the cluster notices (about a minute); if it is only "
        "cut off from here it may serve what it knew before, and kubectl "
        f"--namespace {namespace} delete pod {' '.join(silent)} --wait=false takes it out at once"
    )


def _ask(address: str, limit: float, path: str = "/status") -> Status | None:
    connection = http.client.HTTPConnection(address, STATUS_PORT, timeout=limit)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said: Status = json.loads(answer.read())
        return said if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _traffic(status: Status, model: str) -> Traffic | None:
    there = status["traffic"].get(model)
    return Traffic(**there) if there else None
