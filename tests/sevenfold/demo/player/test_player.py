"""The player: what it asks, counts, remembers and gives back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.sevenfold.serving import tiny

from sevenfold.demo.player import Played, play
from sevenfold.serving.protocol import Signature, parse_feedback, parse_request

DAY = timedelta(days=1)
JUNE = datetime(2013, 6, 1, tzinfo=UTC)
SPEC: Any = SimpleNamespace(name="tiny", numeric=tiny.NUMERIC, categorical=tiny.CATEGORICAL)
MAX_ROWS = 64


class Data:
    """Six days of flights: three at six, eighty at noon, one at eleven at night; labels six hours later."""

    def __init__(self) -> None:
        moments = [
            JUNE + DAY * day + timedelta(hours=hour)
            for day in range(6)
            for hour in [6] * 3 + [12] * 80 + [23]
        ]
        count = len(moments)
        self._rows = pa.table(
            {
                "id": [f"f{number}" for number in range(count)],
                "time": pa.array(moments, pa.timestamp("us", "UTC")),
                "distance": pa.array([number / 1000 for number in range(count)], pa.float64()),
                "delay": pa.array([None if number % 2 else 0.25 for number in range(count)], pa.float64()),
                "wind": pa.array([1] * count, pa.int64()),
                "origin": ["JFK"] * count,
                "carrier": pa.array([None if number % 3 else "AA" for number in range(count)], pa.string()),
            }
        )

    def rows(self, start: datetime, end: datetime, columns: Any = None) -> pa.Table:
        time = self._rows["time"]
        inside = pc.and_(pc.greater_equal(time, pa.scalar(start)), pc.less(time, pa.scalar(end)))
        return self._rows.filter(inside)

    def labels(self, start: datetime, end: datetime, known_by: datetime | None = None) -> pa.Table:
        rows = self.rows(start, end)
        known = pc.add(rows["time"], pa.scalar(timedelta(hours=6)))
        table = pa.table(
            {"id": rows["id"], "time": rows["time"], "label": [1.0] * len(rows), "known_at": known}
        )
        return table.filter(pc.less_equal(known, pa.scalar(known_by)))


class Gateway:
    """A gateway that writes down what it is asked, and can be told to fail."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.labels: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.fail: list[int] = []
        self.fail_labels = 0
        gateway, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    status = gateway.take(self.path, body, dict(self.headers))
                if status == 0:
                    self.close_connection = True
                    return
                said = b'{"ok": true}'
                self.send_response(status)
                self.send_header("content-length", str(len(said)))
                self.send_header("x-candidate", "tiny-1")
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        if path == "/v2/models/tiny/feedback":
            if self.fail_labels:
                self.fail_labels -= 1
                return 503
            parse_feedback(body)
            self.labels += json.loads(body)["labels"]
            return 200
        assert path == "/v2/models/tiny/infer"
        parse_request(body, Signature(tiny.NUMERIC, tiny.CATEGORICAL))
        self.requests.append(json.loads(body))
        self.headers.append({name.lower(): value for name, value in headers.items()})
        return self.fail.pop() if self.fail else 200

    @property
    def asked(self) -> list[str]:
        return [one for request in self.requests for one in request["parameters"]["ids"]]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.close()


@pytest.fixture
def start(gateway: Gateway, tmp_path: Path) -> Any:
    def run(first: int, last: int, **more: Any) -> Played:
        data: Any = Data()
        where = {"gateway": gateway.url, "token": "secret", "progress": tmp_path / "player" / "tiny.json"}
        return play(SPEC, data, JUNE + DAY * first, JUNE + DAY * last, **(where | more))

    return run


def test_every_row_is_asked_once_in_batches_of_one_moment(gateway: Gateway, start: Any) -> None:
    played = start(0, 2)
    assert sorted(gateway.asked) == sorted(f"f{number}" for number in range(168))
    sizes = sorted(len(request["parameters"]["ids"]) for request in gateway.requests)
    assert sizes == [1, 1, 3, 3, 16, 16, 64, 64]
    assert (played.days, played.requests, played.rows, played.failed) == (2, 8, 168, 0)
    assert played.candidates == {"tiny-1": 8}
    first = next(request for request in gateway.requests if "f0" in request["parameters"]["ids"])
    assert first["parameters"]["time"] == "2013-06-01T06:00:00+00:00"
    assert first["inputs"][0]["data"] == [[0.0, 0.25, 1.0], [0.001, None, 1.0], [0.002, 0.25, 1.0]]
    assert first["inputs"][1]["data"] == [["JFK", "AA"], ["JFK", None], ["JFK", None]]
    assert gateway.headers[0]["authorization"] == "Bearer secret"
    assert gateway.headers[0]["x-entity-id"].startswith("f")


