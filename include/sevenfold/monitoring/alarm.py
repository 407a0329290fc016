"""The alarm: when a model must be trained again, when drift may be left alone, and why, in a sentence.

Drift alone is no reason: most of it is difficulty or season, and a model that is still right needs no other.
Harm alone in one week is weather. So a model is trained again when it has been wrong for several complete
weeks running and its scores are further from their reference than any week of the reference itself was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sevenfold import strict_yaml
from sevenfold.data.weeks import Week
from sevenfold.model.tasks import Words

State = Literal["quiet", "harmless", "watch", "harmful"]


class AlarmRule(BaseModel):
    """Limits of the alarm, in a model's alarm.yaml; a model without that file has these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    harm_ratio: float = Field(default=1.5, gt=1)
    """A week does harm when more than so many times what was expected is observed (see the model's task)."""
    weeks: int = Field(default=2, ge=1)
    """Weeks running that must do harm."""
    excess_log_loss: float = Field(default=0.1, gt=0)
    """Drift is harmless only while the log loss exceeds what the model expects by no more, in nats a row."""
    min_rows: int = Field(default=1000, ge=1)
    """A week with fewer labelled rows is not judged."""
    maturity_hours: float = Field(default=36, ge=0)
    """By when the label of a row must have come; younger days are left out."""
    look_back: int = Field(default=6, ge=2)
    """Complete weeks that one run of monitoring measures and judges."""

    @property
    def maturity(self) -> timedelta:
        """`maturity_hours` as a length of time."""
        return timedelta(hours=self.maturity_hours)


@dataclass(frozen=True)
class WeekSeen:
    """What the alarm knows of a champion's complete week."""

    week: Week
    over_expected: float
    log_loss: float
    expected_log_loss: float
    psi: float
    """Of the score."""
    limit: float
    """Largest PSI of the score in any week of the reference."""

    @property
    def drifted(self) -> bool:
        """Scores further away than any week of the reference."""
        return self.psi > self.limit


@dataclass(frozen=True)
class Judgement:
    """What a week means, with the sentence that says why."""

    week: Week
    state: State
    reason: str
    value: float
    """PSI of the score."""


def load_rule(model_folder: Path) -> AlarmRule:
    """The rule in the model's alarm.yaml, or the default one.

    Raises:
        InvalidFile: the file says something that no rule knows; the message names file, line and key.
    """
    path = model_folder / "alarm.yaml"
    return strict_yaml.read(path, AlarmRule) if path.exists() else AlarmRule()


def judge(rule: AlarmRule, seen: Sequence[WeekSeen], words: Words) -> list[Judgement]:
    """What each week means; `seen` is in the order of time, `words` are the task's."""
    return [_judge(rule, seen[: number + 1], words) for number in range(len(seen))]


def _judge(rule: AlarmRule, seen: Sequence[WeekSeen], words: Words) -> Judgement:
    """What the last week means, given those before it."""
    last = seen[-1]
    harmed = _harmed_running(rule, seen)
    scores = f"PSI {last.psi:.2f}, limit {last.limit:.2f}"
    loss = f"log loss is {last.log_loss:.3f} against {last.expected_log_loss:.3f} expected"
    if harmed >= rule.weeks and last.drifted:
        ratios = " and ".join(f"{one.over_expected:.2f}" for one in seen[-rule.weeks :])
        return Judgement(
            last.week,
            "harmful",
            f"In the {rule.weeks} weeks to {last.week.last}, {words.outcome} was {ratios} times as "
            f"{words.as_} as expected (limit {rule.harm_ratio:g}) and the scores drifted ({scores}); {loss}: "
            "the model must be trained again.",
            last.psi,
        )
    if not last.drifted and not harmed:
        reason = (
            f"{last.week}: scores as in the reference ({scores}), {_against_expected(last, words)}; {loss}."
        )
        return Judgement(last.week, "quiet", reason, last.psi)
    if last.drifted and not harmed and last.log_loss - last.expected_log_loss <= rule.excess_log_loss:
        return Judgement(
            last.week,
            "harmless",
            f"The scores of {last.week} drifted ({scores}), but {words.outcome} was "
            f"{_against_expected(last, words)} and {loss}: nothing is retrained.",
            last.psi,
        )
    return Judgement(last.week, "watch", _why_watch(rule, last, harmed, words, scores, loss), last.psi)


def _harmed_running(rule: AlarmRule, seen: Sequence[WeekSeen]) -> int:
    """How many weeks running, up to the last one, did harm; a gap ends the run."""
    count = 0
    after: WeekSeen | None = None
    for one in reversed(seen):
        if one.over_expected <= rule.harm_ratio or (after is not None and not after.week.follows(one.week)):
            break
        count, after = count + 1, one
    return count


def _against_expected(one: WeekSeen, words: Words) -> str:
    ratio = one.over_expected
    said = words.more if ratio > 1 else words.less
    said = words.same if 0.8 <= ratio <= 1.25 else said
    return f"{said} (observed over expected {ratio:.2f})"


def _why_watch(rule: AlarmRule, last: WeekSeen, harmed: int, words: Words, scores: str, loss: str) -> str:
    frequent = f"{last.week}: {words.outcome} was {last.over_expected:.2f} times as {words.as_} as expected"
    if harmed >= rule.weeks:
        return (
            f"{frequent}, harmful for {harmed} weeks now, but the scores are as in the reference "
            f"({scores}); {loss}: a person should look."
        )
    if harmed:
        return (
            f"{frequent}; the alarm needs {rule.weeks} such weeks running and drifted scores "
            f"({scores}); {loss}."
        )
    return (
        f"{last.week}: the scores drifted ({scores}) and {loss}, too much by more than "
        f"{rule.excess_log_loss:g}, but {words.outcome} was {_against_expected(last, words)}: "
        "no alarm, and not harmless either."
    )
