"""Plants a drift, errors, slowness and a full disk in a mirror: monitoring must notice each, and no more.

The world as the candidate was trained on it must raise no alert. All of it goes through the real code: the
candidate's server writes the logs, an Envoy of its own stands before it, and monitoring's own activities and
the watchman look at what they left.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from activities.monitoring import drift, feedback, monitor, retraining_trigger
from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.cluster import Endpoint
from sevenfold.data.snapshot import snapshot
from sevenfold.data.weeks import complete
from sevenfold.demo.player import batches
from sevenfold.demo.player.client import Connection
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.records import Alert
from sevenfold.gateway.envoy import soon
from sevenfold.model.tasks import Task
from sevenfold.monitoring import alarm, service_alarm
from sevenfold.monitoring.watch import Watch
from sevenfold.monitoring.watchman import Watchman
from sevenfold.reports import page
from sevenfold.serving.app import ServingApp
from sevenfold.trials.mirror import Fault, Mirror, faulty, post, serving

MOST_ROWS = 100_000
"""Of all weeks together: what drift is does not change with more. Up to there all rows come, as in the
reference, so that its own weeks are within its limits exactly."""
REQUESTS = 64
"""In each world of the service: half of them planted is proof enough, and a tenth would not do."""
AT_ONCE = 8
SLOWER = 1.5
"""Times the SLA's p99: beyond doubt, and soon over."""
SLOT = timedelta(minutes=5)
UNUSUAL = 0.25
"""The part of the rows, those with the lowest scores, that a drifted world is made of."""
HARM = 2.0
"""How much beyond the alarm's limit the outcomes of a drifted world are."""


@dataclass(frozen=True)
class World:
    """What was planted, which alert it must raise (None: none), and what was raised, with its reason."""

    planted: str
    expected: str | None
    raised: tuple[tuple[str, str], ...]

    @property
    def missed(self) -> bool:
        """Whether the alert that it must raise is lacking."""
        return self.expected is not None and self.expected not in [kind for kind, _ in self.raised]

    @property
    def false(self) -> int:
        """Alerts that it must not raise."""
        return sum(kind != self.expected for kind, _ in self.raised)


