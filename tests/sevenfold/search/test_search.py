"""A search for settings goes on where it was killed, keeps to its budget, and believes no lucky trial."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import toy

from sevenfold import search as searching
from sevenfold.data.snapshot import write
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec
from sevenfold.search import Budget, Problem, Study, search
from sevenfold.search.outcome import outcome_of
from sevenfold.search.record import pictures
from sevenfold.search.space import Space
from sevenfold.search.study import INCUMBENT, name_of
from sevenfold.search.trials import BY_DAY, SETTINGS, TROUBLE, curve
from sevenfold.settings import REPOSITORY
from sevenfold.training import CannotLearn

MODEL = toy.MODEL_YAML.replace("epochs: {default: 3}", "epochs: {default: 4}").replace(
    "hidden: {default: 16}", "hidden: {default: 16, choices: [4, 8, 16, 32]}"
)
START = datetime(2020, 1, 1, tzinfo=UTC)


def problem_in(folder: Path, fixed: dict[str, Any] | None = None, spec: ModelSpec | None = None) -> Problem:
    """The toy's first fifty days, the last ten of them for stopping."""
    spec = spec or toy.spec_in(folder / "models", MODEL)
    place = folder / "data" / "toy" / "all"
    data = write(spec, place, *toy.build(lambda line: None))
    fitting, stopping = (
        data.labelled(START + timedelta(days=first), START + timedelta(days=end), None, spec.columns)
        for first, end in ((0, 40), (40, 50))
    )
    start = spec.hyperparameters_with(fixed or {})
    return Problem(spec, fitting, stopping, Space.of(spec, start, fixed or {}, fitting.num_rows), seed=3)


def study_in(folder: Path, budget: Budget, url: str = "sqlite://") -> Study:
    return Study("toy/training/r1", url, folder / "searches", budget, seed=3)


def tried(study: Study) -> list[tuple[Any, ...]]:
    """What was tried and what came of it; the numbers of trials that were killed are missing."""
    return [(trial.params, trial.value, curve(trial), trial.state.name) for trial in study.trials]


PROGRAM = """
import os, signal, sys
from pathlib import Path
from sevenfold.search import Budget, search, trials
from tests.sevenfold.search.test_search import problem_in, study_in

folder, budget, url, kill = Path(sys.argv[1]), Budget(**eval(sys.argv[2])), sys.argv[3], int(sys.argv[4])
learn, began = trials.learn, []

def dying(*arguments):
    began.append(1)
    *others, on_epoch = arguments
    def killing(epoch):
        on_epoch(epoch)
        if len(began) == kill and epoch.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return learn(*others, killing)

trials.learn = dying
study = search(problem_in(folder), lambda: study_in(folder, budget, url))
print(len(study.trials))
"""


