"""What Sevenfold has to know about a model: its `model.yaml`, read strictly."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sevenfold import strict_yaml
from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.model import tasks
from sevenfold.model.tasks import Task
from sevenfold.settings import settings


class UnknownModel(SevenfoldError):
    """No folder of that name under the models folder, or its model.yaml names what does not exist."""


class Part(BaseModel):
    """A section of model.yaml: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


def _entry_point(value: str) -> str:
    if not re.fullmatch(r"[a-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError(f"{value!r} is no entry point; write package.module:function")
    return value


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Names = Annotated[tuple[str, ...], AfterValidator(_unique)]
EntryPoint = Annotated[str, AfterValidator(_entry_point)]


RESERVED = frozenset({"id", "time", "day", "label", "known_at", "prediction", "score"})
"""Columns of rows, labels and logs that are Sevenfold's own."""


class Privacy(Part):
    """What logs may keep of the people behind the rows."""

    personal: Names = ()
    """Features that say something about a person: logs keep a keyed hash of their values (see pseudonyms)."""
    left_out: Names = ()
    """Those of them of which logs keep nothing at all."""
    retention_days: Annotated[int, Field(ge=1)] = 400
    """Logs of predictions and labels are deleted so long after their last line."""


class Features(Part):
    """What a client sends with a request, in this order."""

    numeric: Annotated[Names, Field(min_length=1)]
    categorical: Names = ()
    known_at: dict[str, Annotated[Names, Field(min_length=1)]]
    """By column of the rows that holds a time, the features that are known from then on. `time` itself, the
    moment of the prediction, is one. Every feature has one, and a snapshot refuses rows where it is later."""

    @model_validator(mode="after")
    def _none_leaks(self) -> Features:
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise ValueError(f"features named as numeric and as categorical: {', '.join(both)}")
        features = self.numeric + self.categorical
        reserved = sorted(set(features) & RESERVED)
        if reserved:
            raise ValueError(f"{', '.join(reserved)} cannot be a feature: the name is taken")
        known = [name for names in self.known_at.values() for name in names]
        twice = sorted({name for name in known if known.count(name) > 1})
        if twice:
            raise ValueError(f"known_at names twice: {', '.join(twice)}")
        unsaid, stray = sorted(set(features) - set(known)), sorted(set(known) - set(features))
        if unsaid:
            raise ValueError(f"known_at does not say when these are known: {', '.join(unsaid)}")
        if stray:
            raise ValueError(f"known_at names what is no feature: {', '.join(stray)}")
        return self


class Data(Part):
    """Where rows and labels come from, and the days that they cover."""

    source: str
    package: str | None = None
    """Distribution whose installed version belongs to the identity of the data."""
    code: Names = ("data.py",)
    """Files of the model's folder that make the data; their content belongs to its identity too."""
    starts: date
    ends: date
    """The first day without data."""
    empty_days: bool = False
    """Whether a day without a single row is normal."""

    @model_validator(mode="after")
    def _in_order(self) -> Data:
        if self.ends <= self.starts:
            raise ValueError(f"ends ({self.ends}) is not after starts ({self.starts})")
        return self

    @property
    def start(self) -> datetime:
        """Midnight UTC of the first day."""
        return datetime(self.starts.year, self.starts.month, self.starts.day, tzinfo=UTC)


class Windows(Part):
    """How the days before `as_of` are divided (see sevenfold.data.windows)."""

    holdout_days: Annotated[int, Field(ge=2)] = 30
    sealed_days: Annotated[int, Field(ge=1)] = 10
    stopping_days: Annotated[int, Field(ge=1)] = 7
    """Last days of the training window: they decide when training stops and are not trained on."""

    @model_validator(mode="after")
    def _leaves_test_days(self) -> Windows:
        if self.sealed_days >= self.holdout_days:
            raise ValueError("sealed_days must be fewer than holdout_days, or no day is left to test on")
        return self


class Range(Part):
    """What a hyperparameter may be."""

    low: float
    high: float
    integer: bool = False
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.high <= self.low:
            raise ValueError(f"high ({self.high}) is not above low ({self.low})")
        return self


class Hyperparameter(Part):
    """A setting of training: the value to start from and what a search may try."""

    default: float | int | str | bool
    range: Range | None = None
    choices: tuple[float | int | str, ...] = ()

    @model_validator(mode="after")
    def _can_be_searched(self) -> Hyperparameter:
        number = isinstance(self.default, int | float) and not isinstance(self.default, bool)
        if self.range and not number:
            raise ValueError(f"a range is for numbers, and the default is {self.default!r}: name choices")
        if self.range and self.choices:
            raise ValueError("range and choices are both set: a search can only follow one of them")
        return self


class Search(Part):
    """How much the search for settings before each training may cost, unless a run says otherwise."""

    trials: Annotated[int, Field(ge=0)] = 0
    """Trainings on the sample; 0: the settings are taken as they are."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """None begins after so many minutes of searching."""
    rows: Annotated[int, Field(ge=100)] = 20_000
    """Size of the sample."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that share the search; each trains on one core."""


class Resources(Part):
    """What an activity's pod may use, in Kubernetes' units."""

    cpu: Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")] = "1"
    memory: Annotated[str, Field(pattern=r"^\d+(Mi|Gi)$")] = "2Gi"
    gpu: Annotated[int, Field(ge=0)] = 0
    nodes: Annotated[int, Field(ge=1)] = 1
    processes: Annotated[int, Field(ge=1)] | None = None
    """Of training, on each node; null: one a GPU, or one where there is none."""

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number."""
        return int(self.memory[:-2]) * {"Mi": 2**20, "Gi": 2**30}[self.memory[-2:]]

    @property
    def cpus(self) -> float:
        """`cpu` as a number of cores."""
        return float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)


class Sla(Part):
    """What serving promises: requests per second at a latency (99th percentile) and a rate of errors."""

    rate: Annotated[float, Field(gt=0)]
    p99_ms: Annotated[float, Field(gt=0)]
    error_rate: Annotated[float, Field(ge=0, le=1)]


class Scaling(Part):
    """Up to `most` replicas, each with `in_flight` unanswered requests on average (see autoscaling)."""

    most: Annotated[int, Field(ge=1)]
    in_flight: Annotated[float, Field(gt=0)] = 2.0


class Serving(Part):
    """How the model is served."""

    replicas: Annotated[int, Field(ge=1)] = 2
    """How many there are to begin with, and at least."""
    scaling: Scaling | None = None
    """None: always `replicas`."""
    resources: Resources = Resources(cpu="1", memory="1Gi")
    """Of one replica on a cluster; it computes on one core."""
    sla: Sla

    @model_validator(mode="after")
    def _most_is_most(self) -> Serving:
        if self.scaling and self.scaling.most < self.replicas:
            raise ValueError(f"scaling.most ({self.scaling.most}) is fewer than replicas ({self.replicas})")
        return self


class ModelSpec(Part):
    """A model as Sevenfold knows it."""

    name: Name
    title: str
    owner: str
    description: str
    kind: Annotated[tasks.Kind, Field(alias="task")]
    target: str
    positive: str | None = None
    """Of a binary classification: what label 1 means, in words for people."""
    classes: Names = ()
    """Of a multiclass classification: the names of the classes; a label is the place of its class, from 0."""
    unit: str | None = None
    """Of a regression: what the label is measured in."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Of a regression: by more than this, in `unit`, a prediction is wrong."""
    features: Features
    groups: Names = ()
    """Columns of the rows whose values are the groups that fairness and slices look at."""
    data: Data
    windows: Windows = Windows()
    entry_points: dict[Name, EntryPoint]
    hyperparameters: dict[Name, Hyperparameter]
    search: Search = Search()
    resources: dict[str, Resources] = {}
    serving: Serving
    privacy: Privacy = Privacy()
    schedule: str | None = None
    """Cron expression of regular training, in the time zone UTC; null: only alarms and people start it."""
    folder: Path = Path()
    """Where the model lives; filled by load_spec."""

    @model_validator(mode="after")
    def _task_is_whole(self) -> ModelSpec:
        needed = tasks.settings_of(self.kind)
        for name in sorted({setting for kind in tasks.KINDS for setting in tasks.settings_of(kind)}):
            if bool(getattr(self, name)) != (name in needed):
                raise ValueError(f"task {self.kind} {'needs' if name in needed else 'has no'} {name}")
        self.task  # noqa: B018 - what it does not take is said now
        return self

    @property
    def task(self) -> Task:
        """What is learned, served, compared and watched."""
        given = {name: getattr(self, name) for name in tasks.settings_of(self.kind)}
        return tasks.of({"name": self.kind, **given})

    @model_validator(mode="after")
    def _names_agree(self) -> ModelSpec:
        if self.target in self.columns:
            raise ValueError(f"the target {self.target} is among the features")
        unknown = sorted(set(self.privacy.personal) - set(self.columns))
        if unknown:
            raise ValueError(f"privacy names as personal what is no feature: {', '.join(unknown)}")
        public = sorted(set(self.privacy.left_out) - set(self.privacy.personal))
        if public:
            raise ValueError(f"privacy leaves out what it does not name as personal: {', '.join(public)}")
        missing = sorted({"data", "network"} - set(self.entry_points))
        if missing:
            raise ValueError(f"entry_points lacks {' and '.join(missing)}")
        for environment in (name.split(".")[0] for name in self.resources):
            if environment not in ENVIRONMENTS:
                raise ValueError(f"resources names {environment!r}, which is none of the seven environments")
        return self

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric features, in the order of the artefact's input."""
        return self.features.numeric

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the categorical features, in the order of the artefact's input."""
        return self.features.categorical

    @property
    def columns(self) -> tuple[str, ...]:
        """All features, numeric first."""
        return self.numeric + self.categorical

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyperparameter's default."""
        return {name: setting.default for name, setting in self.hyperparameters.items()}

    def entry(self, name: str) -> Any:
        """The object that entry point `name` names.

        Raises:
            UnknownModel: the spec has no such entry point, or what it names cannot be imported.
        """
        target = self.entry_points.get(name)
        if target is None:
            raise UnknownModel(f"{self.folder / 'model.yaml'} has no entry point {name!r}")
        module, _, attribute = target.partition(":")
        if module.startswith("models."):
            _let_find(self.folder.parent)
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise UnknownModel(
                f"{self.folder / 'model.yaml'}, entry point {name}: {target} cannot be imported, {error}"
            ) from error

    def resources_of(self, environment: str, activity: str) -> Resources:
        """What the activity's pod may use: its own entry, else its environment's, else the default."""
        own = self.resources.get(f"{environment}.{activity}")
        return own or self.resources.get(environment) or Resources()

    def hyperparameters_with(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """The defaults with `overrides`, each of the default's kind.

        Raises:
            SevenfoldError: an override names no hyperparameter or is of the wrong kind. A value out of its
                search range is allowed: the gates judge what comes of it.
        """
        chosen = self.defaults
        for name, value in overrides.items():
            if name not in chosen:
                known = ", ".join(sorted(chosen))
                raise SevenfoldError(f"{self.name} has no hyperparameter {name!r}; it has {known}")
            default = chosen[name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(default, bool | str):
                fits = type(value) is type(default)
            else:
                fits = number and (isinstance(default, float) or float(value).is_integer())
            if not fits:
                kind = type(default).__name__
                raise SevenfoldError(f"hyperparameter {name} of {self.name} must be {kind}, not {value!r}")
            chosen[name] = type(default)(value)
        return chosen


def _let_find(models: Path) -> None:
    """Lets Python find models in the folder that the settings name, before those that ship."""
    package = importlib.import_module("models")
    if str(models) not in package.__path__:
        package.__path__.insert(0, str(models))


def load_spec(model: str, models_dir: Path | None = None) -> ModelSpec:
    """The spec of the model in folder `models_dir / model` (default: the settings' models folder).

    Raises:
        UnknownModel: there is no such model.
        InvalidFile: its model.yaml is wrong; the message names file, line and key.
    """
    return _load(model, (models_dir or settings().models).absolute())


def models(models_dir: Path | None = None) -> list[str]:
    """Names of all models, sorted."""
    folder = models_dir or settings().models
    return sorted(path.parent.name for path in folder.glob("*/model.yaml"))


@lru_cache(maxsize=64)
def _load(model: str, models_dir: Path) -> ModelSpec:
    path = models_dir / model / "model.yaml"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", model) or not path.is_file():
        known = ", ".join(models(models_dir)) or "none"
        raise UnknownModel(f"there is no model {model!r} in {models_dir}; there are: {known}")
    spec = strict_yaml.read(path, ModelSpec)
    if spec.name != model:
        raise UnknownModel(f"{path} says name: {spec.name}, but its folder is {model}")
    return spec.model_copy(update={"folder": path.parent})
