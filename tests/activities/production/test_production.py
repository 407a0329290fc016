"""Production's activities on a real gateway: up beside the champion, canary, take-over, roll-back.

One story in order, because each activity begins where the one before ends.
"""

from __future__ import annotations

import httpx
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import MODEL

from activities.production import canary, go_back, roll_back, serve, sla, take_over
from sevenfold.cluster import open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.gates.conclude import conclude
from sevenfold.gates.verdict import Verdict
from sevenfold.gateway import local_gateway
from sevenfold.release import release
from sevenfold.release.reconcile import reconcile


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "LABELS_S", 0.5)


def who_answers(live: LiveWorld) -> str:
    """The candidate that a caller of the public route meets."""
    token = local_gateway().keys.token("test", ["predict"])
    answer = httpx.get(
        f"{live.settings.gateway_url}/v2/models/{MODEL}", headers={"authorization": f"Bearer {token}"}
    )
    answer.raise_for_status()
    return answer.json()["versions"][0]


def ask(live: LiveWorld) -> None:
    """One request to the public route."""
    token = local_gateway().keys.token("test", ["predict"])
    url = f"{live.settings.gateway_url}/v2/models/{MODEL}/infer"
    httpx.post(url, headers={"authorization": f"Bearer {token}"}, content=b"{}").raise_for_status()


def test_the_first_candidate_of_a_model_serves_alone_and_takes_over(live: LiveWorld) -> None:
    first = live.proven(live.candidate(weight=0.6))
    promotion = live.begin(first, "production", traffic="replay")
    serve.main(live.handle("serve", promotion))
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        ask(live)  # nobody answers callers yet: that costs no error budget
    readings = {m.metric: m for m in live.store.measurements(promotion.id)}
    assert readings["availability"].counts["bad"] == 0
    assert readings["availability"].n >= 100
    assert readings["skew"].value < 1e-6

    activity = live.handle("canary", promotion)
    canary.main(activity)
    readings = [m for m in live.store.measurements(promotion.id) if m.activity == "canary"]
    assert {m.metric for m in readings} == {"errors", "slow"}
    assert {m.baseline for m in readings} == {"none"}
    assert sum(m.counts["n1"] for m in readings if m.metric == "errors") >= 30 + 60  # as the steps ask
    assert who_answers(live) == first.id

    sla.main(live.handle("sla", promotion))
    spent = {m.metric: m for m in live.store.measurements(promotion.id) if m.activity == "sla"}
    assert (spent["errors_spent"].value, spent["errors_burn_rate"].value) == (0, 0)
    with pytest.raises(EvidenceLacking):
        take_over.main(live.handle("take_over", promotion))  # no gate has judged it
    conclude(live.store, promotion.id, live.analysis(promotion, Verdict.SUCCESSFUL))
    take_over.main(live.handle("take_over", promotion))
    take_over.main(live.handle("take_over", promotion))
    assert release.row(live.store, MODEL).champion == first.id
    assert who_answers(live) == first.id


def test_a_better_challenger_goes_through_and_the_champion_stays_ready(live: LiveWorld) -> None:
    before = release.row(live.store, MODEL).champion
    better = live.proven(live.candidate())
    promotion = live.begin(better, "production", traffic="replay")
    serve.main(live.handle("serve", promotion))
    canary.main(live.handle("canary", promotion))
    readings = [m for m in live.store.measurements(promotion.id) if m.activity == "canary"]
    assert {m.metric for m in readings} == {"errors", "slow", "wrong_labels"}
    assert {m.baseline_candidate for m in readings} == {before}
    assert {m.counts.get("share") for m in readings if m.metric == "errors"} == {0.25, 0.5}
    assert len({m.interval for m in readings if m.metric == "errors"}) == len(
        [m for m in readings if m.metric == "errors"]
    )
    wrong = [m for m in readings if m.metric == "wrong_labels"]
    assert all(m.counts["e1"] <= m.counts["n1"] and m.window_end > m.window_start for m in wrong)

    sla.main(live.handle("sla", promotion))
    spent = {m.metric: m for m in live.store.measurements(promotion.id) if m.activity == "sla"}
    assert {name: m.value for name, m in spent.items() if name.startswith("errors")} == {
        "errors_spent": 0,
        "errors_burn_rate": 0,
    }
    assert spent["errors_spent"].n > 100
    assert set(spent) == {"errors_spent", "errors_burn_rate", "slow_spent", "slow_burn_rate"}

    conclude(live.store, promotion.id, live.analysis(promotion, Verdict.SUCCESSFUL))
    take_over.main(live.handle("take_over", promotion))
    row = release.row(live.store, MODEL)
    assert (row.champion, row.previous) == (better.id, before)
    assert who_answers(live) == better.id
    assert {d.candidate for d in open_cluster().deployments(MODEL)} >= {better.id, before}


