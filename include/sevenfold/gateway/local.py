"""The gateway of this machine: keeps Envoy's files as the traffic of each model says."""

from __future__ import annotations

import fcntl
import json
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sevenfold.cluster import Deployed, open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gateway.bootstrap import (
    CERTIFICATE_FILE,
    LOGS,
    Tls,
    bootstrap,
    certificate,
    filter_file,
    listener,
)
from sevenfold.gateway.clusters import cluster, endpoints, endpoints_file
from sevenfold.gateway.envoy import Envoy, EnvoyDown, Resources, soon
from sevenfold.gateway.filters import filters
from sevenfold.gateway.logs import LinkedLog
from sevenfold.gateway.marks import mark
from sevenfold.gateway.pools import Pool, Pools
from sevenfold.gateway.routes import routes
from sevenfold.local.sockets import socket_folder
from sevenfold.local.supervision import Program
from sevenfold.monitoring import answers
from sevenfold.release.traffic import Traffic
from sevenfold.secrets import private_folder, write_private
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import Settings, settings

TAKEN_LIMIT_S = 10.0
HEALTHY_LIMIT_S = 5.0
NEVER_GIVEN_UP = 1000
"""Starts in a row, each a second later than the one before: without a gateway nobody is served, and what it
fails at, such as a port that somebody has taken, may be over any time."""
_ROUTES_VERSION = "http.gateway.rds.gateway.version_text"
_CLUSTERS_VERSION = "cluster_manager.cds.version_text"


class StaleTraffic(SevenfoldError):
    """A split that is older than the one that is served."""


class Unencrypted(SevenfoldError):
    """The gateway would send keys readable through a network, or lacks the files of its TLS."""


class GatewayRefused(SevenfoldError):
    """Envoy did not take what was written; it goes on with what it had."""


