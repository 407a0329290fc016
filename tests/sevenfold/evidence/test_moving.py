"""Evidence moves from SQLite and a folder to PostgreSQL and object storage: all of it, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.gate_case import metric, policy
from tests.sevenfold.evidence_world import AS_OF, MODEL, OPERATOR, World, analysis, candidate
from typer.testing import CliRunner

from sevenfold.cli.main import app
from sevenfold.evidence import database, tables
from sevenfold.evidence.artifacts import ArtifactStore, open_artifacts
from sevenfold.evidence.moving import MOVED, CannotMove, move
from sevenfold.evidence.objects import ObjectStorage
from sevenfold.evidence.revoke import revoke
from sevenfold.evidence.store import Store, open_store
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.gates.replay import replay
from sevenfold.release import release
from sevenfold.settings import Settings

pytestmark = pytest.mark.postgresql

REPORT = b"<p>calm</p>"


@pytest.fixture
def laptop(tmp_path: Path) -> World:
    """A store where everything has happened: a roll-back, an override, an alert; and a canary goes on."""
    world = World(open_store(f"sqlite:///{tmp_path}/home/evidence.db", tmp_path / "keys"))
    world.know("ann", "bob")
    artifacts = here(tmp_path)
    artifacts.put(b"weights")
    for letter in "ab":
        made = world.proven(letter)
        moving = world.rolling(made)
        path, digest = artifacts.put_report(moving, "canary", "canary.html", REPORT)
        world.store.add_report(moving.id, "canary", "Canary", path, digest)
        conclude(world.store, moving.id, analysis(moving, "Successful"))
        release.settle(world.store, moving.id, OPERATOR)
    release.roll_back(world.store, MODEL, OPERATOR, "worse")
    release.release_hold(world.store, MODEL, OPERATOR, "mended")
    refused = world.judged(world.store.add_candidate(candidate("d"), [policy(metric())]), "testing", "Failed")
    world.grants_override(world.asks_override(refused, ["auc"], datetime.now(UTC) + timedelta(days=30)))
    revoke(world.store, world.judged(candidate("d"), "training").id, "ann", "found out")
    world.store.use_test_set(refused.id, "a digest")
    world.store.add_alert(MODEL, "drift", "a week", AS_OF, "critical", 0.123456789012345678, "it drifts")
    world.store.set_clock(MODEL, AS_OF)
    going_on = world.rolling(world.proven("c"), share=0.25)
    world.measure(going_on, 0.1 + 0.2)
    return world


def here(tmp_path: Path) -> ArtifactStore:
    return open_artifacts(f"file://{tmp_path}/home/artifacts", tmp_path / "cache")


@pytest.fixture
def empty(postgresql: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database of its own without any table."""
    return made_database(postgresql, f"moved_{abs(hash(request.node.nodeid))}")


def made_database(postgresql: str, name: str) -> str:
    with Store(postgresql).engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
    return postgresql.replace("/postgres?", f"/{name}?")


@pytest.fixture
def both(tmp_path: Path, s3: str) -> tuple[ArtifactStore, ArtifactStore]:
    """The artifacts, and where they go."""
    return here(tmp_path), open_artifacts(s3, tmp_path / "elsewhere")


