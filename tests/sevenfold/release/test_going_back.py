"""Going back, ordered once, twice, and by several at the same time (with a gateway: test_production)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sevenfold.evidence_world import MODEL, OPERATOR, World

from sevenfold.evidence.store import Store
from sevenfold.release import going_back, release
from sevenfold.release.going_back import AlreadyBack, go_back
from sevenfold.release.reconcile import Reconciled
from sevenfold.release.release_row import NothingBefore, ReleaseRow
from sevenfold.release.traffic import Traffic

CLUSTER = SimpleNamespace(running=lambda: False, deployments=lambda *_: [])


@pytest.fixture(autouse=True)
def reconciled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The generations at which the router was brought in step."""
    seen: list[int] = []
    monkeypatch.setattr(going_back, "open_gateway", lambda hurry: None)

    def follows(store: Store, model: str, gateway: None) -> Reconciled:
        seen.append(release.row(store, model).generation)
        return Reconciled(Traffic(model, None), in_doubt="all but one gateway")

    monkeypatch.setattr(going_back, "reconcile", follows)
    return seen


def order(world: World, by: str = "ann", **how: Any) -> ReleaseRow:
    return go_back(world.store, CLUSTER, MODEL, by=by, reason="complaints", **how)


def at_once(*orders: Callable[[], ReleaseRow]) -> list[object]:
    """What each order said; they begin together."""
    ready = Barrier(len(orders))

    def give(one: Callable[[], ReleaseRow]) -> object:
        ready.wait()
        try:
            return one()
        except AlreadyBack as said:
            return str(said)

    with ThreadPoolExecutor(len(orders)) as pool:
        return list(pool.map(give, orders))


def test_pressed_twice_it_goes_back_once_and_says_how_to_go_further(
    either_world: World, reconciled: list[int]
) -> None:
    world = either_world
    first, second, _ = (world.crowned(name) for name in "abc")
    row = order(world)
    assert row.champion == second.id
    with pytest.raises(AlreadyBack) as said:
        order(world)
    assert str(said.value).startswith(f"{second.id} serves everything, no candidate follows since 2")
    assert f"(complaints): nothing was changed. To go back to {first.id} as well, say again" in str(
        said.value
    )
    assert world.row == row
    assert reconciled == [row.generation] * 2, "the router is brought in step all the same"
    assert order(world, again=True).champion == first.id
    with pytest.raises(NothingBefore):
        order(world)
    with pytest.raises(NothingBefore):
        order(world, again=True)


def test_who_may_not_have_followed_is_said(world: World) -> None:
    for name in "ab":
        world.crowned(name)
    said: list[str] = []
    order(world, say=said.append)
    assert said[-1] == "all but one gateway"


def test_after_a_hold_is_released_the_next_roll_back_is_a_new_one(world: World) -> None:
    first, *_ = (world.crowned(name) for name in "abc")
    order(world)
    release.release_hold(world.store, MODEL, OPERATOR, "go on")
    assert order(world).champion == first.id


def test_a_canary_that_came_off_is_not_followed_by_the_champion(world: World) -> None:
    _, champion = world.crowned("a"), world.crowned("b")
    world.rolling(world.proven("c"), share=0.5)
    assert order(world).champion == champion.id
    with pytest.raises(AlreadyBack):
        order(world)
    assert world.row.champion == champion.id


def test_a_hold_after_a_failed_canary_counts_too(world: World) -> None:
    """Whoever presses while it went back by itself wanted just that."""
    _, champion = world.crowned("a"), world.crowned("b")
    release.hold(world.store, MODEL, "roll_back", "errors: the canary failed")
    with pytest.raises(AlreadyBack, match="the canary failed"):
        order(world)
    assert world.row.champion == champion.id


def test_the_same_order_again_is_no_second_one(world: World) -> None:
    _, second, _ = (world.crowned(name) for name in "abc")
    for _ in range(3):
        assert order(world, "ann, run r1", once=True).champion == second.id


@pytest.mark.parametrize("canary", [False, True])
def test_several_at_the_same_time_go_back_once(either_world: World, canary: bool) -> None:
    world = either_world
    _, second, third = (world.crowned(name) for name in "abc")
    if canary:
        world.rolling(world.proven("d"), share=0.5)
    before = world.row.generation
    said = at_once(
        lambda: order(world),
        lambda: order(world, "bob"),
        lambda: order(world, "ann, run r1", once=True),
        lambda: order(world, "ann, run r2", once=True),
    )
    assert world.row.champion == (third if canary else second).id
    assert world.row.generation == before + 1
    assert all(isinstance(one, ReleaseRow) or "nothing was changed" in str(one) for one in said)
