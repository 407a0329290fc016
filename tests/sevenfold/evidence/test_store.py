from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text
from tests.sevenfold.evidence_world import AS_OF, MODEL, World, candidate

from sevenfold.environments import UnknownEnvironment
from sevenfold.evidence import audit, tables
from sevenfold.evidence.database import SchemaTooNew, StoreUnavailable
from sevenfold.evidence.records import UnknownAlert
from sevenfold.evidence.store import BudgetSpent, NoStore, UnknownCandidate, open_store, upgrade
from sevenfold.gates.measurement import Measurement
from sevenfold.release.promotion import PromotionEnded, UnknownPromotion
from sevenfold.settings import settings


def test_a_candidate_is_kept_once_as_it_was_first_written(world: World) -> None:
    first = candidate("a")
    later = first.model_copy(update={"reason": "told differently"})
    assert world.store.add_candidate(first) == first
    assert world.store.add_candidate(later) == first
    assert world.store.candidates(MODEL) == [first]
    assert world.store.candidate(first.id) == first


def test_what_nobody_knows_is_named(world: World) -> None:
    with pytest.raises(UnknownCandidate, match="no candidate coin-nobody"):
        world.store.candidate("coin-nobody")
    with pytest.raises(UnknownPromotion, match="no promotion coin/testing/never"):
        world.store.promotion("coin/testing/never")
    with pytest.raises(UnknownEnvironment, match="No environment is called 'qa'"):
        world.begin(None, "qa")
    with pytest.raises(UnknownCandidate, match="one of dice, not of coin"):
        world.begin(world.store.add_candidate(candidate("a", "dice")), "testing")


def test_a_pod_without_its_secret_begins_no_evidence_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    monkeypatch.setenv("SEVENFOLD_RUNTIME", "kubernetes")
    settings.cache_clear()
    try:
        with pytest.raises(NoStore, match="the Secret `sevenfold` of its namespace"):
            open_store()
        with pytest.raises(NoStore):
            open_store(settings().evidence_url)
        assert list(tmp_path.iterdir()) == []
        open_store(f"sqlite:///{tmp_path}/elsewhere.db")
    finally:
        settings.cache_clear()


