"""What really happened to flights from New York in 2013, as a story of seven environments.

Every turn of it is in the data: the winter champion decays in June, September drifts without harm, and a
challenger that has seen three months only is worse in late October. Nothing here decides anything; it starts
runs as a person would, plays the flights, and waits for what the gates say.
"""

from __future__ import annotations

from datetime import date, timedelta

from sevenfold.demo.story import Narrator, StoryStopped, origin_run
from sevenfold.evidence.records import Alert
from sevenfold.release.promotion import Promotion

WEEK = timedelta(days=7)


def play(narrator: Narrator) -> None:
    """The whole story. Every chapter is skipped over when it has happened already."""
    first_candidate(narrator)
    quality_decays(narrator)
    challenger_replaces_champion(narrator)
    refusals_and_a_harmless_autumn(narrator)


def first_candidate(narrator: Narrator) -> None:
    """Trained on January to March, tested on April, serving from the first week of June."""
    narrator.chapter("1. A first candidate, from an idea to production")
    narrator.begin_on(date(2013, 5, 1))
    narrator.start("development", "story-first", as_of="2013-05-01", reason="the first candidate")
    end = narrator.follow(origin_run("story-first"), goal="production")
    _expect(end, "promoted", "the first candidate should serve")


def quality_decays(narrator: Narrator) -> None:
    """Summer comes; monitoring looks at every week that ends and raises the alarm by itself."""
    narrator.chapter("2. Summer comes, and the winter model decays")
    week_ends = [date(2013, 6, 13) + WEEK * number for number in range(6)]
    before = date(2013, 6, 4)
    for week_end in week_ends:
        if _alarms(narrator):
            return
        narrator.play(before, week_end)
        narrator.monitor(week_end)
        before = week_end
    if not _alarms(narrator):
        raise StoryStopped("the alarm should have been raised by the middle of July, and was not")


def challenger_replaces_champion(narrator: Narrator) -> None:
    """The alarm starts training; the challenger has to win every gate, and a person's approval.

    While production waits, for that person and for its canary's requests, training is idle: the first of the
    two candidates that will be refused is begun.
    """
    narrator.chapter("3. The alarm trains a challenger; shadow, approval, canary")
    raised = _alarms(narrator)[0].raised_at

    def challenger(promotion: Promotion) -> bool:
        return promotion.environment == "training" and promotion.began_at >= raised

    end = narrator.follow(challenger, goal="preproduction")
    _expect(end, "promoted", "the challenger should have come to production")
    begin_with_a_mistake(narrator)
    end = narrator.follow(challenger, goal="production")
    _expect(end, "promoted", "the challenger should have won")


def begin_with_a_mistake(narrator: Narrator) -> None:
    """Like the other that is refused it learns from what is known in November, whatever day it is.

    Settings are not searched, so that nothing but the mistake, or the window, makes the difference.
    """
    narrator.start(
        "training",
        "story-broken",
        as_of="2013-11-08",
        hyperparameters={"learning_rate": 2.0},
        search_trials=0,
        reason="a mistyped learning rate",
    )


def refusals_and_a_harmless_autumn(narrator: Narrator) -> None:
    """September drifts without harm. Two candidates that deserve it are refused meanwhile."""
    narrator.chapter("4. Quality recovers, a harmless autumn, and two refusals")
    narrator.start(
        "training",
        "story-three-months",
        as_of="2013-11-08",
        window_months=3,
        search_trials=0,
        reason="would the last three months be enough?",
    )
    narrator.play(date(2013, 7, 1), date(2013, 8, 29))
    narrator.monitor(date(2013, 8, 29))
    narrator.play(date(2013, 8, 29), date(2013, 10, 3))
    narrator.monitor(date(2013, 10, 3))
    for run in ("story-broken", "story-three-months"):
        end = narrator.follow(origin_run(run), goal="testing")
        _expect(end, "refused", f"{run} should have been refused")


def _alarms(narrator: Narrator) -> list[Alert]:
    """The alerts that asked for training, whatever has become of them."""
    return [alert for alert in narrator.store.alerts(narrator.model) if alert.kind == "harmful_drift"]


def _expect(end: Promotion, state: str, otherwise: str) -> None:
    if end.state != state:
        raise StoryStopped(
            f"the story went another way: {otherwise}, but {end.id} was {end.state}: {end.outcome}"
        )
