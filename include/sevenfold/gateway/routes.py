"""Envoy routes: which request goes to which pool, and what is said where nobody can answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sevenfold.gateway.pools import Pool, Pools
from sevenfold.release.traffic import Traffic
from sevenfold.serving.protocol import MAX_BODY

Resource = dict[str, Any]

NAME = "gateway"
WEIGHTS = 10_000
"""The sum of weights, always the same: a sticky caller of the challenger stays while its share grows."""
LIMIT, TRY_LIMIT = "10s", "2s"
"""Of a request with all its retries, and of one of them. How fast is fast enough is the SLA's business."""
STICKY_HEADER = "x-entity-id"
_OVER_LIMIT = {"name": "content-length", "range_match": {"start": MAX_BODY + 1, "end": 1 << 62}}
"""Said here, because a server that stops reading looks to Envoy like one that died, and is tried again."""
_OTHER_HOST = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def routes(traffic: Mapping[str, Traffic], pools: Pools) -> Resource:
    """The route configuration for the traffic of each model, given who is there to answer."""
    models = sorted({*traffic, *(pool.model for pool in pools.all)})
    found = [
        _says(
            "too-large", {"prefix": "/", "headers": [_OVER_LIMIT]}, 413, f"at most {MAX_BODY} bytes are taken"
        ),
        _says("health", {"path": "/healthz"}, 200, "ok"),
        _says("live", {"path": "/v2/health/live"}, 200, '{"live":true}'),
        _says("ready", {"path": "/v2/health/ready"}, 200, '{"ready":true}'),
        _says("server", {"path": "/v2"}, 200, '{"name":"sevenfold","version":"2","extensions":[]}'),
        *(route for model in models for route in _model(model, traffic.get(model), pools)),
        _says(
            "unknown-model", {"path_separated_prefix": "/v2/models"}, 404, "there is no model of this name"
        ),
        _says("unknown", {"prefix": "/"}, 404, "there is nothing at this path"),
    ]
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": NAME,
        "validate_clusters": True,
        "virtual_hosts": [
            {
                "name": "models",
                "domains": ["*"],
                "include_attempt_count_in_response": True,
                "routes": found,
            }
        ],
    }


def _model(model: str, traffic: Traffic | None, pools: Pools) -> list[Resource]:
    prefix = f"/v2/models/{model}"
    found = [
        _to(f"{pool.name}{path}", path, _direct(pool, None if path.startswith(prefix) else prefix))
        for pool in pools.of_model(model)
        for path in _own_paths(pool, traffic, prefix)
    ]
    sides = _sides(traffic, pools) if traffic else []
    if traffic is None or not sides:
        return [
            *found,
            _says(f"{model}-nobody", {"path_separated_prefix": prefix}, 503, _why(model, traffic)),
        ]
    labels = {
        "request_headers_to_add": [_header("x-arm", "feedback")],
        "route": {"cluster": sides[0][0].name},
    }
    found.append(_to(f"{model}-feedback", f"{prefix}/feedback", labels))
    found.append(_to(model, prefix, {"route": {**_split(sides, traffic.sticky), **_mirror(traffic, pools)}}))
    return found


def _own_paths(pool: Pool, traffic: Traffic | None, prefix: str) -> list[str]:
    """Paths at which exactly this pool answers. The gateway lets only admins ask there."""
    if pool.purpose != "live":
        return [f"/{pool.purpose}{prefix}"]
    roles = {"champion": traffic.champion, "challenger": traffic.challenger} if traffic else {}
    slots = [f"/{slot}{prefix}" for slot, candidate in roles.items() if candidate == pool.candidate]
    return [f"{prefix}/versions/{pool.candidate}", *slots]


def _sides(traffic: Traffic, pools: Pools) -> list[tuple[Pool, str, int]]:
    """Who answers, as what, with which weight; nobody if the champion should answer but has no replicas.

    A challenger without replicas gets nothing, nor one of which none is ready while the champion's are. The
    other way round would give it more than it was granted.
    """
    champion = pools.find(traffic.model, traffic.champion, "live")
    challenger = pools.find(traffic.model, traffic.challenger, "live")
    if champion and challenger and challenger.in_doubt and not champion.in_doubt:
        challenger = None
    weight = round(traffic.share * WEIGHTS) if challenger else 0
    if champion is None and weight < WEIGHTS:
        return []
    sides = [(champion, "champion", WEIGHTS - weight), (challenger, "challenger", weight)]
    return [(pool, arm, part) for pool, arm, part in sides if pool is not None]


def _why(model: str, traffic: Traffic | None) -> str:
    if traffic is None or traffic.champion is None:
        return f"model {model} has no champion: nobody serves it yet"
    return f"the champion of {model}, {traffic.champion}, has no replicas"


def _direct(pool: Pool, rewrite: str | None) -> Resource:
    """Asks one pool. An answer of a live one that is not part of the split is logged as `direct`."""
    arm = "direct" if pool.purpose == "live" else pool.purpose
    route = {"cluster": pool.name} | ({"prefix_rewrite": rewrite} if rewrite else {})
    return {"request_headers_to_add": [_header("x-arm", arm)], "route": route}


def _to(name: str, prefix: str, action: Resource) -> Resource:
    """A route with the time limit and the retries that all have."""
    route = {**action["route"], "timeout": LIMIT, "retry_policy": _retries()}
    return {**action, "name": name, "match": {"path_separated_prefix": prefix}, "route": route}


def _split(sides: list[tuple[Pool, str, int]], sticky: bool) -> Resource:
    clusters = [
        {"name": pool.name, "weight": part, "request_headers_to_add": [_header("x-arm", arm)]}
        for pool, arm, part in sides
    ]
    if not sticky:
        return {"weighted_clusters": {"clusters": clusters}}
    return {
        "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
        "hash_policy": [{"header": {"header_name": STICKY_HEADER}}],
    }


def _mirror(traffic: Traffic, pools: Pools) -> Resource:
    shadow = pools.find(traffic.model, traffic.challenger, "shadow")
    if shadow is None or not traffic.mirror:
        return {}
    part = {"numerator": round(traffic.mirror * 1_000_000), "denominator": "MILLION"}
    policy = {
        "cluster": shadow.name,
        "runtime_fraction": {"default_value": part},
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [{"append": _header("x-arm", "shadow")}],
    }
    return {"request_mirror_policies": [policy]}


def _retries() -> Resource:
    """Tries another replica when one dies or drains under a request.

    One that has just died has nothing to do, so the balancer likes it best: with fewer attempts at choosing
    another one, a third of the retries would go to the dead again.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 3,
        "per_try_timeout": TRY_LIMIT,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": _OTHER_HOST}}
        ],
        "host_selection_retry_max_attempts": 30,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    }


def _header(key: str, value: str) -> Resource:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _says(name: str, match: Resource, status: int, body: str) -> Resource:
    """A route that the gateway answers itself; from 400 on the sentence is made JSON by the listener."""
    return {
        "response_headers_to_add": [_header("content-type", "application/json")]
        if body.startswith("{")
        else [],
        "name": name,
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": body}},
    }
