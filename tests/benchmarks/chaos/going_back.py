"""How long the roll-back DAG takes on the real stack: from its task to the last answer of the bad one."""

from __future__ import annotations

import time
from datetime import datetime

from tests.activities.small_world import MODEL
from tests.benchmarks.chaos.load import Load
from tests.benchmarks.chaos.world import ChaosWorld

from sevenfold.cluster import open_cluster
from sevenfold.local import stack
from sevenfold.release import release

PROMISED_S = 5.0
LIMIT_S = 90.0


def go_back(world: ChaosWorld, run: str, *, gone: bool) -> list[str]:
    """One roll-back under load; `gone`: the champion before has lost its replicas. Prints what it took."""
    before = release.row(world.store, MODEL)
    if before.previous is None:
        return [f"{run}: nobody to go back to"]
    if gone:
        for deployed in open_cluster().deployments(MODEL):
            if deployed.candidate == before.previous:
                open_cluster().remove(MODEL, deployed.slot, deployed.candidate)
    load, admin = Load(world), stack.airflow(world.settings, "admin")
    load.start()
    time.sleep(1)
    admin.trigger(f"{MODEL}.roll_back", {"reason": "callers complain", "again": True}, run)
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until and release.row(world.store, MODEL).champion == before.champion:
        time.sleep(0.1)
    time.sleep(3)
    load.stop()
    [task] = admin.tasks(f"{MODEL}.roll_back", run)
    began = datetime.fromisoformat(task["start_date"].replace("Z", "+00:00")).timestamp()
    last = max((one.at for one in load.said if one.candidate == before.champion), default=began)
    lost = load.asked - sum(one.status == 200 for one in load.said)
    seconds = max(0.0, last - began)
    how = "whose replicas were gone" if gone else "who was ready"
    print(
        f"roll-back DAG to a champion {how}: traffic back {seconds:.1f} s after the task's start; "
        f"{lost} of {load.asked:,} requests lost",
        flush=True,
    )
    problems = [f"{run}: {seconds:.1f} s, {PROMISED_S:g} are promised"] if seconds > PROMISED_S else []
    if release.row(world.store, MODEL).champion != before.previous:
        problems.append(f"{run}: {release.row(world.store, MODEL)} is not back at {before.previous}")
    if not any(one.candidate == before.previous for one in load.said):
        problems.append(f"{run}: {before.previous} answered nothing after it")
    if lost:
        problems.append(f"{run}: {lost} requests lost")
    return problems
