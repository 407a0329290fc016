"""The running Envoy, asked over its admin socket, and the files it reads."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sevenfold.cluster import Endpoint
from sevenfold.errors import SevenfoldError
from sevenfold.local.sockets import UnixConnection
from sevenfold.secrets import write_private

Resource = dict[str, Any]


class EnvoyDown(SevenfoldError):
    """Envoy does not answer on its admin socket."""

    retry = True


class Envoy:
    """What a running Envoy has taken."""

    def __init__(self, admin: Path) -> None:
        self._admin = admin

    def running(self) -> bool:
        """Whether it answers."""
        try:
            self._get("/ready")
        except EnvoyDown:
            return False
        return True

    def stats(self, pattern: str) -> dict[str, str]:
        """Counters, gauges and texts whose names match the regular expression."""
        told = self._get(f"/stats?filter={pattern}&format=json")
        return {one["name"]: str(one["value"]) for one in json.loads(told)["stats"] if "name" in one}

    def healthy(self) -> dict[str, int]:
        """Number of healthy replicas of each active cluster."""
        return {name: sum(map(_is_healthy, hosts)) for name, hosts in self._hosts().items()}

    def in_flight(self) -> dict[Endpoint, int]:
        """Requests that each replica has and has not answered yet, by where it answers."""
        flights: dict[Endpoint, int] = {}
        for host in chain.from_iterable(self._hosts().values()):
            found = host.get("address", {}).get("socket_address", {})
            if "port_value" in found:
                endpoint = Endpoint(found["port_value"], found["address"])
                flights[endpoint] = flights.get(endpoint, 0) + _gauge(host, "rq_active")
        return flights

    def reopen_logs(self) -> None:
        """Has it open its logs by their names again, which may lead elsewhere now."""
        self._ask("POST", "/reopen_logs")

    def drain(self) -> None:
        """Has it tell callers with every answer to ask on a new connection, which somebody else will take."""
        self._ask("POST", "/healthcheck/fail")

    def _hosts(self) -> dict[str, list[Resource]]:
        told = json.loads(self._get("/clusters?format=json"))
        return {one["name"]: one.get("host_statuses", []) for one in told.get("cluster_statuses", [])}

    def _get(self, path: str) -> bytes:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str) -> bytes:
        connection = UnixConnection(self._admin, limit=5.0)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise EnvoyDown(f"Envoy does not answer at {self._admin}: {error}") from error
        finally:
            connection.close()


class Resources:
    """A folder of resource files, each replaced whole: Envoy sees a rename, and never half a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, resources: Sequence[Resource]) -> str | None:
        """Writes a file and returns its new version; None if it holds just that already."""
        file = self.folder / name
        document = {"resources": list(resources)}
        try:
            held = json.loads(file.read_text())
            if held["resources"] == document["resources"]:
                return None
        except (FileNotFoundError, ValueError, KeyError):
            pass
        version = str(time.time_ns())
        write_private(file, json.dumps({"version_info": version, **document}, indent=1))
        return version

    def version(self, name: str) -> str:
        """The version of a file that has been put."""
        return str(json.loads((self.folder / name).read_text())["version_info"])

    def keep(self, prefix: str, names: Mapping[str, Any] | set[str]) -> None:
        """Deletes the files of this prefix that are not named."""
        for file in self.folder.glob(f"{prefix}*"):
            if file.name not in names:
                file.unlink()


def soon(true: Callable[[], bool], limit: float, every: float = 0.01) -> bool:
    """Waits until `true`, at most `limit` seconds."""
    until = time.monotonic() + limit
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(every)
    return True


def _gauge(host: Resource, name: str) -> int:
    return next((int(one.get("value", 0)) for one in host.get("stats", []) if one.get("name") == name), 0)


def _is_healthy(host: Resource) -> bool:
    status = host.get("health_status", {})
    failed = [name for name, value in status.items() if name.startswith("failed") and value]
    return not failed and status.get("eds_health_status") == "HEALTHY"