def main(activity: Activity) -> None:
    """Counts alerts that were missed and those that were raised for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        worlds = [*drift_worlds(activity, Path(folder)), *service_worlds(activity, Path(folder))]
    for world in worlds:
        said = "; ".join(f"{kind}: {reason}" for kind, reason in world.raised) or "no alert"
        activity.progress(f"{world.planted}: {said}")
    planted = sum(world.expected is not None for world in worlds)
    activity.measure("missed_alerts", sum(w.missed for w in worlds), unit="alerts", n=planted)
    activity.measure(
        "false_alarms", min(len(worlds), sum(w.false for w in worlds)), unit="alerts", n=len(worlds)
    )
    activity.report("alerts.html", table(activity, worlds), "What was planted, and what monitoring said")


def drift_worlds(activity: Activity, folder: Path) -> Iterator[World]:
    """Complete weeks of the candidate's own training: as they were, and with a drift that does harm.

    Raises:
        SevenfoldError: the training window has fewer complete weeks than the alarm wants to see.
    """
    spec, candidate = activity.spec, activity.candidate
    rule = alarm.load_rule(spec.folder)
    weeks = complete(spec.data.starts, *candidate.train_window)[-rule.weeks :]
    if len(weeks) < rule.weeks:
        raise SevenfoldError(
            f"{candidate.id} was trained on {len(weeks)} complete weeks, its alarm looks at {rule.weeks}: "
            "nothing can be planted"
        )
    data, window = snapshot(spec, activity.settings.data), (weeks[0].start, weeks[-1].end)
    rows, labels = thinned(data.rows(*window, columns=spec.columns)), data.labels(*window)
    labelled = thinned(data.labelled(*window, columns=spec.columns))
    predictions = Scorer(activity.model_file(candidate)).predict(labelled)
    strange = drifted(spec.task, labelled, predictions, rule)
    Watch(activity).reference(candidate)  # made once, and left where monitoring will look for it
    reference = Watch(activity).reference_file(candidate)
    worlds = {
        "the weeks that it was trained on": (None, rows, labels),
        "a drift that does harm": (retraining_trigger.HARMFUL, strange, strange),
    }
    as_of = weeks[-1].end + rule.maturity
    for number, (planted, (expected, asked, outcomes)) in enumerate(worlds.items()):
        mirror = Mirror(activity, folder / f"drift-{number}")
        kept = mirror.settings.shared / "monitoring" / spec.name / "references" / reference.name
        kept.parent.mkdir(parents=True)
        kept.write_bytes(reference.read_bytes())
        answer(mirror.app(), activity, asked, outcomes)
        for module in (feedback, monitor, drift, retraining_trigger):
            name = module.__name__.rpartition(".")[2]
            module.main(mirror.step(name, "monitoring", as_of, report=False))
        yield World(planted, expected, _said(mirror.store.open_alerts(spec.name)))


def drifted(task: Task, rows: pa.Table, predictions: np.ndarray, rule: alarm.AlarmRule) -> pa.Table:
    """A world of the rows with the lowest scores, of whose outcomes far more comes than is expected.

    Rows and outcomes are real, only how often each occurs is planted: of the rows with the lowest scores
    those whose outcome exceeds the expected most, so many that both stay beyond the alarm's limit.

    Raises:
        SevenfoldError: no outcome is so far beyond what is expected.
    """
    scores = task.score(predictions)
    low = np.argsort(scores, kind="stable")[: max(1, int(UNUSUAL * len(scores)))]
    observed = np.asarray(task.observed(rows["label"].to_numpy(), predictions), np.float64)[low]
    expected = np.maximum(np.asarray(task.expected(predictions), np.float64)[low], 1e-12)
    order = np.argsort(-observed / expected, kind="stable")
    ratio = np.cumsum(observed[order]) / np.cumsum(expected[order])
    if ratio[0] <= rule.harm_ratio:
        raise SevenfoldError(
            f"no outcome of the unlikeliest rows is more than {rule.harm_ratio:g} times what is expected "
            f"(at most {ratio[0]:.2f}): no drift that does harm can be planted"
        )
    chosen = low[order[: max(1, int((ratio >= HARM * rule.harm_ratio).sum()))]]
    taken = np.resize(np.random.default_rng(0).permutation(chosen), rows.num_rows)
    world = rows.take(pa.array(taken))
    names = pa.array([f"{name}/{copy}" for copy, name in enumerate(world["id"].to_pylist())])
    for column, values in (("id", names), ("time", rows["time"]), ("known_at", rows["known_at"])):
        world = world.set_column(world.column_names.index(column), column, values)
    return world


def thinned(rows: pa.Table) -> pa.Table:
    """Every k-th row, at most `MOST_ROWS`."""
    return rows.take(pa.array(range(0, rows.num_rows, max(1, -(-rows.num_rows // MOST_ROWS)))))


def answer(app: ServingApp, activity: Activity, rows: pa.Table, labels: pa.Table) -> None:
    """Has the candidate's server answer the rows as champion, and take the labels."""
    spec = activity.spec
    asked = chain.from_iterable(batches.moments(rows, spec.numeric, spec.categorical, SLOT))
    path, arm = f"/v2/models/{spec.name}", {"x-arm": "champion"}
    statuses = post(app, f"{path}/infer", [batch.body for batch in asked], arm)
    known = labels.select(["id", "label", "known_at"])
    statuses += post(app, f"{path}/feedback", [body for _, body in batches.feedback(known)], {})
    if set(statuses) != {200}:
        raise SevenfoldError(f"{activity.candidate.id} answers real rows with {sorted(set(statuses))}")


