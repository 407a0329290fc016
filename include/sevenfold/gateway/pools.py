"""Pools of replicas: what the gateway balances over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sevenfold.cluster import Deployed, Endpoint
from sevenfold.serving.admission import LIVE


@dataclass(frozen=True)
class Pool:
    """The replicas of one candidate for one purpose: `live`, or the name of a slot that is not.

    `in_doubt` says that none of them is ready, and that these are asked as the last resort.
    """

    model: str
    candidate: str
    purpose: str
    endpoints: tuple[Endpoint, ...]
    in_doubt: bool = False

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
        ready: dict[tuple[str, str, str], list[Endpoint]] = {}
        last_resort: dict[tuple[str, str, str], list[Endpoint]] = {}
        for one in sorted(deployed, key=lambda one: one.key):
            key = one.model, one.candidate, "live" if one.slot in LIVE else one.slot
            ready.setdefault(key, []).extend(one.endpoints)
            last_resort.setdefault(key, []).extend(one.last_resort)
        found = (
            Pool(*key, tuple(there or last_resort[key]), in_doubt=not there)
            for key, there in sorted(ready.items())
        )
        return cls(tuple(pool for pool in found if pool.endpoints))

    def find(self, model: str, candidate: str | None, purpose: str) -> Pool | None:
        """The pool of a candidate, if it has replicas."""
        wanted = (model, candidate, purpose)
        return next((p for p in self.all if (p.model, p.candidate, p.purpose) == wanted), None)

    def of_model(self, model: str) -> tuple[Pool, ...]:
        """All pools of a model."""
        return tuple(pool for pool in self.all if pool.model == model)
