"""The SLA's rate, then four times as much, on the real gateway: errors and latency as callers meet them."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from sevenfold import plots
from sevenfold.activity import Activity, run
from sevenfold.asking import bodies
from sevenfold.load import Kind, LoadResult, Schedule, generate
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
        path = plots.series(
            Path(folder) / "latency.png", *_curve(found, burst_at), limits={"SLA p99": sla.p99_ms}
        )
        activity.report(path.name, path.read_bytes(), "Latency under load, second by second")
    counted = found.due(WARM_UP_S)
    sustained, burst = found.due(WARM_UP_S, burst_at), found.due(burst_at)
    p99, low, high = sustained.percentile(99)
    errors, n = counted.errors, counted.requests
    activity.measure("error_rate", errors / n, unit="share", n=n, counts={"bad": errors, "n": n})
    activity.measure("p99_ms", p99, unit="ms", n=sustained.requests, low=low, high=high)
    activity.measure("throughput", burst.throughput, unit="requests/s", n=burst.requests)
    activity.progress(
        f"p99 {p99:.1f} ms at {sla.rate:g}/s (a closed loop would say "
        f"{float(_p99(sustained)):.1f}), {burst.percentile(99)[0]:.1f} ms at {sla.rate * BURST:g}/s; "
        f"{errors} errors in {n:,} requests"
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


def _p99(found: LoadResult) -> float:
    import numpy as np

    return float(np.percentile(found.service_ms, 99))


def _curve(
    found: LoadResult, burst_at: float
) -> tuple[list[float], dict[str, tuple[list[float], None, None]], str, str]:
    """Median and 99th percentile of each second, as plots.series takes them."""
    seconds = [float(second) for second in range(int(found.at_s[-1]) + 1)]
    parts = [found.due(second, second + 1) for second in seconds]
    lines = {
        f"{name} from the schedule": ([part.percentile(q)[0] for part in parts], None, None)
        for name, q in (("median", 50), ("p99", 99))
    }
    return seconds, lines, f"Latency by second; {BURST:g} times the rate from {burst_at:.0f} s on", "ms"


if __name__ == "__main__":
    run(main)
