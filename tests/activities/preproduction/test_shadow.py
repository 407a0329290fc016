"""The shadow on a real gateway: mirrored and compared, alone without a champion, and gone afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import MODEL

from activities.preproduction import shadow
from sevenfold.cluster import open_cluster
from sevenfold.gateway import local_gateway
from sevenfold.release import release


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "LIMIT_S", 20.0)


def nothing_left(live: LiveWorld) -> bool:
    row = release.row(live.store, MODEL)
    served = local_gateway().traffic(MODEL)
    mirror = served.mirror if served else 0.0
    return (row.candidate, row.mirror, mirror) == (None, 0.0, 0.0) and not open_cluster().deployments(
        MODEL, "shadow"
    )


def test_without_a_champion_the_shadow_is_asked_alone(
    live: LiveWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = live.proven(live.candidate(weight=1.1), until="preproduction")
    activity = live.handle("shadow", live.begin(candidate, "preproduction"))
    activity.__dict__["champion"] = None
    shadow.main(activity)
    (reading,) = live.store.measurements(activity.promotion.id)
    assert (reading.metric, reading.baseline, reading.counts) == (
        "errors",
        "none",
        {"bad": 0, "n": reading.n},
    )
    assert reading.n > 400, "as many days as prove that 99 of 100 are answered"
    assert "no champion: nothing compared" in capsys.readouterr().out
    assert nothing_left(live)


def test_beside_a_champion_the_same_requests_are_compared(live: LiveWorld) -> None:
    champion = live.crown(live.candidate(weight=0.2))
    candidate = live.proven(live.candidate(), until="preproduction")
    activity = live.handle("shadow", live.begin(candidate, "preproduction", traffic="replay"))
    shadow.main(activity)
    readings = {m.metric: m for m in live.store.measurements(activity.promotion.id)}
    metrics = {"disagreement", "errors", "prediction_difference", "slow", "loss_difference", "calibration"}
    assert set(readings) == metrics
    off, champions = (abs(readings["calibration"].value - 1), abs(readings["calibration"].baseline_value - 1))
    assert off < 0.15 < champions, "the champion hardly knows the pull"
    assert {m.baseline_candidate for m in readings.values()} == {champion.id}
    assert readings["errors"].counts["bad"] == 0
    assert readings["errors"].n > 400
    assert readings["disagreement"].n >= 9 * 60
    assert 0.1 < readings["disagreement"].value < 0.5
    loss = readings["loss_difference"]
    assert loss.n >= 8 * 60
    assert loss.counts["mean_diff"] < -3 * loss.counts["se"] < 0
    assert loss.value == pytest.approx(loss.baseline_value + loss.counts["mean_diff"])
    assert nothing_left(live)


def test_terminated_it_takes_mirror_and_deployment_off(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(weight=1.2), until="preproduction")
    activity = live.handle("shadow", live.begin(candidate, "preproduction", traffic="live"))

    def terminate() -> None:
        while not release.row(live.store, MODEL).mirror:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(SystemExit):
        shadow.main(activity)
    thread.join()
    assert nothing_left(live)
    assert live.store.promotion(activity.promotion.id).state == "running", "a retry goes on"


def test_the_mirror_stays_until_the_copies_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "QUIET_S", 0.2)
    answers = tmp_path / "answers.jsonl"
    copies = 12

    def answer() -> None:
        for _ in range(copies):
            with answers.open("a") as log:
                log.write("an answer\n")
            time.sleep(0.05)

    shadowed = threading.Thread(target=answer)
    shadowed.start()
    shadow.settle(tmp_path)
    assert len(answers.read_text().splitlines()) == copies
    shadowed.join()
    monkeypatch.setattr(shadow, "SETTLE_S", 0.5)
    monkeypatch.setattr(shadow, "_size", lambda folder: time.monotonic_ns())
    began = time.monotonic()
    shadow.settle(tmp_path)  # callers go on asking
    assert time.monotonic() - began >= 0.5
