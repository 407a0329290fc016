"""PostgreSQL itself holds the law of the release row, against programs whose own law was taken out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, exc, insert, select, text, update
from tests.sevenfold.evidence.test_grants import as_role
from tests.sevenfold.evidence_world import APPROVER, AS_OF, MODEL, REQUESTER, World, analysis, candidate
from tests.sevenfold.postgresql import database

from sevenfold.environments import before
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import grants
from sevenfold.evidence.database import Database, NotAllowed
from sevenfold.evidence.revoke import revoke
from sevenfold.evidence.store import Store, open_store, upgrade
from sevenfold.evidence.tables import (
    overrides,
    promotions,
    release_history,
    release_rows,
    roll_backs,
    statements,
)
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.people.approval import record_approval
from sevenfold.release import release
from sevenfold.release.promotion import PromotionEnd
from sevenfold.release.release_law import require_lawful
from sevenfold.release.release_row import ReleaseRow, is_reversal

pytestmark = pytest.mark.postgresql

A, B, C, D = (candidate(letter).id for letter in "abcd")
TRIES = 15
"""Rows that are tried at each moment of a life, beside the likely ones."""


class Rail:
    """A model's life, in which everybody has the rights of a cluster, and a thief those of who is robbed."""

    def __init__(self, owner: Store, folder: Path) -> None:
        self.owner = World(owner)
        self.promoter, self.production, self.preproduction = (
            World(as_role(folder, self.owner, role))
            for role in ("promoter", "production_promoter", "preproduction_promoter")
        )

    @property
    def row(self) -> ReleaseRow:
        """What production serves now."""
        return self.owner.row

    def begin(self, letter: str, environment: str, run: str = "run") -> str:
        """A promotion that Airflow begins."""
        return self.promoter.begin(candidate(letter), environment, f"{letter}-{run}").id

    def judged(self, promotion: str, verdict: str = "Successful") -> None:
        """Its gate speaks."""
        conclude(self.promoter.store, promotion, analysis(self.promoter.store.promotion(promotion), verdict))

    def champion(self, letter: str, run: str = "run") -> str:
        """All the way, by those who do it."""
        promotion, store = self.begin(letter, "production", run), self.production.store
        release.claim(store, promotion, "serve")
        release.set_share(store, promotion, 0.5, "canary")
        self.production.measure(store.promotion(promotion))
        self.judged(promotion)
        release.promote(store, promotion, "take_over")
        return promotion


def installed(server: str, folder: Path) -> Rail:
    """Where a, b and c may go to production, and d has everything but an approval."""
    url = database(server, f"law_{abs(hash(folder))}")
    upgrade(url)
    grants.grant_roles(Database(url), logins=folder / "logins")
    made = Rail(open_store(url, folder / "keys"), folder / "logins")
    for letter in "abc":
        made.owner.proven(letter)
    made.owner.store.add_candidate(candidate("d"))
    for environment in before("production"):
        made.owner.judged(candidate("d"), environment, run=f"d-{environment}")
    return made


@pytest.fixture(scope="module")
def robbed(postgresql: str, tmp_path_factory: pytest.TempPathFactory) -> Rail:
    """Where b is champion, a was before, and c has a tenth of the requests."""
    rail = installed(postgresql, tmp_path_factory.mktemp("robbed"))
    rail.champion("a")
    rail.champion("b")
    live = rail.begin("c", "production")
    release.claim(rail.production.store, live, "serve")
    release.set_share(rail.production.store, live, 0.1, "canary")
    rail.begin("d", "production")
    rail.begin("d", "testing")
    return rail


