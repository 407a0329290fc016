"""Who can reach whom, computed from NetworkPolicies: what a network plugin enforces, without one.

A connection needs the leave of both ends: of the policies that select the sender for Egress one must let it
out, of those that select the receiver for Ingress one must let it in. A pod that no policy selects is free.
(Kubernetes documentation, Concepts, Network Policies.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod with the labels of it and of its namespace, or an address outside."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    space: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


class Network:
    """All policies of a cluster."""

    def __init__(self, policies: list[dict[str, Any]]) -> None:
        self._policies = policies

    def reaches(self, sender: End, receiver: End, port: int, protocol: str = "TCP") -> bool:
        """Whether `sender` can open a connection to a port of `receiver`."""
        return self._lets(sender, "egress", "to", receiver, port, protocol) and self._lets(
            receiver, "ingress", "from", sender, port, protocol
        )

    def ports(self) -> set[tuple[str, int]]:
        """Every protocol and port that some policy names, both ends of a range, and one that none names."""
        named = {("TCP", 1)}
        for policy in self._policies:
            for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
                for port in rule.get("ports", []):
                    protocol = port.get("protocol", "TCP")
                    named |= {(protocol, port["port"]), (protocol, port.get("endPort", port["port"]))}
        return named

    def _lets(self, end: End, way: str, peer: str, other: End, port: int, protocol: str) -> bool:
        selecting = [
            policy["spec"]
            for policy in self._policies
            if not end.address
            and policy["metadata"]["namespace"] == end.namespace
            and way.capitalize() in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], end.labels)
        ]
        rules = [rule for spec in selecting for rule in spec.get(way, [])]
        return not selecting or any(
            _covers(rule.get("ports"), port, protocol) and _matches(rule.get(peer), end.namespace, other)
            for rule in rules
        )


def _covers(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        one.get("protocol", "TCP") == protocol and one["port"] <= port <= one.get("endPort", one["port"])
        for one in ports
    )


def _matches(peers: list[dict[str, Any]] | None, own: str, other: End) -> bool:
    return not peers or any(_is(peer, own, other) for peer in peers)


def _is(peer: dict[str, Any], own: str, other: End) -> bool:
    if block := peer.get("ipBlock"):
        inside = bool(other.address) and ip_address(other.address) in ip_network(block["cidr"])
        return inside and not any(
            ip_address(other.address) in ip_network(hole) for hole in block.get("except", [])
        )
    if other.address:
        return False
    if "namespaceSelector" in peer:
        here = _selects(peer["namespaceSelector"], other.space)
    else:
        here = other.namespace == own
    return here and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        _holds(rule, labels) for rule in selector.get("matchExpressions", [])
    )


def _holds(rule: dict[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(rule["key"])
    return {
        "In": lambda: value in rule["values"],
        "NotIn": lambda: value not in rule["values"],
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
    }[rule["operator"]]()


def edges(network: Network, ends: Mapping[str, End]) -> Iterator[str]:
    """Every connection that is possible, as `sender -> receiver:port` (UDP: `:udp/port`); none to itself."""
    ports = network.ports()
    for sender, one in ends.items():
        for receiver, other in ends.items():
            if sender == receiver or (one.address and other.address):
                continue
            for protocol, port in ports:
                if network.reaches(one, other, port, protocol):
                    yield f"{sender} -> {receiver}:{'udp/' if protocol == 'UDP' else ''}{port}"
