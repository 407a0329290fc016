"""A model of every kind of task is served, logged, joined, watched and compared as one of two classes is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import models
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.weeks import complete
from sevenfold.demo.player.batches import feedback
from sevenfold.development.rehearsing import rehearsed
from sevenfold.measures import arms, shadow, wrong
from sevenfold.model.scaffold import new_model
from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.model.tasks import KINDS
from sevenfold.monitoring import joined, weekly
from sevenfold.serving import log
from sevenfold.serving.server import application
from sevenfold.trials.asking import bodies
from sevenfold.trials.conformance import Conformance

CANDIDATE, OTHER = "served-0123456789ab", "other-0123456789ab"
AS_OF = datetime(2024, 3, 20, tzinfo=UTC)
START, END = datetime(2024, 3, 25, tzinfo=UTC), datetime(2024, 4, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Served:
    """A new model of one kind, a candidate's file, and the folder of its logs."""

    spec: ModelSpec
    data: Snapshot
    file: Path
    logs: Path

    @property
    def scorer(self) -> Scorer:
        return Scorer(self.file)

    def client(self, candidate: str, slot: str) -> Any:
        from starlette.testclient import TestClient

        app = application(self.spec.name, candidate, slot, self.file, self.logs)
        return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    name = f"served_{request.param.split('_')[0]}"
    new_model(name, request.param, "tests", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(folder)])
        spec = load_spec(name, folder)
        file = rehearsed(spec, AS_OF, folder / "data", folder)
        yield Served(spec, snapshot(spec, folder / "data"), file, folder / "logs")


def test_its_server_keeps_every_promise(served: Served, tmp_path: Path) -> None:
    rows = served.data.rows(START, START + timedelta(days=1), served.spec.columns).slice(0, 8)
    columns = {
        name: [None if value != value else value for value in rows[name].to_pylist()]
        for name in served.spec.columns
    }
    scorer = served.scorer
    here = Served(served.spec, served.data, served.file, tmp_path)
    checks = Conformance(
        here.client(CANDIDATE, "testing"), CANDIDATE, scorer.encoder, columns, scorer.predict(rows)
    ).check()
    assert [check for check in checks if check.violation] == []
    document = here.client(CANDIDATE, "testing").get("/openapi.json").json()
    assert served.spec.task.output.name in str(document)


def test_what_it_answers_is_logged_joined_and_watched(served: Served) -> None:
    spec, task = served.spec, served.spec.task
    rows = served.data.rows(START, END, spec.columns)
    for candidate, slot in ((CANDIDATE, "champion"), (OTHER, "shadow")):
        client = served.client(candidate, slot)
        for number, body in enumerate(bodies(spec, rows, 64)):
            said = client.post(
                f"/v2/models/{spec.name}/infer", content=body, headers={"x-request-id": f"r{number}"}
            )
            assert said.status_code == 200, said.text
    labels = served.data.labels(START, END).select(["id", "label", "known_at"])
    for _, body in feedback(labels):
        assert client.post(f"/v2/models/{spec.name}/feedback", content=body).status_code == 200

    mine = log.predictions(served.logs, spec.name, CANDIDATE)
    others = log.predictions(served.logs, spec.name, OTHER)
    assert mine.num_rows == others.num_rows == rows.num_rows
    by_id = dict(zip(mine["id"].to_pylist(), mine["prediction"].to_pylist(), strict=True))
    offline = served.scorer.predict(rows)
    for name, expected in zip(rows["id"].to_pylist()[:20], offline[:20], strict=True):
        np.testing.assert_allclose(by_id[name], expected, rtol=1e-5, atol=1e-5)

    joined_to = served.logs / "joined"
    later = END + timedelta(days=3)
    joined.update(joined_to, served.logs, spec.name, later, timedelta(hours=12))
    both = joined.read(joined_to, later, timedelta(hours=12), arms=("champion", "shadow"))
    assert both["label"].null_count == 0 and both.num_rows == 2 * rows.num_rows
    champion = both.filter(pa.compute.equal(both["candidate"], CANDIDATE))
    weeks = complete(spec.data.starts, START, END)
    readings = weekly.by_week(task, champion, weeks, 200)
    assert readings and all(0.5 < one.over_expected.value < 2 for one in readings)
    assert all(abs(one.excess_log_loss.value) < 0.3 for one in readings)

    pairs = shadow.pair(task, mine, others)
    assert (pairs.rows, pairs.lost, pairs.disagreements) == (rows.num_rows, 0, 0)
    found = shadow.losses(pairs, labels)
    assert found is not None and found.difference.value == pytest.approx(0, abs=1e-9)
    shadowed = both.filter(pa.compute.equal(both["candidate"], OTHER))
    compared = arms.mirrored(task, champion, shadowed)
    assert compared is not None and compared.difference.value == pytest.approx(0, abs=1e-9)
    since = datetime(2020, 1, 1, tzinfo=UTC)
    cohorts = wrong.wrong_decisions(
        served.logs, spec.name, task, "nobody", CANDIDATE, since=since, final=later
    )
    assert cohorts == []
