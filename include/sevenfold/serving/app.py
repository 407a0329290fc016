"""The HTTP side of a server: a raw ASGI application, because frameworks cost more than the model does."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from sevenfold.serving import openapi
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.model import ServedModel
from sevenfold.serving.protocol import (
    MAX_BODY,
    BadRequest,
    parse_feedback,
    parse_request,
    render_answer,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]
Get = Callable[[], tuple[int, bytes]]
Post = Callable[[bytes, Headers], bytes]

_JSON = b"application/json"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class ServingApp:
    """Answers for one candidate: Open Inference Protocol v2, feedback, metrics, OpenAPI."""

    def __init__(
        self,
        model: str,
        candidate: str,
        arm: str,
        served: ServedModel,
        predictions: PredictionLog,
        feedback: FeedbackLog,
        metrics: Metrics,
    ) -> None:
        self.draining = False
        self._model, self._candidate, self._arm = model, candidate, arm
        self._served, self._metrics = served, metrics
        self._output = served.signature.output.name
        self._predictions, self._feedback = predictions, feedback
        self._candidate_header = (b"x-candidate", candidate.encode())
        own = f"/v2/models/{model}"
        version = f"{own}/versions/{candidate}"
        self._gets: dict[str, Get] = {
            "/v2": _fixed({"name": "sevenfold", "version": "2", "extensions": []}),
            "/v2/health/live": _fixed({"live": True}),
            "/v2/health/ready": self._ready,
            "/metrics": lambda: (200, metrics.page()),
            "/openapi.json": _fixed(openapi.document(model, candidate, served.signature)),
        }
        self._posts: dict[str, Post] = {f"{own}/feedback": self._take_labels}
        for prefix in (own, version):
            self._gets[prefix] = _fixed(openapi.metadata(model, candidate, served.signature))
            self._gets[f"{prefix}/ready"] = self._ready
            self._posts[f"{prefix}/infer"] = self._infer
        metrics.ready(True)

    def drain(self) -> None:
        """Stops being ready; requests that still come are answered."""
        self.draining = True
        self._metrics.ready(False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        try:
            status, body, allow = await self._answer(scope, receive)
        except BadRequest as error:
            status, body, allow = error.status, _sentence(str(error)), None
            self._metrics.answered(status)
        except ConnectionAbortedError:
            return
        except Exception as error:  # the process serves on; the cause must not be told to a caller
            print(f"request failed: {error!r}", file=sys.stderr, flush=True)
            status, body, allow = 500, _sentence("the server failed on this request"), None
            self._metrics.answered(500)
        kind = _TEXT if scope["path"] == "/metrics" and status == 200 else _JSON
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            self._candidate_header,
        ]
        if allow:
            headers.append((b"allow", allow))
        if status == 413:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, bytes, bytes | None]:
        path, method = scope["path"], scope["method"]
        if (post := self._posts.get(path)) is not None:
            if method != "POST":
                return self._wrong_method(path, method, b"POST")
            headers = dict(scope["headers"])
            return 200, post(await _body(headers, receive), headers), None
        if (get := self._gets.get(path)) is not None:
            if method != "GET":
                return self._wrong_method(path, method, b"GET")
            return *get(), None
        raise BadRequest(self._unknown(path), 404)

    def _wrong_method(self, path: str, method: str, allowed: bytes) -> tuple[int, bytes, bytes]:
        self._metrics.answered(405)
        return 405, _sentence(f"{path} takes {allowed.decode()}, not {method[:20]}"), allowed

    def _unknown(self, path: str) -> str:
        if path.startswith("/v2/models/"):
            model = path.split("/")[3]
            if model != self._model:
                return f"this server knows no model '{model[:100]}', only {self._model}"
        return f"there is nothing at {path[:200]}; GET /openapi.json says what there is"

    def _ready(self) -> tuple[int, bytes]:
        return (503, b'{"ready":false}') if self.draining else (200, b'{"ready":true}')

    def _infer(self, body: bytes, headers: Headers) -> bytes:
        started = time.perf_counter()
        request = parse_request(body, self._served.signature)
        prediction = self._served.predict(request.numeric, request.categorical)
        answer = render_answer(self._model, self._candidate, request.id, self._output, prediction)
        seconds = time.perf_counter() - started
        try:
            self._predictions.append(
                time=request.time,
                request_id=headers.get(b"x-request-id", b"").decode("latin-1") or uuid.uuid4().hex,
                arm=headers.get(b"x-arm", b"").decode("latin-1") or self._arm,
                prediction=prediction,
                microseconds=round(seconds * 1e6),
                request=body,
            )
        except OSError as error:
            self._log_failed("prediction", error)
        self._metrics.answered(200, request.rows, seconds)
        return answer

    def _take_labels(self, body: bytes, headers: Headers) -> bytes:
        count = parse_feedback(body)
        try:
            self._feedback.append(body)
        except OSError as error:
            self._log_failed("feedback", error)
            raise BadRequest("the labels could not be kept; send them again later", 503) from error
        self._metrics.answered(200)
        return orjson.dumps({"accepted": count})

    def _log_failed(self, what: str, error: OSError) -> None:
        """A prediction is answered even if it cannot be logged: callers come first, the counter tells."""
        self._metrics.lost()
        print(f"{what} log of {self._model}: {error}", file=sys.stderr, flush=True)


async def _body(headers: Headers, receive: Receive) -> bytes:
    """The request body.

    Raises:
        BadRequest: it is not JSON by its content type, or too long; then the rest is not read.
        ConnectionAbortedError: the caller went away.
    """
    kind = headers.get(b"content-type", _JSON).partition(b";")[0].strip().lower()
    if kind != _JSON:
        raise BadRequest("the content-type must be application/json", 415)
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY:
        raise BadRequest(f"the body has {length.decode()} bytes; at most {MAX_BODY} are taken", 413)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise BadRequest(f"the body has more than {MAX_BODY} bytes", 413)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def _fixed(document: dict[str, Any]) -> Get:
    body = orjson.dumps(document)
    return lambda: (200, body)


def _sentence(text: str) -> bytes:
    return orjson.dumps({"error": text})
