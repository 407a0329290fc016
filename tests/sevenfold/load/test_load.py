"""The load generator against a small server that can stall, fail and hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sevenfold.load import Kind, LoadResult, Schedule, Step, carried, generate, knee
from sevenfold.load.report import load_page

KINDS = [Kind("1 row", "/infer", ['{"a": 1}']), Kind("8 rows", "/infer", ['{"a": [1, 2]}'])]


@contextmanager
def server(answer: Callable[[float], int]) -> Iterator[str]:
    """A loopback server; `answer` gets the seconds since the first request, may sleep, and gives a status."""
    first: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            first.append(time.monotonic())
            status = answer(time.monotonic() - first[0])
            if self.headers["x-key"] != "opensesame":
                status = 401
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()


def test_a_stall_and_failures_are_counted_from_the_schedule(tmp_path: Path) -> None:
    """One second's stall must show in p99 although few requests were under way when it began."""

    def stall_then_fail(now: float) -> int:
        if 1.0 < now < 2.0:
            time.sleep(2.0 - now)
        return 503 if now > 3.5 else 200

    with server(stall_then_fail) as url:
        schedule = Schedule.steady(50, 4, kinds=(0, 1))
        result = generate(url, KINDS, schedule, folder=tmp_path, headers={"x-key": "opensesame"}, users=4)
    assert result.requests == 200
    assert 15 <= result.errors <= 40  # the last half second
    p99, low, high = result.percentile(99)
    assert low <= p99 <= high
    assert p99 > 700
    # four users can be stalled at most: a closed loop sees four slow requests of 200
    assert np.percentile(result.service_ms, 97) < 0.5 * np.percentile(result.latency_ms, 97)
    assert result.throughput < 50
    assert {"1 row", "8 rows"} == {result.kinds[k] for k in result.kind}
    report = result.report.read_text()
    assert "8 rows" in report
    assert "opensesame" not in report
    assert not (tmp_path / "plan.json").exists()


def test_a_ramp_goes_as_far_as_the_service_can_follow(tmp_path: Path) -> None:
    """A server that answers one request at a time, in 20 ms, carries 50 a second and not 80."""
    one = threading.Lock()

    def slowly(now: float) -> int:
        with one:
            time.sleep(0.02)
        return 200

    with server(slowly) as url:
        ramp = Schedule.ramp((20, 80, 400, 800), 1.0)
        schedule = Schedule.steady(20, 0.5, name="usual").then(ramp)
        headers = {"x-key": "opensesame"}
        result = generate(
            url, KINDS[:1], schedule, folder=tmp_path, headers=headers, users=16, explore_from=0.5
        )
    assert [step.start for step in schedule.steps] == pytest.approx([0.0, 0.5, 1.5, 2.5, 3.5])
    assert result.at_s.max() < 4.4, "it ends soon after it cannot follow"
    usual, first, second = carried(result, schedule.steps[:3], limit_ms=200)
    assert (usual.name, usual.rate, usual.requests) == ("usual", 20, 10)
    assert first.kept_up and first.throughput == pytest.approx(20, abs=6)
    assert not second.kept_up and second.throughput < 60 and second.p95 > 200
    assert knee([usual, first, second]) == 20
    page = load_page("A test", result, schedule.steps, 300, ["It is slow."])
    assert page.count("data:image/png") == 3 and "It is slow." in page and "usual" in page


def test_requests_that_are_never_answered_are_errors_that_waited_until_the_end(tmp_path: Path) -> None:
    def hang(now: float) -> int:
        time.sleep(30)
        return 200

    with server(hang) as url:
        schedule = Schedule.steady(20, 1)
        result = generate(url, KINDS[:1], schedule, folder=tmp_path, users=2, timeout_s=0.5)
    assert result.requests == 20
    assert result.errors == 20
    assert result.percentile(50)[0] > 400
    assert result.throughput == 0


def made(latency_ms: list[float]) -> LoadResult:
    n = len(latency_ms)
    latency = np.array(latency_ms)
    status, kind = np.full(n, 200), np.zeros(n, dtype=np.int64)
    return LoadResult(np.arange(n) / 100, latency, latency, status, kind, ["1 row"], Path("none"))


def test_the_interval_sees_that_neighbours_share_a_queue() -> None:
    """The same latencies, once in random order and once in one heap: the heap has the wider interval."""
    heap = [5.0] * 1900 + [50.0] * 100
    mixed = np.random.default_rng(1).permutation(heap).tolist()
    value, low, high = made(mixed).percentile(95)
    heap_value, heap_low, heap_high = made(heap).percentile(95)
    assert value == pytest.approx(heap_value)
    assert heap_high - heap_low >= high - low
    assert (heap_low, heap_high) == (5.0, 50.0)


def test_steps_of_one_name_and_rate_are_one_and_the_highest_carried_rate_is_the_knee() -> None:
    result = made([10.0] * 100 + [900.0] * 100 + [10.0] * 100 + [900.0] * 100)
    steps = [Step("turn", 100, at, at + 1) for at in (0, 2)] + [Step("ramp", 50, 1, 2)]
    turn, ramp = carried(result, steps, limit_ms=100)
    assert (turn.requests, turn.p99, turn.kept_up) == (200, 10.0, True)
    assert (ramp.requests, ramp.p50, ramp.kept_up, ramp.in_time) == (100, 900.0, False, 0.0)
    assert knee([turn, ramp]) == 100
    assert knee([ramp]) == 0
    assert carried(result, [Step("never", 100, 9, 10)], limit_ms=100) == []
    assert result.during([]).requests == 0


def test_refusals_that_come_at_once_are_errors_and_no_knee() -> None:
    result = made([1.0] * 100)
    refused = LoadResult(
        result.at_s,
        result.latency_ms,
        result.service_ms,
        result.status * 0 + 503,
        result.kind,
        ["1 row"],
        Path(),
    )
    [one] = carried(refused, [Step("all", 100, 0, 1)], limit_ms=100)
    assert (one.errors, one.throughput, one.kept_up) == (100, 0.0, True)


def test_warm_up_is_set_apart() -> None:
    result = made([100.0] * 100 + [1.0] * 400)
    assert result.due(0, 1.0).requests == 100
    assert result.due(1.0).percentile(99) == (1.0, 1.0, 1.0)


def test_a_schedule_goes_on_where_another_ends() -> None:
    schedule = Schedule.steady(10, 1, kinds=(0, 1)).then(Schedule.steady(100, 0.5, kinds=(1,)))
    assert len(schedule.due) == 60
    assert schedule.due[9:12] == pytest.approx((0.9, 1.0, 1.01))
    assert schedule.kind[:4] == (0, 1, 0, 1)
    assert set(schedule.kind[10:]) == {1}
