"""A small model with half a year of made-up data of known truth, and everything an activity needs of it.

The label's log odds are 1.5 times `pull` less 0.8, plus a weather of each day that no feature shows. `made`
writes an artefact with any weights, so a test says itself how good a candidate is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sevenfold.activity import Activity
from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate, hash_of_gates
from sevenfold.data.tabular import METADATA_KEY, Encoder
from sevenfold.environments import ENVIRONMENTS
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import Store, open_store
from sevenfold.settings import Settings

MODEL = "coin"
STARTS, DAYS, ROWS = date(2013, 1, 1), 181, 60
AS_OF = datetime(2013, 3, 15, tzinfo=UTC)
TRUE_WEIGHT = 1.5

SPEC = f"""
name: {MODEL}
title: A coin with a pull
owner: tests
description: made-up rows whose truth is known
task: binary_classification
target: heads
positive: comes up heads
features: {{numeric: [pull, noise], categorical: [place], known_at: {{time: [pull, noise, place]}}}}
groups: [place]
data: {{source: made up, code: [], starts: 2013-01-01, ends: 2013-07-01}}
windows: {{holdout_days: 20, sealed_days: 8, stopping_days: 3}}
entry_points: {{data: "tests.activities.small_world:build", network: "tests.activities.small_world:build"}}
hyperparameters: {{}}
serving: {{replicas: 1, sla: {{rate: 50, p99_ms: 500, error_rate: 0.01}}}}
"""


def build(progress: Callable[[str], None]) -> tuple[pa.Table, pa.Table]:
    """All rows and labels; the same at each call."""
    random = np.random.default_rng(7)
    n = DAYS * ROWS
    day = np.repeat(np.arange(DAYS), ROWS)
    minute = np.sort(random.integers(0, 24 * 60, size=(DAYS, ROWS)), axis=1).ravel()
    midnight = datetime(STARTS.year, STARTS.month, STARTS.day, tzinfo=UTC)
    time = [midnight + timedelta(days=int(d), minutes=int(m)) for d, m in zip(day, minute, strict=True)]
    pull, noise = random.normal(size=(2, n))
    weather = random.normal(0, 0.4, size=DAYS)[day]
    label = random.random(n) < 1 / (1 + np.exp(-(TRUE_WEIGHT * pull - 0.8 + weather)))
    ids = [f"c{number:05d}" for number in range(n)]
    rows = {
        "id": ids,
        "time": pa.array(time, pa.timestamp("us", tz="UTC")),
        "day": pa.array([STARTS + timedelta(days=int(d)) for d in day], pa.date32()),
        "pull": np.where(random.random(n) < 0.02, np.nan, pull),
        "noise": noise,
        "place": random.choice(["harbour", "hill", "moor"], size=n, p=[0.5, 0.4, 0.1]),
    }
    known = pa.array([moment + timedelta(hours=3) for moment in time], pa.timestamp("us", tz="UTC"))
    return pa.table(rows), pa.table({"id": ids, "label": label.astype(float), "known_at": known})


def made(
    path: Path, weight: float = TRUE_WEIGHT, bias: float = -0.8, *, noise: float = 0.0, breaks: float = 0.0
) -> Path:
    """An artefact that computes sigmoid(weight * pull + noise * noise + bias), missing numbers as 0.

    With `breaks` 3e38 the answer to every row whose log odds are far from zero is not a number.
    """
    from onnx import TensorProto, checker, helper, save

    node, initial = helper.make_node, helper.make_tensor
    graph = helper.make_graph(
        [
            node("IsNaN", ["numeric"], ["missing"]),
            node("Where", ["missing", "zero", "numeric"], ["numbers"]),
            node("MatMul", ["numbers", "weights"], ["pulled"]),
            node("Add", ["pulled", "bias"], ["logit"]),
            node("Mul", ["logit", "breaks"], ["large"]),
            node("Sub", ["large", "large"], ["nought"]),
            node("Sigmoid", ["logit"], ["unbroken"]),
            node("Add", ["unbroken", "nought"], ["probability_2d"]),
            node("Squeeze", ["probability_2d", "one"], ["probability"]),
        ],
        MODEL,
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["n", 1]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [
            initial("zero", TensorProto.FLOAT, [1], [0.0]),
            initial("weights", TensorProto.FLOAT, [2, 1], [weight, noise]),
            initial("bias", TensorProto.FLOAT, [1], [bias]),
            initial("breaks", TensorProto.FLOAT, [1], [breaks]),
            initial("one", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    vocabulary = {"place": ("harbour", "hill", "moor")}
    encoder = Encoder(MODEL, ("pull", "noise"), ("place",), vocabulary)
    helper.set_model_props(model, {METADATA_KEY: encoder.to_json()})
    checker.check_model(model)
    save(model, path)
    return path


class World:
    """A home folder with the small model in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home", models=folder / "models")
        (folder / "models" / MODEL).mkdir(parents=True)
        (folder / "models" / MODEL / "model.yaml").write_text(SPEC)
        self.store: Store = open_store(self.settings.evidence_url, self.settings.secrets / "evidence")
        self.artifacts = open_artifacts(self.settings.artifacts_url, folder / "cache")

    def candidate(self, **how: float) -> Candidate:
        """A candidate with an artefact made by `made(**how)`, in the store."""
        digest = self.artifacts.put(made(self.folder / "made.onnx", **how))
        gates = dict.fromkeys(ENVIRONMENTS, "f" * 64) | {
            of: gate.hash for of, gate in lineage.gates(self.settings.models, MODEL).items()
        }
        return self.store.add_candidate(
            Candidate(
                model=MODEL,
                model_digest=digest,
                data_snapshot="made up",
                code_commit="0" * 40,
                policy_hash=hash_of_gates(gates),
                gates=gates,
                as_of=AS_OF,
                train_window=(AS_OF - timedelta(days=60), AS_OF - timedelta(days=20)),
            )
        )

    def activity(
        self,
        name: str,
        environment: str,
        candidate: Candidate,
        champion: Candidate | None = None,
        params: Mapping[str, Any] | None = None,
        run: str = "r1",
    ) -> Activity:
        """The activity's handle in a promotion of `candidate`; `champion` stands in for the release row's."""
        promotion = self.store.begin_promotion(
            MODEL, environment, run, candidate.id, AS_OF, "a test", params or {}, "tests"
        )
        activity = Activity(name, promotion, self.store, self.settings)
        activity.__dict__["champion"] = champion
        return activity
