"""Stores to test with: SQLite in a folder of the test, PostgreSQL in a schema of the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sevenfold import object_storage
from tests.sevenfold.evidence_world import World
from tests.sevenfold.postgresql import NoPostgresql, server
from tests.sevenfold.postgresql import database as new_database

from sevenfold.evidence.store import open_store, upgrade


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that the tests started themselves; skips with the reason where none can be."""
    try:
        with server() as url:
            yield url
    except NoPostgresql as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind; PostgreSQL has the tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/evidence.db"
    name = f"test_{abs(hash(request.node.nodeid))}"
    made = new_database(request.getfixturevalue("postgresql"), name)
    upgrade(made)
    return made


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """The variables of an S3 that the tests started themselves."""
    with object_storage.server() as variables:
        yield variables


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of an empty place in it; the variables are set."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{object_storage.BUCKET}/{tmp_path.name}"


@pytest.fixture
def either_world(database: str, tmp_path: Path) -> World:
    """An empty evidence store of each kind, with a way to fill it."""
    return World(open_store(database, tmp_path / "keys"))


@pytest.fixture
def world(either_world: World) -> World:
    """The same, by the name that most tests know."""
    return either_world


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SQLite store in which four candidates may go to production."""
    home = tmp_path_factory.mktemp("furnished")
    store = open_store(f"sqlite:///{home}/evidence.db", home / "keys")
    for letter in "abcd":
        World(store).proven(letter)
    store.engine.dispose()
    return home


@pytest.fixture
def furnished_world(furnished: Path, tmp_path: Path) -> World:
    """A copy of it."""
    home = tmp_path / "home"
    shutil.copytree(furnished, home)
    return World(open_store(f"sqlite:///{home}/evidence.db", home / "keys"))
