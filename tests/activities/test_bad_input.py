"""A walk through bad input, each through the program of a pod: one sentence, an exit code, no harm done.

An earlier candidate has been trained; whatever comes after it, it, its file, its registered version and the
champion stay as they were, and nothing half-written is left.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import toy
from tests.activities.toy_world import ToyWorld

from activities.testing import benchmark
from activities.training import train
from sevenfold.activity import Activity, run
from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate
from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.model import spec
from sevenfold.release import release
from sevenfold.settings import settings
from sevenfold.training import tracking

HYPERPARAMETERS = {"epochs": 2}


@dataclass(frozen=True)
class Earlier:
    """A home in which a candidate has been trained."""

    world: ToyWorld
    candidate: Candidate


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earlier]:
    folder = tmp_path_factory.mktemp("bad-input")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file keeps its artifacts beside it
        patch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
        world = ToyWorld(folder)
        activity = world.activity("train", "training", "good", hyperparameters=HYPERPARAMETERS)
        train.main(activity)
        yield Earlier(world, activity.candidate)


class Home(ToyWorld):
    """A copy of the earlier home, whose settings are the process's own."""

    def __init__(self, folder: Path, earlier: Earlier) -> None:
        shutil.copytree(earlier.world.settings.home, folder / "home")
        super().__init__(folder)
        self.settings = self.settings.model_copy(update={"mlflow_url": earlier.world.settings.mlflow_url})

    def takes_tables_of(self, function: str) -> None:
        """The model's data come from another function, and no snapshot has been made of them."""
        toy.spec_in(
            self.folder / "models",
            toy.MODEL_YAML.replace("tests.toy:build", f"tests.activities.bad_tables:{function}"),
        )
        spec._load.cache_clear()
        shutil.rmtree(self.settings.data / "toy")

    @property
    def snapshot(self) -> Path:
        """The folder of the one snapshot there is."""
        (manifest,) = (self.settings.data / "toy").glob("*/manifest.json")
        return manifest.parent

    def state(self) -> dict[str, Any]:
        """Everything that a failed run must not touch."""
        promotion = self.store.promotions("toy", "training")[0]
        return {
            "candidates": self.store.candidates("toy"),
            "promotion": promotion,
            "measurements": self.store.measurements(promotion.id),
            "release row": release.row(self.store, "toy"),
            "files": _files(self.settings.home / "artifacts"),
            "versions": [
                tracking.registered_version(self.settings.mlflow_url, "toy", one.id)
                for one in self.store.candidates("toy")
            ],
        }


