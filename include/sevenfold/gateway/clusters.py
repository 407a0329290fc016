"""Envoy clusters and endpoints: who answers, and when a replica is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sevenfold.gateway.pools import Pool
from sevenfold.serving.admission import arm

Resource = dict[str, Any]

HEALTH = "gateway-health"
"""The log of replicas that are left out and come back."""
ALL_OUT_PERCENT = 1
"""With fewer healthy replicas, that is none, all are asked (Envoy's panic): on a starved machine all of them
are late with their answer to a health check and would answer a request, and whoever is dead refuses at once.
While one is healthy nobody who is known to be dead is asked."""
SHADOW_LIMIT = 64
"""Requests to a shadow at one time. Without a limit a slow shadow gathers requests without end."""
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def cluster(pool: Pool, folder: Path, links: Path) -> Resource:
    """The Envoy cluster of `pool`, whose endpoints are read from `folder`. `links` leads to its log."""
    shadow = pool.purpose != "live" and arm(pool.purpose) == "shadow"
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": pool.name,
        "type": "EDS",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": source(folder / endpoints_file(pool))},
        "ignore_health_on_host_removal": True,
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0 if shadow else ALL_OUT_PERCENT},
            "close_connections_on_host_set_change": False,
        },
        "health_checks": [_health_check(links)],
        "circuit_breakers": {"thresholds": [_shadow_limits() if shadow else _limits()]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": "30s"},  # below the server's keep-alive
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}},
        **({} if shadow else {"outlier_detection": _outliers()}),
    }


def endpoints(pool: Pool) -> Resource:
    """The replicas of `pool`."""
    found = [
        {"endpoint": {"address": {"socket_address": {"address": one.host, "port_value": one.port}}}}
        for one in pool.endpoints
    ]
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": pool.name,
        "endpoints": [{"locality": {"region": "local"}, "lb_endpoints": found}],
    }


def endpoints_file(pool: Pool) -> str:
    """Where the endpoints of `pool` are written."""
    return f"eds_{pool.name}.json"


def source(file: Path) -> Resource:
    """A config source that reads `file` and watches it."""
    return {"resource_api_version": "V3", "path_config_source": {"path": str(file)}}


def _health_check(links: Path) -> Resource:
    """A server that says 503 is out at once, one that says nothing after three checks: on a busy machine all
    of them are late at times, and the dead are ejected by their failures long before."""
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "interval_jitter": "0.1s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/v2/health/ready"},
        "event_logger": [
            {
                "name": "envoy.health_check.event_sinks.file",
                "typed_config": {
                    "@type": f"{_EXTENSIONS}.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
                    "event_log_path": str(links / f"{HEALTH}.jsonl"),
                },
            }
        ],
    }


def _outliers() -> Resource:
    return {
        "consecutive_5xx": 5,
        "consecutive_gateway_failure": 3,
        "enforcing_consecutive_gateway_failure": 100,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "60s",
        "max_ejection_percent": 50,
        "enforcing_success_rate": 0,
    }


def _limits() -> Resource:
    """A replica that dies under load fails all its requests at once: with Envoy's own retry budget, or with
    fewer than 128 retries under way, some of them reach the caller (research: 12 to 26 of 74,000)."""
    return {
        "max_connections": 1024,
        "max_pending_requests": 1024,
        "max_requests": 1024,
        "track_remaining": True,
        "retry_budget": {"budget_percent": {"value": 25}, "min_retry_concurrency": 128},
    }


def _shadow_limits() -> Resource:
    return {
        "max_connections": SHADOW_LIMIT,
        "max_pending_requests": SHADOW_LIMIT,
        "max_requests": SHADOW_LIMIT,
    }
