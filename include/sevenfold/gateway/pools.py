"""Pools of replicas: what the gateway balances over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sevenfold.cluster import Deployed, Endpoint
from sevenfold.serving.admission import LIVE


@dataclass(frozen=True)
class Pool:
    """The replicas of one candidate for one purpose: `live`, or the name of a slot that is not."""

    model: str
    candidate: str
    purpose: str
    endpoints: tuple[Endpoint, ...]

    @property
    def name(self) -> str:
        """Name of the Envoy cluster."""
        return f"{self.candidate}.{self.purpose}"


@dataclass(frozen=True)
class Pools:
    """All pools of the gateway.

    Champion and challenger replicas of one candidate are one pool: on the day of its promotion the same
    processes go on answering, and what they are called is the route's business.
    """

    all: tuple[Pool, ...]

    @classmethod
    def of(cls, deployed: Iterable[Deployed]) -> Pools:
        """The pools that the deployments make; those without replicas are none."""
        endpoints: dict[tuple[str, str, str], list[Endpoint]] = {}
        for one in sorted(deployed, key=lambda one: one.key):
            purpose = "live" if one.slot in LIVE else one.slot
            endpoints.setdefault((one.model, one.candidate, purpose), []).extend(one.endpoints)
        return cls(tuple(Pool(*key, tuple(found)) for key, found in sorted(endpoints.items()) if found))

    def find(self, model: str, candidate: str | None, purpose: str) -> Pool | None:
        """The pool of a candidate, if it has replicas."""
        wanted = (model, candidate, purpose)
        return next((p for p in self.all if (p.model, p.candidate, p.purpose) == wanted), None)

    def of_model(self, model: str) -> tuple[Pool, ...]:
        """All pools of a model."""
        return tuple(pool for pool in self.all if pool.model == model)
