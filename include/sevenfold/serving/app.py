"""What a server answers: inference, feedback, health, metrics, and a sentence for what is wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import orjson

from sevenfold.serving import openapi
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.model import ServedModel
from sevenfold.serving.protocol import MAX_BODY, BadRequest, parse_feedback, parse_request, render_answer
from sevenfold.serving.quick import read
from sevenfold.serving.wire import Answer, Headers

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
        self._json_head, self._text_head = (
            b"content-type: %b\r\nx-candidate: %b\r\n" % (kind, candidate.encode()) for kind in (_JSON, _TEXT)
        )
        self._ids, self._numbers = os.urandom(12).hex(), count()
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

    def answer(self, method: str, path: str, headers: Headers, body: bytes) -> Answer:
        """Answers one HTTP request; whatever happens there is an answer.

        Args:
            method: such as GET.
            path: decoded, without its query.
            headers: by lower-case name.
            body: all of it.
        """
        try:
            if (post := self._posts.get(path)) is not None:
                if method != "POST":
                    return self._wrong_method(path, method, "POST")
                _require_json(headers)
                return Answer(200, self._json_head, post(body, headers))
            if (get := self._gets.get(path)) is not None:
                if method != "GET":
                    return self._wrong_method(path, method, "GET")
                status, said = get()
                return Answer(status, self._text_head if path == "/metrics" else self._json_head, said)
            return self.refuse(404, self._unknown(path))
        except BadRequest as error:
            return self.refuse(error.status, str(error))
        except Exception as error:  # the process serves on; the cause must not be told to a caller
            print(f"request failed: {error!r}", file=sys.stderr, flush=True)
            return self.refuse(500, "the server failed on this request")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The same as an ASGI application, for whoever wants to put something around it."""
        body, message = b"", {"more_body": True}
        while message.get("more_body") and len(body) <= MAX_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
        if len(body) > MAX_BODY:
            answer = self.refuse(413, f"the body has more than {MAX_BODY} bytes")
        else:
            answer = self.answer(scope["method"], scope["path"], dict(scope["headers"]), body)
        lines = [tuple(line.split(b": ", 1)) for line in answer.head.splitlines()]
        headers = [*lines, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def refuse(self, status: int, sentence: str) -> Answer:
        """The answer that says what is wrong with a request."""
        self._metrics.answered(status)
        return Answer(status, self._json_head, orjson.dumps({"error": sentence}))

    def _wrong_method(self, path: str, method: str, allowed: str) -> Answer:
        refused = self.refuse(405, f"{path} takes {allowed}, not {method[:20]}")
        return refused._replace(head=refused.head + f"allow: {allowed}\r\n".encode())

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
        request = read(body, self._served.signature)
        if request is None:
            request = parse_request(body, self._served.signature)
        prediction = self._served.predict(request.numeric, request.categorical)
        answer = render_answer(self._model, self._candidate, request.id, self._output, prediction)
        seconds = time.perf_counter() - started
        try:
            self._predictions.append(
                time=request.time,
                request_id=headers.get(b"x-request-id", b"").decode("latin-1") or self._new_id(),
                arm=headers.get(b"x-arm", b"").decode("latin-1") or self._arm,
                prediction=prediction,
                microseconds=round(seconds * 1e6),
                request=body,
            )
        except OSError as error:
            self._log_failed("prediction", error)
        self._metrics.answered(200, request.rows, seconds)
        return answer

    def _new_id(self) -> str:
        """An id for a request that came without one, past the gateway."""
        return f"{self._ids}{next(self._numbers):08x}"

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


def _require_json(headers: Headers) -> None:
    kind = headers.get(b"content-type", _JSON)
    if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
        raise BadRequest("the content-type must be application/json", 415)


def _fixed(document: dict[str, Any]) -> Get:
    body = orjson.dumps(document)
    return lambda: (200, body)
