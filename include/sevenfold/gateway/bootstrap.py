"""How Envoy starts: admin on a private socket, listeners for callers and Prometheus, files for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.gateway import routes
from sevenfold.gateway.clusters import HEALTH, source
from sevenfold.gateway.filters import TYPES
from sevenfold.monitoring import answers

Resource = dict[str, Any]

MAX_CONNECTIONS = 2000
CERTIFICATE_FILE = "sds.json"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_BUFFER = 2 << 20
"""Bytes of a request kept for a retry: more than a server takes."""
_HTTP = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
_MILLISECONDS = [0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000]
ACCESS = {
    "t": "%START_TIME%",
    "id": "%REQ(X-REQUEST-ID)%",
    "client": "%REQ(X-CLIENT-ID)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "upstream_ms": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "host": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "candidate": "%RESP(X-CANDIDATE)%",
    "route": "%ROUTE_NAME%",
}
"""The access log, one JSON line a request."""
LOGS = (answers.FOLDER, HEALTH)
"""What Envoy writes: a folder of logs each, and a link of that name to the file that is written now."""


@dataclass(frozen=True)
class Tls:
    """PEM files of the certificate (with its chain) and of its private key."""

    certificate: Path
    key: Path


def bootstrap(admin: Path, folder: Path, stats_port: int, stats_host: str) -> Resource:
    """The file that Envoy is started with.

    Args:
        admin: Unix socket of the admin interface; whoever can open it can stop Envoy.
        folder: where the dynamic resources lie.
        stats_port: port that serves GET /stats/prometheus and /ready, and nothing else.
        stats_host: address at which it does.
    """
    pipe = {"pipe": {"path": str(admin), "mode": 0o600}}
    itself = {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {
            "cluster_name": "admin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": pipe}}]}],
        },
    }
    connections = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
    return {
        "node": {"id": "gateway", "cluster": "sevenfold"},
        "admin": {"address": pipe, "ignore_global_conn_limit": True},
        "dynamic_resources": {
            "lds_config": source(folder / "lds.json"),
            "cds_config": source(folder / "cds.json"),
        },
        "static_resources": {"clusters": [itself], "listeners": [_stats(stats_host, stats_port)]},
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": f"{side}_rq_time"}, "buckets": _MILLISECONDS}
                for side in ("upstream", "downstream")
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{connections}.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
    }


def listener(
    host: str, port: int, folder: Path, links: Path, encrypted: bool = False, environment: str = ""
) -> Resource:
    """The listener for callers: who asks is checked before where it goes is looked up.

    `links` is the folder of the links to the logs; `environment` stands in each line of the access log.
    """
    line = ACCESS | ({"gateway": environment} if environment else {})
    manager = {
        "@type": _HTTP,
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "server_header_transformation": "PASS_THROUGH",
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "request_timeout": "10s",
        "stream_idle_timeout": "60s",
        "drain_timeout": "5s",
        "delayed_close_timeout": "1s",
        "rds": {"route_config_name": routes.NAME, "config_source": source(folder / "rds.json")},
        "http_filters": [*(_filter(name, kind, folder) for name, kind in TYPES.items()), _ROUTER],
        "local_reply_config": {"mappers": _sentences()},
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(links / f"{answers.FOLDER}.jsonl"),
                    "log_format": {"json_format": line},
                },
            }
        ],
    }
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "gateway",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "per_connection_buffer_limit_bytes": _BUFFER,
        "filter_chains": [{"filters": [_http(manager)], **(_encrypted(folder) if encrypted else {})}],
    }


def certificate(tls: Tls) -> Resource:
    """The secret that a listener with TLS asks for; files that are replaced by a rename are read again."""
    pair = {
        "certificate_chain": {"filename": str(tls.certificate)},
        "private_key": {"filename": str(tls.key)},
        "watched_directory": {"path": str(tls.certificate.parent)},
    }
    return {"@type": f"{_TLS}.Secret", "name": "certificate", "tls_certificate": pair}


def _encrypted(folder: Path) -> Resource:
    """TLS 1.2 and later, HTTP/2 and 1.1."""
    context = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [
                {"name": "certificate", "sds_config": source(folder / CERTIFICATE_FILE)}
            ],
            "alpn_protocols": ["h2", "http/1.1"],
        },
    }
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def filter_file(name: str) -> str:
    """Where the configuration of a filter is written."""
    return f"ecds_{name.rpartition('.')[2]}.json"


def _filter(name: str, kind: str, folder: Path) -> Resource:
    """A filter whose configuration is a file of its own: a rotated key closes no connection."""
    discovery = {"config_source": source(folder / filter_file(name)), "type_urls": [kind]}
    return {"name": name, "config_discovery": discovery}


def _sentences() -> list[Resource]:
    """Whatever the gateway itself refuses is JSON like the servers' refusals: {"error": sentence}."""
    return [
        _refusal("EQ", 401, "a valid key is needed, as the header Authorization: Bearer; %LOCAL_REPLY_BODY%"),
        _refusal("EQ", 403, "the key does not allow this"),
        _refusal("EQ", 429, "the key asks too often"),
        _refusal("GE", 400, "%LOCAL_REPLY_BODY%"),
    ]


def _refusal(operation: str, status: int, sentence: str) -> Resource:
    value = {"default_value": status, "runtime_key": f"sevenfold.refusal_{operation.lower()}_{status}"}
    return {
        "filter": {"status_code_filter": {"comparison": {"op": operation, "value": value}}},
        "body_format_override": {"json_format": {"error": sentence}, "content_type": "application/json"},
    }


def _stats(host: str, port: int) -> Resource:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    allowed = [
        {"match": {"path": path, "headers": [get]}, "route": {"cluster": "admin"}}
        for path in ("/stats/prometheus", "/ready")
    ]
    manager = {
        "@type": _HTTP,
        "stat_prefix": "stats",
        "route_config": {"virtual_hosts": [{"name": "stats", "domains": ["*"], "routes": allowed}]},
        "http_filters": [_ROUTER],
    }
    return {
        "name": "stats",
        "ignore_global_conn_limit": True,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [{"filters": [_http(manager)]}],
    }


def _http(manager: Resource) -> Resource:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
