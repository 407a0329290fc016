"""Rolls out and back under load, in a mirror with a gateway of its own: how long it takes, and what is lost.

The champion and the candidate are deployed where no user reaches them. While requests come at the promised
rate, the candidate gets the steps of production's gate and then everything; then all of it is taken back.
Without a champion the candidate stands in for the one before: gateway and replicas are drilled all the same.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.cluster import Deployed, open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gates.asked import MORE, smallest_sample
from sevenfold.gateway import Gateway
from sevenfold.load import LoadResult, Schedule, generate
from sevenfold.load.replay import MIX, replayed
from sevenfold.monitoring.answers import AccessLog, Answer
from sevenfold.release.canary import steps_of
from sevenfold.release.traffic import Traffic
from sevenfold.reports import page
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import Settings
from sevenfold.trials.mirror import free_port, own_gateway
from sevenfold.trials.trial import on_trial

SLOT, BEFORE_SLOT = "shadow-drill", "shadow-drill-before"
BEFORE = "before"
"""What the one before is called in the mirror: the candidate may stand in for it."""
SECONDS = 6.0
"""Of load at least; the drill itself takes less."""
BAKE_S = 0.4
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Order:
    """A change of the split, when it was given, and how long the gateway took to take it."""

    what: str
    at: datetime
    seconds: float


def main(activity: Activity) -> None:
    """Counts requests that were lost, and times the way back."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as trials:
        deployed = trials.enter_context(replicas(activity))
        here = mirrored(activity.settings, Path(folder))
        gateway = trials.enter_context(own_gateway(here, deployed))
        log = AccessLog(here.logs, activity.promotion.model, marks=gateway.marks)
        found, orders = drill(activity, gateway, here, Path(folder))
        answers = log.between(datetime.min.replace(tzinfo=UTC), datetime.now(UTC))
    back = orders[-1]
    late = [one for one in answers if one.at > back.at and one.candidate == activity.candidate.id]
    last = max(((one.at - back.at).total_seconds() for one in late), default=0.0)
    took = max(back.seconds, last)
    served = sum(one.candidate == activity.candidate.id for one in answers)
    if not served:
        raise SevenfoldError(
            "the candidate answered nothing in the drill: there was no roll-out to take back"
        )
    activity.measure("lost_requests", found.errors, unit="requests", n=found.requests)
    activity.measure("back_s", took, unit="s", n=len(answers))
    said = (
        f"Rolled out in {len(orders) - 1} changes and back in {took:.2f} s, {len(answers):,} requests: "
        f"{found.errors} lost, {served:,} answered by the candidate, {len(late)} of them after the order."
    )
    activity.progress(said)
    activity.report("drill.html", report(activity, said, orders, answers), "Roll-back drill")


@contextmanager
def replicas(activity: Activity) -> Iterator[list[Deployed]]:
    """Candidate and champion where no user reaches them, as the mirror's gateway sees them."""
    model, candidate, champion = activity.promotion.model, activity.candidate.id, activity.champion
    cluster = open_cluster()
    with ExitStack() as trials:
        if champion is None:
            activity.progress("no champion: the candidate stands in for the one before")
            trials.enter_context(on_trial(activity, SLOT, replicas=2))
            mine, *theirs = cluster.endpoints(model, SLOT)
            found = {candidate: [mine], BEFORE: theirs}
        else:
            trials.enter_context(on_trial(activity, SLOT))
            trials.enter_context(on_trial(activity, BEFORE_SLOT, champion.id))
            found = {candidate: cluster.endpoints(model, SLOT), BEFORE: cluster.endpoints(model, BEFORE_SLOT)}
        yield [Deployed(model, who, "champion", tuple(where)) for who, where in found.items()]


def mirrored(settings: Settings, folder: Path) -> Settings:
    """The settings of a gateway of its own below `folder`."""
    address = f"http://127.0.0.1:{free_port()}"
    return settings.model_copy(update={"home": folder, "logs": folder / "logs", "gateway_url": address})


def seconds(rate: float, needed: int) -> float:
    """How long the load lasts that makes so many requests, at `rate` a second."""
    return max(SECONDS, MORE * needed / rate)


def drill(
    activity: Activity, gateway: Gateway, here: Settings, folder: Path
) -> tuple[LoadResult, list[Order]]:
    """Load from beginning to end, and in the middle of it the roll-out and the way back."""
    model, candidate = activity.promotion.model, activity.candidate.id
    gateway.apply(Traffic(model, BEFORE, generation=1))
    token = GatewayKeys(here.secrets).standing()["admin"]
    rate = activity.spec.serving.sla.rate
    asked = smallest_sample(activity, "lost_requests", 0)
    schedule = Schedule.steady(rate, seconds(rate, asked), MIX)
    results: list[LoadResult | Exception] = []
    asking = {"authorization": f"Bearer {token}"}
    kinds = replayed(activity, f"/v2/models/{model}")

    def load() -> None:
        try:
            results.append(
                generate(here.gateway_url, kinds, schedule, folder=folder / "load", headers=asking)
            )
        except Exception as error:  # raised where it is waited for
            results.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    watched, until = AccessLog(here.logs, model), time.monotonic() + START_LIMIT_S
    while watched.last() is None and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    splits = [
        Traffic(model, BEFORE, candidate, share=step.share) for step in steps_of(activity, "production")
    ]
    splits += [Traffic(model, candidate), Traffic(model, BEFORE)]
    orders = []
    for generation, split in enumerate(splits, start=2):
        time.sleep(BAKE_S)
        orders.append(order(gateway, split, generation))
    thread.join()
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result, orders


def order(gateway: Gateway, split: Traffic, generation: int) -> Order:
    """One change of the split, timed."""
    at, started = datetime.now(UTC), time.monotonic()
    gateway.apply(Traffic(split.model, split.champion, split.challenger, split.share, generation=generation))
    whole = f"everything to {split.champion}"
    what = f"{split.share:.0%} to {split.challenger}" if split.challenger else whole
    return Order(what, at, time.monotonic() - started)


def report(activity: Activity, said: str, orders: list[Order], answers: list[Answer]) -> str:
    """The page: what was ordered, how long it took, and who answered until the next order."""
    ends = [*(one.at for one in orders[1:]), datetime.max.replace(tzinfo=UTC)]
    rows = []
    for one, end in zip(orders, ends, strict=True):
        part = [answer for answer in answers if one.at <= answer.at < end]
        mine = sum(answer.candidate == activity.candidate.id for answer in part)
        rows.append((one.what, f"{one.at:%H:%M:%S.%f}"[:-3], f"{one.seconds:.2f} s", len(part), mine))
    columns = ("order", "given at (UTC)", "in force after", "requests until the next", "by the candidate")
    return page.page(f"{activity.spec.title}: roll-back drill", page.text(said), page.table(columns, rows))


if __name__ == "__main__":
    run(main)
