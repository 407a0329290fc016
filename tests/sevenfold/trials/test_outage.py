"""Ways that can be cut: what is behind them works until then, and is out of reach at once afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sevenfold.evidence.database import StoreUnavailable
from sevenfold.evidence.store import open_store
from sevenfold.trials.outage import EvidenceDatabase, Service, Wire, over_wire


@pytest.fixture
def echo() -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(100):
                    connection.sendall(data.upper())

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def test_a_wire_carries_both_ways_until_it_is_cut(echo: int) -> None:
    wire = Wire(("127.0.0.1", echo))
    with socket.create_connection(("127.0.0.1", wire.port), timeout=5) as one:
        one.sendall(b"hello")
        assert one.recv(100) == b"HELLO"
        wire.cut()
        assert one.recv(100) == b"", "an open connection ends"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", wire.port), timeout=5)
    with socket.create_connection(("127.0.0.1", echo), timeout=5) as direct:
        direct.sendall(b"still here")
        assert direct.recv(100) == b"STILL HERE"


def test_a_service_that_was_down_before_closes_at_once() -> None:
    with over_wire("http://127.0.0.1:9/path") as service:
        assert isinstance(service, Service) and service.url.endswith("/path")
        port = int(service.url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
            assert one.recv(100) == b""


def test_a_database_that_is_a_file_is_out_of_reach_for_who_comes_by_the_link_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/real/evidence.db"
    real = open_store(url)
    (tmp_path / "ways").mkdir()
    way = EvidenceDatabase(url, tmp_path / "ways")
    there = open_store(way.url)
    there.set_clock("coin", datetime(2013, 1, 1, tzinfo=UTC))
    assert real.get_clock("coin") is not None, "it is the same one"
    way.cut()
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        open_store(way.url).get_clock("coin")
    assert real.get_clock("coin") is not None
    assert not (tmp_path / "ways" / "gone").exists(), "no new database is made in its place"
