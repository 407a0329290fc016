"""A run of monitoring on the small world: what it measures, shows, raises, dismisses, and leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.activities.monitoring.traffic import between, give_back, serve
from tests.activities.small_world import MODEL, World, build

from activities.monitoring import ab_analysis, dashboards, drift, feedback, monitor, retraining_trigger
from sevenfold.activity import Activity
from sevenfold.candidates.artefact import Scorer
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.weeks import Week, within
from sevenfold.gates.measurement import Measurement
from sevenfold.model.spec import Privacy
from sevenfold.monitoring import answers
from sevenfold.monitoring.watch import Watch
from sevenfold.release import release
from sevenfold.release.release import ReleaseRow
from sevenfold.serving.pseudonyms import pseudonyms, rotate

START, END = datetime(2013, 2, 19, tzinfo=UTC), datetime(2013, 3, 28, tzinfo=UTC)
TURN = datetime(2013, 3, 12, tzinfo=UTC)
"""The first day of a week; what is to change changes here."""
AS_OF = datetime(2013, 3, 28, tzinfo=UTC)
LAST_WEEK = "2013-03-19/2013-03-25"
ROWS, LABELS = build(lambda line: None)


class Live(World):
    """The small world with a champion in production since 19 February."""

    report = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.settings.models / MODEL / "alarm.yaml").write_text("min_rows: 200\nlook_back: 3\n")
        self.champion = self.candidate()

    def play(self, shift: float = 0.0, harm: float = 1.0) -> None:
        """Everything from 19 February; from 12 March `pull` is moved, heads `harm` times as likely."""
        rows = between(ROWS, START, END)
        turned = np.array([time >= TURN for time in rows["time"].to_pylist()])
        pull = rows["pull"].to_numpy() + shift * turned
        rows = rows.set_column(rows.column_names.index("pull"), "pull", pa.array(pull))
        probability = self.score(self.champion, rows)
        serve(self.settings.logs, self.spec, self.champion.id, rows, probability)
        likely = np.minimum(1.0, probability * np.where(turned, harm, 1.0))
        label = (np.random.default_rng(5).random(len(likely)) < likely).astype(float)
        known = [time.replace(hour=23, minute=59) for time in rows["time"].to_pylist()]
        kinds = pa.timestamp("us", "UTC")
        give_back(
            self.settings.logs,
            MODEL,
            pa.table({"id": rows["id"], "label": label, "known_at": pa.array(known, kinds)}),
        )

    def score(self, candidate: Candidate, rows: pa.Table) -> np.ndarray:
        return Scorer(self.artifacts.get(candidate.model_digest)).predict(rows)

    @property
    def spec(self):
        return self.step("spec", "spec").spec

    def step(
        self, name: str, run: str = "r1", as_of: datetime = AS_OF, candidate: Candidate | None = None
    ) -> Activity:
        """The activity `name` in the monitoring run `run`."""
        about = candidate or self.champion
        promotion = self.store.begin_promotion(
            MODEL, "monitoring", run, about.id, as_of, "a test", {"report": self.report}, "tests"
        )
        return Activity(name, promotion, self.store, self.settings)

    def run(
        self, run: str = "r1", as_of: datetime = AS_OF
    ) -> dict[tuple[str, str | None, str | None], Measurement]:
        """All activities of one run; its measurements by metric, slice and week."""
        steps: list[tuple[str, Callable[[Activity], None]]] = [
            ("feedback", feedback.main),
            ("monitor", monitor.main),
            ("drift", drift.main),
            ("ab_analysis", ab_analysis.main),
            ("retraining_trigger", retraining_trigger.main),
        ]
        for name, main in steps:
            main(self.step(name, run, as_of))
        found = self.store.measurements(f"{MODEL}/monitoring/{run}")
        return {(one.metric, one.slice, one.interval): one for one in found}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """Without reports, which take most of a run's time."""
    world = Live(tmp_path)
    monkeypatch.setattr(answers, "FLUSH", timedelta(0))
    monkeypatch.setattr(
        release, "row", lambda store, model: ReleaseRow(model=model, champion=world.champion.id)
    )
    return world


