"""Horizontal scaling: replicas follow the requests in flight, between a least and a most.

`Autoscaler` is the whole decision, pure: samples in, a number of replicas out, by the rule and with the
stabilisation of Kubernetes' HorizontalPodAutoscaler, so that one setting (`serving.scaling` in model.yaml)
means the same here and there. `Scaler` carries it out on this machine, and takes away what nobody needs.

Requests in flight are those that a replica has and has not answered, as the gateway counts them: Envoy's
rq_active of each host here, envoy_cluster_live_upstream_rq_active{envoy_cluster_name="<candidate>"} of all
gateways as an HPA's metric. A replica answers one request at a time, so the number is its queue, and tells of
overload before latency does; CPU does not (a replica that waits for a slow disk is idle).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sevenfold.cluster import Cluster, Deployed, Endpoint
from sevenfold.evidence.store import Store
from sevenfold.model.spec import load_spec
from sevenfold.release import release
from sevenfold.serving.admission import LIVE

EVERY_S = 0.5
WINDOW_S = 5.0
"""What is compared with the target is the mean of so many seconds."""
CALM_S = 60.0
"""Fewer replicas only when so long no more were needed: HPA's stabilizationWindowSeconds."""
TOLERANCE = 0.1
"""HPA's: nothing changes while the target is missed by no more than this part."""
REVIVE_S = 10.0
"""So often replicas are looked for that supervisord has given up: what they failed at may be over."""
UNNEEDED_S = 30.0
"""A live candidate that the release row names no more is removed after this time: a retry still finds it."""


_Value = TypeVar("_Value", int, float)


@dataclass(frozen=True)
class Scale:
    """`least` to `most` replicas, each with at most `in_flight` requests on average."""

    least: int
    most: int
    in_flight: float


def wanted(replicas: int, in_flight: float, scale: Scale) -> int:
    """HPA's rule: as many replicas as bring the mean of each to the target, at most twice as many as now.

    Args:
        replicas: how many there are, one or more.
        in_flight: requests in flight on all of them together, the mean of some time.
        scale: bounds and target.
    """
    number = replicas
    if abs(in_flight / (replicas * scale.in_flight) - 1) > TOLERANCE:
        number = min(math.ceil(in_flight / scale.in_flight), 2 * replicas)
    return max(scale.least, min(number, scale.most))


@dataclass
class Autoscaler:
    """Decides for the replicas of one candidate."""

    scale: Scale
    window_s: float = WINDOW_S
    calm_s: float = CALM_S
    _samples: deque[tuple[float, float]] = field(default_factory=deque)
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _changed: float | None = None

    def decide(self, now: float, replicas: int, in_flight: float) -> int:
        """The number of replicas that there should be.

        More come as soon as a whole window has wanted them, counted from the last change; fewer, one at a
        time, when the largest number that was wanted in the whole calm time is lower.

        Args:
            now: seconds of a clock that only goes forward.
            replicas: how many take requests now.
            in_flight: requests in flight on all of them at this moment.
        """
        if self._changed is None:
            self._changed = now
        _keep(self._samples, (now, in_flight), self.window_s)
        mean = sum(value for _, value in self._samples) / len(self._samples)
        number = wanted(replicas, mean, self.scale)
        _keep(self._wanted, (now, number), self.calm_s)
        since = now - self._changed
        if number > replicas and since >= self.window_s:
            return self._to(now, number)
        if max(number for _, number in self._wanted) < replicas and since >= self.calm_s:
            return self._to(now, replicas - 1)
        return max(self.scale.least, min(replicas, self.scale.most))

    def _to(self, now: float, replicas: int) -> int:
        self._changed = now
        self._samples.clear()  # the load of other replicas than there will be
        return replicas


def _keep(kept: deque[tuple[float, _Value]], one: tuple[float, _Value], seconds: float) -> None:
    kept.append(one)
    while kept[0][0] < one[0] - seconds:
        kept.popleft()


class Scaler:
    """Brings the live replicas of a model to what is needed; one look changes little and can be repeated."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        in_flight: Callable[[], Mapping[Endpoint, int]],
        scale: Callable[[str], Scale | None],
        clock: Callable[[], float] = time.monotonic,
        window_s: float = WINDOW_S,
        calm_s: float = CALM_S,
    ) -> None:
        """
        Args:
            store: has the release rows.
            cluster: the replicas.
            in_flight: requests in flight now, by where a replica answers.
            scale: the bounds of a model; None: its number of replicas is not touched.
            clock: seconds.
            window_s: see `Autoscaler`, as calm_s.
            calm_s: seconds.
        """
        self._store, self._cluster, self._in_flight = store, cluster, in_flight
        self._scale, self._clock, self._windows = scale, clock, (window_s, calm_s)
        self._deciding: dict[tuple[str, str, str], Autoscaler] = {}
        self._unneeded: dict[tuple[str, str, str], float] = {}
        self._revived: dict[str, float] = {}

    def look(self, model: str) -> list[str]:
        """One look at one model; a sentence for everything that it changed."""
        found = [one for slot in LIVE for one in self._cluster.deployments(model, slot)]
        live = [one for one in found if one.endpoints]
        return [*self._remove_unneeded(model, found), *self._revive(model, live), *self._fit(model, live)]

    def _revive(self, model: str, live: list[Deployed]) -> list[str]:
        now, said = self._clock(), []
        if now - self._revived.get(model, -REVIVE_S) >= REVIVE_S:
            self._revived[model] = now
            for deployed in filter(self._cluster.given_up, live):
                self._cluster.scale(model, deployed.slot, len(deployed.endpoints), deployed.candidate)
                said.append(
                    f"{deployed.candidate} as {deployed.slot}: what had been given up was started again"
                )
        return said

    def _fit(self, model: str, live: list[Deployed]) -> list[str]:
        scale, flights, said = self._scale(model), self._in_flight(), []
        if scale is None:
            return []
        for deployed in live:
            decider = self._deciding.get(deployed.key)
            if decider is None or decider.scale != scale:
                decider = self._deciding[deployed.key] = Autoscaler(scale, *self._windows)
            now, flying = len(deployed.endpoints), sum(flights.get(one, 0) for one in deployed.endpoints)
            number = decider.decide(self._clock(), now, flying)
            if number != now:
                self._cluster.scale(model, deployed.slot, number, deployed.candidate)
                said.append(f"{deployed.candidate} as {deployed.slot}: {now} replicas become {number}")
        return said

    def _remove_unneeded(self, model: str, found: list[Deployed]) -> list[str]:
        """What is deployed was named by the row before: `found` has to be read first, the row after it."""
        row, now, said = release.row(self._store, model), self._clock(), []
        named = {row.champion, row.previous, row.candidate}
        for deployed in found:
            if row.generation == 0 or deployed.candidate in named:
                self._unneeded.pop(deployed.key, None)
            elif now - self._unneeded.setdefault(deployed.key, now) >= UNNEEDED_S:
                self._cluster.remove(*deployed.key)
                del self._unneeded[deployed.key]
                said.append(f"{deployed.candidate} as {deployed.slot} is needed no more: removed")
        return said


def scale_of(model: str) -> Scale | None:
    """What model.yaml says."""
    serving = load_spec(model).serving
    if serving.scaling is None:
        return None
    return Scale(serving.replicas, serving.scaling.most, serving.scaling.in_flight)
