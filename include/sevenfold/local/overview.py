"""What runs where, as lines of a table for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sevenfold.cluster import Endpoint, Replica
from sevenfold.local.supervision import ProgramStatus
from sevenfold.release.traffic import Traffic
from sevenfold.serving.admission import LIVE, arm

if TYPE_CHECKING:
    from sevenfold.cluster.kubernetes import Part


def parts(
    programs: Iterable[ProgramStatus], replicas: Iterable[Replica], now: float
) -> list[tuple[str, ...]]:
    """Name, state, process and uptime of everything that is supervised and no replica.

    What is down has supervisord's sentence in the place of its uptime.
    """
    processes = {replica.pid for replica in replicas if replica.pid}
    return [
        (
            part.name,
            part.state.lower(),
            str(part.pid or ""),
            uptime(now - part.since) if part.pid else part.detail,
        )
        for part in programs
        if part.pid not in processes
    ]


def cluster_parts(found: Iterable[Part], now: float) -> list[tuple[str, ...]]:
    """Pod, state, node and uptime of everything on a cluster that is kept running and no replica."""
    return [
        (one.name, _said(one.state, one.ready), one.node, uptime(now - one.since) if one.since else "")
        for one in found
    ]


def replicas(
    found: Iterable[Replica], traffic: Traffic | None, in_flight: Mapping[Endpoint, int], now: float
) -> list[tuple[str, ...]]:
    """Candidate, slot, part of the requests, address, state, uptime, requests in flight of each replica.

    Args:
        found: the replicas of one model.
        traffic: the split that is in force.
        in_flight: by endpoint; a replica that the gateway does not know has none.
        now: seconds since 1970.
    """
    return [
        (
            replica.candidate,
            replica.slot,
            _part(replica, traffic),
            f"{replica.endpoint.host}:{replica.endpoint.port}",
            _said(replica.state, replica.ready),
            uptime(now - replica.since) if replica.since else "",
            str(in_flight[replica.endpoint]) if replica.endpoint in in_flight else "",
        )
        for replica in sorted(found, key=lambda one: (one.slot, one.candidate, one.endpoint))
    ]


def _said(state: str, ready: bool) -> str:
    return "ready" if ready else f"{state.lower()}, not ready"


def uptime(seconds: float) -> str:
    """Such as 45 s, 12 min, 3 h 20 min or 2 d 4 h."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 1:
        return f"{max(0, int(seconds))} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _part(replica: Replica, traffic: Traffic | None) -> str:
    """Which part of the callers' requests its candidate answers, with all its replicas together, or sees."""
    if traffic is None:
        return "none"
    if replica.slot in LIVE and replica.candidate == traffic.champion:
        return f"{1 - traffic.share:.0%}"
    if replica.slot in LIVE and replica.candidate == traffic.challenger:
        return f"{traffic.share:.0%}"
    if arm(replica.slot) == "shadow" and replica.candidate == traffic.challenger and traffic.mirror:
        return f"sees {traffic.mirror:.0%}"
    return "none"
