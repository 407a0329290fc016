"""The release row: every step, repeated, overtaken, out of order, and without the evidence for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from sqlalchemy import update
from tests.sevenfold.evidence_world import APPROVER, MODEL, OPERATOR, World, analysis, candidate

from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import release_rows
from sevenfold.gates.conclude import conclude
from sevenfold.people.approval import record_approval
from sevenfold.release import release
from sevenfold.release.promotion import PromotionEnd, PromotionEnded
from sevenfold.release.release_law import OnHold
from sevenfold.release.release_row import NotClaimed, NothingBefore, ReleaseRow, SlotBusy, Unlawful


@pytest.fixture
def world(furnished_world: World) -> World:
    """SQLite with candidates that may go to production; tests that ask for `either_world` take both kinds."""
    return furnished_world


def test_a_model_that_nobody_released_serves_nothing(world: World) -> None:
    assert world.row == ReleaseRow(MODEL)
    assert release.traffic(world.row).champion is None


def test_the_way_of_a_champion(either_world: World) -> None:
    world = either_world
    first = world.crowned("a")
    assert world.row == ReleaseRow(MODEL, champion=first.id, generation=3)
    second = world.proven("b")
    rolling = world.rolling(second, share=0.25)
    assert release.traffic(world.row).share == 0.25
    assert release.traffic(world.row).challenger == second.id
    conclude(world.store, rolling.id, analysis(rolling, "Successful"))
    assert world.store.promotion(rolling.id).state == "running", "it ends only with the row"
    row = release.settle(world.store, rolling.id, OPERATOR)
    assert row == ReleaseRow(MODEL, champion=second.id, previous=first.id, generation=6)
    ended = world.store.promotion(rolling.id)
    assert (ended.state, ended.verdict) == ("promoted", "Successful")


def test_a_first_candidate_answers_everything_for_there_is_no_one_else(world: World) -> None:
    made = world.proven("a")
    world.rolling(made, share=0.1)
    split = release.traffic(world.row)
    assert (split.champion, split.challenger, split.share) == (None, made.id, 1.0)


@pytest.mark.parametrize(
    ("verdict", "state"), [("Failed", "refused"), ("Inconclusive", "held"), ("Error", "error")]
)
def test_what_is_not_proven_leaves_exactly_what_was_before(world: World, verdict: str, state: str) -> None:
    first = world.crowned("a")
    before = world.row
    rolling = world.rolling(world.proven("b"))
    conclude(world.store, rolling.id, analysis(rolling, verdict))
    row = release.settle(world.store, rolling.id, OPERATOR)
    held = analysis(rolling, verdict).reason if verdict == "Failed" else None
    assert asdict(row) == asdict(before) | {"generation": before.generation + 3, "held": held}
    assert row.champion == first.id
    assert world.store.promotion(rolling.id).state == state


def test_every_step_may_be_repeated(world: World) -> None:
    world.crowned("a")
    made = world.proven("b")
    rolling = world.rolling(made, share=0.25)
    generation = world.row.generation
    release.claim(world.store, rolling.id, OPERATOR)
    release.set_share(world.store, rolling.id, 0.25, OPERATOR)
    assert world.row.generation == generation
    conclude(world.store, rolling.id, analysis(rolling, "Successful"))
    row = release.promote(world.store, rolling.id, OPERATOR)
    assert release.promote(world.store, rolling.id, OPERATOR) == row
    assert release.settle(world.store, rolling.id, OPERATOR) == row
    for step in (release.claim, lambda *a: release.set_share(a[0], a[1], 1.0, a[2])):
        with pytest.raises(PromotionEnded, match="has ended"):
            step(world.store, rolling.id, OPERATOR)
    assert world.row == row


def test_a_late_try_of_an_earlier_step_takes_nothing_back(world: World) -> None:
    rolling = world.rolling(world.proven("a"), share=0.5)
    release.set_share(world.store, rolling.id, 0.1, "an overtaken try")
    assert world.row.share == 0.5
    release.vacate(world.store, rolling.id, OPERATOR, "a pause")
    assert (world.row.candidate, world.store.promotion(rolling.id).state) == (None, "running")
    assert release.vacate(world.store, rolling.id, OPERATOR, "again") == world.row


def test_one_candidate_at_a_time(world: World) -> None:
    world.crowned("a")
    first, second = world.proven("b"), world.proven("c")
    rolling = world.rolling(first)
    waiting = world.begin(second, "production", "waiting")
    with pytest.raises(
        SlotBusy, match=f"Candidate {first.id} of promotion {rolling.id} is being tried"
    ) as busy:
        release.claim(world.store, waiting.id, OPERATOR)
    assert busy.value.retry
    world.store.end_promotion(rolling.id, "error", "Error", "its run was removed")
    assert release.claim(world.store, waiting.id, OPERATOR).candidate == second.id


def test_a_promotion_that_ends_anyhow_gives_its_traffic_back(world: World) -> None:
    first = world.crowned("a")
    rolling = world.rolling(world.proven("b"), share=0.5)
    world.store.end_promotion(rolling.id, "error", "Error", "its task was killed for good")
    assert (world.row.champion, world.row.candidate, world.row.share) == (first.id, None, 0.0)


def test_preproduction_mirrors_and_never_shares(world: World) -> None:
    world.crowned("a")
    made = world.store.add_candidate(candidate("e"))
    for environment in ("training", "testing"):
        world.judged(made, environment)
    shadow = world.begin(made, "preproduction")
    with pytest.raises(EvidenceLacking, match="has not passed staging"):
        release.claim(world.store, shadow.id, OPERATOR)
    world.judged(made, "staging")
    release.claim(world.store, shadow.id, OPERATOR)
    row = release.set_mirror(world.store, shadow.id, 1.0, OPERATOR)
    assert (release.traffic(row).mirror, release.traffic(row).share) == (1.0, 0.0)
    with pytest.raises(Unlawful, match="gets no live requests"):
        release.set_share(world.store, shadow.id, 0.01, OPERATOR)
    conclude(world.store, shadow.id, analysis(shadow, "Successful"))
    assert (world.row.candidate, world.row.mirror) == (None, 0.0), "its end gives the slot back"


def test_other_environments_get_no_live_requests(world: World) -> None:
    promotion = world.begin(world.proven("a"), "staging", "again")
    with pytest.raises(Unlawful, match="of staging gets no live requests"):
        release.claim(world.store, promotion.id, OPERATOR)


def test_nothing_is_shared_before_it_is_claimed(world: World) -> None:
    promotion = world.begin(world.proven("a"), "production")
    with pytest.raises(NotClaimed, match="claim it first"):
        release.set_share(world.store, promotion.id, 0.1, OPERATOR)
    conclude(world.store, promotion.id, analysis(promotion, "Successful"))
    with pytest.raises(NotClaimed):
        release.settle(world.store, promotion.id, OPERATOR)
    empty = world.begin(None, "production", "empty")
    with pytest.raises(Unlawful, match="carries no candidate"):
        release.claim(world.store, empty.id, OPERATOR)


def test_rolling_back_goes_to_the_one_before_and_holds(either_world: World) -> None:
    world = either_world
    first, second = world.crowned("a"), world.crowned("b")
    row = release.roll_back(world.store, MODEL, OPERATOR, "late labels look bad", second.id)
    assert (row.champion, row.previous, row.held) == (first.id, None, "late labels look bad")
    assert release.roll_back(world.store, MODEL, OPERATOR, "a retry", second.id) == row
    waiting = world.begin(world.proven("c"), "production", "next")
    with pytest.raises(OnHold, match="on hold \\(late labels look bad\\) until a person releases it"):
        release.claim(world.store, waiting.id, OPERATOR)
    release.release_hold(world.store, MODEL, APPROVER, "the labels were repaired")
    assert release.claim(world.store, waiting.id, OPERATOR).candidate is not None


def test_a_roll_back_supersedes_what_is_being_tried(world: World) -> None:
    first, second = world.crowned("a"), world.crowned("b")
    rolling = world.rolling(world.proven("c"), share=0.5)
    row = release.roll_back(world.store, MODEL, OPERATOR, "complaints")
    assert (row.champion, row.candidate, row.share) == (first.id, None, 0.0)
    ended = world.store.promotion(rolling.id)
    assert (ended.state, ended.outcome) == ("superseded", "rolled back: complaints")
    conclude(world.store, rolling.id, analysis(rolling, "Successful"))
    assert release.settle(world.store, rolling.id, OPERATOR) == row, "it has ended: nothing changes"
    with pytest.raises(PromotionEnded, match="superseded"):
        release.promote(world.store, rolling.id, OPERATOR)
    assert second.id != row.champion


def test_two_roll_backs_in_a_row_go_two_champions_back(world: World) -> None:
    first, second, third = (world.crowned(x) for x in "abc")
    row = release.roll_back(world.store, MODEL, OPERATOR, "bad", third.id)
    assert (row.champion, row.previous) == (second.id, first.id)
    row = release.roll_back(world.store, MODEL, OPERATOR, "this one too", second.id)
    assert (row.champion, row.previous) == (first.id, None)
    with pytest.raises(NothingBefore, match="has no one before it"):
        release.roll_back(world.store, MODEL, OPERATOR, "and this", first.id)


def test_there_is_nothing_to_roll_back_without_a_champion(world: World) -> None:
    with pytest.raises(NothingBefore, match="has no champion"):
        release.roll_back(world.store, MODEL, OPERATOR, "bad")


def test_a_rolled_back_candidate_needs_a_new_record(either_world: World) -> None:
    world = either_world
    first, bad = world.crowned("a"), world.crowned("b")
    release.roll_back(world.store, MODEL, OPERATOR, "bad", bad.id)
    release.release_hold(world.store, MODEL, APPROVER, "go on")
    again = world.begin(bad, "production", "again")
    with pytest.raises(EvidenceLacking, match=r"no new signed statement.*needs a new record"):
        release.claim(world.store, again.id, OPERATOR)
    shadow = world.judged(bad, "preproduction", run="once more")
    with pytest.raises(EvidenceLacking, match=r"approved .* again.*needs a new record"):
        release.claim(world.store, again.id, OPERATOR)
    record_approval(world.store, shadow.id, APPROVER, "the cause was found elsewhere")
    release.claim(world.store, again.id, OPERATOR)
    conclude(world.store, again.id, analysis(again, "Successful"))
    row = release.settle(world.store, again.id, OPERATOR)
    assert (row.champion, row.previous) == (bad.id, first.id)


def test_a_roll_back_to_the_very_candidate_that_is_being_tried_is_still_a_roll_back(world: World) -> None:
    """Found by the random lives: it was taken for a promotion, and the bad one came back on its record."""
    first, bad = world.crowned("a"), world.crowned("b")
    world.rolling(first, share=0.5, run="once more")
    row = release.roll_back(world.store, MODEL, OPERATOR, "bad", bad.id)
    assert (row.champion, row.candidate) == (first.id, None)
    release.release_hold(world.store, MODEL, APPROVER, "go on")
    again = world.begin(bad, "production", "again")
    with pytest.raises(EvidenceLacking, match="needs a new record"):
        release.claim(world.store, again.id, OPERATOR)


def test_no_way_back_to_a_champion_that_was_rolled_back(world: World) -> None:
    world.crowned("a")
    bad = world.crowned("b")
    release.roll_back(world.store, MODEL, OPERATOR, "bad", bad.id)
    release.release_hold(world.store, MODEL, APPROVER, "go on")
    third = world.crowned("c")
    row = release.roll_back(world.store, MODEL, OPERATOR, "bad too", third.id)
    assert row.champion == candidate("a").id
    assert row.previous is None, "b was rolled back: nobody goes back to it"


def test_a_rolled_back_candidate_slipped_into_the_row_is_not_gone_back_to(world: World) -> None:
    """The steps never leave one there; who writes it into the database does not get it served."""
    world.crowned("a")
    worse = world.crowned("b")
    release.roll_back(world.store, MODEL, OPERATOR, "complaints")
    release.release_hold(world.store, MODEL, OPERATOR, "understood")
    champion = world.crowned("c")
    with world.store.writing() as connection:
        connection.execute(update(release_rows).values(previous=worse.id))
    with pytest.raises(Unlawful, match="was itself rolled back"):
        release.roll_back(world.store, MODEL, OPERATOR, "complaints")
    assert world.row.champion == champion.id


def test_a_row_that_has_changed_is_not_overwritten(world: World) -> None:
    world.crowned("a")
    row = world.row
    release.hold(world.store, MODEL, OPERATOR, "a freeze")
    with pytest.raises(release.StaleGeneration, match="is at generation 4, not 3") as stale:
        release.change(world.store, MODEL, row.generation, OPERATOR, "late", held="mine")
    assert stale.value.retry
    assert release.hold(world.store, MODEL, OPERATOR, "another freeze").held == "a freeze"


@pytest.mark.parametrize(
    "fields",
    [
        {"champion": "b"},
        {"champion": None},
        {"previous": "b"},
        {"share": 0.5},
        {"mirror": 0.5},
        {"candidate": "b"},
        {"champion": "b", "held": "because", "previous": None},
    ],
)
def test_no_change_goes_past_the_law(world: World, fields: dict[str, object]) -> None:
    world.crowned("a")
    other = world.proven("b")
    before = world.row
    meant = {name: other.id if value == "b" else value for name, value in fields.items()}
    with pytest.raises(Unlawful):
        release.change(world.store, MODEL, before.generation, OPERATOR, "by hand", **meant)
    assert world.row == before


def test_nobody_is_crowned_by_hand(world: World) -> None:
    """Even with all evidence but production's, and with a forged end."""
    world.crowned("a")
    rolling = world.rolling(world.proven("b"), share=1.0)
    now = world.row
    crown = {
        "champion": now.candidate,
        "previous": now.champion,
        "candidate": None,
        "promotion": None,
        "share": 0.0,
    }
    with pytest.raises(Unlawful, match="has to end as promoted"):
        release.change(world.store, MODEL, now.generation, OPERATOR, "by hand", **crown)
    end = PromotionEnd(rolling.id, "promoted", "Successful", "by hand")
    with pytest.raises(EvidenceLacking, match="no passing statement of production"):
        release.change(world.store, MODEL, now.generation, OPERATOR, "by hand", end, **crown)
    assert world.row == now