def life(rail: Rail) -> Iterator[str]:
    """What happens to a model, each step by whoever does it on a cluster; nothing of it is refused."""
    store, shadow = rail.production.store, rail.preproduction.store
    live = rail.begin("a", "production")
    rail.begin("d", "production")
    yield "nothing was ever released"
    approved = rail.begin("d", "production", "approved")
    record_approval(rail.promoter.store, approved, APPROVER, "for this time")
    yield "the fourth is approved in one promotion, and not in the other"
    release.claim(store, live, "serve")
    yield "the first is claimed"
    release.set_share(store, live, 1.0, "canary")
    yield "the first has all requests"
    rail.production.measure(store.promotion(live))
    rail.judged(live)
    release.hold(store, MODEL, "go_back", "a freeze")
    yield "the first has passed, and promotion is on hold"
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    yield "the first has passed"
    release.promote(store, live, "take_over")
    yield "the first is champion"
    mirrored, live = rail.begin("b", "preproduction", "shadow"), rail.begin("b", "production")
    release.claim(shadow, mirrored, "shadow")
    yield "the second is in the shadow, without requests"
    release.set_mirror(shadow, mirrored, 1.0, "shadow")
    yield "the second is mirrored"
    release.vacate(shadow, mirrored, "shadow", "seen enough")
    yield "the shadow is over"
    release.claim(store, live, "serve")
    release.set_share(store, live, 0.1, "canary")
    yield "the second has some requests"
    rail.production.measure(store.promotion(live))
    rail.judged(live)
    release.promote(store, live, "take_over")
    yield "the second is champion, and the first was before"
    release.hold(store, MODEL, "go_back", "a freeze")
    yield "promotion is on hold"
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    rail.owner.judged(candidate("c"), "staging", "Inconclusive", "again")  # which takes nothing away
    refused = rail.begin("c", "production", "refused")
    release.claim(store, refused, "serve")
    release.set_share(store, refused, 0.1, "canary")
    release.withdraw(store, refused, "roll_back", "Failed", "it is worse")
    yield "the third is off, proven bad"
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    called = rail.begin("c", "production", "called off")
    release.claim(store, called, "serve")
    release.set_share(store, called, 0.5, "canary")
    rail.judged(called)
    revoke(rail.promoter.store, called, REQUESTER, "it was another's traffic")
    yield "the third has passed, and that was revoked"
    release.call_off(store, MODEL, "go_back", "complaints")
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    yield "the third was called off"
    release.claim(shadow, rail.begin("c", "preproduction", "shadow"), "shadow")
    release.roll_back(store, MODEL, "go_back", "worse", B)
    yield "the second is rolled back, and who was in the shadow is off"
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    old = rail.begin("b", "production", "on its old record")
    yield "the second asks to come back"
    record_approval(rail.promoter.store, old, APPROVER, "it was a pity")
    yield "the second is approved again, on its old record"
    again = rail.owner.judged(candidate("b"), "preproduction", run="again")
    record_approval(rail.promoter.store, again.id, APPROVER, "mended")
    yield "the second has a new record"
    rail.champion("b", "again")
    rail.champion("c")
    release.roll_back(store, MODEL, "go_back", "worse", C)
    release.release_hold(rail.promoter.store, MODEL, "ann", "go on")
    rail.begin("c", "production", "once more")
    again = rail.owner.judged(candidate("c"), "preproduction", run="once more")
    yield "the third, rolled back, has a new record, and nobody's approval"
    before_it = rail.row.previous
    written(rail, previous=C)
    yield "the third, rolled back, was written into the row as the one before, past all law"
    written(rail, previous=before_it)
    record_approval(rail.promoter.store, again.id, APPROVER, "mended")
    rail.champion("c", "at last")
    revoke(rail.promoter.store, f"{MODEL}/production/b-again", REQUESTER, "labels were wrong")
    yield "the one before the champion has lost its evidence"


def written(rail: Rail, **fields: Any) -> None:
    """What the owner of the tables can do to a row."""
    with rail.owner.store.writing() as connection:
        connection.execute(update(release_rows).values(fields))


class Undone(Exception):
    """Nothing of a try is kept."""


@contextmanager
def trying(store: Store) -> Iterator[Connection]:
    """A transaction of which nothing is left, but all is checked."""
    try:
        with store.writing() as connection:
            yield connection
            connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
            raise Undone
    except Undone:
        pass


