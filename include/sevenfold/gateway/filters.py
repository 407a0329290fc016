"""Envoy filters that decide who may ask what, and how often."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sevenfold.serving.keys import AUDIENCE, ISSUER

Resource = dict[str, Any]

JWT, RBAC, LIMIT = (
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.rbac",
    "envoy.filters.http.local_ratelimit",
)
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters.http"
TYPES = {
    JWT: f"{_EXTENSIONS}.jwt_authn.v3.JwtAuthentication",
    RBAC: f"{_EXTENSIONS}.rbac.v3.RBAC",
    LIMIT: f"{_EXTENSIONS}.local_ratelimit.v3.LocalRateLimit",
}
"""The filters in the order in which a request passes them."""
CLIENT_HEADER = "x-client-id"
OPEN_PATHS = ("/healthz", "/v2/health/live", "/v2/health/ready")
"""What needs no key."""

_MODEL = "/v2/models/[a-z][a-z0-9_]*"


def filters(jwks: Mapping[str, Any], requests_per_second: int) -> dict[str, Resource]:
    """The filter configurations by name: whose tokens are valid, what they allow, how often they may ask."""
    made = {JWT: _tokens(jwks), RBAC: _scopes(), LIMIT: _rate(requests_per_second)}
    return {
        name: {
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": name,
            "typed_config": {"@type": kind, **made[name]},
        }
        for name, kind in TYPES.items()
    }


def _tokens(jwks: Mapping[str, Any]) -> Resource:
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json.dumps(jwks, sort_keys=True)},
        "forward": False,
        "require_expiration": True,
        "clock_skew_seconds": 5,
        "claim_to_headers": [{"header_name": CLIENT_HEADER, "claim_name": "sub"}],
        "payload_in_metadata": "jwt",
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
    open_to_all = [{"match": {"path": path}} for path in OPEN_PATHS]
    keyed = {"match": {"prefix": "/"}, "requires": {"provider_name": ISSUER}}
    return {"providers": {ISSUER: provider}, "rules": [*open_to_all, keyed]}


def _scopes() -> Resource:
    ask = [
        _all(_method("POST"), _path(f"{_MODEL}/infer")),
        _all(_method("GET"), _path(f"/v2|{_MODEL}(/ready)?")),
    ]
    label = [_all(_method("POST"), _path(f"{_MODEL}/feedback"))]
    health = [{"url_path": {"path": {"exact": path}}} for path in OPEN_PATHS]
    policies = {
        "health": {"permissions": health, "principals": [{"any": True}]},
        "predict": {"permissions": ask, "principals": [_scope("predict")]},
        "feedback": {"permissions": label, "principals": [_scope("feedback")]},
        "admin": {"permissions": [{"any": True}], "principals": [_scope("admin")]},
    }
    return {"rules": {"action": "ALLOW", "policies": policies}}


def _scope(name: str) -> Resource:
    matcher = {
        "filter": JWT,
        "path": [{"key": "jwt"}, {"key": "scopes"}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": name}}}},
    }
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}


def _all(*rules: Resource) -> Resource:
    return {"and_rules": {"rules": list(rules)}}


def _method(name: str) -> Resource:
    return {"header": {"name": ":method", "string_match": {"exact": name}}}


def _path(regex: str) -> Resource:
    return {"url_path": {"path": {"safe_regex": {"regex": regex}}}}


def _rate(requests_per_second: int) -> Resource:
    """A bucket for each subject of a token; what has none (health) shares one that is never empty."""
    bucket = {
        "max_tokens": requests_per_second,
        "tokens_per_fill": requests_per_second,
        "fill_interval": "1s",
    }
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    wait = {
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        "header": {"key": "retry-after", "value": "1"},
    }
    return {
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
        "filter_enabled": always,
        "filter_enforced": always,
        "response_headers_to_add": [wait],
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limits": [
            {"actions": [{"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": "client"}}]}
        ],
        "descriptors": [{"entries": [{"key": "client"}], "token_bucket": bucket}],
        "always_consume_default_token_bucket": False,
    }
