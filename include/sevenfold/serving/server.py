"""One replica: loads an admitted candidate, warms it up, serves it until it is told to stop.

    python -m sevenfold.serving.server --model flight_delay --candidate <id> --slot champion --port 21000

SIGTERM makes it unready first, so that everybody who balances over it looks elsewhere, and ends it a few
seconds later when what was under way is answered; a second signal ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from sevenfold.errors import NO_RETRY_HELPS, SevenfoldError
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import open_store
from sevenfold.serving.admission import arm, require_admission
from sevenfold.serving.app import ServingApp
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.model import ServedModel
from sevenfold.serving.protocol import MAX_BODY
from sevenfold.serving.pseudonyms import Pseudonyms, pseudonyms
from sevenfold.serving.wire import Connection
from sevenfold.settings import settings
from sevenfold.told_to_end import ends_when_told

if TYPE_CHECKING:
    from sevenfold.model.spec import Sla

DRAIN_S = 3.0
"""A gateway that asks every second has seen a replica unready twice by then."""
STOP_LIMIT_S = 10.0
"""After the drain, requests under way have this long to finish."""
GARBAGE = 20_000
"""Objects between two looks for cycles: a request makes many objects and no cycle."""


class PortTaken(SevenfoldError):
    """Nobody can listen on this port."""

    retry = True


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


def hidden(model: str) -> Callable[[], Pseudonyms | None]:
    """What logs keep of the model's personal features.

    Raises:
        SevenfoldError: nobody knows the model's rule, or its key is not safe.
    """
    from sevenfold.model.spec import load_spec

    here = settings()
    asked = partial(pseudonyms, load_spec(model, here.models), here.secrets)
    asked()
    return asked


def promised(model: str) -> Sla:
    """What the model promises its callers."""
    from sevenfold.model.spec import load_spec

    return load_spec(model, settings().models).serving.sla


def application(
    model: str,
    candidate: str,
    slot: str,
    file: Path,
    logs: Path,
    personal: Callable[[], Pseudonyms | None] = lambda: None,
    sla: Sla | None = None,
) -> ServingApp:
    """The app that serves `file`, warmed up.

    Args:
        personal: what logs keep of personal features.
        sla: what the model promises, for who reads its metrics.
    """
    served = ServedModel(file)
    return ServingApp(
        model,
        candidate,
        arm(slot),
        served,
        PredictionLog(logs, model, candidate, served.signature, personal),
        FeedbackLog(logs, model),
        Metrics(model, candidate, slot, sla),
    )


def serve(app: ServingApp, port: int, host: str = "127.0.0.1", drain: float = DRAIN_S) -> None:
    """Serves `app` until a signal ends it. The port opens only now, after the warm-up.

    Raises:
        PortTaken: somebody else listens there.
    """
    gc.collect()
    gc.freeze()  # what start-up made stays; looking at it again would only lengthen the slowest answers
    gc.set_threshold(GARBAGE)
    uvloop.run(_serve(app, host, port, drain))


async def _serve(app: ServingApp, host: str, port: int, drain: float) -> None:
    """Listens; after the first signal drains, then lets requests that are under way come to their end."""
    loop, connections = asyncio.get_running_loop(), set[Connection]()
    told, told_again = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (told_again if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        server = await loop.create_server(
            lambda: Connection(app.answer, app.refuse, MAX_BODY, connections), host, port, backlog=2048
        )
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
    await told.wait()
    app.drain()
    await _at_most(drain, told_again.wait())
    server.close()
    for connection in tuple(connections):
        connection.shutdown()
    await _at_most(STOP_LIMIT_S, _empty(connections), told_again.wait())


async def _at_most(seconds: float, *until: Coroutine[Any, Any, object]) -> None:
    """Waits until one of these is over, and no longer than `seconds`."""
    tasks = [asyncio.ensure_future(one) for one in until]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _empty(connections: set[Connection]) -> None:
    while connections:
        await asyncio.sleep(0.02)


def main(arguments: list[str] | None = None) -> None:
    """The program of a replica."""
    ends_when_told()  # while it loads: `serve` has more to do when it is told
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
        logs, personal = given.log_dir or settings().logs, hidden(given.model)
        of = given.model, given.candidate, given.slot
        app = application(*of, file, logs, personal, promised(given.model))
        print(f"serves {given.candidate} as {given.slot} on {given.host}:{given.port}", flush=True)
        serve(app, given.port, given.host, given.drain)
    except SevenfoldError as error:
        print(f"server of {given.model}: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if error.retry else NO_RETRY_HELPS)


if __name__ == "__main__":
    main()
