"""The SLA's rate, then four times as much, on the real gateway: errors and latency as callers meet them."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.asking import bodies
from sevenfold.load import Kind, Schedule, generate
from sevenfold.snapshot import snapshot
from sevenfold.trial import Target, on_trial

WARM_UP_S = 1.0
SUSTAINED_REQUESTS = 1050
"""At the SLA's rate: what a bound on the 99th percentile asks for at least."""
SUSTAINED_S = (3.0, 20.0)
ALL_REQUESTS = 3100
"""Sustained and burst: 3,000 without an error prove that fewer than 1 in 1,000 fail."""
BURST = 4.0
SMALL_BATCH = 8


def main(activity: Activity) -> None:
    """Error rate on everything, p99 at the SLA's rate, throughput under the burst."""
    sla = activity.spec.serving.sla
    schedule, burst_at = plan(sla.rate)
    with on_trial(activity, "staging", keep=True) as target, tempfile.TemporaryDirectory() as folder:
        with activity.phase(f"{len(schedule.due):,} requests in {schedule.due[-1]:.0f} s, open workload"):
            found = generate(
                target.host, kinds(activity, target), schedule, folder=Path(folder), headers=target.headers
            )
        activity.report("locust.html", found.report.read_bytes(), "Load test (Locust)")
    counted = found.due(WARM_UP_S)
    sustained, burst = found.due(WARM_UP_S, burst_at), found.due(burst_at)
    p99, low, high = sustained.percentile(99)
    errors, n = counted.errors, counted.requests
    activity.measure("error_rate", errors / n, unit="share", n=n, counts={"bad": errors, "n": n})
    activity.measure("p99_ms", p99, unit="ms", n=sustained.requests, low=low, high=high)
    activity.measure("throughput", burst.throughput, unit="requests/s", n=burst.requests)
    closed_loop = float(np.percentile(sustained.service_ms, 99))
    activity.progress(
        f"p99 {p99:.1f} ms at {sla.rate:g}/s (a closed loop would say {closed_loop:.1f}), "
        f"{burst.percentile(99)[0]:.1f} ms at {sla.rate * BURST:g}/s; {errors} errors in {n:,} requests"
    )


def plan(rate: float) -> tuple[Schedule, float]:
    """Warm-up, the SLA's rate, a burst; and the second at which the burst begins."""
    mix = (0, 0, 0, 1)  # three single rows, then a small batch
    shortest, longest = SUSTAINED_S
    sustained_s = min(max(SUSTAINED_REQUESTS / rate, shortest), longest)
    burst_s = max(1.0, (ALL_REQUESTS - sustained_s * rate) / (rate * BURST))
    steady = Schedule.steady(rate, WARM_UP_S + sustained_s, mix)
    both = steady.then(Schedule.steady(rate * BURST, burst_s, mix))
    return both, both.due[len(steady.due)]


def kinds(activity: Activity, target: Target) -> list[Kind]:
    """Single rows and small batches out of the newest days."""
    end = activity.promotion.as_of
    rows = snapshot(activity.spec, activity.settings.data).rows(end - timedelta(days=3), end)
    rows = rows.slice(max(0, rows.num_rows - 100 * SMALL_BATCH))
    path = f"{target.path}/infer"
    return [
        Kind(name, path, [body.decode() for body in bodies(activity.spec, part, size)])
        for name, part, size in (
            ("1 row", rows.slice(0, 200), 1),
            (f"{SMALL_BATCH} rows", rows, SMALL_BATCH),
        )
    ]


if __name__ == "__main__":
    run(main)