def test_a_slot_is_not_taken_from_another_by_hand(world: World) -> None:
    rolling = world.rolling(world.proven("a"))
    other = world.begin(world.proven("b"), "production", "other")
    now = world.row
    with pytest.raises(SlotBusy):
        release.change(
            world.store,
            MODEL,
            now.generation,
            OPERATOR,
            "mine",
            candidate=other.candidate,
            promotion=other.id,
        )
    for share in (0.9, now.share):
        with pytest.raises(Unlawful, match="carries"):
            release.change(
                world.store, MODEL, now.generation, OPERATOR, "swap", candidate=other.candidate, share=share
            )
    assert world.row.promotion == rolling.id


def test_nobody_comes_before_the_champion_who_never_served(world: World) -> None:
    """A roll-back says whom the next one would go back to: one who was champion, whatever has been proven."""
    former = world.crowned("a")
    world.crowned("b")
    never, now = world.proven("c"), world.row
    back = {"champion": former.id, "held": "by hand"}
    for before in (never.id, now.champion):
        with pytest.raises(Unlawful, match=r"never served|cannot become"):
            release.change(world.store, MODEL, now.generation, OPERATOR, "by hand", **back, previous=before)
    assert world.row == now


def test_overlapping_tries_of_one_step_do_it_once(either_world: World) -> None:
    world = either_world
    world.crowned("a")
    rolling = world.rolling(world.proven("b"))
    conclude(world.store, rolling.id, analysis(rolling, "Successful"))
    before = world.row.generation
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: release.settle(world.store, rolling.id, OPERATOR), range(8)))
    assert {row.generation for row in rows} == {before + 1}


