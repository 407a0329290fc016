"""Fields of the forms with which people start an environment, beside candidate, as_of and reason."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from sevenfold.spec import Hyperparameter, ModelSpec


def training_fields(spec: ModelSpec) -> dict[str, Param]:
    """What a full training may be told: the window, the hyperparameters, the seed."""
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
        "seed": seed(),
    }


def sample_fields(spec: ModelSpec) -> dict[str, Param]:
    """What development may be told: how many rows its sample has, the hyperparameters, the seed."""
    return {
        "sample_rows": Param(
            None,
            type=["null", "integer"],
            minimum=1000,
            title="Sample size",
            description="Rows to try ideas on; empty: what the activity takes by itself",
        ),
        "hyperparameters": hyperparameters(spec),
        "seed": seed(),
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
        description=f"Those to change, as JSON; the model's own are {names}",
    )


def seed() -> Param:
    """The start of all chance."""
    return Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="Start of all chance; empty: always the same",
    )


def _property(setting: Hyperparameter) -> dict[str, Any]:
    kind = setting.default
    if isinstance(kind, bool):
        return {"type": "boolean"}
    if isinstance(kind, str):
        return {"type": "string", "enum": list(setting.choices)} if setting.choices else {"type": "string"}
    return {"type": "integer" if isinstance(kind, int) else "number"}
