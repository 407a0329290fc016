"""How long the launcher waits before it starts a component again."""

from __future__ import annotations

from pathlib import Path

from sevenfold.settings import Settings
from sevenfold_airflow.embedded import LONGEST_PAUSE_SECONDS, STEADY_SECONDS, Launcher


def test_the_pause_grows_with_early_deaths_and_a_steady_life_ends_that(tmp_path: Path) -> None:
    launcher = Launcher(Settings(home=tmp_path))
    assert [launcher._pause("scheduler", 1.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert launcher._pause("triggerer", 1.0) == 1
    assert launcher._pause("scheduler", STEADY_SECONDS) == 1
    assert launcher._pause("scheduler", 1.0) == 2 < LONGEST_PAUSE_SECONDS
