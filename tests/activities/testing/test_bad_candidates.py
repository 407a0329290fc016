"""A walk through bad candidates: each is refused by the real gate of flights, for the right reason.

One honest network, trained for a few seconds on real flights, passes the whole gate. Every bad one is that
network spoilt in one way; who should see it measures it, and all other readings stay the honest one's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from tests.activities.testing.bad_candidates import LEAK, LeakySnapshot, Spoiler, trained
from tests.flights import flights

from activities.preproduction import fairness
from activities.testing import (
    adversarial,
    benchmark,
    contract,
    resources,
    validate_data,
    validate_model,
)
from sevenfold.activity import Activity
from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate, hash_of_gates
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.environments import before
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import open_store
from sevenfold.gates.analysis import AnalysisRun, judge
from sevenfold.gates.conclude import conclude
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Policy
from sevenfold.gates.verdict import Verdict
from sevenfold.model.spec import load_spec
from sevenfold.release.promotion import Promotion
from sevenfold.settings import Settings, settings

SPEC = load_spec("flight_delay")
AS_OF = datetime(2013, 5, 1, tzinfo=UTC)
TESTING = (validate_data, validate_model, benchmark, contract, adversarial, resources)


class Walk:
    """The evidence store, the honest network, and what the gate says of others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: Settings = settings()
        self.store = open_store(self.settings.evidence_url, self.settings.secrets / "evidence")
        self.artifacts = open_artifacts(self.settings.artifacts_url)
        self.gates = lineage.gates(self.settings.models, SPEC.name)
        self.windows = windows(SPEC, AS_OF)
        learned = trained(SPEC, flights(), self.windows, folder)
        self.spoil = Spoiler(learned.network, learned.encoder, folder)
        self.honest = self.candidate(self.spoil.honest())
        self.readings = [
            reading for activity in TESTING for reading in self.measured(self.honest, activity, "testing")
        ]

    def candidate(self, file: Path) -> Candidate:
        """A candidate of this file that has been let out of training."""
        hashes = {name: gate.hash for name, gate in self.gates.items()}
        candidate = self.store.add_candidate(
            Candidate(
                model=SPEC.name,
                model_digest=self.artifacts.put(file),
                data_snapshot="flights",
                code_commit="0" * 40,
                policy_hash=hash_of_gates(hashes),
                gates=hashes,
                as_of=AS_OF,
                train_window=self.windows.training,
            )
        )
        for environment in before("testing"):
            promotion = self.begin(candidate, environment)
            passed = AnalysisRun(
                promotion=promotion,
                candidate=candidate.id,
                environment=environment,
                policy_hash=hashes[environment],
                verdict=Verdict.SUCCESSFUL,
                reason="it is let through for the sake of the test",
                metrics=(),
            )
            conclude(self.store, promotion, passed)
        return candidate

    def begin(self, candidate: Candidate, environment: str) -> str:
        """The promotion of the candidate in an environment."""
        number = f"walk-{candidate.id}"
        return self.store.begin_promotion(
            SPEC.name, environment, number, candidate.id, AS_OF, "a walk", {}, "tests"
        ).id

    def measured(
        self, candidate: Candidate, activity: ModuleType, environment: str, champion: Candidate | None = None
    ) -> list[Measurement]:
        """What one activity measures of a candidate."""
        promotion = self.store.promotion(self.begin(candidate, environment))
        handle = Activity(activity.__name__.rpartition(".")[2], promotion, self.store, self.settings)
        handle.__dict__["champion"] = handle.__dict__["anchor"] = champion
        activity.main(handle)
        return self.store.measurements(promotion.id, handle.name)

    def judged(
        self,
        file: Path,
        activity: ModuleType,
        environment: str = "testing",
        champion: Candidate | None = None,
    ) -> AnalysisRun:
        """What the gate says when this activity measures the file, and all others measured the honest one."""
        candidate = self.candidate(file)
        name = activity.__name__.rpartition(".")[2]
        found = self.measured(candidate, activity, environment, champion)
        promotion = self.store.promotion(self.begin(candidate, environment))
        others = [
            reading.model_copy(
                update={
                    "promotion": promotion.id,
                    "candidate": candidate.id,
                    "digest": candidate.model_digest,
                }
            )
            for reading in self.readings
            if reading.activity != name
        ]
        gate = self.gates[environment]
        if environment != "testing":
            gate = only(gate, name)
        return verdict_of(gate, [*found, *others], candidate, promotion, champion)


def verdict_of(
    gate: Policy,
    readings: list[Measurement],
    candidate: Candidate,
    promotion: Promotion,
    champion: Candidate | None = None,
) -> AnalysisRun:
    """The gate's verdict, now."""
    return judge(
        gate,
        readings,
        candidate,
        promotion,
        datetime.now(UTC),
        champion=champion,
        anchor=champion,
        accepted={gate.hash: ""},
        uses=1,
    )