def test_one_connection_asks_in_order_of_time(gateway: Gateway, start: Any) -> None:
    start(0, 3, connections=1)
    times = [request["parameters"]["time"] for request in gateway.requests]
    assert times == sorted(times)


def test_a_slot_gathers_rows_of_a_span_of_time(gateway: Gateway, start: Any) -> None:
    start(0, 1, slot=timedelta(hours=24), connections=1)
    assert [len(request["parameters"]["ids"]) for request in gateway.requests] == [64, 20]
    assert gateway.requests[-1]["parameters"]["time"] == "2013-06-01T23:00:00+00:00"


def test_labels_come_back_when_they_are_known(gateway: Gateway, start: Any) -> None:
    reached: list[tuple[datetime, int]] = []
    played = start(0, 2, on_day=lambda now, so_far: reached.append((now, so_far.labels)))
    # the flights of eleven at night land the next morning
    assert reached == [(JUNE + DAY, 83), (JUNE + 2 * DAY, 167)]
    assert played.labels == len(gateway.labels) == 167
    assert {"id": "f0", "label": 1.0, "known_at": "2013-06-01T12:00:00+00:00"} in [
        {**label, "known_at": label["known_at"].replace("Z", "+00:00")} for label in gateway.labels
    ]
    start(2, 3)
    assert len({label["id"] for label in gateway.labels}) == len(gateway.labels) == 251


def test_what_was_played_is_not_played_again(gateway: Gateway, start: Any) -> None:
    start(0, 2)
    again = start(0, 3)
    assert (again.days, again.rows) == (1, 84)
    assert len(gateway.asked) == len(set(gateway.asked)) == 252


def test_days_may_be_left_out_and_come_later(gateway: Gateway, start: Any) -> None:
    start(0, 1)
    start(3, 4)
    start(1, 5)
    assert sorted(gateway.asked) == sorted(f"f{number}" for number in range(420))


def test_every_failure_is_counted(gateway: Gateway, start: Any) -> None:
    gateway.fail = [503, 429, 0]
    played = start(0, 1, connections=1)
    assert played.requests == 4
    assert played.failed == 3
    assert played.errors["503"] == played.errors["429"] == 1
    assert played.candidates.total() == 1


def test_nobody_there_is_counted_too(start: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevenfold.demo.player.playing.LABEL_TRIES", 2)
    played = start(0, 1, gateway="http://127.0.0.1:1")
    assert (played.requests, played.failed, played.rows) == (4, 4, 0)
    assert played.errors == {"ConnectionRefusedError": 4}
    assert (played.labels, played.unsent_labels) == (0, 83)


def test_labels_that_are_not_taken_are_sent_again(
    gateway: Gateway, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.demo.player.playing.LABEL_TRIES", 2)
    gateway.fail_labels = 3
    played = start(0, 3)
    assert played.unsent_labels == 0
    assert len({label["id"] for label in gateway.labels}) == 251


def test_it_stops_when_told_and_goes_on_where_it_was(gateway: Gateway, start: Any) -> None:
    stopped = start(0, 6, stop=lambda: len(gateway.requests) >= 5, connections=1)
    assert stopped.stopped
    assert (stopped.days, stopped.requests) == (1, 5)
    rest = start(0, 6)
    assert not rest.stopped
    assert sorted(gateway.asked) == sorted(f"f{number}" for number in range(504))
    assert len({label["id"] for label in gateway.labels}) == 503


def test_the_pace_is_kept(gateway: Gateway, start: Any) -> None:
    played = start(0, 1, days_per_second=1.0)
    assert 0.9 <= played.seconds < 5  # the last flight leaves at eleven at night


def test_a_stop_is_heard_while_it_waits(gateway: Gateway, start: Any) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    played = start(0, 1, days_per_second=0.001, stop=stop.is_set)
    assert played.stopped
    assert played.seconds < 5


def test_progress_names_days(gateway: Gateway, start: Any, tmp_path: Path) -> None:
    start(0, 2)
    kept = json.loads((tmp_path / "player" / "tiny.json").read_text())
    assert [date.fromisoformat(day) for day in kept["days"]] == [date(2013, 6, 1), date(2013, 6, 2)]
