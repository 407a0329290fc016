"""When the alarm fires, when drift is left alone, and that each comes with its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.data.weeks import LENGTH, Week
from sevenfold.model.tasks.binary_classification import BinaryClassification
from sevenfold.monitoring import alarm
from sevenfold.monitoring.alarm import AlarmRule, Judgement, WeekSeen, judge
from sevenfold.settings import REPOSITORY
from sevenfold.strict_yaml import InvalidFile

FIRST = datetime(2013, 6, 4, tzinfo=UTC)
LIMIT = 0.29
WORDS = BinaryClassification("arrives late").words


def seen(*weeks: tuple[float, float, float], gap_before: int | None = None) -> list[WeekSeen]:
    """Weeks of (observed over expected, excess log loss, PSI); one is missing before number `gap_before`."""
    places = [n + (gap_before is not None and n >= gap_before) for n in range(len(weeks))]
    return [
        WeekSeen(Week(FIRST + place * LENGTH), ratio, 0.35 + excess, 0.35, psi, LIMIT)
        for place, (ratio, excess, psi) in zip(places, weeks, strict=True)
    ]


def last(
    *weeks: tuple[float, float, float], gap_before: int | None = None, rule: AlarmRule | None = None
) -> Judgement:
    return judge(rule or AlarmRule(), seen(*weeks, gap_before=gap_before), WORDS)[-1]


CALM, DRIFT, HARM, BOTH = (1.0, 0.0, 0.1), (0.9, 0.01, 0.5), (1.6, 0.15, 0.1), (1.7, 0.15, 0.5)


@pytest.mark.parametrize(
    ("weeks", "state"),
    [
        ([CALM], "quiet"),
        ([DRIFT], "harmless"),
        ([HARM], "watch"),
        ([BOTH], "watch"),
        ([BOTH, CALM], "quiet"),
        ([BOTH, DRIFT], "harmless"),
        ([BOTH, CALM, BOTH], "watch"),
        ([HARM, BOTH], "harmful"),
        ([BOTH, BOTH], "harmful"),
        ([BOTH, HARM], "watch"),
        ([HARM, HARM, HARM], "watch"),
        ([(1.0, 0.2, 0.5)], "watch"),
        ([(1.5, 0.1, LIMIT), (1.5, 0.1, LIMIT)], "quiet"),
        ([(1.51, 0.1, 0.1), (1.51, 0.1, 0.291)], "harmful"),
        ([(0.7, -0.05, 0.8), (0.7, -0.05, 0.8)], "harmless"),
    ],
)
def test_what_a_week_means(weeks: list[tuple[float, float, float]], state: str) -> None:
    assert last(*weeks).state == state


def test_weeks_must_follow_each_other() -> None:
    assert last(BOTH, BOTH).state == "harmful"
    assert last(BOTH, BOTH, gap_before=1).state == "watch"


def test_the_rule_can_ask_for_more_or_less() -> None:
    assert last(BOTH, BOTH, rule=AlarmRule(weeks=3)).state == "watch"
    assert last(BOTH, rule=AlarmRule(weeks=1)).state == "harmful"
    assert last(BOTH, BOTH, rule=AlarmRule(harm_ratio=2.0, excess_log_loss=0.2)).state == "harmless"


def test_every_reason_is_a_sentence_with_its_numbers() -> None:
    assert last(HARM, BOTH).reason == (
        "In the 2 weeks to 17 June 2013, 'arrives late' was 1.60 and 1.70 times as frequent as expected "
        "(limit 1.5) and the scores drifted (PSI 0.50, limit 0.29); log loss is 0.500 against 0.350 "
        "expected: the model must be trained again."
    )
    assert last(DRIFT).reason == (
        "The scores of 4 to 10 June 2013 drifted (PSI 0.50, limit 0.29), but 'arrives late' was as often as "
        "expected (observed over expected 0.90) and log loss is 0.360 against 0.350 expected: "
        "nothing is retrained."
    )
    assert "less often than expected" in last((0.7, 0, 0.5)).reason
    assert "needs 2 such weeks running" in last(HARM).reason
    assert "a person should look" in last(HARM, HARM).reason
    assert "not harmless either" in last((1.0, 0.2, 0.5)).reason


ANY = st.tuples(st.floats(0.3, 3), st.floats(-0.2, 0.5), st.floats(0, 2))


@given(st.lists(ANY, min_size=1, max_size=6))
def test_properties(weeks: list[tuple[float, float, float]]) -> None:
    judged = judge(AlarmRule(), seen(*weeks), WORDS)
    assert len(judged) == len(weeks)
    for number, (judgement, (ratio, excess, psi)) in enumerate(zip(judged, weeks, strict=True)):
        before = weeks[number - 1][0] if number else 0
        assert (judgement.state == "harmful") == (ratio > 1.5 and before > 1.5 and psi > LIMIT)
        if judgement.state == "harmless":
            assert psi > LIMIT and ratio <= 1.5 and excess <= 0.1 + 1e-9
        assert judgement.value == psi and judgement.reason.endswith(".")
    # what a week means never depends on what comes after it
    assert [one.state for one in judge(AlarmRule(), seen(*weeks[:-1]), WORDS)] == [
        one.state for one in judged[:-1]
    ]


def test_the_file_is_strict(tmp_path: Path) -> None:
    assert alarm.load_rule(tmp_path) == AlarmRule()
    (tmp_path / "alarm.yaml").write_text("weeks: 3\n")
    assert alarm.load_rule(tmp_path) == AlarmRule(weeks=3)
    (tmp_path / "alarm.yaml").write_text("weeks: 3\nharm_ration: 2\n")
    with pytest.raises(InvalidFile, match=r"alarm.yaml, line 2, key harm_ration: unknown key"):
        alarm.load_rule(tmp_path)
    (tmp_path / "alarm.yaml").write_text("harm_ratio: 0.5\n")
    with pytest.raises(InvalidFile, match="line 1, key harm_ratio"):
        alarm.load_rule(tmp_path)


def test_the_rules_of_all_models_can_be_read() -> None:
    models = [path.parent for path in (REPOSITORY / "include" / "models").glob("*/alarm.yaml")]
    assert models
    for folder in models:
        assert alarm.load_rule(folder).weeks >= 1
