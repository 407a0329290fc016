"""The service alarm: what it takes to raise each alert, what it takes to close it, and what raises none."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.activities.small_world import MODEL, World

from sevenfold.cluster import Endpoint
from sevenfold.monitoring import answers, service_alarm
from sevenfold.monitoring.answers import Answer
from sevenfold.monitoring.service_alarm import ERRORS, SLOW, UNLOGGED
from sevenfold.monitoring.watchman import Watchman

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HERE = Endpoint(8080, "10.0.0.1")


def asked(bad: int, n: int, status: int = 200, ms: float = 3.0) -> list[Answer]:
    """`n` answers, the first `bad` of them with this status and duration."""
    return [
        Answer(NOW, "c-1", "live", *((status, ms) if number < bad else (200, 3.0)), MODEL, "/")
        for number in range(n)
    ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The SLA of the small model: at most 1 % fail, 99 of 100 within 500 ms."""
    return World(tmp_path)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ([], []),
        (asked(0, 1000), []),
        (asked(10, 1000, status=503), []),  # as promised
        (asked(60, 1000, status=503), []),  # bad, and no reason to wake anybody
        (asked(8, 10, status=503), [ERRORS]),
        (asked(1, 1, status=503), []),  # one request proves nothing
        (asked(200, 1000, status=503), [ERRORS]),
        (asked(900, 1000, status=0), [ERRORS]),  # gave up waiting
        (asked(900, 1000, status=400), []),  # the callers' own fault
        (asked(60, 1000, ms=900), []),
        (asked(200, 1000, ms=900), [SLOW]),
        (asked(200, 1000, status=503, ms=900), [ERRORS, SLOW]),
    ],
)
def test_an_alert_needs_proof_that_the_promise_is_broken_ten_times_over(
    world: World, given: list[Answer], kinds: list[str]
) -> None:
    found = service_alarm.judge(world.activity("x", "monitoring", world.candidate()).spec, given)
    assert [finding.kind for finding in found] == kinds


def test_the_sentence_says_what_how_much_and_who(world: World) -> None:
    spec = world.activity("x", "monitoring", world.candidate()).spec
    [finding] = service_alarm.judge(spec, asked(200, 1000, status=503))
    assert finding.reason == (
        "A coin with a pull: requests fail: 200 of 1,000 in 5 min (20 %) where 1 % is promised, "
        "most of them 503 of c-1: look at its replicas and the gateway, or roll back."
    )


def test_an_alert_is_raised_once_and_closed_when_it_is_over(world: World) -> None:
    spec = world.activity("x", "monitoring", world.candidate()).spec

    def look(given: list[Answer], minute: int, lost: float = 0.0) -> list[tuple[str, str]]:
        findings = service_alarm.judge(spec, given, lost)
        now = NOW + timedelta(minutes=minute)
        service_alarm.tell(world.store, spec, findings, len(given), now, NOW)
        return [(alert.kind, alert.state) for alert in world.store.alerts(MODEL)]

    assert look(asked(200, 1000, status=503), 0) == [(ERRORS, "open")]
    assert look(asked(200, 1000, status=503), 1) == [(ERRORS, "open")]
    assert look([], 2) == [(ERRORS, "open")], "while nobody asks nothing is over"
    assert look(asked(0, 1000), 3) == [(ERRORS, "closed")]
    assert "1,000 requests of the last 5 min are fine" in str(world.store.alerts(MODEL)[0].outcome)
    assert look(asked(200, 1000, status=503), 4) == [(ERRORS, "closed"), (ERRORS, "open")]
    assert look(asked(0, 1000), 5, lost=3)[-1] == (UNLOGGED, "open")