def service_worlds(activity: Activity, folder: Path) -> Iterator[World]:
    """Requests through an Envoy of the mirror: answered well, then with each fault planted."""
    mirror, fault = Mirror(activity, folder / "service"), Fault()
    sla = activity.spec.serving.sla
    with serving(faulty(mirror.app(), fault)) as port, mirror.gateway(port):
        yield ask(activity, mirror, port, "nothing", None)
        fault.status = 500
        yield ask(activity, mirror, port, "every second request fails", service_alarm.ERRORS)
        fault.status, fault.delay_s = 200, SLOWER * sla.p99_ms / 1e3
        waits = f"every second request waits {fault.delay_s * 1e3:g} ms"
        yield ask(activity, mirror, port, waits, service_alarm.SLOW)
        fault.delay_s = 0.0
        with full_disk(mirror.settings.logs / "predictions"):
            yield ask(activity, mirror, port, "a full disk below the prediction log", service_alarm.UNLOGGED)
        yield ask(activity, mirror, port, "nothing any more", None)


def ask(activity: Activity, mirror: Mirror, port: int, planted: str, expected: str | None) -> World:
    """Asks the mirror's gateway, and has a watchman look who came when the requests did."""
    spec = activity.spec
    watchman = Watchman(mirror.store, mirror.settings, spec.name, lambda: [Endpoint(port)])
    before = {alert.id for alert in mirror.store.alerts(spec.name)}
    watchman.look(datetime.now(UTC))
    end = activity.promotion.as_of
    rows = snapshot(spec, activity.settings.data).rows(end - timedelta(days=3), end)
    slots = batches.moments(rows.slice(0, REQUESTS), spec.numeric, spec.categorical, SLOT)
    bodies = [batch.body for batch in chain.from_iterable(slots)]
    asyncio.run(_ask(mirror, [bodies[number % len(bodies)] for number in range(REQUESTS)]))
    soon(lambda: watchman.read() >= REQUESTS, 10.0)
    watchman.look(datetime.now(UTC))
    raised = [alert for alert in mirror.store.open_alerts(spec.name) if alert.id not in before]
    stale = [alert for alert in mirror.store.open_alerts(spec.name) if alert.id in before]
    return World(planted, expected, _said([*raised, *stale]))


async def _ask(mirror: Mirror, bodies: Sequence[bytes]) -> None:
    waiting = iter(bodies)
    token = mirror.token

    async def work() -> None:
        connection = Connection(mirror.settings.gateway_url, token)
        for body in waiting:
            await connection.post(f"/v2/models/{mirror.candidate.model}/infer", body)
        connection.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Whatever this process writes to the files that it has open below `folder` meets a full disk."""
    files = [file.fd for file in psutil.Process().open_files() if Path(file.path).is_relative_to(folder)]
    kept = [os.dup(file) for file in files]
    full = os.open("/dev/full", os.O_RDWR)
    try:
        for file in files:
            os.dup2(full, file)
        yield
    finally:
        for file, before in zip(files, kept, strict=True):
            os.dup2(before, file)
            os.close(before)
        os.close(full)


def table(activity: Activity, worlds: Sequence[World]) -> str:
    """What was planted, what was to be raised, what was."""
    rows = []
    for world in worlds:
        right = "no" if world.missed or world.false else "yes"
        kinds = ", ".join(kind for kind, _ in world.raised) or "none"
        reasons = " ".join(reason for _, reason in world.raised)
        rows.append([world.planted, world.expected or "none", kinds, right, reasons])
    return page.page(
        f"{activity.spec.title}: does monitoring notice?",
        page.text(
            "Each world is played through the candidate's own server and looked at by monitoring's own code, "
            "in a mirror that nobody else sees."
        ),
        page.table(["planted", "must be raised", "was raised", "right", "what it says"], rows),
    )


def _said(alerts: Sequence[Alert]) -> tuple[tuple[str, str], ...]:
    return tuple((alert.kind, alert.reason) for alert in alerts)


if __name__ == "__main__":
    run(main)
