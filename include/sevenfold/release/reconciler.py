"""Keeps router and registry in step with the release rows, as long as it runs.

    python -m sevenfold.release.reconciler

Whoever changes a row may ask for it at once (`reconcile_now`); this process is for everything else: a change
whose maker was killed, a gateway that was restarted, a registry that was down. Beside it, in a thread of its
own because the start of a replica takes seconds, replicas follow the load (see autoscaling). On a cluster
they do so by themselves, and only those that no row names any more are removed from here.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable

from sevenfold.cluster import open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store, open_store
from sevenfold.gateway import local_gateway, open_gateway
from sevenfold.model.spec import models
from sevenfold.release import autoscaling
from sevenfold.release.autoscaling import Scaler, scale_of
from sevenfold.release.mlflow_aliases import MlflowAliases
from sevenfold.release.reconcile import Reconciled, reconcile
from sevenfold.release.release import generations
from sevenfold.settings import Settings, settings
from sevenfold.told_to_end import told_to_end

EVERY_S = 0.5
AGAIN_S = 10.0
"""How long after a failure, or without any change, a model is reconciled again."""
CLUSTER_EVERY_S = 5.0
"""How often a cluster is asked what is deployed: only what nobody has needed for half a minute is looked for
there, and its API server is everybody's."""


def reconcile_now(store: Store, model: str, settings: Settings) -> Reconciled:
    """Makes the gateway and MLflow's aliases those of the model's release row."""
    aliases = MlflowAliases(settings.mlflow_url, store.candidate)
    return reconcile(store, model, open_gateway(hurry=True), aliases)


class Follower:
    """Reconciles a model when its row has changed, and from time to time when it has not."""

    def __init__(self, store: Store, reconcile: Callable[[str], Reconciled]) -> None:
        """
        Args:
            store: has the release rows.
            reconcile: brings what follows the row of a model in step with it.
        """
        self._store, self._reconcile = store, reconcile
        self._done: dict[str, tuple[int, float]] = {}
        self._said: dict[str, str] = {}

    def look(self, models: Iterable[str]) -> None:
        """One look at these models, all rows at once; what goes wrong is said once and tried again."""
        try:
            now = generations(self._store)
        except SevenfoldError as error:
            for model in models:
                self._tell(model, self._failed(model, error))
            return
        for model in models:
            seen, when = self._done.get(model, (0, 0.0))
            if now.get(model, 0) != seen or time.monotonic() - when >= AGAIN_S:
                self._tell(model, self._bring(model, now.get(model, 0)))

    def _bring(self, model: str, generation: int) -> str:
        """Reconciles a model; what is wrong with it then."""
        self._done[model] = (generation, time.monotonic())
        try:
            done = self._reconcile(model)
        except SevenfoldError as error:
            return self._failed(model, error)
        return "; ".join(filter(None, (done.aliases_lag, done.in_doubt)))

    def _failed(self, model: str, error: SevenfoldError) -> str:
        self._done[model] = (-1, time.monotonic())
        return str(error)

    def _tell(self, model: str, trouble: str) -> None:
        if trouble != self._said.get(model, ""):
            print(f"{model}: {trouble or 'in step again'}", flush=True)
            self._said[model] = trouble


def scale(store: Store, settings: Settings, stop: threading.Event) -> None:
    """Keeps the replicas of all models what their load needs, until it is told to stop."""
    if settings.runtime == "local":
        scaler = Scaler(store, open_cluster(), local_gateway().envoy.in_flight, scale_of)
    else:
        scaler = Scaler(store, open_cluster(), dict, lambda model: None)
    every = autoscaling.EVERY_S if settings.runtime == "local" else CLUSTER_EVERY_S
    trouble: dict[str, str] = {}
    while not stop.wait(every):
        for model in models(settings.models):
            try:
                said, now = scaler.look(model), ""
            except SevenfoldError as error:  # nothing is lost: the next look tries again
                said, now = [], f"{model} is not scaled: {error}"
            if now and now != trouble.get(model):
                said.append(now)
            trouble[model] = now
            for line in said:
                print(line, flush=True)


def main() -> None:
    """Follows all models until SIGTERM."""
    stop = told_to_end()
    here = settings()
    try:
        store = open_store(here.evidence_url)
    except SevenfoldError as error:
        sys.exit(f"the reconciler cannot start: {error}")
    follower = Follower(store, lambda model: reconcile_now(store, model, here))
    scaling = threading.Thread(target=scale, args=(store, here, stop), daemon=True)
    scaling.start()
    turned = 0.0
    while not stop.wait(EVERY_S):
        follower.look(models(here.models))
        if here.runtime == "local" and time.monotonic() - turned >= AGAIN_S:
            turned = time.monotonic()
            local_gateway().turn_logs()
        if not scaling.is_alive():
            sys.exit(1)  # its traceback is in the log; supervisord starts all of this again


if __name__ == "__main__":
    main()