def test_the_watchman_counts_the_public_route_and_what_nobody_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = iter([{HERE: 5.0}, {HERE: 5.0}, {HERE: 0.0}])
    monkeypatch.setattr(service_alarm, "lost_lines", lambda replicas: next(lost))
    log = world.settings.logs / answers.FOLDER / "here.a.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(line(NOW, 503) * 500)
    world.store.set_clock(MODEL, NOW)
    watchman = Watchman(world.store, world.settings, MODEL, list)
    write(log, line(NOW, 200), 60)
    write(log, line(NOW, 503, f"/staging/v2/models/{MODEL}/infer"), 60)
    write(log, line(NOW - timedelta(hours=1), 503), 60)
    assert watchman.look(NOW) == [], "what was there before, another route, and what is long past"
    write(log, line(NOW, 503, cluster=None), 30)
    [reason] = watchman.look(NOW)
    assert "30 of 90" in reason and "503 of nobody" in reason
    assert len(watchman.look(NOW)) == 1, "a server that was replaced counts from zero"


def test_answers_that_were_not_logged_stay_an_alert_for_the_whole_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = iter([{HERE: 0.0}, {HERE: 7.0}, {}, {HERE: 7.0}])
    monkeypatch.setattr(service_alarm, "lost_lines", lambda replicas: next(lost))
    log = world.settings.logs / answers.FOLDER / "here.a.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    world.store.set_clock(MODEL, NOW)
    watchman = Watchman(world.store, world.settings, MODEL, list)

    def look(after: timedelta) -> list[str]:
        write(log, line(NOW + after, 200), 5)
        return watchman.look(NOW + after)

    assert look(timedelta(0)) == []
    for after in (timedelta(seconds=10), timedelta(seconds=20)):
        [reason] = look(after)
        assert "7 answers or labels could not be logged" in reason
    assert look(timedelta(seconds=11) + service_alarm.WINDOW) == [], "late once, it does not count again"


def test_a_watchman_who_takes_over_knows_the_last_window_and_what_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = iter([{HERE: 0.0}, *[{HERE: 7.0}] * 4])
    monkeypatch.setattr(service_alarm, "lost_lines", lambda replicas: next(lost))
    log = world.settings.logs / answers.FOLDER / "here.a.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    world.store.set_clock(MODEL, NOW)
    first = Watchman(world.store, world.settings, MODEL, list)
    first.look(NOW)
    write(log, line(NOW, 503), 60)
    told = first.look(NOW)
    assert len(told) == 2 and "60 of 60" in told[0] and "7 answers" in told[1]
    write(log, line(NOW - timedelta(hours=1), 503), 900)
    write(log, line(NOW + timedelta(seconds=5), 200), 30)
    later = NOW + timedelta(seconds=10)
    forgetful = Watchman(world.store, world.settings, MODEL, list, later)
    assert forgetful.look(later) == told, "nothing is over because somebody else looks"
    assert forgetful.read() == 90, "the window, and nothing of before it"
    write(log, line(later + service_alarm.WINDOW, 200), 30)
    assert forgetful.look(later + service_alarm.WINDOW + timedelta(seconds=1)) == []


def line(
    at: datetime, status: int, path: str = f"/v2/models/{MODEL}/infer", cluster: str | None = "c.live"
) -> str:
    entry = {
        "t": at.isoformat(),
        "path": path,
        "status": status,
        "us": 900,
        "cluster": cluster,
        "route": None,
    }
    return json.dumps(entry) + "\n"


def write(log: Path, made: str, count: int) -> None:
    with log.open("a") as file:
        file.write(made * count)


class Metrics(BaseHTTPRequestHandler):
    """A server that has lost three lines; asked for it, one that is killed while it says so."""

    killed = False

    def do_GET(self) -> None:
        page = b'sevenfold_log_lines_lost_total{model="coin"} 3.0\n'
        self.send_response(200)
        self.send_header("content-length", str(len(page) + self.killed))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_who_is_gone_or_killed_while_it_answers_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # replicas are never behind the proxy of a company
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here, gone = Endpoint(server.server_port), Endpoint(9)
        assert service_alarm.lost_lines([here, gone]) == {here: 3.0}
        monkeypatch.setattr(Metrics, "killed", True)
        assert service_alarm.lost_lines([here, gone]) == {}
        server.shutdown()