def test_a_broken_challenger_is_off_at_once_and_rolled_back(
    live: LiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = release.row(live.store, MODEL).champion
    broken = live.proven(live.candidate(weight=-3.0))
    promotion = live.begin(broken, "production", traffic="replay")
    serve.main(live.handle("serve", promotion))
    activity = live.handle("canary", promotion)
    canary.main(activity)
    row = release.row(live.store, MODEL)
    assert (row.candidate, row.share) == (None, 0.0), "Failed takes it off before the gate has spoken"
    assert who_answers(live) == champion
    assert canary.verdict_so_far(activity)[0] is Verdict.FAILED

    conclude(live.store, promotion.id, live.analysis(promotion, Verdict.FAILED))
    for _ in range(2):  # a retry changes nothing
        roll_back.main(live.handle("roll_back", promotion))
        row = release.row(live.store, MODEL)
        assert (row.champion, row.candidate) == (champion, None)
        assert row.held
        assert not [d for d in open_cluster().deployments(MODEL) if d.candidate == broken.id]
    assert live.store.promotion(promotion.id).state == "refused"
    release.release_hold(live.store, MODEL, "ann", "looked at")


def go_back_in(live: LiveWorld, run: str, again: str = "no") -> None:
    order = ["--model", MODEL, "--run", run, "--by", "ann", "--reason", "callers complain", "--again", again]
    go_back.main(order)


def test_a_person_goes_back_and_a_second_try_of_the_run_goes_no_further(live: LiveWorld) -> None:
    third = live.proven(live.candidate(weight=1.4))
    promotion = live.begin(third, "production")
    serve.main(live.handle("serve", promotion))
    release.set_share(live.store, promotion.id, 1.0, "ann")
    conclude(live.store, promotion.id, live.analysis(promotion, Verdict.SUCCESSFUL))
    take_over.main(live.handle("take_over", promotion))
    before = release.row(live.store, MODEL)
    assert before.champion == third.id
    for _ in range(2):
        go_back_in(live, "r1")
        row = release.row(live.store, MODEL)
        assert (row.champion, row.generation) == (before.previous, before.generation + 1)
        assert row.held == "callers complain"
        assert who_answers(live) == before.previous
    assert not [d for d in open_cluster().deployments(MODEL) if d.candidate == third.id], "nobody needs it"
    said = [line for line in live.store.audit_lines() if line.what == "release row changed"][-1]
    assert said.who == "ann, run r1"


def test_while_a_candidate_is_tried_it_comes_off_and_the_champion_stays(live: LiveWorld) -> None:
    release.release_hold(live.store, MODEL, "ann", "looked at")
    promotion = live.begin(live.proven(live.candidate(weight=1.3)), "production")
    serve.main(live.handle("serve", promotion))
    release.set_share(live.store, promotion.id, 0.25, "ann")
    reconcile(live.store, MODEL, local_gateway())
    before = release.row(live.store, MODEL)
    for _ in range(2):
        go_back_in(live, "r-canary")
        row = release.row(live.store, MODEL)
        assert (row.champion, row.previous) == (before.champion, before.previous)
        assert (row.candidate, row.share, row.held) == (None, 0.0, "callers complain")
        assert {who_answers(live) for _ in range(12)} == {before.champion}
    assert live.store.promotion(promotion.id).state == "superseded"


def test_another_run_while_promotion_is_on_hold_goes_no_further(
    live: LiveWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = release.row(live.store, MODEL)
    with pytest.raises(SystemExit) as ended:
        go_back_in(live, "r-second")
    said = capsys.readouterr().err
    assert ended.value.code == 64
    assert f"{before.champion} serves everything, no candidate follows since 20" in said
    assert "(callers complain): nothing was changed" in said and f"back to {before.previous} as well" in said
    assert release.row(live.store, MODEL) == before
    assert who_answers(live) == before.champion


def test_whoever_traffic_goes_back_to_is_started_again_before_it_comes(live: LiveWorld) -> None:
    row = release.row(live.store, MODEL)
    assert row.previous is not None
    for deployed in open_cluster().deployments(MODEL):
        if deployed.candidate == row.previous:
            open_cluster().remove(MODEL, deployed.slot, deployed.candidate)
    go_back_in(live, "r2", again="yes")
    assert release.row(live.store, MODEL).champion == row.previous
    assert who_answers(live) == row.previous


def test_a_roll_back_needs_a_name_a_reason_and_somebody_to_go_back_to(
    live: LiveWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = "needs a name and a reason"
    for by, reason, said in (
        ("ann", "  ", lacking),
        ("", "enough", lacking),
        ("ann", "enough", "nobody was"),
    ):
        with pytest.raises(SystemExit) as ended:
            go_back.main(["--model", MODEL, "--run", "r3", "--by", by, "--reason", reason])
        assert ended.value.code == 64
        assert said in capsys.readouterr().err


def test_nobody_to_roll_back(live: LiveWorld) -> None:
    promotion = live.store.begin_promotion(
        MODEL, "production", "nobody", None, live.store.promotions(MODEL)[0].as_of, "a test", {}, "bob"
    )
    with pytest.raises(SevenfoldError, match="whom to roll back"):
        roll_back.main(live.handle("roll_back", promotion))