@pytest.fixture
def home(earlier: Earlier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    world = Home(tmp_path, earlier)
    for name in ("home", "models", "mlflow_url"):
        monkeypatch.setenv(f"SEVENFOLD_{name.upper()}", str(getattr(world.settings, name)))
    settings.cache_clear()
    yield world
    settings.cache_clear()


@dataclass(frozen=True)
class Bad:
    """One bad input: how it comes about, the sentence, and the exit code."""

    name: str
    sentence: str
    tables: str = ""
    spoil: Callable[[Home], None] = lambda home: None
    params: dict[str, Any] = field(default_factory=lambda: {"hyperparameters": HYPERPARAMETERS})
    code: int = NO_RETRY_HELPS


def _no_partition(home: Home) -> None:
    (home.snapshot / "rows" / "2020-01-20.parquet").unlink()


def _cut_off(home: Home) -> None:
    path = home.snapshot / "rows" / "2020-01-20.parquet"
    path.write_bytes(path.read_bytes()[:1000])


def _vouched_for(home: Home, content: bytes) -> None:
    """The partition is something else, and its manifest says so too: as a faulty source would write it."""
    (home.snapshot / "rows" / "2020-01-20.parquet").write_bytes(content)
    path = home.snapshot / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["days"]["2020-01-20"]["rows"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def _cut_off_at_the_source(home: Home) -> None:
    _vouched_for(home, (home.snapshot / "rows" / "2020-01-20.parquet").read_bytes()[:1000])


def _another_type(home: Home) -> None:
    table = pq.read_table(home.snapshot / "rows" / "2020-01-20.parquet")
    text = table["height"].cast(pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(table.column_names.index("height"), "height", text), sink)
    _vouched_for(home, sink.getvalue().to_pybytes())


def _no_manifest(home: Home) -> None:
    (home.snapshot / "manifest.json").write_text("{")


def _disk_full(home: Home) -> None:
    """The kernel's own full disk stands where the checkpoint is written to."""
    (promotion,) = (
        p for p in home.store.promotions("toy", "training") if p.state == "running" and not p.candidate
    )
    path = train.checkpoint_of(Activity("train", promotion, home.store, home.settings))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.half").symlink_to("/dev/full")


BAD = [
    Bad(
        "a partition that is gone",
        r"the rows of toy on 2020-01-20 are gone: \S+ is missing",
        spoil=_no_partition,
    ),
    Bad(
        "a partition that is cut off",
        r"2020-01-20\.parquet is not what its manifest says .* truncated",
        spoil=_cut_off,
    ),
    Bad(
        "a partition that was cut off before it came",
        r"2020-01-20\.parquet cannot be read: ",
        spoil=_cut_off_at_the_source,
    ),
    Bad(
        "a partition whose column has another type",
        r"2020-01-20\.parquet: column height is string, and its manifest says float",
        spoil=_another_type,
    ),
    Bad(
        "a manifest that is cut off",
        r"the snapshot of toy has no readable manifest at \S+",
        spoil=_no_manifest,
    ),
    Bad("a day that the source lacks", r"the source of toy has no rows on 2020-01-20", tables="a_day_less"),
    Bad(
        "a column of the wrong type",
        r"column height of the rows of toy must be a number, but is string",
        tables="height_as_text",
    ),
    Bad("labels that are all equal", r"all .* labels of the training window are 1", tables="all_heads"),
    Bad(
        "a class that the task has not",
        r"the labels of toy must be 0 or 1, but 2",
        tables="a_third_side",
    ),
    Bad(
        "a class that only the test window has",
        r"the labels of toy must be 0 or 1, but 2",
        tables="a_third_side_later",
    ),
    Bad(
        "a loss that is no number",
        r"the loss became (nan|inf) in epoch 1 with a learning rate of 1e\+35: try a smaller one",
        params={"hyperparameters": HYPERPARAMETERS | {"learning_rate": 1e35}},
    ),
    Bad(
        "a setting that does not exist",
        r"toy has no hyperparameter 'lerning_rate'",
        params={"hyperparameters": {"lerning_rate": 1}},
    ),
    Bad(
        "a disk that is full while a checkpoint is written",
        r"the checkpoint of step \d+ could not be written to \S+ \(No space left on device\)",
        spoil=_disk_full,
        code=1,
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_one_sentence_and_no_harm(bad: Bad, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    number = bad.name.replace(" ", "-")
    home.activity("train", "training", number, **bad.params)
    if bad.tables:
        home.takes_tables_of(bad.tables)
    bad.spoil(home)
    before = home.state()
    code, said = ended(train.main, "training", number, capsys)
    assert code == bad.code, said
    assert re.search(bad.sentence, said), said
    assert "Traceback" not in said
    assert said.startswith("train: ")
    assert "\n" not in said
    assert home.state() == before
    assert _half_written(home.settings.data) == []
    assert home.store.measurements(f"toy/training/{number}") == []
    assert home.store.failures(f"toy/training/{number}") == {"train": said.removeprefix("train: ")}


def test_a_retry_succeeds_when_there_is_room_again(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.activity("train", "training", "room", hyperparameters=HYPERPARAMETERS | {"dropout": 0.2})
    _disk_full(home)
    assert ended(train.main, "training", "room", capsys)[0] == 1
    assert ended(train.main, "training", "room", capsys)[0] == 0
    assert len(home.store.candidates("toy")) == 2


def test_a_category_that_training_never_saw_is_no_error(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nature brings new categories; they share the code of whatever is not known."""
    home.takes_tables_of("a_new_colour")
    home.activity("train", "training", "new", hyperparameters=HYPERPARAMETERS)
    assert ended(train.main, "training", "new", capsys)[0] == 0
    candidate = home.store.promotion("toy/training/new").candidate
    activity = home.activity("benchmark", "testing", "new", candidate)
    assert ended(benchmark.main, "testing", "new", capsys)[0] == 0
    assert home.measured(activity)["log_loss"].value < 0.69


def test_a_promotion_that_nobody_began_is_one_sentence_too(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ended(train.main, "training", "nobody", capsys)
    assert code == NO_RETRY_HELPS
    assert "toy/training/nobody" in said
    assert "\n" not in said


def ended(
    main: Callable[[Activity], None], environment: str, number: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Runs an activity as its pod does: the exit code, and what stands on stderr."""
    capsys.readouterr()
    try:
        run(main, ["--model", "toy", "--environment", environment, "--run", number])
    except SystemExit as end:
        return int(end.code or 0), capsys.readouterr().err.strip()
    return 0, capsys.readouterr().err.strip()


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _half_written(data: Path) -> list[Path]:
    return [path for path in data.rglob(".*") if path.name != ".lock"] + list(
        (data / "checkpoints").glob("*.half")
    )
