"""The traffic as an HTTPRoute: of the API's form, and saying what the laptop's gateway is told."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from sevenfold.gateway.httproute import http_route, service, sticky_policy
from sevenfold.gateway.routes import WEIGHTS
from sevenfold.release.traffic import Traffic

ONE, TWO = "flight_delay-000000000001", "flight_delay-000000000002"
LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
DURATION = {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": required, "additionalProperties": False
    }  # fmt: skip


def some(item: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "maxItems": most}


REFERENCE = closed(["name", "port"], name=LABEL, port={"type": "integer", "minimum": 1, "maximum": 65535})
ELSEWHERE = closed(["name", "port"], **REFERENCE["properties"], namespace=LABEL)
HEADER = closed(["name", "value"], name={"type": "string"}, value={"type": "string"})
SETS = closed(
    ["type", "requestHeaderModifier"],
    type={"const": "RequestHeaderModifier"},
    requestHeaderModifier=closed(["set"], set=some(HEADER, 16)),
)
FRACTION = closed(
    ["numerator"],
    numerator={"type": "integer", "minimum": 0},
    denominator={"type": "integer", "minimum": 1},
)
MIRROR = closed(
    ["type", "requestMirror"],
    type={"const": "RequestMirror"},
    requestMirror=closed(["backendRef"], backendRef=ELSEWHERE, fraction=FRACTION),
)
BACKEND = closed(
    ["name", "port"],
    **REFERENCE["properties"],
    weight={"type": "integer", "minimum": 0, "maximum": 1_000_000},
    filters=some(SETS, 16),
)
MATCH = closed(
    ["path"],
    path=closed(
        ["type", "value"],
        type={"const": "PathPrefix"},
        value={"type": "string", "pattern": "^/", "maxLength": 1024},
    ),
)
RULE = closed(
    ["matches", "backendRefs"],
    name=LABEL,
    matches=some(MATCH, 64),
    filters=some(MIRROR, 16),
    backendRefs=some(BACKEND, 16),
    timeouts=closed([], request=DURATION, backendRequest=DURATION),
)
ROUTE = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "gateway.networking.k8s.io/v1"},
    kind={"const": "HTTPRoute"},
    metadata=closed(
        ["name"],
        name=LABEL,
        namespace=LABEL,
        labels={"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        annotations={"type": "object", "additionalProperties": {"type": "string"}},
    ),
    spec=closed(
        ["parentRefs", "rules"],
        parentRefs=some(closed(["name"], name=LABEL), 32),
        hostnames=some({"type": "string"}, 16),
        rules=some(RULE, 16),
    ),
)
"""The part of the API's own schema (v1, standard channel) that is used here, and nothing beside it."""

CASES = [
    Traffic("flight_delay", None),
    Traffic("flight_delay", ONE, generation=3),
    Traffic("flight_delay", ONE, TWO, share=0.05, generation=4),
    Traffic("flight_delay", ONE, TWO, mirror=0.25, sticky=True),
    Traffic("flight_delay", None, TWO, share=1.0),
    Traffic("flight_delay", ONE, TWO, share=0.5, mirror=1.0),
]


def rules(traffic: Traffic) -> dict[str, dict[str, Any]]:
    route = http_route(traffic, "models", "public")
    return {rule["name"]: rule for rule in route["spec"]["rules"]}


def weights(traffic: Traffic) -> dict[str, int]:
    return {backend["name"]: backend["weight"] for backend in rules(traffic)["split"]["backendRefs"]}


@pytest.mark.parametrize("traffic", CASES)
def test_the_route_has_the_api_s_form(traffic: Traffic) -> None:
    route = http_route(traffic, "models", "public", "models.example.com", mirror="shadows")
    jsonschema.validate(route, ROUTE)
    names = [rule["name"] for rule in route["spec"]["rules"]]
    assert len(set(names)) == len(names)
    filters = [f["type"] for rule in route["spec"]["rules"] for f in rule.get("filters", [])]
    assert len(filters) <= 1


def test_the_split_is_weights_of_a_constant_sum() -> None:
    assert weights(Traffic("flight_delay", ONE, TWO, share=0.05)) == {
        "flight-delay-000000000001-live": 9500,
        "flight-delay-000000000002-live": 500,
    }
    assert weights(Traffic("flight_delay", ONE, TWO)) == {"flight-delay-000000000001-live": WEIGHTS}
    assert weights(Traffic("flight_delay", None, TWO, share=1.0))["flight-delay-000000000002-live"] == WEIGHTS
    assert weights(Traffic("flight_delay", None)) == {}


def test_each_side_is_told_as_what_it_answers() -> None:
    sides = rules(Traffic("flight_delay", ONE, TWO, share=0.5))["split"]["backendRefs"]
    told = [side["filters"][0]["requestHeaderModifier"]["set"][0] for side in sides]
    assert told == [{"name": "x-arm", "value": "champion"}, {"name": "x-arm", "value": "challenger"}]


def test_the_mirror_goes_to_the_shadow_and_labels_neither_there_nor_to_the_challenger() -> None:
    found = rules(Traffic("flight_delay", ONE, TWO, share=0.5, mirror=0.25))
    (mirror,) = found["split"]["filters"]
    assert mirror["requestMirror"] == {
        "backendRef": {"name": "flight-delay-000000000002-shadow", "port": 8080},
        "fraction": {"numerator": 250_000, "denominator": 1_000_000},
    }
    assert "filters" not in found["feedback"]
    assert [one["name"] for one in found["feedback"]["backendRefs"]] == ["flight-delay-000000000001-live"]
    assert "filters" not in rules(Traffic("flight_delay", ONE, TWO, share=0.5))["split"]


def test_the_longer_path_wins_so_the_split_gets_the_rest() -> None:
    found = rules(Traffic("flight_delay", ONE, TWO, share=0.5))
    paths = {name: rule["matches"][0]["path"]["value"] for name, rule in found.items()}
    assert paths["direct-000000000002"] == f"/v2/models/flight_delay/versions/{TWO}"
    assert paths["feedback"] == "/v2/models/flight_delay/feedback"
    assert all(path.startswith(paths["split"]) for path in paths.values())


def test_the_generation_goes_along() -> None:
    metadata = http_route(Traffic("flight_delay", ONE, generation=7), "models", "public")["metadata"]
    assert metadata["annotations"] == {"sevenfold.io/generation": "7"}


def test_a_sticky_split_has_a_policy_beside_its_route() -> None:
    policy = sticky_policy(Traffic("flight_delay", ONE, TWO, share=0.5, sticky=True), "models")
    assert policy is not None
    assert policy["spec"]["targetRefs"][0]["name"] == "flight-delay"
    assert policy["spec"]["loadBalancer"]["consistentHash"]["header"] == {"name": "x-entity-id"}
    assert sticky_policy(Traffic("flight_delay", ONE), "models") is None


def test_names_of_services_are_labels_however_long_the_model_s_is() -> None:
    name = service("m" * 63 + "-0123456789ab", "staging-load")
    assert len(name) <= 63
    assert name.endswith("-0123456789ab-staging-load")