def test_a_try_that_is_overtaken_between_two_looks_says_that_all_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by killing overlapping tries: the other one had crowned the candidate in between."""
    rolling = world.rolling(world.proven("a"))
    look = release.row

    def overtaken(store: Store, model: str) -> ReleaseRow:
        monkeypatch.setattr(release, "row", look)
        conclude(store, rolling.id, analysis(rolling, "Successful"))
        release.settle(store, rolling.id, OPERATOR)
        return look(store, model)

    monkeypatch.setattr(release, "row", overtaken)
    with pytest.raises(PromotionEnded, match="has ended \\(promoted\\)"):
        release.claim(world.store, rolling.id, OPERATOR)


def test_many_promotions_at_once_end_one_after_the_other(either_world: World) -> None:
    world = either_world
    made = [world.proven(letter) for letter in "bcd"]
    promotions = [world.begin(each, "production", each.id) for each in made]

    def roll_out(k: int) -> None:
        while True:
            try:
                release.claim(world.store, promotions[k].id, OPERATOR)
                break
            except SlotBusy:
                continue
        release.set_share(world.store, promotions[k].id, 0.5, OPERATOR)
        conclude(world.store, promotions[k].id, analysis(promotions[k], "Successful"))
        release.settle(world.store, promotions[k].id, OPERATOR)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(roll_out, range(3)))
    assert world.row.generation == 9
    assert {p.state for p in world.store.promotions(MODEL, "production")} == {"promoted"}


def test_the_history_of_the_row_is_kept(world: World) -> None:
    world.crowned("a")
    changes = [line for line in world.store.audit_lines() if line.what == "release row changed"]
    assert [line.detail["generation"] for line in changes] == [1, 2, 3]
    assert changes[1].detail["share"] == 0.1
    assert changes[2].detail["champion"] == candidate("a").id
