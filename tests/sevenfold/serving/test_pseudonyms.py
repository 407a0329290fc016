"""Personal features: logs have keyed hashes of them or nothing, and everything else goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from tests.activities.monitoring.traffic import between, give_back, serve
from tests.toy import build, spec_in

from sevenfold.model.spec import ModelSpec, Privacy
from sevenfold.monitoring import joined
from sevenfold.secrets import UnsafeSecrets
from sevenfold.security.privacy import privacy
from sevenfold.serving import log, server
from sevenfold.serving.log import PredictionLog
from sevenfold.serving.protocol import Signature
from sevenfold.serving.pseudonyms import FILE, Pseudonyms, pseudonyms, rotate
from sevenfold.settings import Settings
from sevenfold.strict_yaml import InvalidFile

ROWS, LABELS = build(lambda line: None)
START = datetime(2020, 1, 1, tzinfo=UTC)


def personal(spec: ModelSpec, *names: str, left_out: tuple[str, ...] = ()) -> ModelSpec:
    return spec.model_copy(update={"privacy": Privacy(personal=names, left_out=left_out)})


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """Height and colour are personal."""
    return personal(spec_in(tmp_path / "models"), "height", "colour")


def play(spec: ModelSpec, place: Path, day: int, hidden: Pseudonyms | None = None) -> pa.Table:
    rows = between(ROWS, START + timedelta(days=day), START + timedelta(days=day + 1))
    odds = np.linspace(0.1, 0.9, rows.num_rows)
    serve(place / "logs", spec, "toy-1", rows, odds, request=f"d{day}-", personal=hidden)
    return rows


def problems(spec: ModelSpec, place: Path) -> list[str]:
    return [one.rpartition(" keeps ")[2] for one in privacy(spec, place / "logs", place / "joined").problems]


def test_equal_values_have_equal_hashes_and_nothing_else_has(tmp_path: Path, spec: ModelSpec) -> None:
    one = pseudonyms(spec, tmp_path)
    assert one == pseudonyms(spec, tmp_path), "the key is kept"
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    assert one.of("height", 1.1) == one.of("height", float(np.float32(1.1))) != one.of("height", 1.2)
    assert one.of("height", 0.0) == one.of("height", -0.0)
    assert one.of("height", None) is None and one.of("height", float("nan")) is None
    assert one.of("colour", "") is not None
    other = Pseudonyms("other", one.hashed, one.left_out, one.name, one.key)
    rotated = rotate(tmp_path)
    after = pseudonyms(spec, tmp_path)
    assert rotated == after.name != one.name
    hashes = [who.of(*what) for who in (one, other, after) for what in (("height", "x"), ("colour", "x"))]
    assert len({hashed.rpartition(":")[2] for hashed in hashes}) == 6


def test_a_model_with_personal_features_passes_the_privacy_check_and_is_joined(
    tmp_path: Path, spec: ModelSpec
) -> None:
    hidden = pseudonyms(spec, tmp_path)
    rows = play(spec, tmp_path, 0, hidden)
    give_back(tmp_path / "logs", "toy", LABELS)
    assert problems(spec, tmp_path) == []
    (file,) = (tmp_path / "logs" / "predictions").rglob("*.jsonl")
    for colour in ("blue", "green", "red"):
        assert colour not in file.read_text()
    logged = log.predictions(tmp_path / "logs", "toy")
    assert logged["id"].to_pylist() == rows["id"].to_pylist()
    assert logged["colour"].to_pylist() == hidden.column("colour", rows["colour"].to_pylist())
    assert logged["height"].to_pylist() == hidden.column("height", rows["height"].to_pylist())
    np.testing.assert_array_equal(logged["width"].to_numpy(), rows["width"].to_numpy())
    joined.update(tmp_path / "days", tmp_path / "logs", "toy", START + timedelta(days=9), timedelta(hours=36))
    table = joined.read(tmp_path / "days", START + timedelta(days=9), timedelta(hours=36))
    assert table.num_rows == 50 and table["label"].null_count == 5
    assert table["colour"].to_pylist() == logged["colour"].to_pylist()


def test_one_that_logs_them_in_clear_fails(tmp_path: Path, spec: ModelSpec) -> None:
    play(spec, tmp_path, 0)
    assert problems(spec, tmp_path) == ["colour in plain", "height in plain"]


def test_what_only_looks_like_a_hash_fails(
    tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = pseudonyms(spec, tmp_path)
    monkeypatch.setattr(Pseudonyms, "of", lambda self, name, value: None if name == "height" else str(value))
    play(spec, tmp_path, 0, hidden)
    assert problems(spec, tmp_path) == ["colour in plain"]


def test_of_what_is_left_out_there_is_nothing(tmp_path: Path, spec: ModelSpec) -> None:
    spec = personal(spec, "height", "width", "colour", left_out=("height", "width"))
    play(spec, tmp_path, 0, pseudonyms(spec, tmp_path))
    assert problems(spec, tmp_path) == []
    logged = log.predictions(tmp_path / "logs", "toy")
    assert logged.num_rows == 50 and not {"height", "width"} & set(logged.column_names)
    assert logged["colour"].null_count == 0


def test_what_was_logged_before_the_rule_is_not_read_as_if_it_were_a_hash(
    tmp_path: Path, spec: ModelSpec
) -> None:
    play(spec, tmp_path, 0)
    days, after = tmp_path / "days", START + timedelta(days=9)
    joined.update(days, tmp_path / "logs", "toy", START + timedelta(days=3), timedelta(hours=36))
    play(spec, tmp_path, 2, pseudonyms(spec, tmp_path))
    joined.update(days, tmp_path / "logs", "toy", after, timedelta(hours=36))
    for read in (log.predictions(tmp_path / "logs", "toy"), joined.read(days, after, timedelta(hours=36))):
        assert read.num_rows == 100
        assert read["height"].null_count == 50, "numbers of before are not mixed with hashes"


def test_a_new_file_takes_the_new_key_and_a_broken_one_loses_the_line_not_the_secret(
    tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PredictionLog(
        tmp_path / "logs", "toy", "toy-1", Signature((), ("colour",)), lambda: pseudonyms(spec, tmp_path)
    )
    body = {"inputs": [{"name": "categorical", "shape": [1, 1], "datatype": "BYTES", "data": [["red"]]}]}

    def append(hours: int) -> None:
        later = (datetime.now(UTC) + timedelta(hours=hours)).timestamp()
        monkeypatch.setattr(log, "seconds_now", lambda: later)
        about = {"time": START, "request_id": f"r{hours}", "arm": "champion", "microseconds": 1}
        writer.append(prediction=np.zeros(1, np.float32), request=orjson.dumps(body), **about)

    append(0)
    new = rotate(tmp_path)
    append(1)
    append(24)
    kept = log.predictions(tmp_path / "logs", "toy")["colour"].to_pylist()
    assert kept[0] == kept[1] and kept[2].startswith(f"{new}:") and not kept[0].startswith(new)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(OSError, match="does not hold the key"):
        append(48)
    assert log.predictions(tmp_path / "logs", "toy").num_rows == 3


def test_a_replica_asks_the_model_s_rule_and_serves_nothing_without_it(
    tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Settings(home=tmp_path, models=tmp_path / "models")
    monkeypatch.setattr(server, "settings", lambda: here)
    assert server.hidden("toy")() is None
    assert not (here.secrets / FILE).exists(), "no key where nothing is personal"
    text = (tmp_path / "models" / "toy" / "model.yaml").read_text()
    shown = spec_in(tmp_path / "more", text + "privacy: {personal: [colour]}\n")
    monkeypatch.setattr(server, "settings", lambda: Settings(home=tmp_path, models=tmp_path / "more"))
    assert server.hidden("toy")() == pseudonyms(shown, here.secrets)
    (here.secrets / FILE).chmod(0o644)
    with pytest.raises(UnsafeSecrets, match="can be read by others"):
        server.hidden("toy")
    with pytest.raises(InvalidFile, match="leaves out what it does not name as personal: width"):
        spec_in(tmp_path / "bad", text + "privacy: {personal: [colour], left_out: [width]}\n")