@pytest.fixture
def drawing(live: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """With plots; Evidently's page has a test of its own."""
    live.report = True
    monkeypatch.setattr(drift, "evidently", lambda *_: b"<html></html>")
    return live


def test_a_calm_month_is_measured_and_nothing_is_raised(
    drawing: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing.play()
    found = drawing.run()
    weeks = sorted({interval for _, _, interval in found if interval})
    assert weeks == ["2013-03-05/2013-03-11", "2013-03-12/2013-03-18", LAST_WEEK]
    ratio = found["observed_over_expected", None, LAST_WEEK]
    assert ratio.n == 420 and ratio.low < ratio.value < ratio.high and abs(ratio.value - 1) < 0.2
    assert found["rows", None, LAST_WEEK].value == 420
    assert found["label_coverage", None, LAST_WEEK].value == 1
    assert 0.7 < found["auc", None, LAST_WEEK].value < 0.95
    assert found["service_p99", None, LAST_WEEK].value == pytest.approx(1.006, abs=0.001)
    psi = found["score_psi", None, LAST_WEEK]
    assert psi.value < psi.counts["limit"] and psi.digest == drawing.champion.model_digest
    assert drawing.store.alerts(MODEL) == []
    titles = {report.title for report in drawing.store.reports(f"{MODEL}/monitoring/r1")}
    assert {
        "Log loss, week by week",
        "Drift of the score, week by week",
        "Reference: what is usual",
    } <= titles
    said = capsys.readouterr().out
    assert "no challenger" in said and "no alarm" in said


def test_drift_that_harms_opens_one_alert(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.play(shift=-1.5, harm=2.5)
    found = live.run()
    assert found["observed_over_expected", None, LAST_WEEK].low > 1.5
    assert (
        found["feature_psi", "pull", LAST_WEEK].value
        > found["feature_psi", "pull", LAST_WEEK].counts["limit"]
    )
    [alert] = live.store.open_alerts(MODEL)
    assert (alert.kind, alert.window, alert.as_of) == ("harmful_drift", LAST_WEEK, AS_OF)
    assert "must be trained again" in alert.reason and "'comes up heads'" in alert.reason
    monkeypatch.setattr(
        "sevenfold.monitoring.drift.reference", lambda *_: pytest.fail("the reference is made once")
    )
    live.run("r2")
    assert len(live.store.alerts(MODEL)) == 1


def test_one_harmful_week_is_not_enough(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.play(shift=-1.5, harm=2.5)
    live.run(as_of=datetime(2013, 3, 21, tzinfo=UTC))
    assert live.store.alerts(MODEL) == []
    assert "needs 2 such weeks running" in capsys.readouterr().out


def test_drift_without_harm_is_dismissed_with_its_reason(live: Live) -> None:
    live.play(shift=1.5)
    live.run()
    alerts = live.store.alerts(MODEL)
    assert [alert.window for alert in alerts] == ["2013-03-12/2013-03-18", LAST_WEEK]
    assert {(alert.kind, alert.state) for alert in alerts} == {("harmless_drift", "dismissed")}
    assert "nothing is retrained" in alerts[0].reason and alerts[0].outcome == alerts[0].reason
    assert live.store.open_alerts(MODEL) == []


def test_harm_without_drift_asks_for_no_training(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.play(harm=2.2)
    live.run()
    assert live.store.alerts(MODEL) == []
    assert "a person should look" in capsys.readouterr().out


def test_an_alarm_that_is_being_answered_is_not_raised_again(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    live.play(shift=-1.5, harm=2.5)
    early = datetime(2013, 3, 27, 12, tzinfo=UTC)
    live.run(as_of=early)
    [alert] = live.store.open_alerts(MODEL)
    live.store.close_alert(alert.id, "closed", "training began")
    challenger = live.candidate(weight=1.0)
    live.store.begin_promotion(MODEL, "training", "t1", challenger.id, early, "alarm", {}, "tests")
    activity = live.step("retraining_trigger", "r2")
    assert challenger.id in (retraining_trigger.answer_under_way(live.store, live.champion) or "")
    live.store.end_promotion(f"{MODEL}/training/t1", "refused", "Failed", "worse")
    assert retraining_trigger.answer_under_way(live.store, live.champion) is None
    assert activity.promotion.id in {promotion.id for promotion in live.store.promotions(MODEL)}


def test_the_past_is_judged_by_what_was_known_then(live: Live) -> None:
    live.play(shift=-1.5, harm=2.5)
    feedback.main(live.step("feedback", "now"))
    found = live.run("then", as_of=datetime(2013, 3, 14, tzinfo=UTC))
    weeks = sorted({interval for _, _, interval in found if interval})
    assert weeks == ["2013-02-19/2013-02-25", "2013-02-26/2013-03-04", "2013-03-05/2013-03-11"]
    assert found["observed_over_expected", None, weeks[-1]].value < 1.3


def test_errors_are_counted_where_the_callers_saw_them(live: Live) -> None:
    live.play()
    now = datetime.now(UTC)
    wall = [now - timedelta(milliseconds=1000), now + timedelta(hours=1)]

    def line(at: datetime, status: int, candidate: str = live.champion.id) -> str:
        entry = {"t": at.isoformat(), "path": f"/v2/models/{MODEL}/infer", "status": status, "us": 900}
        return json.dumps(entry | {"cluster": f"{candidate}.live", "route": MODEL}) + "\n"

    feedback.main(live.step("feedback"))
    rows = Watch(live.step("monitor")).champion_rows(["wall"])
    answered = sorted(within(rows, Week(TURN))["wall"].to_pylist())
    inside = answered[0]
    log = [line(inside, 200)] * 18 + [line(inside, 503)] * 2 + [line(inside, 503, "other-model")] * 5
    log += [line(moment, 503) for moment in wall]
    folder = live.settings.logs / answers.FOLDER
    folder.mkdir()
    (folder / "here.a.jsonl").write_text("".join(log))
    monitor.main(live.step("monitor"))
    found = [one for one in live.store.measurements(f"{MODEL}/monitoring/r1") if one.metric == "error_rate"]
    of_week = {one.interval: one for one in found}[Week(TURN).key]
    assert (of_week.value, of_week.n, of_week.counts) == (0.1, 20, {"bad": 2, "n": 20})


def test_of_personal_features_drift_sees_what_hashes_show_and_says_so(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = live.spec.model_copy(update={"privacy": Privacy(personal=("noise", "place"))})
    monkeypatch.setattr(Activity, "spec", spec)
    hidden = pseudonyms(spec, live.settings.secrets)
    rows = between(ROWS, START, END)
    turned = np.array([time >= TURN for time in rows["time"].to_pylist()])
    place = pa.array(np.where(turned, "moor", np.array(rows["place"].to_pylist(), object)), pa.string())
    score = live.score(live.champion, rows)
    rows = rows.set_column(rows.column_names.index("place"), "place", place)
    serve(live.settings.logs, spec, live.champion.id, rows, score, personal=hidden)
    give_back(live.settings.logs, MODEL, LABELS)
    found = live.run()
    assert (
        found["feature_psi", "place", LAST_WEEK].value
        > found["feature_psi", "place", LAST_WEEK].counts["limit"]
    )
    assert found["rows", None, LAST_WEEK].value == 420 and ("log_loss", None, LAST_WEEK) in found
    assert {key[1] for key in found if key[0] == "feature_psi"} == {"place"}
    said = capsys.readouterr().out
    assert "noise is personal" in said and "drift skips it" in said
    assert "place is personal" in said and "drift sees how often equal values are, not what they are" in said
    reference = Watch(live.step("drift")).reference(live.champion)
    assert set(reference.numeric) == {"pull", "score"} and "moor" not in reference.model_dump_json()
    rotate(live.settings.secrets)
    found = live.run("after")
    assert "another key of the pseudonyms: place" in capsys.readouterr().out
    assert ("feature_psi", "place", LAST_WEEK) not in found


def test_a_week_in_which_the_champion_began_is_not_judged(live: Live) -> None:
    rows = between(ROWS, TURN + timedelta(days=3), END)
    serve(live.settings.logs, live.spec, live.champion.id, rows, live.score(live.champion, rows))
    give_back(live.settings.logs, MODEL, LABELS)
    found = live.run()
    assert {interval for metric, _, interval in found if metric == "score_psi"} == {LAST_WEEK}
    assert {interval for metric, _, interval in found if metric == "log_loss"} == {LAST_WEEK}


def test_a_champions_weeks_are_its_own(live: Live) -> None:
    live.play()
    before = live.candidate(weight=0.1)
    rows = between(ROWS, START, END)
    serve(live.settings.logs, live.spec, before.id, rows, live.score(before, rows), request="b")
    found = live.run()
    assert found["rows", None, LAST_WEEK].value == 420
    assert found["label_coverage", None, LAST_WEEK].n == 420


def test_the_dashboard_says_what_serves_what_was_measured_and_what_was_raised(drawing: Live) -> None:
    drawing.play(shift=-1.5, harm=2.5)
    found = drawing.run()
    activity = drawing.step("dashboards")
    dashboards.main(activity)
    [report] = [
        one for one in drawing.store.reports(activity.promotion.id) if one.path.endswith("dashboard.html")
    ]
    content = activity.artifacts.read(report.path).decode()
    assert drawing.champion.id in content and "harmful_drift" in content
    assert "19 to 25 March 2013" in content.replace("\u00a0", " ")
    ratio = found["observed_over_expected", None, LAST_WEEK]
    assert f"{ratio.value:.2f}\u00a0±\u00a0{ratio.high - ratio.value:.2f}" in content
    assert content.count("<img") == 4 and "src='data:image/png" in content


def test_the_dashboard_of_the_past_does_not_know_the_future(live: Live) -> None:
    live.play(shift=-1.5, harm=2.5)
    live.run()
    activity = live.step("dashboards", "then", as_of=datetime(2013, 3, 14, tzinfo=UTC))
    dashboards.main(activity)
    [report] = live.store.reports(activity.promotion.id)
    content = activity.artifacts.read(report.path).decode()
    assert "harmful_drift" not in content and "No week is complete" in content


def test_nothing_yet_is_said(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.run()
    said = capsys.readouterr().out
    assert (
        said.count("no complete week with 200") == 3
        and live.store.measurements(f"{MODEL}/monitoring/r1") == []
    )


def test_a_missing_drift_is_an_error_and_no_all_clear(live: Live) -> None:
    live.play()
    feedback.main(live.step("feedback"))
    monitor.main(live.step("monitor"))
    with pytest.raises(
        retraining_trigger.NotMeasured, match=r"no score_psi: has the activity drift failed\?"
    ):
        retraining_trigger.main(live.step("retraining_trigger"))


def test_challenger_and_champion_are_compared_on_live_rows(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.play()
    challenger = live.candidate(weight=0.2)
    rows = between(ROWS, TURN, END)
    serve(
        live.settings.logs,
        live.spec,
        challenger.id,
        rows,
        live.score(challenger, rows),
        arm="challenger",
        request="c",
    )
    shadowed = between(ROWS, START, END)
    serve(
        live.settings.logs, live.spec, challenger.id, shadowed, live.score(challenger, shadowed), arm="shadow"
    )
    trying = ReleaseRow(
        model=MODEL, champion=live.champion.id, candidate=challenger.id, share=0.5, mirror=1.0
    )
    monkeypatch.setattr(release, "row", lambda store, model: trying)
    found = live.run()
    mirrored, split = found["log_loss", "mirrored", None], found["log_loss", "split", None]
    for one in (mirrored, split):
        assert one.candidate == challenger.id and one.digest == challenger.model_digest
        assert one.baseline_candidate == live.champion.id
        assert one.value - one.baseline_value == pytest.approx(one.counts["mean_diff"], abs=1e-9)
        assert one.counts["mean_diff"] > 3 * one.counts["se"], "the challenger is worse"
    assert mirrored.n > split.n > 0 and mirrored.counts["se"] < split.counts["se"]
    assert "Challenger against champion on live traffic" in {
        report.title for report in live.store.reports(f"{MODEL}/monitoring/r1")
    }


def test_evidentlys_report_shows_every_column(live: Live) -> None:
    live.play(shift=1.5)
    live.run()
    rows = between(ROWS, TURN, END).append_column("prediction", pa.array(np.full(960, 0.4)))
    page = drift.evidently(live.step("drift"), live.champion, rows).decode()
    assert page.lstrip().startswith("<") and all(name in page for name in ("pull", "noise", "place", "score"))
