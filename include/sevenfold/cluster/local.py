"""The local cluster: replicas of candidates as supervised processes on loopback.

What is deployed stands in `<home>/cluster.json`, one entry a (model, slot, candidate), with the ports of its
replicas. Gateway and status believe the file; supervisord keeps the processes as it says. Changes are made by
one caller at a time, and every call can be repeated after a kill.
"""

from __future__ import annotations

import fcntl
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from sevenfold.cluster import (
    Cluster,
    Deployed,
    Deployment,
    DeploymentFailed,
    Endpoint,
    Replica,
    ready,
    the_one,
)
from sevenfold.cluster.targets import write_targets
from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.local.supervision import Program, ProgramStatus, Supervisor, UnknownProgram
from sevenfold.secrets import private_folder, write_private
from sevenfold.serving.admission import LIVE, Evidence, arm, require_admission
from sevenfold.settings import REPOSITORY, Settings, settings

PORTS = (20_000, 32_000)
"""Below the ports that systems give to outgoing connections (32,768 and up): those may be taken any time."""
SERVER = (sys.executable, "-m", "sevenfold.serving.server")
READY_LIMIT_S = 60.0
TRIAL_DRAIN_S = 0.3
"""A candidate on trial is asked by one activity, which has ended when it takes it away. Callers of a live one
may come until their gateway has noticed, so that drains for as long as the server says itself."""
STOP_WAIT_S = 20
"""Longer than the server's own drain and stop limit."""
_POLL_S = 0.05
_STOPPED = ("BACKOFF", "FATAL", "EXITED", "STOPPED", "UNKNOWN")