def end_of(now: ReleaseRow, after: ReleaseRow) -> PromotionEnd | None:
    """What every step that changes the champion says of who is being tried."""
    if after.champion == now.champion or now.promotion is None:
        return None
    state, verdict = ("superseded", "Inconclusive") if is_reversal(now, after) else ("promoted", "Successful")
    return PromotionEnd(now.promotion, state, verdict, "a try")  # type: ignore[arg-type]


def likely(rail: Rail, now: ReleaseRow) -> Iterator[ReleaseRow]:
    """Rows that steps make, of everybody, whether or not it is their time."""
    off = replace(now, candidate=None, promotion=None, share=0.0, mirror=0.0)
    yield off
    yield replace(off, held="a reason")
    yield replace(now, held=None)
    yield replace(off, champion=now.candidate, previous=now.champion)
    for one in (None, A, B, C):
        yield replace(off, champion=now.previous, previous=one, held="a reason")
        yield replace(off, champion=one, previous=now.champion)
    back = replace(off, champion=now.previous, previous=None, held="a reason")
    yield replace(back, held=None)
    begun = rail.owner.store.promotions(MODEL)
    running = [promotion for promotion in begun if promotion.state == "running"]
    for promotion in {one.id: one for one in (*running, *begun[-3:])}.values():
        claimed = replace(off, candidate=promotion.candidate, promotion=promotion.id)
        yield claimed
        yield replace(claimed, mirror=1.0)
        yield replace(claimed, share=0.5)
        if promotion.environment == "preproduction":
            yield replace(back, candidate=promotion.candidate, promotion=promotion.id)


def mutated(chance: random.Random, row: ReleaseRow) -> ReleaseRow:
    """The row with one or two of its fields otherwise."""
    who = (None, A, B, C, D)
    fields: dict[str, tuple[Any, ...]] = {
        "champion": who, "previous": who, "candidate": who, "share": (0.0, 0.1, 0.5, 1.0, 1.5, -0.1),
        "mirror": (0.0, 1.0, 2.0), "held": (None, "a reason"),
    }  # fmt: skip
    chosen = chance.sample(sorted(fields), chance.choice((1, 1, 2)))
    return replace(row, **{name: chance.choice(fields[name]) for name in chosen})


def allowed_by_the_law(store: Store, now: ReleaseRow, after: ReleaseRow) -> bool:
    """What Python says, and that a hold is released by the promoter only, for which Python has no roles."""
    if now.held is not None and after.held is None:
        return False
    try:
        with store.reading() as connection:
            require_lawful(connection, store.keys, now, after, end_of(now, after))
    except SevenfoldError:
        return False
    return True


def of_preproduction(now: ReleaseRow, after: ReleaseRow) -> bool:
    """Whether it is the mirror's own: no more than its columns, about a promotion of preproduction."""
    own = {"candidate", "promotion", "mirror"}
    changed = {name for name, value in vars(after).items() if value != getattr(now, name)}
    tried = {promotion.split("/")[1] for promotion in (now.promotion, after.promotion) if promotion}
    return changed <= own and tried <= {"preproduction"}


def allowed_by_the_database(store: Store, now: ReleaseRow, after: ReleaseRow) -> bool:
    """What becomes of the step where Python's law is not asked."""
    try:
        with trying(store) as connection:
            release._swap(connection, now, after, "a thief", "a try", end_of(now, after))
    except (NotAllowed, exc.IntegrityError):
        return False
    return True


