"""Gate files: what the grammar takes, what it refuses and how it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from ruamel.yaml import YAML

from sevenfold.environments import ENVIRONMENTS
from sevenfold.gates.policy import SCHEMA, Metric, Policy, RuleName, gate_path, load_gate, load_policy, schema
from sevenfold.gates.rules import RULES
from sevenfold.settings import REPOSITORY
from sevenfold.strict_yaml import InvalidFile

GATES = sorted((REPOSITORY / "include" / "models").glob("*/gates/*.yaml"))

HEAD = """\
environment: testing
model: flight_delay
description: A gate for the tests of gates.
metrics:
  - metric: log_loss
    activity: benchmark
    unit: nats
    direction: lower
    meaning: It must not be worse.
"""
GOOD = HEAD + "    rule: at_most\n    limit: 0.69\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "testing.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    assert [(metric.metric, metric.rule, metric.limit) for metric in policy.metrics] == [
        ("log_loss", "at_most", 0.69)
    ]


# Each: what is appended to the first metric, and what the error must name.
REFUSED = {
    "unknown key": ("    rule: at_most\n    limit: 1\n    limmit: 2\n", "line 12", "limmit"),
    "metric without a rule": ("    limit: 1\n", "line 5", "rule"),
    "margin without a baseline": ("    rule: non_inferior\n    margin: 0.01\n", "line 5", "margin without a"),
    "rule without its limit": ("    rule: at_most\n", "line 5", "needs the key 'limit'"),
    "baseline without a margin": (
        "    rule: non_inferior\n    baseline: champion\n",
        "line 5",
        "needs the key 'margin'",
    ),
    "key that the rule does not know": (
        "    rule: at_most\n    limit: 1\n    harm: 2\n",
        "line 5",
        "no use for the key 'harm'",
    ),
    "dry run without expiry": ("    rule: at_most\n    limit: 1\n    dry_run: {}\n", "line 12", "until"),
    "dry run that never ends": ("    rule: at_most\n    limit: 1\n    dry_run: true\n", "line 12", "dry_run"),
    "unknown rule": ("    rule: at_mots\n    limit: 1\n", "line 10", "rule"),
    "limit that is no number": ("    rule: at_most\n    limit: .nan\n", "line 11", "finite"),
    "limit as text": ("    rule: at_most\n    limit: '1'\n", "line 11", "limit"),
    "duration that is none": (
        "    rule: at_most\n    limit: 1\n    deadline: 2 weeks\n",
        "line 12",
        "2 weeks",
    ),
    "limit on the wrong side": ("    rule: at_least\n    limit: 1\n", "line 5", "pass the worst"),
    "ratio margin that is no factor": (
        "    rule: rate_ratio\n    baseline: champion\n    margin: 0.5\n",
        "line 5",
        "above 1",
    ),
    "polled by a rule that may be looked at once": (
        "    rule: at_most\n    limit: 1\n    interval: 1m\n",
        "line 5",
        "again and again",
    ),
    "count without interval": (
        "    rule: at_most\n    limit: 1\n    count: 3\n",
        "line 5",
        "without interval",
    ),
    "deadline before the last interval": (
        "    rule: binomial\n    limit: 0.1\n    interval: 1m\n    count: 30\n    deadline: 5m\n",
        "line 5",
        "deadline 5 min ends",
    ),
    "polled without a deadline": (
        "    rule: binomial\n    limit: 0.1\n    interval: 1m\n",
        "line 5",
        "interval without a deadline",
    ),
    "deadline before the labels are final": (
        "    rule: rate_ratio\n    baseline: champion\n    margin: 2\n    interval: 1m\n    deadline: 2h\n"
        "    matured_after: 36h\n",
        "line 5",
        "before the first label is final",
    ),
    "no slices at all": ("    rule: at_most\n    limit: 1\n    slices: []\n", "line 5", "slices is empty"),
    "fairness without any limit": ("    rule: fairness\n", "line 5", "needs a limit"),
    "within an empty range": (
        "    rule: within\n    within: [2, 1]\n",
        "line 5",
        "direction inside and rule within belong together",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_file_line_and_key(case: str, tmp_path: Path) -> None:
    text, line, words = REFUSED[case]
    path = write(tmp_path, HEAD + text)
    with pytest.raises(InvalidFile) as refused:
        load_policy(path)
    sentence = str(refused.value)
    print(sentence)
    assert str(path) in sentence
    assert f"{line}," in sentence
    assert words in sentence


STEPS = """\
steps:
  - {share: 0.05, bake: 10m, requests: 25, deadline: 1h}
  - {share: 0.5, bake: 1h, deadline: 6h}
