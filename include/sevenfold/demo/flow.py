"""Traffic for when nobody calls: the next days of the data, played through the public route like real ones.

On a laptop no one else asks the model, and a roll-out without requests proves nothing. The player goes on
where it stopped and moves the model's clock, so that predictions, labels and time belong together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sevenfold.activity import Activity
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.demo.player import Played, play
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec
from sevenfold.serving.keys import GatewayKeys

HASTE = 4.0
"""A replay asks at most so many times the SLA's rate: the days that are left are precious."""


PATIENCE = timedelta(seconds=5)


class TrafficOver(SevenfoldError):
    """Nobody calls, and all days of the data have been played."""


def progress_file(shared: Path, model: str) -> Path:
    """Where everybody who plays a model's days remembers how far they were played."""
    return shared / "player" / f"{model}.json"


class Replay:
    """Plays in a thread from `start()` until the days are over or it is stopped."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begins to play; does nothing when it plays already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
            self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it plays."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def over(self) -> bool:
        """Whether it has played all the days that there are."""
        return self._thread is not None and not self._thread.is_alive()

    def end(self) -> None:
        """Stops; requests under way are answered."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _play(self) -> None:
        activity, model = self._activity, self._activity.promotion.model
        start = activity.store.get_clock(model) or activity.promotion.as_of
        token = GatewayKeys(activity.settings.secrets).token("replay", ["predict", "feedback"])
        data = snapshot(activity.spec, activity.settings.data)

        def reached(moment: datetime, played: Played) -> None:
            activity.store.set_clock(model, moment)

        try:
            play(
                activity.spec,
                data,
                start,
                ends(activity.spec),
                activity.settings.callers_url,
                token,
                progress=progress_file(activity.settings.shared, model),
                days_per_second=HASTE * activity.spec.serving.sla.rate / rows_per_day(data),
                on_day=reached,
                stop=self._stop.is_set,
            )
        except Exception as error:  # told by the thread that waits for traffic
            self.failure = error


def ends(spec: ModelSpec) -> datetime:
    """Midnight UTC after the last day of the data."""
    last = spec.data.ends
    return datetime(last.year, last.month, last.day, tzinfo=UTC)


def rows_per_day(data: Snapshot) -> float:
    """Mean number of rows of a day."""
    days = data.manifest["days"].values()
    return float(max(1.0, sum(day["rows"]["rows"] for day in days) / max(1, len(days))))


class Flow:
    """Whether requests come, and what to do when they do not: param `traffic` is live, replay, or nothing.

    Without the param it waits `patience` for callers and replays when none come.
    """

    def __init__(self, activity: Activity, replay: Replay, patience: timedelta) -> None:
        self._activity, self._replay, self._patience = activity, replay, patience
        self._wanted = activity.promotion.params.get("traffic")
        self._silent_since = datetime.now(UTC)

    def seen(self, requests: int) -> None:
        """Takes note of how many requests came lately.

        Raises:
            TrafficOver: none come, and none are left to be replayed.
            Exception: what stopped the replay, if something did.
        """
        if self._replay.failure is not None:
            raise self._replay.failure
        now = datetime.now(UTC)
        if requests:
            self._silent_since = now
        if self._wanted == "replay":
            self._begin("as asked")
        elif self._wanted != "live" and now - self._silent_since >= self._patience:
            self._begin(f"nobody has called for {self._patience.total_seconds():.0f} s")
        if self._replay.over and now - self._silent_since >= self._patience:
            last = self._activity.spec.data.ends
            raise TrafficOver(
                f"nobody calls, and all days of the data until {last} have been played: let callers come, or "
                "start a candidate with an earlier as_of"
            )

    def _begin(self, why: str) -> None:
        if not (self._replay.running or self._replay.over):
            self._activity.progress(f"{why}: replaying the next days of the data")
            self._replay.start()


@contextmanager
def flow(activity: Activity, *, at_once: bool) -> Iterator[Flow]:
    """Traffic for as long as it is needed. `at_once`: nobody can be calling yet, so waiting has no use."""
    replay = Replay(activity)
    try:
        yield Flow(activity, replay, timedelta(0) if at_once else PATIENCE)
    finally:
        replay.end()
