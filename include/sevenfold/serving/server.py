"""One replica: loads an admitted candidate, warms it up, serves it until it is told to stop.

    python -m sevenfold.serving.server --model flight_delay --candidate <id> --slot champion --port 21000

SIGTERM makes it unready first, so that everybody who balances over it looks elsewhere, and ends it a few
seconds later when what was under way is answered; a second signal ends it at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
from pathlib import Path
from types import FrameType

import uvicorn

from sevenfold.artifacts import open_artifacts
from sevenfold.cluster import REFUSED
from sevenfold.errors import SevenfoldError
from sevenfold.serving.admission import arm, require_admission
from sevenfold.serving.app import ServingApp
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.model import ServedModel
from sevenfold.serving.wire import OnePieceProtocol
from sevenfold.settings import settings
from sevenfold.store import open_store

KEEP_ALIVE_S = 75
"""Longer than any proxy keeps an idle connection, so that it is never us who closes under a request."""
DRAIN_S = 3.0
"""A gateway that asks every second has seen a replica unready twice by then."""
STOP_LIMIT_S = 10.0
"""After the drain, requests under way have this long to finish."""


class Server(uvicorn.Server):
    """uvicorn that goes on serving, unready, for `drain` seconds after it is told to stop."""

    def __init__(self, config: uvicorn.Config, app: ServingApp, drain: float) -> None:
        super().__init__(config)
        self._app, self._drain = app, drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drains, then stops. Second: stops now."""
        if self._app.draining:
            super().handle_exit(sig, frame)
            return
        self._app.drain()
        timer = threading.Timer(self._drain, lambda: setattr(self, "should_exit", True))
        timer.daemon = True
        timer.start()


def admitted_file(model: str, candidate_id: str, slot: str) -> Path:
    """The verified ONNX file of a candidate that may serve in `slot`.

    Raises:
        NotAdmitted: it lacks the evidence.
        SevenfoldError: there is no such candidate, it is another model's, or its file was altered.
    """
    here = settings()
    store = open_store(here.evidence_url)
    candidate = store.candidate(candidate_id)
    if candidate.model != model:
        raise SevenfoldError(f"candidate {candidate_id} is of model {candidate.model}, not {model}")
    require_admission(store, candidate_id, slot)
    return open_artifacts(here.artifacts_url).get(candidate.model_digest)


def application(model: str, candidate: str, slot: str, file: Path, logs: Path) -> ServingApp:
    """The app that serves `file`, warmed up."""
    served = ServedModel(file)
    return ServingApp(
        model,
        candidate,
        arm(slot),
        served,
        PredictionLog(logs, model, candidate, served.signature),
        FeedbackLog(logs, model),
        Metrics(model, candidate, slot),
    )


def serve(app: ServingApp, port: int, host: str = "127.0.0.1", drain: float = DRAIN_S) -> None:
    """Serves `app` until a signal ends it. The port opens only now, after the warm-up."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=OnePieceProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(STOP_LIMIT_S),
        backlog=2048,
    )
    gc.collect()
    gc.freeze()  # what start-up made stays; looking at it again would only lengthen the slowest answers
    Server(config, app, drain).run()


def main(arguments: list[str] | None = None) -> None:
    """The program of a replica."""
    parser = argparse.ArgumentParser(prog="sevenfold.serving.server", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--candidate", required=True)
    parser.add_argument("--slot", default="champion", help="champion, challenger, shadow, staging, testing")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log-dir", type=Path, help="folder of the logs; the settings' by default")
    parser.add_argument("--drain", type=float, default=DRAIN_S, help="seconds served on after SIGTERM")
    given = parser.parse_args(arguments)
    try:
        file = admitted_file(given.model, given.candidate, given.slot)
        app = application(given.model, given.candidate, given.slot, file, given.log_dir or settings().logs)
    except SevenfoldError as error:
        print(f"server of {given.model}: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if error.retry else REFUSED)
    print(f"serves {given.candidate} as {given.slot} on {given.host}:{given.port}", flush=True)
    serve(app, given.port, given.host, given.drain)


if __name__ == "__main__":
    main()