class Gateway:
    """Envoy on loopback. Every call can be repeated, and is safe against others at the same time."""

    def __init__(
        self,
        settings: Settings,
        deployed: Callable[[], Sequence[Deployed]],
        statistics: str = "127.0.0.1",
        environment: str = "",
    ) -> None:
        """
        Args:
            settings: home, logs, secrets, the gateway's URL and the limit of each key.
            deployed: what is deployed now.
            statistics: the address at which Prometheus finds the statistics, at the port after the callers'.
            environment: whose gateway it is, where each has one of its own.
        """
        self._settings, self._deployed, self._statistics = settings, deployed, statistics
        self._rate, self._environment = settings.gateway_requests_per_second, environment
        self._folder = private_folder(settings.home / "gateway")
        logs = private_folder(settings.logs)
        self._logs = [LinkedLog(logs / name, self._folder / f"{name}.jsonl") for name in LOGS]
        self._files = Resources(private_folder(self._folder / "dynamic"))
        self._admin = socket_folder(settings.home) / "envoy.sock"
        self.envoy = Envoy(self._admin)
        self.keys = GatewayKeys(settings.secrets)

    def program(self) -> Program:
        """Envoy as a supervised program; writes what it starts with, the last committed split included."""
        address = urlsplit(self._settings.gateway_url)
        host = address.hostname or "127.0.0.1"
        port = address.port or (443 if address.scheme == "https" else 80)
        start = self._folder / "bootstrap.json"
        made_of = bootstrap(self._admin, self._files.folder, port + 1, self._statistics)
        write_private(start, json.dumps(made_of, indent=1))
        if tls := _tls(self._settings):
            self._files.put(CERTIFICATE_FILE, [certificate(tls)])
        self.turn_logs()
        made = listener(host, port, self._files.folder, self._folder, tls is not None, self._environment)
        self._files.put("lds.json", [made])
        self.refresh()
        envoy = Path(sysconfig.get_path("scripts")) / "envoy"
        command = [str(envoy), "-c", str(start), "--concurrency", "1", "--disable-hot-restart"]
        command += ["--reject-unknown-dynamic-fields", "--file-flush-interval-msec", "1000"]
        command += ["--drain-time-s", "5", "--log-level", "warning"]
        return Program(
            "gateway",
            tuple(command),
            directory=self._folder,
            startretries=NEVER_GIVEN_UP,
            stopwaitsecs=10,
            priority=100,
        )

    def running(self) -> bool:
        """Whether Envoy answers."""
        return self.envoy.running()

    def apply(self, traffic: Traffic) -> None:
        """Makes Envoy serve `traffic`, and returns when it does; the same one again changes nothing.

        Raises:
            StaleTraffic: a later generation is served already, or another split of the same one.
            GatewayRefused: Envoy did not take it.
        """
        with self._alone():
            held = self._traffic()
            served = held.get(traffic.model)
            if served and served != traffic and traffic.generation <= served.generation:
                raise StaleTraffic(
                    f"the gateway serves generation {served.generation} of {traffic.model}'s traffic: "
                    f"generation {traffic.generation} comes too late"
                )
            held[traffic.model] = traffic
            kept = {model: asdict(split) for model, split in held.items()}
            write_private(self._folder / "traffic.json", json.dumps(kept, indent=1))
            self._publish(held)

    def traffic(self, model: str) -> Traffic | None:
        """The split that was applied last; None before the first."""
        return self._traffic().get(model)

    def refresh(self) -> None:
        """Brings Envoy up to date with what is deployed and with the keys; the splits stay.

        Raises:
            GatewayRefused: Envoy did not take it.
        """
        with self._alone():
            self._publish(self._traffic())

    def turn_logs(self) -> None:
        """Ends a log that is large or as old as it may get; Envoy, if it runs, goes on in a new file.

        Whoever keeps this gateway in step calls it every few seconds.
        """
        with self._alone():
            for log in self._logs:
                log.turn(datetime.now(UTC))
            if not all(log.taken for log in self._logs):
                with suppress(EnvoyDown):
                    self.envoy.reopen_logs()

    def marks(self) -> set[str]:
        """See Router.

        Raises:
            NotMarked: Envoy does not answer, or does not log.
        """
        log = self._logs[LOGS.index(answers.FOLDER)].file
        return {mark(self._settings.gateway_url, log)} if log else set()

    def _publish(self, traffic: Mapping[str, Traffic]) -> None:
        """Writes what has changed, in the order in which Envoy can take it: who answers before who is asked,
        and who is asked no more before who has gone."""
        pools = Pools.of(self._deployed())
        for name, resource in filters(self.keys.jwks(), self._rate).items():
            self._files.put(filter_file(name), [resource])
        moved = [self._files.put(endpoints_file(pool), [endpoints(pool)]) for pool in pools.all]
        new = [cluster(pool, self._files.folder, self._folder) for pool in pools.all]
        old = [one for one in self._held("cds.json") if one["name"] not in {pool.name for pool in pools.all}]
        self._put("cds.json", [*new, *old], _CLUSTERS_VERSION)
        if any(moved):
            self._await_healthy(pools.all)
        self._put("rds.json", [routes(traffic, pools)], _ROUTES_VERSION)
        self._put("cds.json", new, _CLUSTERS_VERSION)
        self._files.keep("eds_", {endpoints_file(pool) for pool in pools.all})

    def _put(self, name: str, resources: Sequence[dict[str, Any]], stat: str) -> None:
        """Writes a file if it is new, and waits until Envoy, if it runs, has taken it, whoever wrote it."""
        self._files.put(name, resources)
        version = self._files.version(name)
        if not self.envoy.running():
            return
        taken = soon(lambda: self.envoy.stats(f"^{stat}$").get(stat) == version, TAKEN_LIMIT_S)
        if not taken and self.envoy.running():
            raise GatewayRefused(f"Envoy did not take {self._files.folder / name}; its log says why")

    def _await_healthy(self, pools: Sequence[Pool]) -> None:
        """Waits until Envoy knows a healthy replica in each pool; goes on without those that have none."""
        if self.envoy.running():
            names = {pool.name for pool in pools}
            soon(lambda: names <= {n for n, count in self.envoy.healthy().items() if count}, HEALTHY_LIMIT_S)

    def _held(self, name: str) -> list[dict[str, Any]]:
        try:
            held: list[dict[str, Any]] = json.loads((self._files.folder / name).read_text())["resources"]
        except FileNotFoundError:
            return []
        return held

    def _traffic(self) -> dict[str, Traffic]:
        try:
            kept = json.loads((self._folder / "traffic.json").read_text())
        except FileNotFoundError:
            return {}
        return {model: Traffic(**split) for model, split in kept.items()}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _tls(settings: Settings) -> Tls | None:
    """What the gateway encrypts with; None on loopback without TLS.

    Raises:
        Unencrypted: keys would travel readable, or URL and files do not agree.
    """
    address = urlsplit(settings.gateway_url)
    chain, key = settings.gateway_certificate, settings.gateway_key
    if address.scheme == "https":
        if chain is None or key is None or not (chain.is_file() and key.is_file()):
            raise Unencrypted(
                f"{settings.gateway_url} needs a certificate and its key: set SEVENFOLD_GATEWAY_CERTIFICATE "
                "and SEVENFOLD_GATEWAY_KEY to PEM files that are there"
            )
        return Tls(chain.absolute(), key.absolute())
    if not (settings.gateway_plain or is_loopback(address.hostname or "127.0.0.1")):
        raise Unencrypted(
            f"keys for {settings.gateway_url} would travel readable: give it https and a certificate, "
            "or bind it to 127.0.0.1 (or say SEVENFOLD_GATEWAY_PLAIN=true inside a cluster that you trust)"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`, a name or an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_gateway() -> Gateway:
    """The gateway of this machine's settings."""
    return Gateway(settings(), lambda: open_cluster().deployments())
