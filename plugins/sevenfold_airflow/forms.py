"""Fields of the forms with which people start an environment, beside candidate, as_of and reason."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from sevenfold.development import rehearsal
from sevenfold.model.spec import Hyperparameter, ModelSpec, Search

LONGEST_SEARCH = 100
"""Minutes: a pod runs for two hours at most."""
MOST_TRIALS = 10_000
LARGEST_SEED = 2**31 - 1


def training_fields(spec: ModelSpec) -> dict[str, Param]:
    """What a full training may be told: window, hyperparameters, how long to search for them, the seed."""
    return {
        "window_months": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=120,
            title="Window in months",
            description="Train on the last so many months only; empty: on all that is there",
        ),
        "hyperparameters": hyperparameters(spec),
        **search_budget(spec.search),
        "seed": seed(),
    }


def sample_fields(spec: ModelSpec) -> dict[str, Param]:
    """What development may be told: how many rows its sample has, hyperparameters, search budget, seed."""
    return {
        "sample_rows": Param(
            None,
            type=["null", "integer"],
            minimum=rehearsal.SMALLEST_SAMPLE,
            maximum=rehearsal.LARGEST_SAMPLE,
            title="Sample size",
            description=f"Rows to try ideas on, {rehearsal.SMALLEST_SAMPLE:,} to "
            f"{rehearsal.LARGEST_SAMPLE:,}; empty: {rehearsal.SAMPLE_ROWS:,}",
        ),
        "hyperparameters": hyperparameters(spec),
        **search_budget(rehearsal.SEARCH),
        "seed": seed(),
    }


def search_budget(usual: Search) -> dict[str, Param]:
    """How long to search for better hyperparameters: in trials, in minutes, or whichever ends first."""
    minutes = f"{usual.minutes:g}" if usual.minutes is not None else "no limit"
    return {
        "search_trials": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=MOST_TRIALS,
            title="Search: trials",
            description=f"Settings to try, 0 to {MOST_TRIALS:,}; 0: none, they are taken as they are; "
            f"empty: {usual.trials}",
        ),
        "search_minutes": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            maximum=LONGEST_SEARCH,
            title="Search: minutes",
            description=f"No trial begins after so many minutes, up to {LONGEST_SEARCH}; empty: {minutes}",
        ),
    }


def hyperparameters(spec: ModelSpec) -> Param:
    """One object; values may leave the range of a search, the gates judge what comes of it."""
    names = ", ".join(f"{name} ({setting.default})" for name, setting in spec.hyperparameters.items())
    return Param(
        {},
        type="object",
        properties={name: _property(setting) for name, setting in spec.hyperparameters.items()},
        additionalProperties=False,
        title="Hyperparameters",
        description=f"Those to set, as JSON, which are then not searched; the model's own are {names}",
    )


def seed() -> Param:
    """The start of all chance."""
    return Param(
        None,
        type=["null", "integer"],
        minimum=0,
        maximum=LARGEST_SEED,
        title="Seed",
        description=f"Start of all chance, 0 to {LARGEST_SEED:,}; empty: 0",
    )


def _property(setting: Hyperparameter) -> dict[str, Any]:
    kind = setting.default
    if isinstance(kind, bool):
        return {"type": "boolean"}
    if isinstance(kind, str):
        return {"type": "string", "enum": list(setting.choices)} if setting.choices else {"type": "string"}
    return {"type": "integer" if isinstance(kind, int) else "number"}
