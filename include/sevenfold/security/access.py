"""Whether the gateway lets in whom it should and nobody else, and survives what nobody should send."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sevenfold.gateway.filters import OPEN_PATHS
from sevenfold.security.check import Check
from sevenfold.serving.keys import SCOPES, GatewayKeys
from sevenfold.serving.protocol import MAX_BODY
from sevenfold.trials.trial import Target

LIMIT_S = 10.0
NOTHING = b"{}"
"""A body that is refused after the key was looked at: a probe must not count as a prediction or a label."""


@dataclass(frozen=True)
class Route:
    """What can be asked, and the scopes that may ask it; `open` to everybody."""

    method: str
    path: str
    scopes: tuple[str, ...] = ("admin",)
    open: bool = False

    def expects(self, scope: str) -> int | None:
        """The status for a key of this scope (empty: no valid key); None for any answer of the service."""
        if self.open:
            return 200
        return 401 if not scope else None if scope in self.scopes else 403


def routes(model: str, candidate: str, trial: str) -> list[Route]:
    """All kinds of route of the gateway, for one model; `trial` is the path of a deployment without users."""
    own = f"/v2/models/{model}"
    return [
        *(Route("GET", path, open=True) for path in OPEN_PATHS),
        Route("GET", "/v2", ("predict", "admin")),
        Route("GET", own, ("predict", "admin")),
        Route("GET", f"{own}/ready", ("predict", "admin")),
        Route("POST", f"{own}/infer", ("predict", "admin")),
        Route("POST", f"{own}/feedback", ("feedback", "admin")),
        Route("POST", f"{own}/versions/{candidate}/infer"),
        Route("GET", f"{own}/versions/{candidate}"),
        Route("POST", f"{trial}/infer"),
        Route("GET", trial),
        Route("DELETE", own),
        Route("GET", "/metrics"),
        Route("GET", "/openapi.json"),
        Route("GET", "/no/such/path"),
    ]


def forged(keys: GatewayKeys, others: GatewayKeys) -> dict[str, str]:
    """Headers that must let nobody in, by what is wrong with them."""
    right = keys.token("security", ["admin"])
    head, payload, signature = right.split(".")
    unsigned = _encoded(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    said = base64.urlsafe_b64decode(payload + "==")
    changed = _encoded(said.replace(b'"security"', b'"Security"'))
    return {
        "no key": "",
        "an empty key": "Bearer",
        "garbage": "Bearer not.a.token",
        "a password": "Basic YWRtaW46YWRtaW4=",  # pragma: allowlist secret
        "no signature": f"Bearer {unsigned}.{payload}.",
        "another's signature": f"Bearer {others.token('security', ['admin'])}",
        "a changed name": f"Bearer {head}.{changed}.{signature}",
        "an expired key": f"Bearer {keys.token('security', ['admin'], timedelta(minutes=-5))}",
    }


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def matrix(client: Any, target: Target, asked: list[Route], keys: GatewayKeys, folder: Path) -> Check:
    """Every route with every kind of key, right and wrong ones; `folder` gets the keys of a stranger."""
    valid = {scope: f"Bearer {keys.token('security', [scope])}" for scope in SCOPES}
    probes = [(route, f"a {scope} key", header, scope) for route in asked for scope, header in valid.items()]
    for name, header in forged(keys, GatewayKeys(folder)).items():
        probes += [(route, name, header, "") for route in asked]
    problems = []
    for route, name, header, scope in probes:
        status, expected = _status(client, target, route, header), route.expects(scope)
        fine = status == expected if expected else status not in (0, 401, 403)
        if not fine:
            wanted = expected or "an answer"
            problems.append(f"{route.method} {route.path} with {name}: {status or 'nothing'}, not {wanted}")
    title = "Every route lets in the right keys only"
    return Check("access_violations", title, "probes", len(probes), tuple(problems))


def bad_bodies(good: bytes) -> dict[str, bytes]:
    """Bodies that must be refused, made from a good one."""
    request = json.loads(good)
    first = request["inputs"][0]

    def with_first(**changes: Any) -> bytes:
        return json.dumps({**request, "inputs": [{**first, **changes}, *request["inputs"][1:]]}).encode()

    return {
        "nothing": b"",
        "no JSON": b"hello",
        "bytes": bytes(range(256)) * 8,
        "half of a request": good[: len(good) // 2],
        "a list": b"[]",
        "10,000 brackets": b"[" * 10_000,
        "no inputs": b'{"inputs": []}',
        "null": b'{"inputs": null}',
        "an unknown input": with_first(name="__class__"),
        "a shape below zero": with_first(shape=[-1]),
        "a shape of a billion": with_first(shape=[1_000_000_000]),
        "an unknown type": with_first(datatype="PICKLE"),
        "data of objects": with_first(data=[{"__reduce__": "os.system"}]),
        "an input twice": json.dumps({**request, "inputs": [first, *request["inputs"]]}).encode(),
        "a body over the limit": good + b" " * (MAX_BODY + 1 - len(good)),
        "a body ten times the limit": b"[" + b"0," * (5 * MAX_BODY) + b"0]",
    }


def bodies(client: Any, target: Target, good: bytes) -> Check:
    """Each bad body is refused with 4xx and a sentence, and a good one is answered afterwards."""
    problems = []
    asked = bad_bodies(good)
    for name, body in asked.items():
        status, sentence = _post(client, target, body)
        if not 400 <= status < 500:
            problems.append(f"{name}: answered with {status or 'nothing'}")
        elif not sentence:
            problems.append(f"{name}: {status} without a sentence")
    status, _ = _post(client, target, good)
    if status != 200:
        problems.append(f"after all that a good request is answered with {status or 'nothing'}")
    title = "Garbage and oversized bodies are refused, and service goes on"
    return Check("body_violations", title, "bodies", len(asked) + 1, tuple(problems))


def _status(client: Any, target: Target, route: Route, header: str) -> int:
    """The status of a probe; 0 when there was no answer."""
    import httpx

    headers = {"authorization": header} if header else {}
    content = NOTHING if route.method == "POST" else None
    try:
        url = f"{target.host}{route.path}"
        return int(client.request(route.method, url, headers=headers, content=content).status_code)
    except httpx.HTTPError:
        return 0


def _post(client: Any, target: Target, body: bytes) -> tuple[int, str]:
    """Status and sentence of an answer; 0 when there was none."""
    import httpx

    try:
        answer = client.post(f"{target.url}/infer", headers=target.headers, content=body)
        said: Mapping[str, Any] = answer.json() if answer.content else {}
    except (httpx.HTTPError, ValueError):
        return 0, ""
    return int(answer.status_code), str(said.get("error", ""))
