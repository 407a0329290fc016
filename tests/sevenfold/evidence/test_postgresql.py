"""PostgreSQL as a cluster has it: TLS, restarts, other versions, writers that vanish."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.x509 import DNSName
from sqlalchemy import text
from tests.sevenfold.certificates import Pair, certificate
from tests.sevenfold.postgresql import Server, running

from sevenfold.evidence import database
from sevenfold.evidence.database import (
    BadDatabaseUrl,
    Database,
    NotMigrated,
    SchemaTooNew,
    StoreUnavailable,
    database_url,
)
from sevenfold.evidence.store import open_store, upgrade
from sevenfold.evidence.tables import SCHEMA
from sevenfold.search.study import Budget, Study
from sevenfold.trials.mirror import free_port
from sevenfold.trials.outage import EvidenceDatabase, _copy

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificate(tmp_path_factory.mktemp("tls"), host=DNSName("localhost"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """On a socket without a password, and on a port with one."""
    port = free_port()
    hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    with running("-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", port=port, hba=hba) as one:
        upgrade(one.url)
        with Database(one.url).writing() as connection:
            connection.execute(text("ALTER ROLE sevenfold PASSWORD 'open sesame'"))
        yield one


@pytest.fixture(scope="module")
def by_tls(server: Server, pair: Pair) -> Iterator[str]:
    """The same server by TLS, as the rest of a URL (the wheel's has none: another ends it)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(near: socket.socket) -> None:
        with suppress(OSError):
            near.recv(8)  # PostgreSQL's request for TLS
            near.sendall(b"S")
            safe = context.wrap_socket(near, server_side=True)
            far = socket.create_connection(("127.0.0.1", server.port))
            threading.Thread(target=_copy, args=(far, safe), daemon=True).start()
            _copy(safe, far)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    authority = f"sslmode=verify-full&sslrootcert={pair.certificate}"
    yield f"//sevenfold:open%20sesame@localhost:{port}/postgres?{authority}"
    listener.close()


def test_all_ways_to_say_where_lead_to_the_same_store(server: Server, by_tls: str) -> None:
    on_socket = server.url.partition(":")[2]
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        for rest in (on_socket, by_tls):
            open_store(f"{scheme}:{rest}").audit("me", "was here")
    assert len(open_store(server.url).audit_lines()) == 6


def test_who_asks_for_tls_gets_it_or_no_connection(server: Server, by_tls: str) -> None:
    plain = f"postgresql://sevenfold:open%20sesame@localhost:{server.port}/postgres?sslmode=require"
    with pytest.raises(StoreUnavailable, match="server does not support SSL"):
        open_store(plain)
    with pytest.raises(StoreUnavailable, match="does not match host name") as caught:
        open_store(f"postgresql:{by_tls}".replace("localhost", "127.0.0.1"))
    assert "sesame" not in str(caught.value)


def test_no_password_is_shown_wherever_it_stands(server: Server) -> None:
    for url in (
        f"postgresql://sevenfold:topsecret@localhost:{server.port}/postgres",
        f"postgresql://sevenfold@localhost:{server.port}/postgres?password=topsecret&sslpassword=topsecret",
        f"postgresql://sevenfold:topsecret@localhost:{server.port}/postgres?no_such_word=1",
        "postgresql://sevenfold:topsecret@localhost:1/postgres",
        "mysql://sevenfold:topsecret@localhost/postgres",
        "postgresql://sevenfold:topsecret@localhost:port/postgres",
        "topsecret",
    ):
        with pytest.raises((StoreUnavailable, BadDatabaseUrl)) as caught:
            open_store(url)
        assert "topsecret" not in str(caught.value), url
        assert "\n" not in str(caught.value)
    assert database_url("sqlite:////x/evidence.db").database == "/x/evidence.db"


def test_a_restart_of_the_database_costs_who_was_in_the_middle_one_try_and_others_none() -> None:
    with running() as server:
        upgrade(server.url)
        store = open_store(server.url)
        store.audit("me", "before")
        with pytest.raises(StoreUnavailable) as caught, store.writing() as connection:
            server.stop()
            connection.execute(text("SELECT 1"))
        assert caught.value.retry
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            store.audit("me", "while it is down")
        server.start()
        store.audit("me", "after")
        assert [line.what for line in store.audit_lines()] == ["before", "after"]
        server.stop()
        server.start()
        store.audit("me", "between two transactions nobody notices")


def test_a_writer_that_hangs_is_not_waited_for_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url
    monkeypatch.setattr(database, "BUSY_SECONDS", 1)
    monkeypatch.setattr(database, "IDLE_SECONDS", 2)
    store, other = open_store(url), open_store(url)
    with pytest.raises(StoreUnavailable), store.writing() as connection:
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            other.audit("other", "waits")
        threading.Event().wait(2.5)
        other.audit("other", "the one that hung was given up")
        connection.execute(text("SELECT 1"))


def test_a_view_is_one_moment_and_only_to_look_at(server: Server) -> None:
    store = open_store(server.url)
    count = text("SELECT count(*) FROM audit")
    with store.reading() as connection:
        before = connection.scalar(count)
        store.audit("me", "meanwhile")
        assert connection.scalar(count) == before
    with pytest.raises(StoreUnavailable, match="read-only transaction"), store.reading() as connection:
        connection.execute(text("DELETE FROM clocks"))


def test_a_program_refuses_tables_of_another_version_and_migrates_none(server: Server) -> None:
    with Database(server.url).engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("CREATE DATABASE other"))
    url = server.url.replace("/postgres?", "/other?")
    with pytest.raises(NotMigrated, match=r"has no tables yet, and this one needs .* run sevenfold migrate"):
        open_store(url)
    several = [
        subprocess.Popen(
            [sys.executable, "-m", "sevenfold.cli", "migrate"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "SEVENFOLD_EVIDENCE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [(process.communicate()[0].split()[-1], process.returncode) for process in several] == [
        (SCHEMA, 0)
    ] * 3
    store = open_store(url)
    for version, error in (("0001", NotMigrated), ("9999", SchemaTooNew)):
        with store.writing() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
        with pytest.raises(error, match=f"has schema {version}, made by"):
            open_store(url)


def test_a_way_to_the_database_can_be_cut_by_tls_and_by_socket(
    server: Server, by_tls: str, tmp_path: Path
) -> None:
    for url in (server.url, f"postgresql:{by_tls}"):
        way = EvidenceDatabase(url, tmp_path)
        there = open_store(way.url)
        there.audit("me", "over a wire")
        way.cut()
        with pytest.raises(StoreUnavailable, match=r"evidence store .* cannot be used") as caught:
            there.audit_lines()
        assert "sesame" not in str(caught.value)
        open_store(url).audit("me", "others reach it")


def test_searches_of_two_environments_lie_apart(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("postgresql+psycopg", "postgresql")
    for environment in ("development", "training"):
        study = Study(f"toy/{environment}/r1/abc", url, tmp_path, Budget(3), seed=1)
        study.prepare({"hidden": 4})
        assert Study(f"toy/{environment}/r1/abc", url, tmp_path, Budget(3), seed=1).optuna.get_trials()
        with Database(url).reading() as connection:
            found = connection.scalar(text(f"SELECT count(*) FROM search_{environment}.trials"))
        assert found == 1
    assert not list(tmp_path.iterdir()), "no journal"
