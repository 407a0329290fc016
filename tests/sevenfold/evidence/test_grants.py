"""What each role may write in PostgreSQL, and that the database itself refuses the rest, with a sentence."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, text, update
from tests.sevenfold.evidence_world import AS_OF, MODEL, World, analysis, candidate
from tests.sevenfold.postgresql import Server, running
from typer.testing import CliRunner

from sevenfold.cli.main import app
from sevenfold.evidence import grants, tables
from sevenfold.evidence.database import Database, NotAllowed, StoreUnavailable
from sevenfold.evidence.store import Store, open_store, upgrade
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.gates.policy import load_gate
from sevenfold.people.gate_change import kept, request_change
from sevenfold.people.request import open_requests
from sevenfold.release import release
from sevenfold.release.promotion import PromotionEnded
from sevenfold.settings import REPOSITORY, Settings

pytestmark = pytest.mark.postgresql

ALL = ("candidate", "champion", "generation", "held", "mirror", "previous", "promotion", "share")
READING = {"measurements": "I", "reports": "I", "audit": "I"}
MAKES = READING | {"candidates": "I", "policies": "I", "promotions": "U(candidate)"}
EXPECTED: dict[str, dict[str, str]] = {
    "development": MAKES,
    "training": MAKES,
    "testing": READING | {"test_set_uses": "I"},
    "staging": READING,
    "preproduction": READING | {"test_set_uses": "I"},
    "preproduction_promoter": READING
    | {"release_history": "I", "release_rows": "U(candidate,generation,mirror,promotion)"},
    "production": READING,
    "production_promoter": READING
    | {
        "release_rows": f"IU({','.join(ALL)})",
        "release_history": "I",
        "roll_backs": "I",
        "clocks": "IU(moment)",
        "promotions": "U(ended_at,outcome,state,verdict)",
    },
    "monitoring": READING | {"alerts": "IU(closed_at,outcome,state)", "promotions": "U(candidate)"},
    "promoter": {
        "promotions": "IU(candidate,ended_at,outcome,state,verdict)",
        "release_rows": f"IU({','.join(ALL)})",
        "clocks": "IU(moment)D",
        "alerts": "U(closed_at,outcome,state)",
        **dict.fromkeys(
            (
                *("analyses", "statements", "revocations", "overrides", "requests", "grants", "approvals"),
                *("policies", "test_set_uses", "release_history", "roll_backs", "audit"),
            ),
            "I",
        ),
    },
    "server": {},
    "gateway": {},
}
"""I: may add rows, U: may change these columns, D: may delete. Where nothing stands, nothing but reading."""


EARLIER = (
    "GRANT INSERT, UPDATE (share, champion, generation) ON release_rows TO sevenfold_production",
    "ALTER TABLE release_rows ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY production_changes ON release_rows FOR UPDATE TO sevenfold_production USING (true)",
)
"""What every pod of production could do before activities that move live traffic had a role of their own."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """Whoever is not the owner needs a password."""
    with running(hba="local all sevenfold trust\nlocal all all scram-sha-256\n") as one:
        upgrade(one.url)
        yield one


@pytest.fixture(scope="module")
def folder(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The URLs of the roles; granted twice, which changes nothing but what an earlier version has left."""
    made = tmp_path_factory.mktemp("logins")
    grants.grant_roles(Database(postgres.url), logins=made)
    before = {file.name: file.read_text() for file in made.iterdir()}
    with Database(postgres.url).writing() as connection:
        for left in EARLIER:
            connection.execute(text(left))
    grants.grant_roles(Database(postgres.url), logins=made)
    assert {file.name: file.read_text() for file in made.iterdir()} == before
    return made