def test_a_promotion_begins_once(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    began = world.begin(made, "testing")
    assert began.id == "coin/testing/run"
    assert world.begin(None, "testing") == began
    assert world.store.promotions(MODEL) == [began]


def test_a_running_promotion_takes_the_candidate_that_it_makes(world: World) -> None:
    idea, trained, other = (world.store.add_candidate(candidate(x)) for x in "abc")
    began = world.begin(idea, "training")
    assert world.store.set_promotion_candidate(began.id, trained.id).candidate == trained.id
    assert world.store.set_promotion_candidate(began.id, trained.id).origin == idea.id
    world.store.end_promotion(began.id, "refused", "Failed", "too slow")
    assert world.store.set_promotion_candidate(began.id, trained.id).candidate == trained.id
    with pytest.raises(PromotionEnded, match="has ended"):
        world.store.set_promotion_candidate(began.id, other.id)


def test_the_first_end_wins(world: World) -> None:
    began = world.begin(None, "development")
    ended = world.store.end_promotion(began.id, "refused", "Failed", "too slow")
    assert (ended.state, ended.verdict, ended.outcome) == ("refused", "Failed", "too slow")
    assert world.store.end_promotion(began.id, "promoted", "Successful", "after all") == ended
    with pytest.raises(ValueError, match="no end"):
        world.store.end_promotion(began.id, "running", "Successful", "")  # type: ignore[arg-type]


def test_due_is_what_came_out_of_the_environment_before_and_was_not_tried(world: World) -> None:
    first, second, third = (world.store.add_candidate(candidate(x)) for x in "abc")
    for made, verdict in ((first, "Successful"), (second, "Failed"), (third, "Successful")):
        world.judged(made, "testing", verdict, run=made.id)
    assert world.store.due(MODEL, "staging") == [first, third]
    world.begin(first, "staging", "one")
    assert world.store.due(MODEL, "staging") == [third]
    assert world.store.due(MODEL, "development") == []


def test_a_candidate_that_training_answered_with_a_new_one_is_not_due_again(world: World) -> None:
    idea, trained = (world.store.add_candidate(candidate(x)) for x in "ab")
    promotion = world.begin(idea, "development")
    world.store.end_promotion(promotion.id, "promoted", "Successful", "good enough")
    training = world.begin(idea, "training")
    world.store.set_promotion_candidate(training.id, trained.id)
    assert world.store.due(MODEL, "training") == []


def test_readings_come_back_as_they_were_written(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    readings = [
        world.measure(promotion, 0.7),
        world.measure(promotion, float("inf"), interval="10:00"),
        world.measure(promotion, 0.9, interval="10:01"),
    ]
    assert world.store.measurements(promotion.id) == readings
    assert world.store.measurements(promotion.id, "benchmark") == readings
    assert world.store.measurements(promotion.id, "elsewhere") == []


def test_a_polled_interval_counts_once(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    first = world.measure(promotion, 0.7, interval="10:00")
    world.measure(promotion, 0.1, interval="10:00")
    assert world.store.measurements(promotion.id) == [first]
    sliced = first.model_copy(update={"slice": "north"})
    assert world.store.record([sliced, sliced, first]) == 1


def test_a_reading_without_a_value_is_kept_as_one(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    reading = world.measure(promotion).model_copy(update={"value": None})
    world.store.record([reading])
    assert world.store.measurements(promotion.id)[-1].value is None


def test_a_reading_of_no_promotion_is_refused_with_all_that_came_with_it(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    good = world.measure(promotion)
    with pytest.raises(UnknownPromotion, match="coin/testing/never"):
        world.store.record([good, good.model_copy(update={"promotion": "coin/testing/never"})])
    assert world.store.measurements(promotion.id) == [good]


def test_a_look_at_a_test_set_is_counted_before_it_is_taken_and_once_a_promotion(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    runs = [world.begin(made, "testing", f"run{k}") for k in range(4)]
    assert world.store.use_test_set(runs[0].id, "april", budget=3) == 1
    assert world.store.use_test_set(runs[1].id, "april", budget=3) == 2
    assert world.store.use_test_set(runs[0].id, "april", budget=3) == 1
    assert world.store.use_test_set(runs[2].id, "april", budget=3) == 3
    with pytest.raises(BudgetSpent, match=r"used 3 times and its budget is 3: promotion coin/testing/run3"):
        world.store.use_test_set(runs[3].id, "april", budget=3)
    assert world.store.test_set_uses(MODEL, "april") == 3
    assert world.store.test_set_uses(MODEL, "april", "staging") == 0
    sealed = world.begin(made, "preproduction")
    assert world.store.use_test_set(sealed.id, "april", budget=3) == 1, "each environment has its own set"


def test_an_alert_is_raised_once_and_closed_once(world: World) -> None:
    def raise_(reason: str) -> int:
        return world.store.add_alert(MODEL, "drift", "2013-W26", AS_OF, "high", 1.6, reason).id

    assert raise_("late more often") == raise_("again")
    (alert,) = world.store.open_alerts(MODEL)
    assert (alert.reason, alert.state, alert.as_of) == ("late more often", "open", AS_OF)
    closed = world.store.close_alert(alert.id, "dismissed", "no harm done")
    assert (closed.state, closed.outcome) == ("dismissed", "no harm done")
    assert world.store.close_alert(alert.id, "closed", "retrained") == closed
    assert world.store.open_alerts(MODEL) == []
    assert world.store.alerts(MODEL) == [closed]
    with pytest.raises(UnknownAlert, match="no alert 99"):
        world.store.close_alert(99, "closed", "")


def test_an_alert_may_be_dismissed_as_it_is_raised(world: World) -> None:
    alert = world.store.add_alert(MODEL, "drift", "2013-W36", AS_OF, "low", None, "no harm", "dismissed")
    assert (alert.state, alert.outcome) == ("dismissed", "no harm")
    assert world.store.open_alerts(MODEL) == []


def test_the_clock_is_kept_a_model(world: World) -> None:
    assert world.store.get_clock(MODEL) is None
    world.store.set_clock(MODEL, AS_OF)
    world.store.set_clock(MODEL, AS_OF + timedelta(days=1))
    world.store.set_clock("dice", AS_OF)
    assert world.store.get_clock(MODEL) == AS_OF + timedelta(days=1)
    world.store.set_clock(MODEL, None)
    assert world.store.get_clock(MODEL) is None


def test_a_report_of_a_retry_takes_the_place_of_the_first(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    for digest in ("1", "2", "2"):
        world.store.add_report(promotion.id, "drift", "Drift", "reports/drift.html", digest)
    assert [report.sha256 for report in world.store.reports(promotion.id)] == ["2"]


def test_a_time_without_a_zone_is_refused(world: World) -> None:
    with pytest.raises(sqlalchemy.exc.StatementError, match="has no time zone"):
        world.store.set_clock(MODEL, datetime(2013, 1, 1))


def test_the_database_itself_refuses_to_change_evidence(world: World) -> None:
    promotion = world.judged(world.store.add_candidate(candidate("a")), "testing")
    refused = []
    for table in ("candidates", "measurements", "analyses", "statements", "audit"):
        for change in (f"DELETE FROM {table}", f"UPDATE {table} SET {_any_column(table)} = NULL"):
            try:
                with world.store.writing() as connection:
                    connection.execute(text(change))
            except sqlalchemy.exc.DBAPIError as error:
                assert "append-only" in str(error.orig)
                refused.append(change)
    assert len(refused) == 10
    assert world.store.passed(promotion.candidate or "", "testing")


def _any_column(table: str) -> str:
    return tables.metadata.tables[table].columns.keys()[-1]


def test_writers_at_the_same_time_lose_nothing(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")

    def write(k: int) -> None:
        world.store.audit("tester", "wrote", {"k": k})
        world.measure(promotion, k, interval=str(k % 20))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert len(world.store.measurements(promotion.id)) == 20
    lines = world.store.audit_lines()
    assert [line.sequence for line in lines] == list(range(1, len(lines) + 1))
    assert sum(line.what == "wrote" for line in lines) == 40


def test_many_processes_open_an_empty_store_at_once(database: str) -> None:
    program = (
        f"from sevenfold.evidence.store import open_store, upgrade; upgrade({database!r}); "
        f"open_store({database!r}).audit('me', 'came')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], env=_environment()) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(open_store(database).audit_lines()) == 3


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_fork_shares_no_connection_with_its_parent(database: str) -> None:
    """A task of Airflow is a fork: both go on writing, and no line is lost or torn."""
    store = open_store(database)
    store.audit("parent", "before")
    child = os.fork()
    if child == 0:
        for _ in range(5):
            store.audit("child", "wrote")
        os._exit(0)
    for _ in range(5):
        store.audit("parent", "wrote")
    assert os.waitpid(child, 0)[1] == 0
    lines = store.audit_lines()
    assert sorted(line.who for line in lines) == ["child"] * 5 + ["parent"] * 6
    assert audit.problems(lines) == []


def test_migrations_lead_to_the_tables_that_the_code_knows(database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from sevenfold.evidence.migrations import config

    store = open_store(database)
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    assert ScriptDirectory.from_config(config()).get_heads() == [tables.SCHEMA]


def test_upgrading_twice_changes_nothing(database: str) -> None:
    upgrade(database)
    open_store(database).audit("me", "was here")
    upgrade(database)
    assert len(open_store(database).audit_lines()) == 1


def test_a_store_of_a_later_version_is_left_alone(database: str) -> None:
    store = open_store(database)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="has schema 9999"):
        open_store(database)


def test_a_store_that_cannot_be_reached_says_so_and_hides_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used") as caught:
        open_store(f"postgresql://sevenfold:secret@/none?host={tmp_path}")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.retry


def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/evidence.db")
    store.audit("me", "before")

    @sqlalchemy.event.listens_for(store.engine, "connect")
    def _small(connection: sqlalchemy.engine.interfaces.DBAPIConnection, record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # type: ignore[attr-defined]

    store.engine.dispose()
    with pytest.raises(StoreUnavailable, match="full"):
        for _ in range(1000):
            store.audit("me", "fills the disk", {"with": "x" * 4000})
    reopened = open_store(f"sqlite:///{tmp_path}/evidence.db")
    assert reopened.audit_lines()[0].what == "before"
    assert reopened.audit("me", "after").sequence == len(reopened.audit_lines())


def test_importing_the_store_is_cheap() -> None:
    program = (
        "import sys, sevenfold.evidence.store\n"
        "heavy = {'pandas', 'alembic', 'securesystemslib', 'mlflow', 'scipy', 'numpy', 'httpx', 'obstore'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=_environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_measurement_keeps_its_numbers_exactly() -> None:
    reading = Measurement(
        promotion="p", candidate="c", activity="a", metric="m", value=0.1 + 0.2, digest="d",
        counts={"e1": 1e-17}, measured_at=datetime(2013, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert Measurement.model_validate_json(reading.model_dump_json()) == reading
