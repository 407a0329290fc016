"""What a search may try: the ranges and choices of model.yaml, less what a person has fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sevenfold.model.spec import Hyperparameter, ModelSpec
from sevenfold.training.learning import largest_batch

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class Space:
    """The settings to start from, and those of them that a search may change."""

    start: Mapping[str, Any]
    searched: Mapping[str, Hyperparameter]

    @classmethod
    def of(cls, spec: ModelSpec, start: Mapping[str, Any], fixed: Collection[str], rows: int) -> Space:
        """What may be tried with a sample of so many rows; what stands in `fixed` stays as it is in `start`.

        Batches that a sample is too small for would all be the same (see `learn`): they are not tried.
        """
        searched = {
            name: setting
            for name, setting in spec.hyperparameters.items()
            if name not in fixed and (setting.range is not None or len(setting.choices) > 1)
        }
        batches = searched.get("batch_size")
        if batches is not None and len({min(largest_batch(rows), size) for size in _values(batches)}) == 1:
            del searched["batch_size"]
        return cls(dict(start), searched)

    @property
    def at_start(self) -> dict[str, Any]:
        """The searched settings as they are now."""
        return {name: self.start[name] for name in self.searched}

    def settings(self, trial: Trial) -> dict[str, Any]:
        """All settings of a trial: those that its sampler suggests, the others as they are."""
        return self.with_params({name: self._suggested(trial, name) for name in self.searched})

    def with_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with those of a trial in them."""
        return {**self.start, **params}

    def _suggested(self, trial: Trial, name: str) -> Any:
        """A value between the ends, or among the choices; what a setting is now always belongs to them."""
        now, setting = self.start[name], self.searched[name]
        if setting.range is None:
            return trial.suggest_categorical(name, tuple(dict.fromkeys((*setting.choices, now))))
        low, high = min(setting.range.low, now), max(setting.range.high, now)
        log = setting.range.log and low > 0
        if setting.range.integer:
            return trial.suggest_int(name, int(low), int(high), log=log)
        return trial.suggest_float(name, low, high, log=log)


def _values(setting: Hyperparameter) -> list[int]:
    """The sizes among which a search would choose, or the ends of their range."""
    if setting.range is not None:
        return [int(setting.range.low), int(setting.range.high)]
    return [int(value) for value in setting.choices]
