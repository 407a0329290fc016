"""Looks at what callers of every model meet, as long as it runs; opens and closes the service alarm's alerts.

python -m sevenfold.monitoring.watchman
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from sevenfold import clock
from sevenfold.cluster import Endpoint, open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store, open_store
from sevenfold.model.spec import load_spec, models
from sevenfold.monitoring import service_alarm
from sevenfold.monitoring.answers import AccessLog, Answer
from sevenfold.serving.admission import LIVE
from sevenfold.settings import Settings, settings
from sevenfold.told_to_end import told_to_end

EVERY_S = 10.0


class Watchman:
    """Follows the public route of one model; `replicas` says where its replicas are now.

    One who takes over from another `at` a moment reads back the window before it. Lines that could not be
    logged stand in no log: while an alert tells of them, as many are taken to be lost at that moment.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        model: str,
        replicas: Callable[[], Iterable[Endpoint]],
        at: datetime | None = None,
    ) -> None:
        self._store, self._settings, self._model, self._replicas = store, settings, model, replicas
        since = at - service_alarm.WINDOW if at else None
        self._log = AccessLog(settings.logs, model, refused=True, since=since)
        self._answers: list[Answer] = []
        self._known: dict[Endpoint, float] | None = None
        self._lost: list[tuple[datetime, float]] = [
            (at, alert.value or 0.0)
            for alert in (store.open_alerts(model) if at else ())
            if at and alert.kind == service_alarm.UNLOGGED
        ]

    def look(self, now: datetime) -> list[str]:
        """One look at the window that ends now; returns the reasons of what is open."""
        spec = load_spec(self._model, self._settings.models)
        self.read()
        self._answers = [answer for answer in self._answers if answer.at >= now - service_alarm.WINDOW]
        findings = service_alarm.judge(spec, self._answers, self._lost_lately(now))
        as_of = clock.now(self._store, self._model)
        open_now = service_alarm.tell(self._store, spec, findings, len(self._answers), now, as_of)
        return [alert.reason for alert in open_now]

    def read(self) -> int:
        """Reads what has come into the gateway's log; returns how many requests there are to judge."""
        public = f"/v2/models/{self._model}/infer"
        self._answers += [answer for answer in self._log.newest() if answer.path == public]
        return len(self._answers)

    def _lost_lately(self, now: datetime) -> float:
        """Lines that could not be logged in the window.

        A server that is new or was replaced counts from zero; one that was late with its answer goes on
        where it was, or its old losses would be an alert.
        """
        said = service_alarm.lost_lines(self._replicas())
        known = said if self._known is None else self._known
        lost = sum(_grown(known.get(one, 0.0), total) for one, total in said.items())
        self._known = known | said
        if lost:
            self._lost.append((now, lost))
        self._lost = [(at, lost) for at, lost in self._lost if at >= now - service_alarm.WINDOW]
        return sum(lost for _, lost in self._lost)


def _grown(before: float, now: float) -> float:
    """By how much a counter has grown; one that is smaller than before has begun anew."""
    return now - before if now >= before else now


def live_replicas(model: str) -> list[Endpoint]:
    """Where the replicas listen that answer callers."""
    cluster = open_cluster()
    return [one for slot in LIVE for one in cluster.endpoints(model, slot)]


def main() -> None:
    """Watches all models until SIGTERM."""
    stop = told_to_end()
    here = settings()
    try:
        store = open_store(here.evidence_url)
    except SevenfoldError as error:
        sys.exit(f"the watchman cannot start: {error}")
    watched: dict[str, Watchman] = {}
    said: dict[str, object] = {}
    while not stop.wait(EVERY_S):
        for model in models(here.models):
            if model not in watched:
                replicas = partial(live_replicas, model)
                watched[model] = Watchman(store, here, model, replicas, datetime.now(UTC))
            one = watched[model]
            try:
                found: object = one.look(datetime.now(UTC))
            except SevenfoldError as error:
                found = [f"cannot look: {error}"]
            if found != said.get(model, []):
                print(f"{model}: {'; '.join(found) if found else 'all is well again'}", flush=True)  # type: ignore[arg-type]
                said[model] = found


if __name__ == "__main__":
    main()