@pytest.fixture(scope="module")
def world(postgres: Server, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The owner's store with three candidates that may go to production."""
    made = World(open_store(postgres.url, tmp_path_factory.mktemp("keys")))
    for letter in "abc":
        made.proven(letter)
    return made


def as_role(folder: Path, world: World, role: str) -> Store:
    return open_store((folder / role).read_text(), world.store.keys.folder)


def may(connection: Connection, role: str, table: str) -> str:
    def has(verb: str) -> bool:
        query = text("SELECT has_table_privilege(:role, :table, :verb)")
        return bool(connection.scalar(query, {"role": role, "table": table, "verb": verb}))

    query = text("SELECT has_column_privilege(:role, :table, :column, 'UPDATE')")
    changed = [
        column.name
        for column in tables.metadata.tables[table].columns
        if connection.scalar(query, {"role": role, "table": table, "column": column.name})
    ]
    assert has("SELECT")
    assert not has("TRUNCATE")
    updates = f"U({','.join(sorted(changed))})" if changed else ""
    return ("I" if has("INSERT") else "") + updates + ("D" if has("DELETE") else "")


@pytest.mark.parametrize("role", EXPECTED)
def test_a_role_may_write_what_its_environment_does_and_no_more(
    postgres: Server, folder: Path, role: str
) -> None:
    assert set(EXPECTED) == set(grants.RIGHTS)
    with Database(postgres.url).reading() as connection:
        found = {table: may(connection, f"sevenfold_{role}", table) for table in tables.metadata.tables}
    assert {table: rights for table, rights in found.items() if rights} == EXPECTED[role]


@pytest.mark.parametrize("role", EXPECTED)
def test_a_role_can_make_no_tables_nor_roles_and_come_in_only_with_its_password(
    postgres: Server, folder: Path, world: World, role: str
) -> None:
    store = as_role(folder, world, role)
    with (
        pytest.raises(NotAllowed, match="permission denied for schema public"),
        store.writing() as connection,
    ):
        connection.execute(text("CREATE TABLE mine (number integer)"))
    with pytest.raises(NotAllowed, match="permission denied to create role"), store.writing() as connection:
        connection.execute(text("CREATE ROLE sevenfold_other"))
    assert stat.S_IMODE((folder / role).stat().st_mode) == 0o600
    wrong = store.url.set(password="wrong").render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        open_store(wrong)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("role", EXPECTED)
def test_what_the_matrix_does_not_allow_is_refused_when_it_is_tried(
    folder: Path, world: World, role: str
) -> None:
    store = as_role(folder, world, role)
    for name, table in tables.metadata.tables.items():
        rights = re.split(r"[(),]", EXPECTED[role].get(name, ""))
        column = next(iter(table.columns))
        with (
            pytest.raises(NotAllowed, match=f"permission denied for table {name}"),
            store.writing() as connection,
        ):
            connection.execute(update(table).values({column.name: column}))
        if "D" not in rights:
            with (
                pytest.raises(NotAllowed, match=f"let sevenfold_{role} do that"),
                store.writing() as connection,
            ):
                connection.execute(delete(table))


@pytest.mark.parametrize(
    "role", [role for role in EXPECTED if role not in ("promoter", "production_promoter")]
)
def test_only_promoters_change_what_callers_meet(folder: Path, world: World, role: str) -> None:
    with pytest.raises(NotAllowed, match="permission denied for table release_") as caught:
        release.hold(as_role(folder, world, role), MODEL, role, "for fun")
    assert "\n" not in str(caught.value)
    judged = world.begin(candidate("a"), "testing", "judged by others")
    with pytest.raises(NotAllowed, match="permission denied for table analyses"):
        conclude(as_role(folder, world, role), judged.id, analysis(judged, "Successful"))


def test_an_activity_writes_about_promotions_of_its_own_environment_only(folder: Path, world: World) -> None:
    a = candidate("a")
    training, testing = (World(as_role(folder, world, role)) for role in ("training", "testing"))
    promoter = World(as_role(folder, world, "promoter"))
    made = promoter.begin(None, "training", "own")
    training.store.add_candidate(a)
    training.store.set_promotion_candidate(made.id, a.id)
    training.measure(promoter.store.promotion(made.id))
    training.store.add_report(made.id, "train", "Curves", "reports/curves.html", "0" * 64)
    others = promoter.begin(a, "testing", "another's")
    with pytest.raises(NotAllowed, match='row-level security policy for table "measurements"'):
        training.measure(others)
    with pytest.raises(NotAllowed, match='row-level security policy for table "reports"'):
        training.store.add_report(others.id, "train", "Curves", "reports/c.html", "0" * 64)
    with pytest.raises(NotAllowed, match='row-level security policy for table "promotions"'):
        training.store.set_promotion_candidate(others.id, candidate("b").id)
    testing.measure(others)
    assert testing.store.use_test_set(others.id, "a digest") == 1
    with pytest.raises(NotAllowed, match="permission denied for table test_set_uses"):
        training.store.use_test_set(made.id, "a digest")
    promoter.store.end_promotion(made.id, "held", "Inconclusive", "the end")
    with pytest.raises(PromotionEnded):
        training.store.set_promotion_candidate(made.id, candidate("b").id)


def test_people_ask_for_all_they_may_ask_for_as_the_promoter(folder: Path, world: World) -> None:
    promoter, gate = (
        as_role(folder, world, "promoter"),
        load_gate(REPOSITORY / "include" / "models", "flight_delay", "testing"),
    )
    made = candidate("a").model_copy(update={"model": gate.model})
    asked = request_change(promoter, made, gate, "holidays", "ann")
    assert [one.number for one in open_requests(promoter)] == [asked.number]
    with promoter.reading() as connection:
        assert kept(connection, gate.hash) == gate


def test_two_candidates_go_all_the_way_and_back_with_the_rights_of_those_who_do_it(
    folder: Path, world: World
) -> None:
    promoter, shadowed_by, released_by = (
        World(as_role(folder, world, role))
        for role in ("promoter", "preproduction_promoter", "production_promoter")
    )
    shadow, production = shadowed_by.store, released_by.store
    for letter in "ab":
        shadowed = promoter.begin(candidate(letter), "preproduction", f"shadow-{letter}")
        if world.row.champion:
            release.claim(shadow, shadowed.id, "shadow")
            assert release.set_mirror(shadow, shadowed.id, 1.0, "shadow").mirror == 1.0
            with pytest.raises(NotAllowed, match="permission denied for table release_rows"):
                exchange(shadow, share=0.5)
            release.vacate(shadow, shadowed.id, "shadow", "seen enough")
        shadowed_by.measure(shadowed)
        conclude(promoter.store, shadowed.id, analysis(shadowed, "Successful"))
        live = promoter.begin(candidate(letter), "production", f"live-{letter}")
        release.claim(production, live.id, "serve")
        release.set_share(production, live.id, 0.5, "canary")
        with pytest.raises(NotAllowed, match="this role tries candidates of preproduction only"):
            exchange(shadow, mirror=1.0, generation=world.row.generation + 1)
        released_by.measure(live)
        production.set_clock(MODEL, AS_OF)
        conclude(promoter.store, live.id, analysis(live, "Successful"))
        release.promote(production, live.id, "take_over")
        assert world.row.champion == candidate(letter).id
    third = promoter.begin(candidate("c"), "preproduction", "shadow-c")
    release.claim(shadow, third.id, "shadow")
    release.roll_back(production, MODEL, "go_back", "worse")
    assert world.row.champion == candidate("a").id
    assert promoter.store.promotion(third.id).state == "superseded"
    promoter.store.set_clock(MODEL, None)
    release.release_hold(promoter.store, MODEL, "a person", "all is well")
    assert verify(world.store) == []
    for reader in ("server", "gateway"):
        assert as_role(folder, world, reader).passed(candidate("a").id, "production")


def exchange(store: Store, **columns: Any) -> None:
    """Past all laws of the release row, as a stolen password could."""
    with store.writing() as connection:
        connection.execute(update(tables.release_rows).values(columns))


def test_the_commands_say_what_they_did_and_what_they_need(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said(*words: str, url: str) -> tuple[int, str]:
        monkeypatch.setattr("sevenfold.cli.database.settings", lambda: Settings(evidence_url=url))
        result = CliRunner().invoke(app, list(words))
        return result.exit_code, result.output

    code, output = said("migrate", url=postgres.url)
    assert (code, "has schema" in output) == (0, True)
    code, output = said("grant-roles", "--prefix", "other", url=postgres.url)
    assert (code, len(output.split())) == (0, len(EXPECTED)), output
    code, output = said("grant-roles", "--prefix", "x; DROP", url=postgres.url)
    assert code == 1 and "is no name of a role" in output
    code, output = said("grant-roles", url=f"sqlite:///{tmp_path}/evidence.db")
    assert code == 1 and "roles are for PostgreSQL" in output