class LocalCluster(Cluster):
    """Starts, scales and removes replicas on this machine."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        evidence: Callable[[], Evidence],
        publish: Callable[[], None] = lambda: None,
        server: tuple[str, ...] = SERVER,
    ) -> None:
        """
        Args:
            settings: home, logs and the addresses that replicas get as their environment.
            supervisor: runs the replicas; is started when it does not run.
            evidence: opens what admission asks.
            publish: called whenever the endpoints have changed, and before replicas that leave are stopped.
            server: the command of a replica, without its arguments.
        """
        self._settings, self._supervisor = settings, supervisor
        self._evidence, self._publish, self._server = evidence, publish, server
        self._file = private_folder(settings.home) / "cluster.json"

    def deploy(self, deployment: Deployment, limit: float | None = None) -> Deployed:
        """See Cluster: within `READY_LIMIT_S` by default; a failure tells the last lines of the replica."""
        require_admission(self._evidence(), deployment.candidate, deployment.slot)
        self._supervisor.start()
        with self._alone():
            held = self._find(deployment.model, deployment.slot, deployment.candidate)
            held = held or Deployed(deployment.model, deployment.candidate, deployment.slot, ())
            held = self._fit(held, deployment.replicas, READY_LIMIT_S if limit is None else limit)
            if arm(deployment.slot) not in LIVE:
                for other in self.deployments(deployment.model, deployment.slot):
                    if other.candidate != deployment.candidate:
                        self._end(other)
            return held

    def scale(self, model: str, slot: str, replicas: int, candidate: str | None = None) -> Deployed:
        """See Cluster."""
        with self._alone():
            held = the_one(self, model, slot, candidate)
            return self._fit(held, max(1, replicas), READY_LIMIT_S)

    def remove(self, model: str, slot: str, candidate: str | None = None) -> None:
        """See Cluster."""
        with self._alone():
            for deployed in self.deployments(model, slot):
                if candidate in (None, deployed.candidate):
                    self._end(deployed)

    def running(self) -> bool:
        """Whether anything can be served at all: what is deployed starts with the stack."""
        return self._supervisor.running()

    def deployments(self, model: str | None = None, slot: str | None = None) -> list[Deployed]:
        """What is deployed."""
        return [
            deployed
            for deployed in self._read()
            if model in (None, deployed.model) and slot in (None, deployed.slot)
        ]

    def ready(self, deployed: Deployed) -> bool:
        """Whether at least one of these replicas says that it is ready."""
        return any(ready(endpoint, deployed.candidate) for endpoint in deployed.endpoints)

    def status(self) -> list[Replica]:
        """Every replica, with what supervisord says of it and whether it answers that it is ready."""
        programs = {program.name: program for program in self._supervisor.status()}
        return [
            _replica(deployed, endpoint, programs.get(program_name(deployed, endpoint)))
            for deployed in self.deployments()
            for endpoint in (*deployed.endpoints, *deployed.leaving)
        ]

    def given_up(self, deployed: Deployed) -> bool:
        """Whether supervisord starts some of these replicas no more: they failed too often in a row."""
        return any(self._hopeless(program_name(deployed, endpoint)) for endpoint in deployed.endpoints)

    def _fit(self, held: Deployed, replicas: int, limit: float) -> Deployed:
        """Makes `held` what is asked, then what runs what `held` says."""
        fit = [one for one in held.endpoints if not self._hopeless(program_name(held, one))]
        keep = tuple(fit[:replicas])
        drop = tuple(endpoint for endpoint in held.endpoints if endpoint not in keep)
        new = self._free_ports(replicas - len(keep))
        if new:
            coming = (*held.leaving, *drop, *new)
            self._write(replace(held, endpoints=keep, leaving=coming))  # known before they start
        wanted = (*keep, *new)
        self._run(held, wanted, new, limit)
        leaving = tuple(endpoint for endpoint in (*held.leaving, *drop) if endpoint not in wanted)
        held = replace(held, endpoints=wanted, leaving=leaving)
        self._write(held)
        self._publish()
        return self._stop(held)

    def _run(
        self, held: Deployed, wanted: tuple[Endpoint, ...], new: tuple[Endpoint, ...], limit: float
    ) -> None:
        """Starts what does not run and waits until all answer; takes back the new ones if that fails."""
        for endpoint in wanted:
            self._supervisor.add(self._program(held, endpoint))
        until = time.monotonic() + limit
        try:
            for endpoint in wanted:
                self._wait_ready(held, endpoint, until)
        except DeploymentFailed:
            self._supervisor.remove(*(program_name(held, endpoint) for endpoint in new))
            self._write(replace(held, leaving=tuple(one for one in held.leaving if one not in new)))
            raise

    def _hopeless(self, program: str) -> bool:
        """Whether supervisord has given a replica up, for instance because its port is taken now."""
        try:
            return self._supervisor.program(program).state == "FATAL"
        except UnknownProgram:
            return False

    def _wait_ready(self, held: Deployed, endpoint: Endpoint, until: float) -> None:
        name = program_name(held, endpoint)
        while not ready(endpoint, held.candidate):
            state = self._supervisor.program(name).state
            late = time.monotonic() > until
            if late or state in _STOPPED:
                said = self._supervisor.tail(name, 5).strip() or "nothing"
                raise DeploymentFailed(
                    f"replica {name} of {held.candidate} is not ready ({'too late' if late else state}); "
                    f"it said last: {said}"
                )
            time.sleep(_POLL_S)

    def _end(self, deployed: Deployed) -> None:
        leaving = replace(deployed, endpoints=(), leaving=(*deployed.leaving, *deployed.endpoints))
        self._write(leaving)
        self._publish()
        self._stop(leaving)

    def _stop(self, deployed: Deployed) -> Deployed:
        """Stops what leaves: each drains by itself, all at the same time."""
        self._supervisor.remove(*(program_name(deployed, endpoint) for endpoint in deployed.leaving))
        stopped = replace(deployed, leaving=())
        self._write(stopped)
        return stopped

    def _program(self, held: Deployed, endpoint: Endpoint) -> Program:
        port = str(endpoint.port)
        arguments = {"model": held.model, "candidate": held.candidate, "slot": held.slot, "port": port}
        words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
        if arm(held.slot) not in LIVE:
            words += ["--drain", str(TRIAL_DRAIN_S)]
        return Program(
            program_name(held, endpoint),
            (*self._server, *words, "--log-dir", str(self._settings.logs)),
            env=self._environment(),
            directory=self._settings.home,
            startsecs=2,
            final_codes=(NO_RETRY_HELPS,),
            stopwaitsecs=STOP_WAIT_S,
        )

    def _environment(self) -> Mapping[str, str]:
        here = self._settings
        return {
            "PYTHONPATH": str(REPOSITORY / "include"),
            "OMP_NUM_THREADS": "1",
            "SEVENFOLD_HOME": str(here.home),
            "SEVENFOLD_MODELS": str(here.models),
            "SEVENFOLD_LOGS": str(here.logs),
            "SEVENFOLD_SECRETS": str(here.secrets),
            "SEVENFOLD_EVIDENCE_URL": here.evidence_url,
            "SEVENFOLD_ARTIFACTS_URL": here.artifacts_url,
        }

    def _find(self, model: str, slot: str, candidate: str) -> Deployed | None:
        return next((d for d in self.deployments() if d.key == (model, slot, candidate)), None)

    def _free_ports(self, count: int) -> tuple[Endpoint, ...]:
        taken = {one.port for deployed in self._read() for one in (*deployed.endpoints, *deployed.leaving)}
        tried = (port for port in random.sample(range(*PORTS), 500) if port not in taken and is_free(port))
        found = tuple(map(Endpoint, islice(tried, count)))
        if len(found) < count:
            raise DeploymentFailed(f"fewer than {count} free ports were found from {PORTS[0]} to {PORTS[1]}")
        return found

    def _read(self) -> list[Deployed]:
        try:
            entries = json.loads(self._file.read_text())
        except FileNotFoundError:
            return []
        return [
            Deployed(
                *(entry["model"], entry["candidate"], entry["slot"]),
                tuple(map(Endpoint, entry["ports"])),
                tuple(map(Endpoint, entry["leaving"])),
            )
            for entry in entries
        ]

    def _write(self, changed: Deployed) -> None:
        others = [deployed for deployed in self._read() if deployed.key != changed.key]
        kept = [*others, changed] if changed.endpoints or changed.leaving else others
        entries = [
            {
                "model": one.model,
                "candidate": one.candidate,
                "slot": one.slot,
                "ports": [endpoint.port for endpoint in one.endpoints],
                "leaving": [endpoint.port for endpoint in one.leaving],
            }
            for one in kept
        ]
        write_private(self._file, json.dumps(entries, indent=1))
        write_targets(self._settings.home / "targets", kept)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._file.with_name(".cluster.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def local_cluster() -> LocalCluster:
    """The cluster of this machine's settings, whose changes the gateway is told."""
    from sevenfold.evidence.store import open_store
    from sevenfold.gateway import local_gateway

    here = settings()
    supervisor = Supervisor(here.home)
    return LocalCluster(
        here, supervisor, lambda: open_store(here.evidence_url), lambda: local_gateway().refresh()
    )


def program_name(deployed: Deployed, endpoint: Endpoint) -> str:
    """The name of a replica's program."""
    return f"{deployed.model}.{deployed.slot}.{endpoint.port}"


def _replica(deployed: Deployed, endpoint: Endpoint, program: ProgramStatus | None) -> Replica:
    return Replica(
        deployed.model,
        deployed.candidate,
        deployed.slot,
        endpoint,
        program.state if program else "MISSING",
        program.pid if program else 0,
        ready(endpoint, deployed.candidate, 2.0),  # as long as the gateway waits
        program.since if program and program.pid else 0.0,
    )


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