def program(folder: Path, budget: str, url: str = "sqlite://", kill: int = 0) -> Any:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), budget, url, str(kill)],
        env={"PYTHONPATH": f"{REPOSITORY / 'include'}:{REPOSITORY}", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return problem_in(tmp_path_factory.mktemp("search"))


def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been_killed(
    problem: Problem, tmp_path: Path
) -> None:
    whole = search(problem, lambda: study_in(tmp_path / "whole", Budget(8)))
    killed = program(tmp_path, "dict(trials=8)", kill=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (journal,) = (tmp_path / "searches").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"op_code":5,"half')
    resumed = search(problem, lambda: study_in(tmp_path, Budget(8)))
    assert tried(resumed) == tried(whole)
    assert [trial.number for trial in resumed.trials] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert len({str(trial.params) for trial in whole.trials}) == 8
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_more_trials_go_on_from_those_there_are(problem: Problem, tmp_path: Path) -> None:
    first = tried(search(problem, lambda: study_in(tmp_path, Budget(2))))
    more = tried(search(problem, lambda: study_in(tmp_path, Budget(4))))
    assert (len(more), more[:2]) == (4, first)


def test_bad_trials_are_stopped_early_and_the_settings_as_they_are_never(
    problem: Problem, tmp_path: Path
) -> None:
    heard: list[int] = []
    study = search(
        problem, lambda: study_in(tmp_path, Budget(12)), lambda s, trial: heard.append(trial.number)
    )
    first, *others = study.trials
    assert first.user_attrs[INCUMBENT]
    assert first.params == problem.space.at_start
    assert len(curve(first)) == 4
    early = [trial for trial in others if trial.state.name == "PRUNED"]
    assert early, "no trial was stopped: the test shows nothing"
    assert all(0 < len(curve(trial)) < 4 for trial in early)
    assert all(BY_DAY not in trial.user_attrs for trial in early)
    assert heard == list(range(12))
    best = outcome_of(problem, study.trials).best
    assert best is not None
    assert best.value == min(curve(best).values())
    rows = problem.stopping.num_rows
    assert sum(best.user_attrs[BY_DAY]) / rows == pytest.approx(best.value, abs=1e-6)


@pytest.mark.parametrize("store", ["journal", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_workers_share_one_budget(tmp_path: Path, store: str, request: pytest.FixtureRequest) -> None:
    url = "sqlite://" if store == "journal" else request.getfixturevalue("postgresql")
    ran = program(tmp_path, "dict(trials=7, workers=3)", url)
    assert ran.stdout.strip() == "7", ran.stderr
    trials = study_in(tmp_path, Budget(7), url).trials
    assert len({trial.user_attrs["worker"] for trial in trials}) > 1
    assert sum(bool(trial.user_attrs.get(INCUMBENT)) for trial in trials) == 1


def test_settings_that_cannot_learn_end_the_trial_and_not_the_search(tmp_path: Path) -> None:
    wild = MODEL.replace("low: 0.001, high: 0.1, log: true", "low: 1.0e+30, high: 1.0e+36, log: true")
    problem = problem_in(tmp_path, spec=toy.spec_in(tmp_path / "models", wild))
    study = search(problem, lambda: study_in(tmp_path, Budget(5)))
    assert TROUBLE not in study.trials[0].user_attrs
    assert any("the loss became" in trial.user_attrs.get(TROUBLE, "") for trial in study.trials)
    assert len(study.trials) == 5
    hopeless = problem_in(tmp_path / "fixed", {"learning_rate": 1e35})
    with pytest.raises(CannotLearn, match="the loss became"):
        search(hopeless, lambda: study_in(tmp_path / "fixed", Budget(3)))


def test_no_trial_begins_after_the_minutes_are_spent(problem: Problem, tmp_path: Path) -> None:
    study = search(problem, lambda: study_in(tmp_path, Budget(1000, minutes=0.01)))
    spent = [trial.duration.total_seconds() for trial in study.trials if trial.duration]
    assert sum(spent[:-1]) < 0.6 <= sum(spent)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trials": -1}, "the number of trials of a search cannot be -1"),
        ({"trials": 3, "minutes": 0}, "the minutes of a search must be more than 0, not 0"),
        ({"trials": 3, "workers": 0}, "a search needs at least 1 worker, not 0"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SevenfoldError, match=said):
        Budget(**given)


def test_what_a_person_fixes_is_not_searched(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path, MODEL.replace("{default: 256}", "{default: 256, choices: [64, 256, 512]}"))
    start = spec.defaults | {"learning_rate": 0.5, "hidden": 5}
    assert set(Space.of(spec, start, {"hidden"}, 50_000).searched) == {"learning_rate", "batch_size"}
    assert set(Space.of(spec, start, (), 3_000).searched) == {"learning_rate", "batch_size", "hidden"}
    assert set(Space.of(spec, start, (), 2_000).searched) == {"learning_rate", "hidden"}, "all batches are 64"


def test_settings_beyond_their_range_can_be_what_a_search_begins_with(tmp_path: Path) -> None:
    import optuna

    spec = toy.spec_in(tmp_path, MODEL)
    space = Space.of(spec, spec.defaults | {"learning_rate": 0.5, "hidden": 5}, (), 1000)
    study = optuna.create_study()
    study.enqueue_trial(space.at_start)
    assert space.settings(study.ask()) == space.start
    again = [space.settings(study.ask()) for _ in range(40)]
    assert {settings["hidden"] for settings in again} == {4, 5, 8, 16, 32}
    assert all(0.001 <= settings["learning_rate"] <= 0.5 for settings in again)


def test_a_lucky_trial_is_not_believed(problem: Problem) -> None:
    days = len(np.unique(np.asarray(problem.stopping["day"])))
    rows = problem.stopping.num_rows / days

    def trial(number: int, by_day: Any, **attributes: Any) -> Any:
        import optuna

        settings = {**problem.space.start, "hidden": 4 * number}
        attributes |= {SETTINGS: settings, BY_DAY: list(by_day)}
        made = optuna.trial.create_trial(value=float(sum(by_day)), user_attrs=attributes)
        made.number = number
        return made

    old = trial(0, np.full(days, 0.5 * rows), incumbent=True)
    steady = trial(1, np.full(days, 0.48 * rows) + np.linspace(-1, 1, days) * 0.01)
    lucky = trial(2, np.where(np.arange(days) == 0, 0.1 * rows, 0.51 * rows))
    proven = outcome_of(problem, [old, steady])
    assert proven.proven
    assert proven.settings["hidden"] == 4
    assert proven.gain is not None
    assert proven.gain.value == pytest.approx(0.02, abs=1e-3)
    assert "its settings are taken" in proven.sentence
    chance = outcome_of(problem, [old, lucky])
    assert chance.best is lucky
    assert not chance.proven
    assert chance.settings == problem.space.start
    assert "not more than chance: the settings stay" in chance.sentence
    assert "stay the best" in outcome_of(problem, [old, trial(3, np.full(days, 0.6 * rows))]).sentence
    assert outcome_of(problem, []).settings == problem.space.start


def test_importance_is_drawn_once_enough_trials_are_complete(problem: Problem, tmp_path: Path) -> None:
    study = study_in(tmp_path, Budget(12)).optuna
    for number in range(12):
        trial = study.ask()
        settings = problem.space.settings(trial)
        trial.set_user_attr(SETTINGS, settings)
        trial.set_user_attr(BY_DAY, [1.0])
        study.tell(trial, settings["learning_rate"] + number * 1e-6)
    outcome = outcome_of(problem, study.trials[:9])
    assert [path.name for path, _ in pictures(tmp_path, study, outcome)] == ["history.png", "curves.png"]
    drawn = pictures(tmp_path, study, outcome_of(problem, study.trials))
    assert [path.name for path, _ in drawn] == ["history.png", "curves.png", "importance.png"]
    assert all(path.stat().st_size > 1000 for path, _ in drawn)


def test_another_question_is_another_study() -> None:
    assert name_of("p", "data", 1) == name_of("p", "data", 1)
    assert len({name_of("p", "data", 1), name_of("p", "data", 2), name_of("q", "data", 1)}) == 3


def test_the_package_says_what_it_offers() -> None:
    assert all(hasattr(searching, name) for name in searching.__all__)
