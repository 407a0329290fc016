"""A gateway of an environment on a cluster: Envoy, and what keeps it in step, as one pod among several alike.

    python -m sevenfold.gateway.pod --environment production

It reads the release rows in the database, and where the replicas are in the Kubernetes API, and puts both in
force as the reconciler does on a laptop. Without database or API it goes on with what it knows, also after a
restart of its container. It listens on 8000 for callers, on 8001 for Prometheus, and on 8002 it says whether
it is to be sent callers (/ready), whether it lives (/live), and what it serves (/status).

SIGTERM takes it out of the list first, asks callers to come again on another connection, and ends it when
those that have come are answered.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sevenfold.cluster import Deployed, Endpoint
from sevenfold.cluster.kubernetes import deployed_of, slices
from sevenfold.cluster.manifests import MIRRORED, REPLICAS, SLOT
from sevenfold.errors import NO_RETRY_HELPS, SevenfoldError
from sevenfold.evidence.store import Store, open_store
from sevenfold.gateway.envoy import EnvoyDown
from sevenfold.gateway.local import Gateway, GatewayRefused
from sevenfold.gateway.remote import CALLERS_PORT, STATUS_PORT
from sevenfold.kubernetes.api import Changed, KubernetesApi
from sevenfold.model.spec import models
from sevenfold.release.reconcile import Reconciled, reconcile
from sevenfold.release.reconciler import AGAIN_S, Follower
from sevenfold.release.traffic import Traffic
from sevenfold.secrets import private_folder, write_private
from sevenfold.settings import Settings, settings
from sevenfold.told_to_end import told_to_end

EVERYWHERE = "0.0.0.0"  # noqa: S104 - network policies say who may come
ROWS_S = 0.25
WATCH_S = 60
"""Seconds of one watch; after each the list is read whole."""
AFTER_TROUBLE_S = 1.0
DRAIN_S = 10.0
"""Longer than a request may take, and than it takes until nobody is sent here any more."""


class BrokenGateway(SevenfoldError):
    """A part of the gateway that should run as long as it has ended."""

    retry = True


class Replicas:
    """Where the replicas are that this gateway may ask, as the cluster said last.

    It is remembered in a file: a container that is started again while the API server is away knows them.
    """

    def __init__(self, api: KubernetesApi, here: Settings, environment: str) -> None:
        self._api = api
        self._wanted = {here.namespace_of(environment): REPLICAS}
        if environment == "production":
            self._wanted[here.namespace_of("preproduction")] = {**REPLICAS, SLOT: MIRRORED}
        self._file = private_folder(here.home / "gateway") / "replicas.json"
        self._lock = threading.Lock()
        self._found = self._remembered()

    @property
    def known(self) -> bool:
        """Whether the cluster has said it of every namespace, now or before this container was started."""
        return set(self._found) == set(self._wanted)

    def now(self) -> list[Deployed]:
        """All of them."""
        return [one for found in self._found.values() for one in found]

    @property
    def namespaces(self) -> list[str]:
        """Where they are looked for."""
        return list(self._wanted)

    def follow(self, namespace: str, changed: Callable[[], object], stop: threading.Event) -> None:
        """Keeps those of a namespace up to date until `stop`, and calls `changed` each time.

        A watch says when, the list says what: nothing depends on every event's being seen.
        """
        path, labels, said = slices(namespace), self._wanted[namespace], ""
        while not stop.is_set():
            try:
                listed = self._api.list(path, labels)
                self._take(namespace, deployed_of(listed["items"]))
                changed()
                next(self._api.watch(path, labels, listed["metadata"]["resourceVersion"], WATCH_S), None)
                trouble = ""
            except Changed:
                trouble = ""
            except SevenfoldError as error:
                trouble = str(error)
                stop.wait(AFTER_TROUBLE_S)
            if trouble != said:
                say(f"{namespace}: {trouble or 'in step again'}")
                said = trouble

    def _take(self, namespace: str, found: list[Deployed]) -> None:
        with self._lock:
            self._found = {**self._found, namespace: found}
            kept = {name: [asdict(one) for one in there] for name, there in self._found.items()}
            write_private(self._file, json.dumps(kept))

    def _remembered(self) -> dict[str, list[Deployed]]:
        try:
            kept = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {name: [_deployed(**one) for one in there] for name, there in kept.items()}


class GatewayPod:
    """Envoy and what keeps it in step."""

    def __init__(
        self, here: Settings, environment: str, replicas: Replicas, store: Callable[[], Store]
    ) -> None:
        """
        Args:
            here: its gateway_url is where it listens.
            environment: its own.
            replicas: where they are.
            store: opens the evidence store, which may be away.
        """
        self._models = models(here.models)
        self._replicas, self._store = replicas, store
        self._serves_callers = environment == "production"
        self.gateway = Gateway(here, replicas.now, EVERYWHERE, environment)
        self._in_force: dict[str, Traffic] = {}
        self._looked, self._refused = set[str](), set[str]()
        self._known: list[str] = []
        self.draining = False

    def start(self) -> None:
        """Writes what Envoy starts with: what this pod served last, if it served before."""
        self._program = self.gateway.program()
        for model in self._models:
            if (served := self.gateway.traffic(model)) is not None:
                self._in_force[model] = served

    def keep_envoy(self, stop: threading.Event) -> None:
        """Runs Envoy until `stop`, and starts it again whenever it ends."""
        while not stop.is_set():
            began = time.monotonic()
            envoy = subprocess.Popen(self._program.command, cwd=self._program.directory)
            try:
                while envoy.poll() is None and not stop.wait(0.05):
                    pass
            finally:
                _end(envoy)
            if not stop.is_set():
                say(f"Envoy ended with {envoy.returncode}: it is started again")
                stop.wait(max(0.0, AFTER_TROUBLE_S - (time.monotonic() - began)))

    def follow_rows(self, stop: threading.Event) -> None:
        """Puts in force what the release rows say, for production; and new keys, for all."""
        follower: Follower | None = None
        turned, said = 0.0, ""
        while not stop.wait(ROWS_S):
            try:
                if time.monotonic() - turned >= AGAIN_S:
                    turned = time.monotonic()
                    self.gateway.turn_logs()
                    self.gateway.refresh()
                    self._say_keys()
                if self._serves_callers:
                    follower = follower or self._follower(self._store())
                    follower.look(self._models)
                trouble = ""
            except SevenfoldError as error:
                trouble = str(error)
                stop.wait(AFTER_TROUBLE_S)
            if trouble != said:
                say(trouble or "in step again")
                said = trouble

    def _say_keys(self) -> None:
        """Once for each change: who rotates keys waits until every gateway has said it."""
        known = sorted(key["kid"] for key in self.gateway.keys.jwks()["keys"])
        if known != self._known:
            say(f"keys in force: {', '.join(known)}")
            self._known = known

    def ready(self) -> bool:
        """Whether callers may be sent here: Envoy answers, and every model has a split in force.

        One that Envoy refuses makes a new pod wait. Where the model was served before, its old split goes on,
        and who changes it is told: no model's split takes all others away.
        """
        looked = not self._serves_callers or all(
            model in self._looked or model in self._in_force for model in self._models
        )
        return (
            not self.draining
            and self._replicas.known
            and looked
            and not self._refused - self._in_force.keys()
            and self.gateway.running()
        )

    def status(self) -> dict[str, Any]:
        """What is in force: the split of each model, and the healthy replicas of each pool."""
        try:
            healthy = self.gateway.envoy.healthy()
        except EnvoyDown:
            healthy = {}
        return {
            "ready": self.ready(),
            "traffic": {model: asdict(split) for model, split in self._in_force.items()},
            "replicas": healthy,
        }

    def marks(self) -> dict[str, Any]:
        """A mark in the log, or why there is none."""
        try:
            return {"marks": sorted(self.gateway.marks())}
        except SevenfoldError as error:
            return {"error": str(error)}

    def _follower(self, store: Store) -> Follower:
        def bring(model: str) -> Reconciled:
            try:
                done = reconcile(store, model, self.gateway)
            except GatewayRefused:
                self._refused.add(model)
                raise
            self._refused.discard(model)
            self._looked.add(model)
            served = self.gateway.traffic(model)
            if served is not None:
                self._in_force[model] = served
            return done

        return Follower(store, bring)


class _Answers(BaseHTTPRequestHandler):
    """Answers who asks how this pod is."""

    pod: GatewayPod

    def do_GET(self) -> None:
        """/live, /ready, /status and /marks."""
        if self.path == "/live":
            self._say(200, {"live": True})
        elif self.path == "/ready":
            ready = self.pod.ready()
            self._say(200 if ready else 503, {"ready": ready})
        elif self.path == "/status":
            self._say(200, self.pod.status())
        elif self.path == "/marks":
            said = self.pod.marks()
            self._say(503 if "error" in said else 200, said)
        else:
            self._say(404, {"error": "there is /live, /ready, /status and /marks"})

    def log_message(self, *_: object) -> None:
        """Probes ask every second: nothing is said of it."""

    def _say(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        with suppress(ConnectionError):  # who asked has given up
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def serve(pod: GatewayPod, replicas: Replicas, stop: threading.Event, status_port: int = STATUS_PORT) -> None:
    """Runs until `stop`, then drains."""
    pod.start()
    ended = threading.Event()
    answers = ThreadingHTTPServer((EVERYWHERE, status_port), type("Answers", (_Answers,), {"pod": pod}))
    envoy = threading.Thread(target=pod.keep_envoy, args=(ended,))
    followers = [
        threading.Thread(target=pod.follow_rows, args=(ended,), daemon=True),
        *(
            threading.Thread(target=replicas.follow, args=(one, pod.gateway.refresh, ended), daemon=True)
            for one in replicas.namespaces
        ),
    ]
    for thread in (envoy, threading.Thread(target=answers.serve_forever, daemon=True), *followers):
        thread.start()
    try:
        while not stop.wait(AFTER_TROUBLE_S):
            if not all(thread.is_alive() for thread in (envoy, *followers)):
                raise BrokenGateway("a part of the gateway has ended, the log says why: all is started again")
        drain(pod)
    finally:
        ended.set()
        envoy.join()
        answers.shutdown()


def drain(pod: GatewayPod) -> None:
    """Ends without losing a request: nobody is sent here any more, and those that have come are answered."""
    say("ends: no new callers are sent here, those that have come are answered")
    pod.draining = True
    with suppress(EnvoyDown):
        pod.gateway.envoy.drain()
        time.sleep(DRAIN_S)


def listening(here: Settings) -> Settings:
    """The settings of a gateway that listens on all addresses of its pod; with TLS, if it has that."""
    scheme = "https" if here.gateway_certificate else "http"
    return here.model_copy(update={"gateway_url": f"{scheme}://{EVERYWHERE}:{CALLERS_PORT}"})


def main(arguments: list[str] | None = None) -> None:
    """The program of a gateway pod."""
    parser = argparse.ArgumentParser(prog="sevenfold.gateway.pod", description=__doc__)
    parser.add_argument("--environment", required=True, choices=("staging", "preproduction", "production"))
    given = parser.parse_args(arguments)
    stop = told_to_end()
    here = listening(settings())
    try:
        replicas = Replicas(KubernetesApi(here), here, given.environment)
        pod = GatewayPod(here, given.environment, replicas, lambda: open_store(here.evidence_url))
        serve(pod, replicas, stop)
    except SevenfoldError as error:
        print(f"gateway of {given.environment}: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if error.retry else NO_RETRY_HELPS)


def say(line: str) -> None:
    """One line in the pod's log."""
    print(line, flush=True)


def _deployed(model: str, candidate: str, slot: str, **where: Iterable[Any]) -> Deployed:
    there = {name: tuple(Endpoint(*one) for one in found) for name, found in where.items()}
    return Deployed(model, candidate, slot, **there)


def _end(envoy: subprocess.Popen[bytes]) -> None:
    envoy.terminate()
    try:
        envoy.wait(5)
    except subprocess.TimeoutExpired:
        envoy.kill()
        envoy.wait()


if __name__ == "__main__":
    main()