def only(gate: Policy, activity: str) -> Policy:
    """The part of a gate that asks one activity."""
    return gate.model_copy(update={"metrics": tuple(m for m in gate.metrics if m.activity == activity)})


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVENFOLD_HOME", str(folder / "home"))
        patch.setenv("SEVENFOLD_DATA", str(flights().folder.parents[1]))
        patch.setenv("PYTHONPATH", os.pathsep.join(["include", "."]))
        patch.setattr(contract, "fuzz", lambda *given: contract.Fuzzed(1, (), ""))  # test_contract.py has it
        patch.setattr(resources, "LONGEST_S", 1.0)
        settings.cache_clear()
        yield Walk(folder)
    settings.cache_clear()


def test_the_honest_one_passes_the_whole_gate(walk: Walk) -> None:
    promotion = walk.store.promotion(walk.begin(walk.honest, "testing"))
    gate = walk.gates["testing"]
    run = verdict_of(gate, walk.readings, walk.honest, promotion)
    assert run.verdict is Verdict.SUCCESSFUL, run.reason


@dataclass(frozen=True)
class Bad:
    """A kind of bad candidate: who sees it, and by which metrics at least."""

    name: str
    activity: ModuleType
    metrics: tuple[str, ...]
    environment: str = "testing"
    beside_a_champion: bool = False


BAD = [
    Bad("uncalibrated", validate_model, ("failed_tests", "calibration_ratio")),
    Bad("too_sure", benchmark, ("log_loss",), beside_a_champion=True),
    Bad("fragile", adversarial, ("loss_under_attack",)),
    Bad("lost_far_from_home", adversarial, ("unclean_answers",)),
    Bad("slow", resources, ("cpu_per_request",)),
    Bad("huge", resources, ("model_size",)),
    Bad("unfair", fairness, ("true_positive_rate_gap",), environment="preproduction"),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_it_is_refused_for_the_right_reason(walk: Walk, bad: Bad) -> None:
    champion = walk.honest if bad.beside_a_champion else None
    run = walk.judged(getattr(walk.spoil, bad.name)(), bad.activity, bad.environment, champion)
    print(run.reason)
    assert run.verdict is Verdict.FAILED
    guilty = {result.metric for result in run.metrics if result.verdict is Verdict.FAILED}
    assert set(bad.metrics) <= guilty
    name = bad.activity.__name__.rpartition(".")[2]
    assert {result.activity for result in run.metrics if result.verdict is not Verdict.SUCCESSFUL} == {name}


def test_what_is_fragile_looks_as_good_as_the_honest_one_to_everybody_else(walk: Walk) -> None:
    for activity in (benchmark, validate_model):
        run = walk.judged(walk.spoil.fragile(), activity)
        assert run.verdict is Verdict.SUCCESSFUL, run.reason


def test_a_fair_one_passes_where_the_unfair_one_does_not(walk: Walk) -> None:
    run = walk.judged(walk.spoil.honest(), fairness, "preproduction")
    assert run.verdict is Verdict.SUCCESSFUL, run.reason


def test_shuffled_labels_teach_nothing(walk: Walk) -> None:
    learned = trained(SPEC, flights(), walk.windows, walk.folder, shuffled=True)
    file = Spoiler(learned.network, learned.encoder, walk.folder).honest()
    run = walk.judged(file, benchmark)
    assert run.verdict is Verdict.FAILED
    failed = {(result.metric, result.rule) for result in run.metrics if result.verdict is Verdict.FAILED}
    assert ("auc", "within") in failed, run.reason


def test_a_feature_that_knows_the_outcome_is_named(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_data, "snapshot", leaky)
    run = walk.judged(walk.spoil.honest(), validate_data)
    assert run.verdict is Verdict.FAILED
    assert LEAK in run.reason
    assert "association" in run.reason


def test_a_candidate_that_learned_from_the_leak_is_too_good(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "snapshot", leaky)
    learned = trained(SPEC, leaky(SPEC), walk.windows, walk.folder)
    file = Spoiler(learned.network, learned.encoder, walk.folder).honest()
    run = walk.judged(file, benchmark)
    assert run.verdict is Verdict.FAILED
    (result,) = [result for result in run.metrics if result.verdict is Verdict.FAILED]
    assert (result.metric, result.rule) == ("auc", "within")
    assert result.value is not None
    assert result.value > 0.95


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("wrong_type", r"the server did not start: .* answers 1 rows with float64 \[1\], not float32"),
        ("lost_without_a_carrier", r"the server did not start: .* cannot answer 1 rows of zeros"),
        ("pickled", r"is a pickle, which runs code when it is loaded"),
    ],
)
def test_what_cannot_be_served_ends_in_a_sentence_and_never_passes(
    walk: Walk, kind: str, sentence: str
) -> None:
    candidate = walk.candidate(getattr(walk.spoil, kind)())
    with pytest.raises(SevenfoldError, match=sentence):
        walk.measured(candidate, contract, "testing")
    promotion = walk.store.promotion(walk.begin(candidate, "testing"))
    assert walk.store.measurements(promotion.id) == []
    run = verdict_of(walk.gates["testing"], [], candidate, promotion)
    assert run.verdict is Verdict.ERROR


def leaky(spec: object, *given: object) -> LeakySnapshot:
    """Stands in for sevenfold.data.snapshot.snapshot."""
    return LeakySnapshot(SPEC, snapshot(SPEC, flights().folder.parents[1]).folder)
