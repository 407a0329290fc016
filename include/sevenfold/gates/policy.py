"""A gate's policy: what an environment asks of a candidate, in a strict file for people and machines."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    PositiveInt,
    Strict,
    WithJsonSchema,
    model_validator,
)

from sevenfold import strict_yaml
from sevenfold.gates.measurement import Baseline
from sevenfold.gates.rules import RULES
from sevenfold.gates.rules.words import duration
from sevenfold.strict_yaml import InvalidFile

SCHEMA = Path(__file__).with_name("policy.schema.json")

RuleName = Literal[
    "at_least",
    "at_most",
    "within",
    "all_true",
    "non_inferior",
    "auc",
    "rate_ratio",
    "binomial",
    "latency_pairs",
    "fairness",
]
"""Every rule by name; a test keeps it equal to sevenfold.gates.rules.RULES."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _span(given: object) -> object:
    if not isinstance(given, str):
        return given
    if not given[:-1].isdigit() or given[-1] not in _UNITS or int(given[:-1]) == 0:
        raise ValueError(f"'{given}' is no duration: write a whole number and s, m, h or d, as in 30s or 36h")
    return timedelta(seconds=int(given[:-1]) * _UNITS[given[-1]])


Span = Annotated[
    timedelta,
    BeforeValidator(_span),
    PlainSerializer(lambda span: f"{int(span.total_seconds())}s", return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": "^[1-9][0-9]*[smhd]$", "examples": ["30s", "5m", "36h", "7d"]}
    ),
]
Share = Annotated[float, Field(gt=0, lt=1)]
Pair = Annotated[tuple[FiniteFloat, FiniteFloat], Strict(False)]
Names = Annotated[tuple[str, ...], Strict(False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DryRun(_Strict):
    """A trial: the metric is judged and recorded but decides nothing, until a day on which that ends."""

    until: date = Field(
        description="Last day of the trial; afterwards the metric is an Error until a person decides."
    )


class Metric(_Strict):
    """One thing that a gate asks about a candidate."""

    metric: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the measurement.")
    activity: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="The activity that measures it.")
    meaning: str = Field(
        min_length=10, description="One plain sentence: why this is asked and why this limit."
    )
    unit: str = Field(description="share (shown as per cent), nats, ms, rows, ratio ...")
    direction: Literal["higher", "lower", "inside"] = Field(
        description="Which is better; inside: neither, for a value between two limits."
    )
    rule: RuleName = Field(description="How it is judged.")
    baseline: Baseline = Field("none", description="What it is compared with on the same rows or requests.")
    limit: FiniteFloat | None = Field(None, description="Absolute limit, in the metric's unit.")
    within: Pair | None = Field(None, description="Two absolute limits, low and high.")
    warn: FiniteFloat | Pair | None = Field(
        None, description="A stricter limit (two for within): beyond it the metric passes with a warning."
    )
    margin: FiniteFloat | None = Field(
        None, description="How much worse than the baseline is still fine; for ratios a factor above 1."
    )
    harm: FiniteFloat = Field(
        1.0, ge=1, description="rate_ratio: rolls back when proven above so many times the champion's rate."
    )
    deterministic: bool = Field(
        False, description="The value is exact, no sample: it is judged without an interval."
    )
    alpha: Share = Field(0.05, le=0.5, description="Risk of passing what is beyond the limit or margin.")
    over_dispersion: FiniteFloat = Field(
        1.0, ge=1, description="By how much events are more spread than independent ones; from an A/A run."
    )
    min_sample: PositiveInt = Field(1, description="Rows or requests below which nothing is decided.")
    max_uses: PositiveInt | None = Field(
        None, description="How often this fixed test set may be used; alpha is spent over the uses."
    )
    interval: Span | None = Field(None, description="Polled: the length of one interval.")
    count: PositiveInt = Field(1, description="Intervals needed before it may pass; it may fail at any.")
    deadline: Span | None = Field(
        None, description="Time after its first reading at which a person is asked."
    )
    failure_limit: int = Field(
        0, ge=0, description="Failed intervals tolerated (deterministic polled metrics)."
    )
    inconclusive_limit: int = Field(0, ge=0, description="Undecided intervals tolerated (same).")
    error_limit: int = Field(
        0, ge=0, description="Unusable intervals tolerated: they are left out and named."
    )
    critical: bool = Field(True, description="If false a failure asks a person instead of rejecting.")
    slices: Literal["every"] | Names | None = Field(
        None, description="Judged on each of these slices, or on every slice that was measured."
    )
    min_slice_size: PositiveInt = Field(1, description="Smaller slices are reported and decide nothing.")
    matured_after: Span | None = Field(
        None, description="Labels are final so long after an interval's end; younger intervals are left out."
    )
    stale_after: Span = Field(timedelta(days=7), description="Readings older than this are not used.")
    dry_run: DryRun | None = Field(None, description="Judged and recorded, but decides nothing until then.")

    @property
    def polled(self) -> bool:
        """Measured interval by interval."""
        return self.interval is not None

    @model_validator(mode="after")
    def _makes_sense(self) -> Metric:
        for complaint in _complaints(self):
            raise ValueError(f"{self.metric}: {complaint}")
        return self


_BY_RULE = (
    "limit",
    "within",
    "warn",
    "margin",
    "baseline",
    "harm",
    "deterministic",
    "over_dispersion",
    "max_uses",
    "matured_after",
)
_POLLED = ("count", "failure_limit", "inconclusive_limit", "error_limit")


def _complaints(metric: Metric) -> Iterable[str]:
    """What is wrong with a metric as a whole, most helpful first."""
    rule = RULES[metric.rule]
    given = {key for key in Metric.model_fields if getattr(metric, key) != Metric.model_fields[key].default}
    if metric.margin is not None and metric.baseline == "none":
        yield "it has a margin without a baseline: say baseline: champion or baseline: anchor"
    for key in _BY_RULE:
        if key in rule.needs and key not in given:
            yield f"rule {rule.name} needs the key '{key}'"
        if key in given and key not in rule.needs | rule.takes:
            yield f"rule {rule.name} has no use for the key '{key}'"
    yield from _complaints_of_limits(metric)
    yield from _complaints_of_polling(metric, given)
    if metric.rule == "fairness" and metric.limit is None == metric.margin is None:
        yield "rule fairness needs a limit, or a baseline with a margin"
    if metric.slices is not None and not metric.slices:
        yield "slices is empty: name them, or say every"
    if metric.slices is None and "min_slice_size" in given:
        yield "min_slice_size without slices"


def _complaints_of_limits(metric: Metric) -> Iterable[str]:
    if (metric.direction == "inside") != (metric.rule == "within"):
        yield "direction inside and rule within belong together"
    if (metric.rule, metric.direction) in (("at_most", "higher"), ("at_least", "lower")):
        yield f"rule {metric.rule} does not fit direction {metric.direction}: it would pass the worst"
    if (
        metric.rule in ("binomial", "rate_ratio", "latency_pairs", "fairness", "all_true")
        and metric.direction != "lower"
    ):
        yield f"rule {metric.rule} counts what is bad, so its direction is lower"
    if metric.rule == "auc" and metric.direction != "higher":
        yield "an AUC is better the higher it is"
    if metric.rule in ("rate_ratio", "latency_pairs") and metric.margin is not None and metric.margin <= 1:
        yield f"margin {metric.margin:g} of rule {metric.rule} is a factor and must be above 1"
    if metric.rule == "rate_ratio" and metric.margin is not None and metric.harm > metric.margin:
        yield f"harm {metric.harm:g} is above margin {metric.margin:g}"
    if metric.margin is not None and metric.margin < 0:
        yield f"margin {metric.margin:g} is below zero"
    if metric.rule in ("binomial", "rate_ratio") and metric.limit is not None and not 0 < metric.limit < 1:
        yield f"limit {metric.limit:g} is no share between 0 and 1"
    if metric.within is not None and metric.within[0] >= metric.within[1]:
        yield f"within {list(metric.within)} is empty"
    if isinstance(metric.warn, tuple) != (metric.rule == "within") and metric.warn is not None:
        yield "warn has two values for rule within and one otherwise"


def _complaints_of_polling(metric: Metric, given: set[str]) -> Iterable[str]:
    rule = RULES[metric.rule]
    steps = not rule.live
    if metric.polled and rule.statistical and not rule.live and not metric.deterministic:
        yield (
            f"rule {rule.name} may be looked at once only, and interval has it looked at again and again: "
            "use rate_ratio or binomial, or drop interval"
        )
    if metric.polled and metric.deadline is None:
        yield "interval without a deadline: say when no larger sample is waited for"
    if metric.matured_after and metric.deadline and metric.deadline <= metric.matured_after:
        yield (
            f"deadline {duration(metric.deadline)} ends before the first label is final, "
            f"{duration(metric.matured_after)} after its request"
        )
    for key in _POLLED:
        if key in given and not metric.polled:
            yield f"{key} without interval"
    for key in ("failure_limit", "inconclusive_limit"):
        if key in given and not steps:
            yield f"rule {rule.name} judges all intervals together, so {key} means nothing to it"
    if metric.polled and metric.deadline is not None and metric.interval is not None:
        needed = metric.interval * metric.count
        if metric.deadline < needed:
            yield f"deadline {duration(metric.deadline)} ends before {metric.count} intervals have passed"


class CanaryStep(_Strict):
    """One level of exposure of a canary: the share, and what must be seen at it before the next one."""

    share: float = Field(gt=0, le=1, description="Part of the live requests that the candidate answers.")
    bake: Span = Field(description="It stays at this share at least so long.")
    requests: PositiveInt = Field(1, description="It answers at least so many requests at this share.")
    deadline: Span = Field(
        description="If it has not seen enough by then, the canary ends undecided; the gate waits or holds."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> CanaryStep:
        if self.deadline < self.bake:
            raise ValueError(
                f"deadline {duration(self.deadline)} ends before a bake of {duration(self.bake)} has passed"
            )
        return self


class NotAsked(_Strict):
    """Measurements that a gate leaves to people: what is not judged is named, with the reason."""

    activity: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="The activity that measures them.")
    metrics: Annotated[tuple[str, ...], Strict(False)] = Field(
        min_length=1, description="Names of the measurements."
    )
    why: str = Field(min_length=10, description="One plain sentence: why the gate does not ask for them.")


class Policy(_Strict):
    """The exit rule of one environment for one model."""

    environment: Literal[
        "development", "training", "testing", "staging", "preproduction", "production", "monitoring"
    ]
    model: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=10, description="What this gate protects, in a sentence or two.")
    steps: Annotated[tuple[CanaryStep, ...], Strict(False)] = Field(
        (), description="Production: how the canary's share of the live requests grows."
    )
    metrics: Annotated[tuple[Metric, ...], Strict(False)] = Field(min_length=1)
    not_asked: Annotated[tuple[NotAsked, ...], Strict(False)] = Field(
        (), description="What is measured and decides nothing, on purpose."
    )

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the content, whatever its layout, comments and order of keys.

        A key at its default is the same as no key: a grammar that gets a new one moves nobody's bar. Nor does
        what is not asked.
        """
        said = self.model_dump(mode="json", exclude_defaults=True, exclude={"not_asked"})
        content = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    @model_validator(mode="after")
    def _makes_sense(self) -> Policy:
        for name in {metric.metric for metric in self.metrics}:
            directions = {metric.direction for metric in self.metrics if metric.metric == name} - {"inside"}
            if len(directions) > 1:
                raise ValueError(f"{name} is better both higher and lower: give it one direction")
        keys = Counter((m.activity, m.metric, m.rule, m.baseline, m.slices) for m in self.metrics)
        for (activity, name, rule, baseline, _), times in keys.items():
            if times > 1:
                raise ValueError(f"{name} of {activity} is judged {times} times by {rule} against {baseline}")
        left = Counter((entry.activity, name) for entry in self.not_asked for name in entry.metrics)
        left.update({(m.activity, m.metric) for m in self.metrics} & set(left))
        for (activity, name), times in left.items():
            if times > 1:
                raise ValueError(f"{name} of {activity} stands in not_asked, and there again or in metrics")
        if all(metric.dry_run for metric in self.metrics):
            raise ValueError("every metric is in dry run, so this gate decides nothing")
        if self.steps and self.environment != "production":
            raise ValueError(f"steps are of a canary on live requests, and {self.environment} has none")
        shares = [step.share for step in self.steps]
        if any(later <= earlier for earlier, later in pairwise(shares)):
            raise ValueError(f"the shares of steps must rise, not {shares}")
        return self


def gate_path(models_dir: Path, model: str, environment: str) -> Path:
    """Where a model's gate of an environment lies."""
    return Path(models_dir) / model / "gates" / f"{environment}.yaml"


def load_gate(models_dir: Path, model: str, environment: str) -> Policy:
    """The gate of a model's environment.

    Raises:
        InvalidFile: there is none, or its file is wrong.
    """
    path = gate_path(models_dir, model, environment)
    policy = load_policy(path)
    if (policy.model, policy.environment) != (model, environment):
        raise InvalidFile(f"{path} is the gate of {policy.model} in {policy.environment}, not of its place")
    return policy


def load_policy(path: Path) -> Policy:
    """Reads one gate file.

    Raises:
        InvalidFile: no such file, no YAML, or what the grammar does not allow; names file, line, key.
    """
    return strict_yaml.read(Path(path), Policy)


def schema() -> str:
    """JSON schema of a gate file, by which editors complete it; checked in as policy.schema.json."""
    return json.dumps(Policy.model_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
