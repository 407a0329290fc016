"""What a server says about itself: metadata of the Open Inference Protocol and an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from sevenfold.model.tasks import Output
from sevenfold.serving.protocol import MAX_BODY, MAX_LABELS, MAX_ROWS, MAX_TEXT, Signature

Schema = dict[str, Any]

FP32_MAX = 3.4028234663852886e38

_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_DATE = r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
_TIME: Schema = {
    "pattern": f"^{_DATE}T{_CLOCK}$",
    "type": "string",
    "description": "ISO 8601 with its offset",
    "examples": ["2013-06-01T05:00:00+00:00"],
}


def metadata(model: str, candidate: str, signature: Signature) -> Schema:
    """Model metadata of the Open Inference Protocol, with the names of the columns as parameters."""
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [-1, len(columns)],
            "parameters": {"columns": list(columns)},
        }
        for name, datatype, columns in _inputs(signature)
    ]
    output: Schema = {
        "name": signature.output.name,
        "datatype": "FP32",
        "shape": [-1, *signature.output.shape(0)[1:]],
    }
    if signature.output.columns:
        output["parameters"] = {"columns": list(signature.output.columns)}
    return {
        "name": model,
        "versions": [candidate],
        "platform": "onnx_onnxv1",
        "inputs": inputs,
        "outputs": [output],
    }


def document(model: str, candidate: str, signature: Signature) -> Schema:
    """The OpenAPI document of a server of `model`."""
    own = f"/v2/models/{model}"
    paths: Schema = {
        "/v2": _get("What this server is", _anything("name", "version", "extensions")),
        "/v2/health/live": _get("Whether the process lives", _flag("live")),
        "/v2/health/ready": _get("Whether it wants traffic", _flag("ready"), or_not_ready=True),
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {"200": _answer("Metrics", "text/plain")},
            }
        },
        "/openapi.json": _get("This document", {"type": "object"}),
        f"{own}/feedback": _post("Labels that became known", _labels(), _accepted(), (503,)),
    }
    for prefix in (own, f"{own}/versions/{candidate}"):
        paths[prefix] = _get(
            "Columns and outputs", _anything("name", "versions", "platform", "inputs", "outputs")
        )
        paths[f"{prefix}/ready"] = _get("Whether the model answers", _flag("ready"), or_not_ready=True)
        paths[f"{prefix}/infer"] = _post(
            "Predictions of rows", _request(signature), _prediction(candidate, signature.output)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Sevenfold server of {model}",
            "version": candidate,
            "description": f"Bodies of at most {MAX_BODY} bytes and {MAX_ROWS} rows.",
        },
        "paths": paths,
    }


def _inputs(signature: Signature) -> list[tuple[str, str, tuple[str, ...]]]:
    both = [("numeric", "FP32", signature.numeric), ("categorical", "BYTES", signature.categorical)]
    return [(name, datatype, columns) for name, datatype, columns in both if columns]


def _closed(properties: Schema, *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _anything(*required: str) -> Schema:
    return {"type": "object", "required": list(required)}


def _flag(name: str) -> Schema:
    return _closed({name: {"type": "boolean"}}, name)


def _tensor(name: str, datatype: str, columns: int) -> Schema:
    number: Schema = {"type": ["number", "null"], "minimum": -FP32_MAX, "maximum": FP32_MAX}
    value: Schema = number if datatype == "FP32" else {"type": ["string", "null"]}
    row = {"type": "array", "items": value, "minItems": columns, "maxItems": columns}
    flat = {"type": "array", "items": value, "minItems": columns, "maxItems": columns * MAX_ROWS}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}
    shape = _exactly([{"type": "integer", "minimum": 1, "maximum": MAX_ROWS}, {"const": columns}])
    properties = {
        "name": {"const": name},
        "datatype": {"const": datatype},
        "shape": shape,
        "data": {"anyOf": [rows, flat], "description": "as many values as the shape says"},
    }
    return _closed(properties, "name", "datatype", "shape", "data")


def _exactly(items: Sequence[Schema]) -> Schema:
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)}


def _request(signature: Signature) -> Schema:
    tensors = [_tensor(name, datatype, len(columns)) for name, datatype, columns in _inputs(signature)]
    ids = {"type": ["array", "null"], "items": _TEXT, "description": "one a row, kept in the prediction log"}
    time = {**_TIME, "type": ["string", "null"], "description": f"of the event; {_TIME['description']}"}
    asked = _closed({"name": {"const": signature.output.name}}, "name")
    properties = {
        "id": {**_TEXT, "type": ["string", "null"]},
        "inputs": {
            "oneOf": [_exactly(order) for order in permutations(tensors)],
            "description": "the tensors, in any order",
        },
        "outputs": {"type": ["array", "null"], "items": asked},
        "parameters": {**_closed({"ids": ids, "time": time}), "type": ["object", "null"]},
    }
    return _closed(properties, "inputs")


def _prediction(candidate: str, given: Output) -> Schema:
    limits = {"minimum": given.low, "maximum": given.high}
    value: Schema = {"type": "number", **{name: at for name, at in limits.items() if at is not None}}
    wide, axes = len(given.columns), len(given.shape(0))
    row = {"type": "array", "items": value, "minItems": wide, "maxItems": wide} if wide else value
    output = _closed(
        {
            "name": {"const": given.name},
            "datatype": {"const": "FP32"},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": axes, "maxItems": axes},
            "data": {"type": "array", "items": row},
        },
        "name",
        "datatype",
        "shape",
        "data",
    )
    return _closed(
        {
            "model_name": {"type": "string"},
            "model_version": {"const": candidate},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": output, "minItems": 1, "maxItems": 1},
        },
        "model_name",
        "model_version",
        "outputs",
    )


def _labels() -> Schema:
    label = _closed({"id": _TEXT, "label": {"type": "number"}, "known_at": _TIME}, "id", "label", "known_at")
    return _closed(
        {"labels": {"type": "array", "items": label, "minItems": 1, "maxItems": MAX_LABELS}}, "labels"
    )


def _accepted() -> Schema:
    return _closed({"accepted": {"type": "integer", "minimum": 1}}, "accepted")


def _answer(description: str, kind: str = "application/json", schema: Schema | None = None) -> Schema:
    return {"description": description, "content": {kind: {"schema": schema or {"type": "string"}}}}


def _error(description: str) -> Schema:
    return _answer(description, schema=_closed({"error": {"type": "string"}}, "error"))


def _get(summary: str, schema: Schema, or_not_ready: bool = False) -> Schema:
    responses = {"200": _answer("As asked", schema=schema)}
    if or_not_ready:
        responses["503"] = _answer("Not ready: drains", schema=schema)
    return {"get": {"summary": summary, "responses": responses}}


def _post(summary: str, body: Schema, schema: Schema, more: tuple[int, ...] = ()) -> Schema:
    responses = {"200": _answer("As asked", schema=schema)}
    said = {
        400: "Not a valid request: one sentence says what and where",
        413: "Too many bytes, rows or labels",
        415: "Not application/json",
        503: "The labels could not be kept",
    }
    responses |= {str(code): _error(said[code]) for code in (400, 413, 415, *more)}
    content = {"application/json": {"schema": body}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": responses,
        }
    }
