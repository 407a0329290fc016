"""Objects against the Kubernetes API's own models, strictly: what the API server would refuse or drop.

The models are those of the installed client, made from the OpenAPI document of its Kubernetes version. The
client itself ignores keys that it does not know; here they are mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float), "datetime": str, "date": str}


def mistakes(resource: dict[str, Any]) -> list[str]:
    """What is wrong with an object of a kind that Kubernetes itself brings: `place: sentence`."""
    model = model_of(resource["apiVersion"], resource["kind"])
    if model is None:
        return [f"{resource['kind']}: {resource['apiVersion']} has no such kind"]
    return list(_of_model(model, resource, resource["kind"]))


def model_of(api_version: str, kind: str) -> type[Any] | None:
    """The client's model of a kind; None if the API has none (a custom resource)."""
    from kubernetes.client import models

    group, _, version = api_version.rpartition("/")
    found: type[Any] | None = getattr(models, f"{version.capitalize()}{kind}", None)
    known = {"apps", "batch", "policy", "autoscaling", ""}
    return found if found is not None and (group in known or group.endswith(".k8s.io")) else None


def _of_model(model: type[Any], value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: is {value!r}, not an object"
        return
    attributes = {wire: name for name, wire in model.attribute_map.items()}
    for wire in value.keys() - attributes.keys():
        yield f"{place}.{wire}: no such field"
    for wire in value.keys() & attributes.keys():
        yield from _of_type(model.openapi_types[attributes[wire]], value[wire], f"{place}.{wire}")
    try:  # the client's models know which fields are required, and refuse to be made without them
        model(**{name: value.get(wire) for wire, name in attributes.items()})
    except ValueError as error:
        yield f"{place}: {error}"


def _of_type(declared: str, value: Any, place: str) -> Iterator[str]:
    if value is None:
        yield f"{place}: is empty"
    elif inner := re.fullmatch(r"list\[(.+)\]", declared):
        if isinstance(value, list):
            for number, one in enumerate(value):
                yield from _of_type(inner[1], one, f"{place}[{number}]")
        else:
            yield f"{place}: is {value!r}, not a list"
    elif inner := re.fullmatch(r"dict\[str, (.+)\]", declared):
        if isinstance(value, dict):
            for key, one in value.items():
                yield from _of_type(inner[1], one, f"{place}.{key}")
        else:
            yield f"{place}: is {value!r}, not an object"
    elif declared in PLAIN:
        wrong_bool = isinstance(value, bool) and declared != "bool"
        if wrong_bool or not isinstance(value, PLAIN[declared]):  # type: ignore[arg-type]
            yield f"{place}: is {value!r}, not of type {declared}"
    elif declared != "object":
        from kubernetes.client import models

        yield from _of_model(getattr(models, declared), value, place)
