"""A store with the toy model and its gates, for tests of the tasks that read and write it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests import toy
from tests.sevenfold.evidence_world import public_key, signed

from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate, hash_of_gates
from sevenfold.environments import ENVIRONMENTS
from sevenfold.evidence.store import Store, open_store
from sevenfold.gates.conclude import conclude
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import load_gate
from sevenfold.model.spec import ModelSpec
from sevenfold.people.gate_change import request_change, terms_of
from sevenfold.people.request import grant, granting, wording
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings

AS_OF = datetime(2020, 2, 20, tzinfo=UTC)

GATE = """\
environment: {environment}
model: toy
description: One number has to be small enough.
metrics:
  - metric: loss
    activity: train
    unit: nats
    direction: lower
    rule: at_most
    limit: 0.5
    deterministic: true
    meaning: It must be lower than one half.
"""
POLLED = """\
  - metric: errors
    activity: canary
    unit: share
    direction: lower
    rule: binomial
    limit: 0.2
    interval: 1s
    deadline: {deadline}
    meaning: At most every fifth answer may be an error.
"""


class World:
    """The toy's store, and short words for what tests want of it."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.spec: ModelSpec = toy.spec_in(self.models)
        gates = self.models / "toy" / "gates"
        gates.mkdir()
        for environment in ENVIRONMENTS:
            (gates / f"{environment}.yaml").write_text(GATE.format(environment=environment))
        self.store: Store = open_store()
        for person in ("ann", "bob"):
            self.store.people.add(person, public_key(person))

    def polled(self, environment: str, deadline: str = "1h") -> None:
        """Adds a metric to the environment's gate that is measured interval by interval."""
        path = self.models / "toy" / "gates" / f"{environment}.yaml"
        path.write_text(GATE.format(environment=environment) + POLLED.format(deadline=deadline))
        for made in self.store.candidates("toy"):
            self.let_through(made, environment)

    def let_through(self, made: Candidate, environment: str) -> None:
        """Two people let the gate as it is now judge a candidate that was made under another one."""
        gate = load_gate(self.models, "toy", environment)
        asked = wording("gate", f"toy/{environment}", terms_of(made, gate), "test")
        request = request_change(self.store, made, gate, "test", "bob", signed("bob", asked))
        grants = signed("ann", granting(request, "test"))
        with self.store.writing() as connection:
            grant(connection, self.store.people, request.number, "test", "ann", grants)

    def candidate(self, name: str = "first", **more: Any) -> Candidate:
        digest = sha256(name.encode()).hexdigest()
        written = lineage.gates(self.models, "toy")
        gates = {of: gate.hash for of, gate in written.items()}
        made = Candidate(
            model="toy",
            model_digest=digest,
            data_snapshot="d",
            code_commit="c",
            policy_hash=hash_of_gates(gates),
            gates=gates,
            as_of=AS_OF,
            train_window=(AS_OF, AS_OF),
            **more,
        )
        return self.store.add_candidate(made, written.values())

    def begin(self, environment: str, run: str, candidate: Candidate | None) -> Promotion:
        return self.store.begin_promotion(
            "toy", environment, run, candidate.id if candidate else None, AS_OF, "test", {}, "ada"
        )

    def measure(self, promotion: Promotion, loss: float | None = 0.1, **more: Any) -> None:
        """One reading for the gate, of `loss` unless `more` says otherwise."""
        candidate = self.store.candidate(promotion.candidate or "")
        reading: dict[str, Any] = {
            "promotion": promotion.id,
            "candidate": candidate.id,
            "digest": candidate.model_digest,
            "activity": "train",
            "metric": "loss",
            "value": loss,
            "n": 1000,
        }
        self.store.record([Measurement(**reading | more)])

    def passes(self, candidate: Candidate, *environments: str) -> None:
        """Lets the candidate pass these environments, with evidence."""
        from sevenfold.gates.analyse import analyse

        for environment in environments:
            promotion = self.begin(environment, f"{environment}-{candidate.id}", candidate)
            self.measure(promotion)
            conclude(self.store, promotion.id, analyse(self.store, promotion.id, datetime.now(UTC)))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A world of its own; the settings of this process point to it while the test runs."""
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEVENFOLD_MODELS", str(tmp_path / "models"))
    for name in ("EVIDENCE_URL", "ARTIFACTS_URL", "DATA", "SECRETS", "LOGS"):
        monkeypatch.delenv(f"SEVENFOLD_{name}", raising=False)
    (tmp_path / "home").mkdir()
    settings.cache_clear()
    yield World(tmp_path)
    settings.cache_clear()