"""


def with_steps(folder: Path, steps: str) -> Path:
    return write(folder, GOOD.replace("testing", "production").replace("metrics:", f"{steps}metrics:"))


def test_the_steps_of_a_canary_stand_in_the_gate(tmp_path: Path) -> None:
    first, second = load_policy(with_steps(tmp_path, STEPS)).steps
    assert (first.share, first.bake.total_seconds(), first.requests) == (0.05, 600, 25)
    assert (second.requests, second.deadline.total_seconds()) == (1, 6 * 3600)


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("share: 0.5,", "share: 0.05,", "must rise"),
        ("share: 0.5,", "share: 1.5,", "share"),
        ("bake: 1h", "bake: 12h", "ends before a bake of 12 h"),
        ("bake: 1h, ", "", "bake"),
        ("bake: 1h", "bake: 1h, pause: 5m", "pause"),
    ],
)
def test_steps_that_cannot_be_meant_are_refused(tmp_path: Path, was: str, becomes: str, words: str) -> None:
    with pytest.raises(InvalidFile, match=words):
        load_policy(with_steps(tmp_path, STEPS.replace(was, becomes)))


def test_steps_belong_to_production(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="testing has none"):
        load_policy(write(tmp_path, GOOD.replace("metrics:", f"{STEPS}metrics:")))


def test_both_directions_for_one_name_are_refused(tmp_path: Path) -> None:
    other = GOOD.split("metrics:\n")[1].replace("lower", "higher").replace("at_most", "at_least")
    with pytest.raises(InvalidFile, match="log_loss is better both higher and lower"):
        load_policy(write(tmp_path, GOOD + other))


def test_the_same_question_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="judged 2 times by at_most"):
        load_policy(write(tmp_path, GOOD + GOOD.split("metrics:\n")[1]))


def test_a_gate_that_is_all_dry_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="this gate decides nothing"):
        load_policy(write(tmp_path, GOOD + "    dry_run: {until: 2027-01-31}\n"))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="limit"):
        load_policy(write(tmp_path, GOOD + "    limit: 0.5\n"))


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"gates/testing\.yaml"):
        load_gate(tmp_path, "flight_delay", "testing")


def test_a_gate_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    path = gate_path(tmp_path, "flight_delay", "staging")
    path.parent.mkdir(parents=True)
    path.write_text(GOOD)
    with pytest.raises(InvalidFile, match="the gate of flight_delay in testing"):
        load_gate(tmp_path, "flight_delay", "staging")


def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    same = GOOD.replace("limit: 0.69", "limit: 0.690  # ln 2").replace("model: flight_delay\n", "")
    assert load_policy(write(tmp_path, same + "model: flight_delay\n")).hash == policy.hash
    assert load_policy(write(tmp_path, GOOD.replace("0.69", "0.68"))).hash != policy.hash


def test_a_key_at_its_default_is_no_key(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    spelt_out = load_policy(write(tmp_path, GOOD + "    alpha: 0.05\n    critical: true\n"))
    assert spelt_out.hash == policy.hash
    assert load_policy(write(tmp_path, GOOD + "    alpha: 0.04\n")).hash != policy.hash


def test_every_key_changes_the_hash(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    metric = policy.metrics[0]
    changed: dict[str, Any] = {"limit": 1.0, "alpha": 0.01, "critical": False, "min_sample": 7, "unit": "ms"}
    for key, value in changed.items():
        other = policy.model_copy(update={"metrics": (metric.model_copy(update={key: value}),)})
        assert Policy.model_validate(other.model_dump()).hash != policy.hash, key


def test_a_policy_cannot_be_changed(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        policy.metrics[0].limit = 2.0  # type: ignore[misc]


def test_every_rule_has_a_name_in_the_grammar() -> None:
    assert set(get_args(RuleName)) == set(RULES)


def test_every_key_is_described() -> None:
    assert not [key for key, field in Metric.model_fields.items() if not field.description]


def test_the_schema_is_current() -> None:
    assert SCHEMA.read_text() == schema(), "run: python -m sevenfold.gates.policy"


@pytest.mark.parametrize("path", GATES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_gates_fit_their_place_and_the_schema(path: Path) -> None:
    policy = load_policy(path)
    assert gate_path(REPOSITORY / "include" / "models", policy.model, policy.environment) == path
    first = path.read_text().splitlines()[0]
    marker = "# yaml-language-server: $schema="
    assert first.startswith(marker)
    assert (path.parent / first.removeprefix(marker)).resolve() == SCHEMA
    document = json.loads(json.dumps(YAML(typ="safe").load(path.read_text()), default=str))
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))


def test_every_environment_that_promotes_has_a_gate() -> None:
    """Monitoring promotes nothing, and a gate that nobody asks would be a gate for show."""
    assert {path.stem for path in GATES if path.parts[-3] == "flight_delay"} == set(ENVIRONMENTS[:-1])


@pytest.mark.parametrize("key", ["limmit", "dry-run"])
def test_the_schema_refuses_unknown_keys_too(key: str) -> None:
    document = YAML(typ="safe").load(GOOD)
    document["metrics"][0][key] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))
