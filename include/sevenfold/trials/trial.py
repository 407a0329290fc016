"""A candidate on trial: deployed for as long as it is looked at, and taken away whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from sevenfold import direct_http
from sevenfold.activity import Activity
from sevenfold.cluster import Deployment, open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gateway import open_gateway
from sevenfold.gateway.envoy import soon
from sevenfold.release import release
from sevenfold.release.reconcile import Router
from sevenfold.release.release_row import ReleaseRow, SlotBusy
from sevenfold.serving.keys import GatewayKeys
from sevenfold.told_to_end import TERMINATED

if TYPE_CHECKING:
    import httpx

SLOT_LIMIT_S = 600.0
"""As long as a roll-out takes that is not stuck."""
SLOT_POLL_S = 1.0
GATEWAY_BACK_S = 5.0
"""More than twice as long as a gateway that has died takes to be back."""


class GatewayDown(SevenfoldError):
    """The gateway does not answer."""

    retry = True


@dataclass(frozen=True)
class Target:
    """Where a deployment answers: the gateway's URL, the path of the model below it, and a key for it."""

    host: str
    path: str
    token: str

    @property
    def url(self) -> str:
        """Address of the model: `<url>/infer`, `<url>/feedback`."""
        return f"{self.host}{self.path}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request has to carry."""
        return {"authorization": f"Bearer {self.token}", "content-type": "application/json"}

    def client(self, timeout: float) -> httpx.Client:
        """Asks within these seconds."""
        return direct_http.client(timeout)


def public(activity: Activity) -> Target:
    """The route that callers use: split and mirrored as the release row says."""
    return _target(activity, activity.settings.callers_url, f"/v2/models/{activity.promotion.model}")


def direct(activity: Activity, candidate: str) -> Target:
    """The route to one live candidate, whatever the split; what it answers is no part of any comparison."""
    path = f"/v2/models/{activity.promotion.model}/versions/{candidate}"
    return _target(activity, activity.settings.callers_url, path)


@contextmanager
def on_trial(
    activity: Activity, slot: str, candidate: str | None = None, *, replicas: int = 1, keep: bool = False
) -> Iterator[Target]:
    """Deploys a candidate (the promotion's by default) in a slot that no user reaches.

    It is removed in the end, also after an error or SIGTERM. With `keep` it stays after success, for the
    next activity of the environment, which finds it ready.

    Raises:
        GatewayDown: the gateway does not run.
        NotAdmitted, DeploymentFailed: see sevenfold.cluster.
    """
    require_gateway(activity)
    model, who = activity.promotion.model, candidate or activity.candidate.id
    cluster = open_cluster()
    done = False
    with ends_in_order():
        try:
            with activity.phase(f"deploying {who} as {slot}"):
                cluster.deploy(Deployment(model, who, slot, replicas))
            yield _target(activity, activity.settings.gateway_url, f"/{slot}/v2/models/{model}")
            done = True
        finally:
            if not (done and keep):
                cluster.remove(model, slot, who)


def claim_slot(activity: Activity, by: str) -> ReleaseRow:
    """Takes the model's slot on the release row; waits while another candidate of the model is being tried.

    Raises:
        SlotBusy: it is not free after `SLOT_LIMIT_S`.
        EvidenceLacking, OnHold, PromotionEnded: see sevenfold.release.release.claim.
    """
    limit, said = time.monotonic() + SLOT_LIMIT_S, ""
    while True:
        try:
            return release.claim(activity.store, activity.promotion.id, by=by)
        except SlotBusy as busy:
            if time.monotonic() > limit:
                raise
            if str(busy) != said:
                said = str(busy)
                activity.progress(said)
            time.sleep(SLOT_POLL_S)


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Turns SIGTERM into SystemExit, so that what must be put back is put back; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def require_gateway(
    activity: Activity, gateway: Router | None = None, within: float = GATEWAY_BACK_S
) -> None:
    """Returns when the gateway answers, that of its environment by default: one that has died is soon back.

    Raises:
        GatewayDown: it does not within so many seconds.
    """
    if not soon((gateway or open_gateway(activity.promotion.environment)).running, within, every=0.1):
        where = activity.settings.gateway_url
        raise GatewayDown(f"the gateway at {where} does not run: start the stack with make up")


def _target(activity: Activity, url: str, path: str) -> Target:
    token = GatewayKeys(activity.settings.secrets).standing()["admin"]
    return Target(url.rstrip("/"), path, token)
