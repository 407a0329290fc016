"""Replicas follow the load: the decision as a table and on simulated load, and a ramp on the real stack."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sevenfold.serving.local import ONE, TWO, Load, Local, local

from sevenfold.cluster import Deployed, Deployment, Endpoint
from sevenfold.errors import SevenfoldError
from sevenfold.gateway import Traffic
from sevenfold.release import autoscaling, reconciler
from sevenfold.release.autoscaling import Autoscaler, Scale, Scaler, wanted
from sevenfold.release.release_row import ReleaseRow
from sevenfold.settings import settings

SCALE = Scale(least=2, most=6, in_flight=2.0)


@pytest.mark.parametrize(
    ("replicas", "in_flight", "number"),
    [
        (2, 0.0, 2),
        (2, 4.0, 2),
        (2, 4.3, 2),  # within the tolerance
        (2, 4.5, 3),
        (2, 8.0, 4),
        (2, 50.0, 4),  # at most twice as many at once
        (4, 50.0, 6),  # never more than the most
        (4, 7.2, 4),
        (4, 7.0, 4),
        (4, 6.0, 3),
        (4, 0.0, 2),
        (1, 0.0, 2),
        (9, 18.0, 6),
    ],
)
def test_the_rule(replicas: int, in_flight: float, number: int) -> None:
    assert wanted(replicas, in_flight, SCALE) == number


@given(st.integers(1, 20), st.floats(0, 1000), st.integers(1, 5), st.integers(0, 10), st.floats(0.1, 50))
def test_the_bounds_hold_whatever_comes(
    replicas: int, in_flight: float, least: int, more: int, target: float
) -> None:
    scale = Scale(least, least + more, target)
    assert scale.least <= wanted(replicas, in_flight, scale) <= scale.most


def play(load: Callable[[float], float], seconds: float, scale: Scale = SCALE) -> list[tuple[float, int]]:
    """Every change of the number of replicas under a load (in flight by second), looked at twice a second."""
    decider, replicas, changes = Autoscaler(scale), scale.least, [(0.0, scale.least)]
    for tick in range(int(seconds * 2)):
        number = decider.decide(tick / 2, replicas, load(tick / 2))
        if number != replicas:
            replicas = number
            changes.append((tick / 2, number))
    return changes


def test_more_load_brings_more_replicas_after_one_window_and_less_load_fewer_after_the_calm() -> None:
    changes = play(lambda second: 11.0 if 20 <= second < 100 else 1.0, 500)
    numbers = [number for _, number in changes]
    assert numbers == [2, 4, 6, 5, 4, 3, 2] or numbers == [2, 3, 6, 5, 4, 3, 2]
    up, down = changes[1:3], changes[3:]
    assert 20 < up[0][0] <= 20 + 2 * autoscaling.WINDOW_S
    assert up[-1][0] <= 20 + 3 * autoscaling.WINDOW_S
    assert down[0][0] >= 100 + autoscaling.CALM_S
    assert all(b - a >= autoscaling.CALM_S for (a, _), (b, _) in pairwise(down))


def test_a_moment_s_peak_brings_nothing() -> None:
    assert play(lambda second: 20.0 if 10 <= second < 10.5 else 1.0, 60) == [(0.0, 2)]


def test_a_load_that_swings_does_not_make_replicas_swing() -> None:
    """Faster than the calm time: the largest number that is wanted stays."""
    changes = play(lambda second: 8.0 if second % 40 < 20 else 1.0, 400)
    assert len(changes) <= 3
    assert changes[-1][1] == 4


def test_a_load_at_the_target_changes_nothing() -> None:
    assert play(lambda second: 4.0 + 0.3 * (int(second) % 2), 300) == [(0.0, 2)]


def deployed(candidate: str, slot: str, *ports: int) -> Deployed:
    return Deployed("tiny", candidate, slot, tuple(map(Endpoint, ports)))


class Cluster:
    """Deployments in memory, and what was asked of them."""

    def __init__(self, *deployed: Deployed) -> None:
        self.held = list(deployed)
        self.asked: list[tuple[object, ...]] = []
        self.lost: set[str] = set()

    def given_up(self, deployed: Deployed) -> bool:
        return deployed.candidate in self.lost

    def deployments(self, model: str, slot: str) -> list[Deployed]:
        return [one for one in self.held if one.slot == slot]

    def scale(self, model: str, slot: str, replicas: int, candidate: str) -> None:
        self.asked.append(("scale", slot, replicas, candidate))
        self.held = [
            deployed(d.candidate, d.slot, *range(replicas))
            if (d.slot, d.candidate) == (slot, candidate)
            else d
            for d in self.held
        ]

    def remove(self, model: str, slot: str, candidate: str) -> None:
        self.asked.append(("remove", slot, candidate))
        self.held = [d for d in self.held if d.key != (model, slot, candidate)]


def scaler(
    cluster: Cluster, flights: dict[Endpoint, int], times: Iterator[float], scale: Scale | None = SCALE
) -> Scaler:
    store = object()
    return Scaler(store, cluster, lambda: flights, lambda model: scale, lambda: next(times))  # type: ignore[arg-type]


def named(monkeypatch: pytest.MonkeyPatch, row: ReleaseRow) -> None:
    monkeypatch.setattr(autoscaling.release, "row", lambda store, model: row)


def test_each_live_candidate_is_scaled_by_its_own_load_and_a_tried_one_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, ReleaseRow("tiny", ONE, candidate=TWO, generation=3))
    held = deployed(ONE, "champion", 1, 2), deployed(TWO, "challenger", 3, 4)
    cluster = Cluster(*held, deployed(TWO, "shadow", 5))
    seconds = iter(range(1000))
    looks = scaler(
        cluster,
        {Endpoint(port): n for port, n in enumerate((5, 3, 0, 0, 90), 1)},
        (float(next(seconds)) for _ in range(1000)),
    )
    for _ in range(12):
        looks.look("tiny")
    assert cluster.asked == [("scale", "champion", 4, ONE)]


def test_a_model_without_bounds_keeps_its_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, ReleaseRow("tiny", ONE, generation=3))
    cluster = Cluster(deployed(ONE, "champion", 1, 2))
    looks = scaler(cluster, {Endpoint(1): 50, Endpoint(2): 50}, iter(map(float, range(1000))), scale=None)
    for _ in range(50):
        looks.look("tiny")
    assert cluster.asked == []


def test_replicas_that_were_given_up_are_tried_again_every_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, ReleaseRow("tiny", ONE, candidate=TWO, generation=3))
    cluster = Cluster(deployed(ONE, "champion", 1, 2), deployed(TWO, "challenger", 3))
    now = [0.0]
    looks = Scaler(object(), cluster, dict, lambda model: None, lambda: now[0])  # type: ignore[arg-type]
    looks.look("tiny")
    cluster.lost = {TWO}
    looks.look("tiny")
    assert cluster.asked == []
    for now[0] in (autoscaling.REVIVE_S, autoscaling.REVIVE_S + 1):
        looks.look("tiny")
    assert cluster.asked == [("scale", "challenger", 1, TWO)]


@pytest.mark.parametrize("ready", [(3, 4), ()], ids=["that serves", "that never became ready"])
def test_what_the_row_names_no_more_goes_after_a_while(
    monkeypatch: pytest.MonkeyPatch, ready: tuple[int, ...]
) -> None:
    """A production candidate whose promotion was held gave up the slot and kept its replicas."""
    held = deployed(ONE, "champion", 1, 2), deployed(TWO, "challenger", *ready)
    cluster = Cluster(*held)
    now = [0.0]
    looks = Scaler(object(), cluster, dict, lambda model: None, lambda: now[0])  # type: ignore[arg-type]
    rows = {0: ReleaseRow("tiny", ONE, candidate=TWO, generation=3)}
    monkeypatch.setattr(autoscaling.release, "row", lambda store, model: rows[0])
    looks.look("tiny")
    rows[0] = ReleaseRow("tiny", ONE, generation=4)
    for now[0] in (100.0, 100.0 + autoscaling.UNNEEDED_S - 1):
        assert looks.look("tiny") == []
    rows[0] = ReleaseRow("tiny", ONE, candidate=TWO, generation=5)  # tried again meanwhile
    looks.look("tiny")
    rows[0] = ReleaseRow("tiny", ONE, previous="other", generation=6)
    now[0] = 200.0
    assert looks.look("tiny") == []
    now[0] = 200.0 + autoscaling.UNNEEDED_S
    assert looks.look("tiny") == [f"{TWO} as challenger is needed no more: removed"]
    assert cluster.held == [held[0]]


def test_trouble_is_said_once_and_the_looking_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stop = threading.Event()
    results = iter(["down", "down", "", "down", "end"])

    def look(self: Scaler, model: str) -> list[str]:
        result = next(results)
        if result == "end":
            stop.set()
        if result == "down":
            raise SevenfoldError("Envoy does not answer")
        return [] if result else ["2 replicas become 3"]

    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    settings.cache_clear()
    monkeypatch.setattr(Scaler, "look", look)
    monkeypatch.setattr(autoscaling, "EVERY_S", 0.001)
    monkeypatch.setattr(reconciler, "models", lambda folder: ["tiny"])
    reconciler.scale(object(), settings(), stop)  # type: ignore[arg-type]
    settings.cache_clear()
    trouble = "tiny is not scaled: Envoy does not answer"
    assert capsys.readouterr().out.splitlines() == [trouble, "2 replicas become 3", trouble]


@pytest.mark.parametrize(("runtime", "seconds"), [("local", 0.5), ("kubernetes", 5.0)])
def test_a_clusters_api_is_not_asked_as_often_as_what_runs_here(
    runtime: str, seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waited: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return True

    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    monkeypatch.setenv("SEVENFOLD_RUNTIME", runtime)
    settings.cache_clear()
    reconciler.scale(object(), settings(), Stop())  # type: ignore[arg-type]
    settings.cache_clear()
    assert waited == [seconds]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Local]:
    """Replicas that need 20 ms for an answer."""
    with local(tmp_path, "--think", "0.02") as running:
        running.cluster.deploy(Deployment("tiny", ONE, "champion", 1))
        running.gateway.apply(Traffic("tiny", ONE, generation=1))
        yield running


def test_replicas_follow_a_load_that_comes_and_goes_and_no_request_is_lost(
    slow: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, ReleaseRow("tiny", ONE, generation=1))
    looks = Scaler(
        object(),  # type: ignore[arg-type]
        slow.cluster,
        slow.gateway.envoy.in_flight,
        lambda model: Scale(1, 3, 2.0),
        window_s=1.0,
        calm_s=2.0,
    )
    seen: list[int] = []
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(0.1):
            looks.look("tiny")
            seen.append(len(slow.cluster.endpoints("tiny", "champion")))

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        with Load(slow, callers=8) as much:
            until = time.monotonic() + 40
            while 3 not in seen and time.monotonic() < until:
                time.sleep(0.05)
            much.wait(50)
        with Load(slow, callers=1) as little:
            until = time.monotonic() + 40
            while seen[-1] > 1 and time.monotonic() < until:
                time.sleep(0.05)
            little.wait(10)
    finally:
        stop.set()
        thread.join()
    assert max(seen) == 3
    assert seen[-1] == 1
    assert much.failures == little.failures == []
