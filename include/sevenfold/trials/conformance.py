"""Whether a running server keeps its contract: Open Inference Protocol v2, golden answers, clear refusals.

Each check is one sentence of what is promised, and what was found instead if it is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.data.predictions import apart
from sevenfold.data.tabular import Encoder

if TYPE_CHECKING:
    import httpx

CLOSE = 1e-6
"""How far an answer may be from what the artefact itself computes; both are float32."""
TOO_MANY_ROWS = 100_000


@dataclass(frozen=True)
class Check:
    """One promise, and how it was broken; None if it was kept."""

    promise: str
    violation: str | None


class Broken(Exception):
    """A promise is broken; the message says how."""


class Conformance:
    """Asks one server about one candidate.

    Args:
        client: whose base URL is the server's.
        columns: golden rows, a column of values by feature; `prediction` is what the artefact makes of them.
    """

    def __init__(
        self,
        client: httpx.Client,
        candidate: str,
        encoder: Encoder,
        columns: Mapping[str, list[Any]],
        prediction: NDArray[np.float32],
    ) -> None:
        self.client = client
        self.candidate = candidate
        self.encoder = encoder
        self.columns = columns
        self.prediction = prediction
        self.output = encoder.task.output
        self.own = f"/v2/models/{encoder.model}"

    def check(self) -> list[Check]:
        """All checks, in order; the last one sees whether the server survived the others."""
        return [kept(promise, check) for promise, check in self._promises()]

    def _promises(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "says what it is", self._server_metadata
        yield "says that it lives and is ready", self._health
        yield "says what the model takes and gives", self._model_metadata
        yield "answers golden rows as the artefact computes them", self._golden
        yield "answers one row as it answers it among others", self._one_row
        yield "takes a tensor's values in a row", self._flat
        yield "takes the tensors in any order", self._any_order
        yield "answers a row of which nothing is known", self._all_missing
        yield "says which candidate answered, and the caller's id", self._identity
        yield "takes labels", self._feedback
        yield "tells Prometheus", self._metrics
        for what, body in self._refused():
            yield f"refuses {what}", partial(self._refuses, f"{self.own}/infer", body)
        nameless = json.dumps({"labels": [{"label": 1}]})
        yield "refuses labels without an id", partial(self._refuses, f"{self.own}/feedback", nameless)
        yield "refuses a model it does not have", self._unknown_model
        yield "refuses another method", self._wrong_method
        yield "refuses what is not JSON by its type", self._wrong_type
        yield "is still ready after all this", self._health

    # What is promised

    def _server_metadata(self) -> None:
        said = self._get("/v2")
        _expect({"name", "version", "extensions"} <= said.keys(), f"it says {said}")

    def _health(self) -> None:
        for path in ("/v2/health/live", "/v2/health/ready", f"{self.own}/ready"):
            self._get(path)

    def _model_metadata(self) -> None:
        said = self._get(self.own)
        _expect(said["name"] == self.encoder.model, f"its name is {said['name']}")
        _expect(self.candidate in said["versions"], f"its versions are {said['versions']}")
        wanted = {
            name: (datatype, [-1, len(names)])
            for name, datatype, names in (
                ("numeric", "FP32", self.encoder.numeric),
                ("categorical", "BYTES", self.encoder.categorical),
            )
            if names
        }
        inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in said["inputs"]}
        _expect(inputs == wanted, f"its inputs are {inputs}")
        outputs = [(tensor["name"], tensor["datatype"]) for tensor in said["outputs"]]
        _expect(outputs == [(self.output.name, "FP32")], f"its outputs are {outputs}")

    def _golden(self) -> None:
        self._compare(self._infer(self.request(slice(None))), self.prediction)

    def _one_row(self) -> None:
        self._compare(self._infer(self.request(slice(0, 1))), self.prediction[:1])

    def _flat(self) -> None:
        request = self.request(slice(0, 3))
        for tensor in request["inputs"]:
            tensor["data"] = [value for row in tensor["data"] for value in row]
        self._compare(self._infer(request), self.prediction[:3])

    def _any_order(self) -> None:
        request = self.request(slice(0, 3))
        request["inputs"].reverse()
        self._compare(self._infer(request), self.prediction[:3])

    def _all_missing(self) -> None:
        request = self.request(slice(0, 1))
        for tensor in request["inputs"]:
            tensor["data"] = [[None] * tensor["shape"][1]]
        found = np.asarray(self._infer(request)["outputs"][0]["data"], np.float64)
        low = -np.inf if self.output.low is None else self.output.low
        high = np.inf if self.output.high is None else self.output.high
        within = np.isfinite(found) & (found >= low) & (found <= high)
        fits = found.shape == self.output.shape(1) and bool(within.all())
        _expect(fits, f"it answers {found.tolist()}")

    def _identity(self) -> None:
        request = self.request(slice(0, 2)) | {"id": "golden", "parameters": {"ids": ["a", "b"]}}
        response = self.client.post(f"{self.own}/infer", json=request)
        said = self._read(response, 200)
        _expect(said.get("id") == "golden", f"the id came back as {said.get('id')}")
        for where, found in (
            ("model_version", said.get("model_version")),
            ("the header x-candidate", response.headers.get("x-candidate")),
        ):
            _expect(found == self.candidate, f"{where} is {found}, not {self.candidate}")
        _expect(said["model_name"] == self.encoder.model, f"model_name is {said['model_name']}")

    def _feedback(self) -> None:
        label = {"id": "golden-a", "label": 1, "known_at": "2013-01-01T12:00:00+00:00"}
        self._read(self.client.post(f"{self.own}/feedback", json={"labels": [label]}), 200)

    def _metrics(self) -> None:
        response = self.client.get("/metrics")
        kind = response.headers.get("content-type", "")
        _expect(
            response.status_code == 200 and kind.startswith("text/plain"), f"{response.status_code} {kind}"
        )

    # What is refused

    def _refused(self) -> Iterator[tuple[str, str]]:
        """Bodies that no server may take, with what is wrong with each."""
        fine = self.request(slice(0, 2))
        yield "what is no JSON", "{"
        yield "a list instead of an object", "[]"
        yield "a request without inputs", "{}"
        if len(fine["inputs"]) > 1:
            yield "one tensor where two are needed", json.dumps({"inputs": fine["inputs"][:1]})
        yield "an unknown key", json.dumps(fine | {"surprise": 1})
        for what, change in (
            ("no rows", {"shape": [0, len(self.encoder.numeric)], "data": []}),
            ("more values than the shape says", {"shape": [1, len(self.encoder.numeric)]}),
            ("a column too few", {"shape": [2, len(self.encoder.numeric) - 1]}),
            ("a negative shape", {"shape": [-2, len(self.encoder.numeric)]}),
            ("another datatype", {"datatype": "INT64"}),
            ("an unknown tensor", {"name": "pixels"}),
        ):
            yield what, json.dumps(self._with_numeric(fine, **change))
        yield (
            "more rows than it takes",
            json.dumps(self._with_numeric(fine, shape=[TOO_MANY_ROWS, len(self.encoder.numeric)])),
        )
        for what, value in (
            ("NaN, which is no JSON", "NaN"),
            ("infinity", "Infinity"),
            ("a number beyond all floats", "1e400"),
            ("a number as a text", '"1.0"'),
            ("true as a number", "true"),
            ("a list as a number", "[1]"),
        ):
            data = [["HERE", *[0.0] * (len(self.encoder.numeric) - 1)]] * 2
            yield what, json.dumps(self._with_numeric(fine, data=data)).replace('"HERE"', value)

    def _refuses(self, path: str, body: str) -> None:
        response = self.client.post(path, content=body, headers={"content-type": "application/json"})
        status = response.status_code
        _expect(400 <= status < 500, f"it answers {status} {response.text[:200]}")
        self._sentence(response)

    def _unknown_model(self) -> None:
        response = self.client.get("/v2/models/nobody")
        _expect(response.status_code == 404, f"it answers {response.status_code}")
        self._sentence(response)

    def _wrong_method(self) -> None:
        response = self.client.get(f"{self.own}/infer")
        _expect(response.status_code == 405, f"it answers {response.status_code}")

    def _wrong_type(self) -> None:
        body = json.dumps(self.request(slice(0, 1)))
        response = self.client.post(
            f"{self.own}/infer", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        _expect(response.status_code == 415, f"it answers {response.status_code}")

    # Asking and reading

    def request(self, rows: slice = slice(None)) -> dict[str, Any]:
        """A request of some of the golden rows, its values in rows."""
        inputs = []
        for name, datatype, names in (
            ("numeric", "FP32", self.encoder.numeric),
            ("categorical", "BYTES", self.encoder.categorical),
        ):
            data = [list(row) for row in zip(*(self.columns[column][rows] for column in names), strict=True)]
            if names:
                inputs.append(
                    {"name": name, "datatype": datatype, "shape": [len(data), len(names)], "data": data}
                )
        return {"inputs": inputs}

    def _with_numeric(self, request: dict[str, Any], **change: Any) -> dict[str, Any]:
        numeric, *others = request["inputs"]
        return request | {"inputs": [numeric | change, *others]}

    def _infer(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._read(self.client.post(f"{self.own}/infer", json=request), 200)

    def _get(self, path: str) -> dict[str, Any]:
        return self._read(self.client.get(path), 200)

    def _read(self, response: httpx.Response, status: int) -> dict[str, Any]:
        _expect(response.status_code == status, f"it answers {response.status_code} {response.text[:200]}")
        said: dict[str, Any] = response.json()
        return said

    def _sentence(self, response: httpx.Response) -> None:
        said = response.json().get("error")
        _expect(isinstance(said, str) and bool(said), f"it refuses without a sentence: {response.text[:200]}")

    def _compare(self, said: dict[str, Any], expected: NDArray[np.float32]) -> None:
        output = said["outputs"][0]
        _expect(
            (output["name"], output["datatype"], output["shape"])
            == (self.output.name, "FP32", list(expected.shape)),
            f"the output is {output['name']} {output['datatype']} {output['shape']}",
        )
        farthest = apart(output["data"], expected)
        _expect(farthest <= CLOSE, f"an answer is {farthest:.2g} away from the artefact's")


def kept(promise: str, check: Callable[[], None]) -> Check:
    """Runs one check; an answer that cannot be read breaks the promise too."""
    import httpx

    try:
        check()
    except Broken as broken:
        return Check(promise, str(broken))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        return Check(promise, f"the answer cannot be read: {error!r}")
    return Check(promise, None)


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise Broken(otherwise)