def test_the_database_says_what_the_law_says(postgresql: str, tmp_path: Path) -> None:
    """At each moment of a life: likely rows and hundreds of others, of a thief with production's password."""
    rail = installed(postgresql, tmp_path)
    chance, said = random.Random(7), {True: 0, False: 0}
    for moment in life(rail):
        now = rail.row
        rows = list(dict.fromkeys(likely(rail, now)))
        rows += [mutated(chance, chance.choice([*rows, now])) for _ in range(TRIES)]
        for after in dict.fromkeys(rows):
            if after == now:
                continue
            lawful = allowed_by_the_law(rail.owner.store, now, after)
            where = f"{moment}: {now} to {after}"
            assert allowed_by_the_database(rail.production.store, now, after) is lawful, where
            if after.champion == now.champion:
                of_its_own = lawful and of_preproduction(now, after)
                assert allowed_by_the_database(rail.preproduction.store, now, after) is of_its_own, where
            said[lawful] += 1
    assert min(said.values()) > 50, said
    assert verify(rail.owner.store) == []


def swapped(connection: Connection, rail: Rail, by: int = 1, **fields: Any) -> Any:
    """The release row, with a line in the history, and nothing else that belongs to the change."""
    after = replace(rail.row, **fields, generation=rail.row.generation + by)
    values = {name: value for name, value in vars(after).items() if value != getattr(rail.row, name)}
    connection.execute(update(release_rows).values(values))
    line = {"who": "a thief", "reason": "a try", "at": datetime.now(UTC)}
    return connection.execute(insert(release_history).values(vars(after) | line))


OFF: dict[str, Any] = {"candidate": None, "promotion": None, "share": 0.0}
BACK = OFF | {"champion": A, "previous": None, "held": "a reason"}
TRIED, OTHER = f"{MODEL}/production/c-run", f"{MODEL}/production/d-run"


def ends(connection: Connection, promotion: str, state: str) -> Any:
    return connection.execute(update(promotions).where(promotions.c.id == promotion).values(state=state))


def notes(connection: Connection, rail: Rail, **otherwise: Any) -> Any:
    newest = text("SELECT (SELECT max(sequence) FROM statements), (SELECT max(sequence) FROM approvals)")
    statement, approval = connection.execute(newest).one()
    right: dict[str, Any] = {"model": MODEL, "candidate": B, "generation": rail.row.generation + 1}
    right |= {"after_statement": statement, "after_approval": approval}
    return connection.execute(insert(roll_backs).values(right | otherwise))


def goes_back(connection: Connection, rail: Rail, **otherwise: Any) -> None:
    """A roll-back as it is done, but for what is said `otherwise` about what it notes."""
    swapped(connection, rail, **BACK)
    notes(connection, rail, **otherwise)
    ends(connection, TRIED, "superseded")


def test_what_the_thief_does_below_is_done_rightly_but_for_one_thing(robbed: Rail) -> None:
    """Else nothing would be shown by what is refused."""
    with trying(robbed.production.store) as connection:
        swapped(connection, robbed, share=0.5)
    with trying(robbed.production.store) as connection:
        goes_back(connection, robbed)
    with trying(robbed.production.store) as connection:
        swapped(connection, robbed, **OFF)
        ends(connection, TRIED, "held")