def count(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        query = "SELECT count(*) FROM {}"
        return {name: connection.scalar(text(query.format(name))) or 0 for name in tables.metadata.tables}


def test_all_of_it_arrives_and_life_goes_on_there(
    laptop: World, empty: str, both: tuple[ArtifactStore, ArtifactStore]
) -> None:
    before = count(laptop.store)
    assert all(before.values()), "every table has something"
    target = Store(empty, laptop.store.keys.folder)
    moved = move(laptop.store, target, both, "me")
    assert moved.rows == before
    assert moved.artifacts == moved.copied == 3
    assert count(laptop.store) == before, "the old store is as it was"
    assert verify(target, artifacts=both[1]) == []
    last = target.audit_lines()[-1]
    assert (last.what, last.detail["rows"], last.sequence) == (MOVED, before, before["audit"] + 1)
    there = World(open_store(empty, laptop.store.keys.folder))
    assert there.row == laptop.row
    for promotion in laptop.store.promotions(MODEL):
        assert there.store.promotion(promotion.id) == promotion
        assert there.store.measurements(promotion.id) == laptop.store.measurements(promotion.id)
        assert there.store.analyses(promotion.id) == laptop.store.analyses(promotion.id)
    assert there.store.alerts(MODEL) == laptop.store.alerts(MODEL)
    assert both[1].get(both[0].put(b"weights")).read_bytes() == b"weights"

    going_on = there.store.promotion(there.row.promotion or "")
    there.measure(going_on)
    conclude(there.store, going_on.id, analysis(going_on, "Successful"))
    release.settle(there.store, going_on.id, OPERATOR)
    assert there.row.champion == candidate("c").id
    release.roll_back(there.store, MODEL, OPERATOR, "worse after all")
    assert there.row.champion == candidate("a").id, "b was rolled back before the move"
    release.release_hold(there.store, MODEL, OPERATOR, "mended")
    there.crowned("e")
    assert verify(there.store, artifacts=both[1]) == []
    with pytest.raises(CannotMove, match="holds evidence already"):
        move(laptop.store, target, both, "me")


def test_what_was_judged_here_is_judged_alike_there(laptop: World, empty: str) -> None:
    gate = policy(
        metric(metric="auc", activity="benchmark", unit="", direction="higher", rule="at_least", limit=0.6)
    )
    move(laptop.store, target := Store(empty, laptop.store.keys.folder), None, "me")
    judged = [one for one in laptop.store.promotions(MODEL) if laptop.store.analyses(one.id)]
    assert len(judged) > 10
    for promotion in judged:
        assert replay(target, promotion.id, gate) == replay(laptop.store, promotion.id, gate)


def test_a_row_that_changed_on_the_way_is_noticed_and_nothing_has_moved(laptop: World, empty: str) -> None:
    target = Store(empty, laptop.store.keys.folder)
    target.prepare()
    with target.writing() as connection:
        connection.execute(text(MEDDLES))
        connection.execute(
            text(
                "CREATE TRIGGER meddler BEFORE INSERT ON measurements FOR EACH ROW EXECUTE FUNCTION meddles()"
            )
        )
    with pytest.raises(CannotMove, match="a row of measurements did not arrive as it was"):
        move(laptop.store, target, None, "me")
    assert not any(count(target).values())


MEDDLES = """
CREATE FUNCTION meddles() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.body := replace(NEW.body, '0.7', '0.8'); RETURN NEW; END $$
"""


def test_an_artifact_that_changed_on_the_way_is_noticed_and_nothing_has_moved(
    laptop: World, empty: str, both: tuple[ArtifactStore, ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ObjectStorage.write
    monkeypatch.setattr(
        ObjectStorage, "write", lambda self, name, content: write(self, name, bytes(content) + b"!")
    )
    target = Store(empty, laptop.store.keys.folder)
    with pytest.raises(CannotMove, match=r"did not arrive in s3://.* as it was"):
        move(laptop.store, target, both, "me")
    assert not any(count(target).values())
    monkeypatch.undo()


def test_evidence_that_is_not_as_it_was_written_does_not_move(
    laptop: World, empty: str, tmp_path: Path
) -> None:
    target = Store(empty, laptop.store.keys.folder)
    report = next(path for path in (tmp_path / "home" / "artifacts").rglob("canary.html"))
    report.write_bytes(b"<p>never mind</p>")
    stores = here(tmp_path), open_artifacts(f"file://{tmp_path}/there", tmp_path / "elsewhere")
    with pytest.raises(
        CannotMove, match=r"before the move sqlite\S+ is not sound: The report .* was altered"
    ):
        move(laptop.store, target, stores, "me")
    with laptop.store.writing() as connection:
        connection.execute(text("DROP TRIGGER statements_no_delete"))
        connection.execute(text("DELETE FROM statements WHERE sequence = 3"))
    with pytest.raises(CannotMove, match=r"statement of promotion .* is gone"):
        move(laptop.store, target, None, "me")
    assert not any(count(target).values())


def test_from_a_postgresql_it_may_take_longer_than_a_writer_may_be_idle(
    laptop: World, empty: str, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store(empty, laptop.store.keys.folder)
    move(laptop.store, first, None, "me")
    write = ArtifactStore.write

    def slow(self: ArtifactStore, path: str, content: Path | bytes) -> None:
        time.sleep(0.7)
        write(self, path, content)

    monkeypatch.setattr(ArtifactStore, "write", slow)
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    second = Store(made_database(postgresql, f"{first.url.database}_again"), laptop.store.keys.folder)
    there = open_artifacts(f"file://{tmp_path}/there", tmp_path / "elsewhere")
    assert move(first, second, (here(tmp_path), there), "me").copied == 3
    assert verify(second, artifacts=there) == []


def test_killed_anywhere_it_is_simply_made_again(laptop: World, empty: str, s3: str, tmp_path: Path) -> None:
    """Killed after the first artifact, and after the rows and before their commit; the third time it ends."""
    command = [sys.executable, "-c", KILLED, empty, s3]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SEVENFOLD_HOME": str(tmp_path / "home"),
        "SEVENFOLD_SECRETS": str(tmp_path / "no"),
    }
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "evidence").symlink_to(laptop.store.keys.folder)
    target, there = Store(empty, laptop.store.keys.folder), open_artifacts(s3, tmp_path / "elsewhere")
    for line, artifacts in (("_copy_artifacts", 1), ("_require_sound", 3), ("nowhere", 3)):
        ended = subprocess.run([*command, line], env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == (0 if line == "nowhere" else -signal.SIGKILL), ended.stdout + ended.stderr
        assert len(there.paths()) == artifacts
        assert any(count(target).values()) == (line == "nowhere")
    assert verify(target, artifacts=there) == []
    assert "0 of them came now" in ended.stdout
    assert "sevenfold cluster-secrets" in ended.stdout


KILLED = """
import os, signal, sys
from sevenfold.evidence import moving
from sevenfold.evidence.artifacts import ArtifactStore
from sevenfold.cli.main import app

to, artifacts, when = sys.argv[1:]
write, sound = ArtifactStore.write, moving._require_sound

def dies_after_one(self, path, content):
    write(self, path, content)
    os.kill(os.getpid(), signal.SIGKILL)

def dies_at_the_end(connection, store, artifacts, moment):
    sound(connection, store, artifacts, moment)
    if moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

if when == "_copy_artifacts":
    ArtifactStore.write = dies_after_one
if when == "_require_sound":
    moving._require_sound = dies_at_the_end
app(["move-evidence", "--to", to, "--artifacts", artifacts])
"""


def test_the_command_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Settings(home=tmp_path / "home")
    monkeypatch.setattr("sevenfold.cli.database.settings", lambda: home)
    for to, says in ((home.evidence_url, "is where the evidence is already"), ("mysql://x", "is none of")):
        result = CliRunner().invoke(app, ["move-evidence", "--to", to])
        said = " ".join(
            result.output.split()
        )  # it is wrapped, where depends on how long the folder's name is
        assert (result.exit_code, says in said) == (1, True), said
