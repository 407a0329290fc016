"""HTTP/1.1 by the byte: whatever comes in pieces, in a row, too long or broken gets its answer, or none."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.wired import Transport, answers, connect

from sevenfold.serving import server, wire
from sevenfold.serving.app import ServingApp
from sevenfold.serving.protocol import MAX_BODY
from sevenfold.serving.wire import LINGER_BYTES, MAX_HEAD, Connection

READY = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
BODY = json.dumps(tiny.request(2)).encode()


def infer(body: bytes = BODY, *lines: str) -> bytes:
    head = ["POST /v2/models/tiny/infer HTTP/1.1", "host: x", f"content-length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.fixture
def app(tmp_path: Path) -> ServingApp:
    return server.application("tiny", tiny.CANDIDATE, "testing", tiny.write(tmp_path / "m.onnx"), tmp_path)


def told(app: ServingApp, *pieces: bytes, then: Callable[[Connection], None] = lambda c: None) -> Transport:
    """What a connection does when these pieces of bytes come one after the other."""

    async def run() -> Transport:
        connection, transport = connect(app)
        for piece in pieces:
            connection.data_received(piece)
        then(connection)
        connection.connection_lost(None)
        return transport

    return asyncio.run(run())


def test_an_answer_is_one_write_and_the_connection_stays(app: ServingApp) -> None:
    transport = told(app, READY, infer())
    assert len(transport.written) == 2
    assert not transport.closed
    ready, prediction = answers(b"".join(transport.written), "GET", "POST")
    assert ready.json() == {"ready": True}
    assert "gmt" in ready.headers["date"].lower()
    assert prediction.json()["outputs"][0]["data"] == pytest.approx(tiny.answers(2), abs=1e-6)


def test_a_request_may_come_byte_by_byte(app: ServingApp) -> None:
    request = infer()
    whole = told(app, request).written[0]
    assert told(app, *(request[i : i + 1] for i in range(len(request)))).written == [whole]


def test_requests_in_a_row_are_answered_in_their_order(app: ServingApp) -> None:
    transport = told(app, READY + infer() + READY[:20], READY[20:])
    found = answers(b"".join(transport.written), "GET", "POST", "GET")
    assert [answer.status_code for answer in found] == [200, 200, 200]
    assert "outputs" in found[1].json()


def test_a_body_may_come_in_chunks_and_its_trailers_are_nobody_s(app: ServingApp) -> None:
    head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:10], BODY[10:]))
    transport = told(app, head + chunks + b"0\r\ncontent-type: text/plain\r\n\r\n")
    assert answers(transport.written[0], "POST")[0].status_code == 200


@pytest.mark.parametrize(
    "request_line", [b"GET http://x/v2/health/ready?a=b HTTP/1.1", b"GET /v2/health/%72eady?x HTTP/1.1"]
)
def test_addresses_in_other_words(app: ServingApp, request_line: bytes) -> None:
    transport = told(app, request_line + b"\r\nhost: x\r\n\r\n")
    assert answers(transport.written[0], "GET")[0].json() == {"ready": True}


def test_who_waits_to_be_asked_for_the_body_is_asked(app: ServingApp) -> None:
    head, body = infer(BODY, "expect: 100-continue").split(b"\r\n\r\n")
    transport = told(app, head + b"\r\n\r\n", body)
    assert transport.written[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answers(transport.written[1], "POST")[0].status_code == 200


def test_head_gets_no_body(app: ServingApp) -> None:
    assert told(app, READY.replace(b"GET", b"HEAD")).written[0].endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_", [READY.replace(b"1.1", b"1.0"), READY.replace(b"host: x", b"connection: close")]
)
def test_who_wants_one_answer_only_gets_one(app: ServingApp, request_: bytes) -> None:
    transport = told(app, request_)
    assert answers(transport.written[0], "GET")[0].headers["connection"] == "close"
    assert transport.closed


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    ],
)
def test_what_is_no_request_is_refused_and_nothing_after_it_is_believed(
    app: ServingApp, broken: bytes
) -> None:
    transport = told(app, broken, READY)
    (written,) = transport.written
    refused = answers(written, "POST")[0]
    assert refused.status_code == 400
    assert refused.headers["connection"] == "close"
    assert refused.json()["error"] == "this is not a valid HTTP/1.1 request"


def test_a_head_without_end_is_refused(app: ServingApp) -> None:
    transport = told(app, b"GET / HTTP/1.1\r\n", *[b"x: y\r\n" * 1000] * (MAX_HEAD // 6000 + 1))
    assert answers(transport.written[0], "GET")[0].status_code == 431


def test_a_refused_body_is_listened_to_for_a_while_so_that_the_refusal_arrives(
    app: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LINGER_S", 0.01)
    head = infer(b"").replace(b"content-length: 0", b"content-length: %d" % (20 * MAX_BODY))
    megabytes = LINGER_BYTES // (1 << 20)
    transport = told(app, head, *[b"x" * (1 << 20)] * (megabytes - 1))
    assert answers(transport.written[0], "POST")[0].status_code == 413
    assert (len(transport.written), transport.aborted) == (1, False)
    assert told(app, head, *[b"x" * (1 << 20)] * (megabytes + 1)).aborted

    async def later() -> Transport:
        connection, transport = connect(app)
        connection.data_received(head)
        assert not transport.closed
        await asyncio.sleep(0.05)
        return transport

    assert asyncio.run(later()).closed


def test_an_upgrade_is_answered_and_ends(app: ServingApp) -> None:
    transport = told(app, READY.replace(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: h2c"), READY)
    assert answers(transport.written[0], "GET")[0].status_code == 200
    assert transport.closed


def test_the_end_waits_for_a_request_that_is_under_way(app: ServingApp) -> None:
    assert told(app, READY, then=Connection.shutdown).closed
    half = infer()
    transport = told(app, half[:80], then=Connection.shutdown)
    assert not transport.closed

    def finish(connection: Connection) -> None:
        connection.shutdown()
        connection.data_received(half[80:])

    transport = told(app, half[:80], then=finish)
    assert answers(transport.written[0], "POST")[0].headers["connection"] == "close"
    assert transport.closed


def test_a_caller_who_does_not_read_is_not_asked_for_more(app: ServingApp) -> None:
    assert told(app, READY, then=Connection.pause_writing).paused
    assert not told(app, READY, then=lambda c: (c.pause_writing(), c.resume_writing())[1]).paused


def test_a_closed_connection_is_freed_without_a_search_for_cycles(app: ServingApp) -> None:
    async def run() -> weakref.ref[Connection]:
        connection, _ = connect(app)
        connection.data_received(READY)
        connection.connection_lost(None)
        return weakref.ref(connection)

    gc.disable()
    try:
        assert asyncio.run(run())() is None
    finally:
        gc.enable()


def test_who_says_nothing_for_long_is_closed(app: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "KEEP_ALIVE_S", 0.05)

    async def run() -> tuple[bool, bool]:
        connection, transport = connect(app)
        for _ in range(5):
            await asyncio.sleep(0.02)
            connection.data_received(READY)
        busy = transport.closed
        await asyncio.sleep(0.12)
        return busy, transport.closed

    assert asyncio.run(run()) == (False, True)