@pytest.mark.parametrize(
    ("refusal", "deed"),
    [
        ("generation grows by one", lambda c, rail: swapped(c, rail, by=2, share=0.5)),
        ("generation grows by one", lambda c, rail: swapped(c, rail, by=-1, share=0.5)),
        ("stand in the history", lambda c, rail: c.execute(update(release_rows).values(
            share=0.5, generation=release_rows.c.generation + 1))),
        ("says what the release row says", lambda c, rail: c.execute(insert(release_history).from_select(
            [one.name for one in release_history.columns],
            select(*(text("9999") if one.name in ("sequence", "generation") else one
                     for one in release_history.columns)).limit(1)))),
        ("may be champion", lambda c, rail: swapped(c, rail, **OFF | {"champion": C, "previous": B})),
        ("may be tried so", lambda c, rail: swapped(c, rail, candidate=D)),
        ("has to end with the change", lambda c, rail: (swapped(c, rail, **BACK), notes(c, rail))),
        ("has to be noted", lambda c, rail: (swapped(c, rail, **BACK), ends(c, TRIED, "superseded"))),
        ("noted is what happens", lambda c, rail: goes_back(c, rail, after_statement=0)),
        ("noted is what happens", lambda c, rail: goes_back(c, rail, after_approval=0)),
        ("noted is what happens", lambda c, rail: goes_back(c, rail, candidate=A)),
        ("noted is what happens", lambda c, rail: notes(c, rail, generation=rail.row.generation)),
        ("still being tried", lambda c, rail: ends(c, TRIED, "held")),
        ("its candidate as champion", lambda c, rail: ends(c, OTHER, "promoted")),
        ("its candidate as champion", lambda c, rail: (
            swapped(c, rail, **OFF), ends(c, TRIED, "promoted"))),
        ("it has ended", lambda c, rail: ends(c, f"{MODEL}/production/a-run", "refused")),
        ("row-level security", lambda c, rail: ends(c, f"{MODEL}/testing/d-run", "held")),
        ("may be old", lambda c, rail: (
            c.exec_driver_sql("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ"),
            swapped(c, rail, share=0.5))),
    ],
)  # fmt: skip
def test_a_thief_with_productions_password_does_nothing_by_halves(
    robbed: Rail, refusal: str, deed: Any
) -> None:
    with pytest.raises(NotAllowed, match=refusal) as caught, trying(robbed.production.store) as connection:
        deed(connection, robbed)
    assert "PL/pgSQL" not in str(caught.value)


def test_tables_of_ones_own_prove_nothing(robbed: Rail) -> None:
    passed = (
        "SELECT 9999, 'coin/production/c-run', candidate, 'production', result, verdict, analysis, override"
    )
    with pytest.raises(NotAllowed, match="may be champion"), trying(robbed.production.store) as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE statements (LIKE public.statements)")
        connection.exec_driver_sql("INSERT INTO pg_temp.statements SELECT * FROM public.statements")
        connection.exec_driver_sql(
            f"INSERT INTO pg_temp.statements {passed}, envelope, issued_at FROM public.statements "
            f"WHERE candidate = '{C}' AND environment = 'preproduction'"
        )
        swapped(connection, robbed, **OFF | {"champion": C, "previous": B})


@pytest.mark.parametrize("hours", [1, -1])
def test_an_override_counts_until_it_expires(robbed: Rail, hours: int) -> None:
    """(As one transaction of the owner's, who turns into production in the middle of it.)"""
    until = datetime.now(UTC) + timedelta(hours=hours)
    with trying(robbed.owner.store) as connection:
        lifted = connection.scalar(
            insert(overrides).returning(overrides.c.sequence),
            {
                "promotion": f"{MODEL}/staging/c-run", "requested_by": REQUESTER, "approved_by": APPROVER,
                "reason": "a gap", "scope": "[]", "expires_at": until, "at": AS_OF,
            },
        )  # fmt: skip
        last = select(statements).where(statements.c.candidate == C, statements.c.environment == "staging")
        copied = dict(connection.execute(last).mappings().one()) | {"override": lifted}
        del copied["sequence"]
        connection.execute(insert(statements).values(copied))
        connection.exec_driver_sql("SET LOCAL ROLE sevenfold_production_promoter")
        if hours > 0:
            swapped(connection, robbed, share=0.5)
            return
        with pytest.raises(exc.ProgrammingError, match="may be tried so"), connection.begin_nested():
            swapped(connection, robbed, share=0.5)


def test_nobody_changes_the_row_past_a_writer_whose_change_is_not_there_yet(robbed: Rail) -> None:
    """As a revocation that is being written: whoever does not ask for the lock gets it all the same."""
    changes = update(release_rows).values(share=0.5, generation=release_rows.c.generation + 1)
    thief = robbed.production.store.engine
    with robbed.promoter.store.writing(), thief.connect() as connection, connection.begin():
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(exc.OperationalError, match="lock timeout"):
            connection.execute(changes)
