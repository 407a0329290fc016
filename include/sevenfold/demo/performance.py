"""A performance: starts the stack, plays a model's story on it, measures what it cost, and sums it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from sevenfold.data.snapshot import snapshot
from sevenfold.demo.flow import progress_file
from sevenfold.demo.player import Played, play
from sevenfold.demo.story import Narrator
from sevenfold.demo.summary import Cost, tell, where
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import open_store
from sevenfold.local import stack
from sevenfold.local.footprint import PeakMemory, memory
from sevenfold.local.supervision import Supervisor
from sevenfold.model.spec import load_spec
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import Settings

CALL_EVERY = timedelta(minutes=5)
"""The caller of the story asks once for all rows of so long a time, at most 64 a request."""
SETTLE_S = 5.0
"""How long nothing happens before the memory of the idle stack is read."""


class Unanswered(SevenfoldError):
    """Requests of the player that the gateway did not answer as it should."""


def perform(model: str, settings: Settings, console: Console, approve_after: float | None) -> None:
    """Plays the story of `model` from where it stands, and prints its summary.

    Args:
        approve_after: seconds that a person has to give each approval before it is given; None waits for one.

    Raises:
        SevenfoldError: the stack cannot start, or the story took another turn than the data say it should.
    """
    spec = load_spec(model, settings.models)
    story = spec.entry("story")
    began, first = time.monotonic(), datetime.now(UTC)
    stack.up(settings, console.print)
    roots = _roots(settings)
    console.print(f"the stack runs after {time.monotonic() - began:.0f} s")
    where(settings, console)
    narrator = Narrator(
        spec=spec,
        store=open_store(settings.evidence_url),
        settings=settings,
        requester=stack.airflow(settings, "admin"),
        approver=stack.airflow(settings, "approver"),
        player=lambda start, end: play_days(model, settings, start, end, lambda line: None),
        console=console,
        approve_after=approve_after,
    )
    with PeakMemory(roots) as used:
        story(narrator)
    wall = time.monotonic() - began
    time.sleep(SETTLE_S)
    tell(narrator.store, spec, settings, console, Cost(first, wall, used.peak, memory(roots[:1])))


def play_days(
    model: str, settings: Settings, start: datetime, end: datetime, progress: Callable[[str], None]
) -> Played:
    """Plays the real requests of [start, end) through the gateway; labels follow when they became known.

    The model's clock moves along. Days that were played before are not played again.

    Raises:
        SevenfoldError: there is no day between `start` and `end`.
        Unanswered: some requests were not answered; those that were count.
    """
    if end <= start:
        raise SevenfoldError(
            f"there is no day to play: the first day not to play, {end:%Y-%m-%d}, must come after the first, "
            f"{start:%Y-%m-%d}"
        )
    spec, store = load_spec(model, settings.models), open_store(settings.evidence_url)
    tokens = GatewayKeys(settings.secrets)

    def reached(moment: datetime, played: Played) -> None:
        store.set_clock(model, moment)
        progress(f"{moment:%-d %B %Y}: {played.rows:,} rows in {played.requests:,} requests so far")

    played = play(
        spec,
        snapshot(spec, settings.data, progress),
        start,
        end,
        settings.gateway_url,
        tokens.token("player", ["predict", "feedback"]),
        progress=progress_file(settings.shared, model),
        on_day=reached,
        slot=CALL_EVERY,
    )
    if played.failed:
        said = ", ".join(f"{count} times {error}" for error, count in played.errors.items())
        raise Unanswered(f"{played.failed} of {played.requests:,} requests were not answered: {said}")
    return played


def _roots(settings: Settings) -> tuple[int, ...]:
    """The processes below which everything runs: supervisord first, then this one."""
    supervisor = Supervisor(settings.home)
    parts = {psutil.Process(program.pid).ppid() for program in supervisor.status() if program.pid}
    return (*sorted(parts), psutil.Process().pid)
