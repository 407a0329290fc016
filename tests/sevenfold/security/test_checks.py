"""Each check of security finds what it is there for, and is silent about what is sound."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.activities.small_world import made
from tests.toy import spec_in

from sevenfold.gateway.clusters import HEALTH
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring import answers, joined
from sevenfold.secrets import airflow_passwords
from sevenfold.security import dependencies, leaks, modelfile, privacy
from sevenfold.security.dependencies import Locked
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"


def package(**metadata: object) -> Locked:
    given = {"version": "1.0", "expression": None, "licence": None, "classifiers": []}
    return Locked("thing", "1.0", given | metadata)


@pytest.mark.parametrize(
    ("metadata", "fine"),
    [
        ({"expression": "MIT"}, True),
        ({"expression": "GPL-3.0-only OR MIT"}, True),
        ({"expression": "MIT AND (Apache-2.0 OR GPL-2.0-only)"}, True),
        ({"licence": "BSD 3-Clause License"}, True),
        ({"classifiers": ["OSI Approved", "Apache Software License"]}, True),
        ({"expression": "AGPL-3.0-only"}, False),
        ({"expression": "MIT AND GPL-3.0-only"}, False),
        ({"licence": "Proprietary"}, False),
        ({"licence": "UNKNOWN"}, False),
        ({"licence": "All rights reserved. " * 10}, False),
        ({}, False),
    ],
)
def test_a_licence_has_to_be_on_the_list(metadata: dict[str, object], fine: bool) -> None:
    check = dependencies.licences([package(**metadata)])
    assert (not check.problems) is fine, check.problems
    assert check.looked_at == 1


def test_the_lock_is_what_is_installed_and_may_be_shipped() -> None:
    packages = dependencies.locked(LOCK)
    assert len(packages) > 300
    assert dependencies.licences(packages).problems == ()
    assert dependencies.versions(packages).problems == ()
    assert dependencies.versions([package(version="1.1")]).problems == ("thing is 1.1, the lock says 1.0",)
    assert dependencies.versions([package(version="1.0+cpu")]).problems == ()


def test_without_a_lock_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(dependencies.NoLock, match="nobody knows what the images are made of"):
        dependencies.locked(tmp_path / "requirements.lock")


def test_a_gap_in_the_bill_is_found() -> None:
    packages = dependencies.locked(LOCK)
    bill = dependencies.bill_of_materials(packages, "toy-1", "a" * 64)
    assert dependencies.complete(bill, packages, "a" * 64).problems == ()
    short = json.loads(bill)
    gone = next(one for one in short["components"] if one.get("purl", "").startswith("pkg:pypi/numpy@"))
    short["components"].remove(gone)
    found = dependencies.complete(json.dumps(short), packages, "b" * 64).problems
    assert found == (
        f"{gone['purl']} is not in the bill",
        f"the model file {'b' * 64} is not in the bill",
    )


def test_a_model_file_that_may_do_more_than_compute_is_found(tmp_path: Path) -> None:
    import onnx

    good = made(tmp_path / "good.onnx")
    sound = modelfile.model_file(good)
    assert sound.problems == ()
    assert "scanned nothing" in sound.note

    foreign = onnx.load(good)
    foreign.graph.node[0].domain = "com.example"
    onnx.save(foreign, tmp_path / "foreign.onnx")
    outside = onnx.load(good)
    for tensor in outside.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(
        outside, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0, location="weights"
    )
    (tmp_path / "bomb.pkl").write_bytes(b"\x80\x02cposix\nsystem\n(S'id'\ntR.")  # never loaded
    (tmp_path / "torn.onnx").write_bytes(good.read_bytes()[:40])
    for name, said in {
        "foreign.onnx": "com.example",
        "outside.onnx": "another file",
        "bomb.pkl": "pickle",
        "torn.onnx": "no valid ONNX",
    }.items():
        found = modelfile.model_file(tmp_path / name).problems
        assert any(said in problem for problem in found), (name, found)
    assert any("modelscan" in line for line in modelfile.model_file(tmp_path / "bomb.pkl").problems)


def test_secrets_in_code_logs_and_reports_are_found(tmp_path: Path) -> None:
    code, secrets, logs = tmp_path / "code", tmp_path / "secrets", tmp_path / "logs"
    for folder in (code / "include", logs):
        folder.mkdir(parents=True)
    (code / "include" / "fine.py").write_text("x = 1\n")
    assert leaks.in_code(code).problems == ()
    key = "AKIA" + "QYLPMN5HHHFPZAM2"
    (code / "include" / "leak.py").write_text(f'x = 1\nkey = "{key}"\n')
    assert leaks.in_code(code).problems == ("include/leak.py, line 2: AWS Access Key",)
    (code / "include" / "leak.py").unlink()
    manifest = code / "include" / "pod.yaml"
    manifest.write_text("secretName: sevenfold-files\nchart: {mySecretName: airflow}\n")
    assert leaks.in_code(code).problems == ()
    manifest.write_text("secretName: sevenfold-files, clientSecret: hunter2hunter2\n")
    assert len(leaks.in_code(code).problems) == 1
    manifest.unlink()
    (code / "docker" / "server").mkdir(parents=True)
    for place, problems in {
        "docker/.env": 0,
        "docker/server/.env": 1,
    }.items():  # of `make compose`, and any other
        (code / place).write_text(f"AWS_ACCESS_KEY_ID={key}\n")
        assert len(leaks.in_code(code).problems) == problems, place

    keys, passwords = GatewayKeys(secrets), airflow_passwords(secrets)
    token = keys.standing()["predict"]
    page = tmp_path / "page.html"
    page.write_text("nothing here")
    (logs / "a.log").write_text("started\n")
    assert leaks.left_behind(secrets, {"logs": logs}, [page]).problems == ()
    (logs / "a.log").write_text(f"asked with Bearer {token}\n")
    (logs / "b.log").write_text(f"signed in as admin {passwords['admin']}\n")
    (logs / "c.log").write_text((secrets / "gateway_keys.json").read_text())
    page.write_text(f"<p>{key}</p>")
    assert set(leaks.left_behind(secrets, {"logs": logs}, [page]).problems) == {
        "a.log holds a secret of gateway_tokens.json",
        "b.log holds a secret of airflow.json",
        "c.log holds a secret of gateway_keys.json",
        "page.html, line 1: AWS Access Key",
    }


@pytest.mark.parametrize("before", [0, 5, 27, 32, 40, 95])
def test_a_secret_is_found_wherever_it_lies_in_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(leaks, "CHUNK", 32)
    known = {b"0123456789ab": "a short one", b"x" * 40: "a long one"}
    path = tmp_path / "a.log"
    path.write_bytes(b"." * before + b"0123456789ab" + b"." * 100)
    assert leaks.holding(path, known) == ["a short one"]
    path.write_bytes(b"." * before + b"x" * 40 + b"." * 100 + b"0123456789ab")
    assert leaks.holding(path, known) == ["a long one", "a short one"]
    path.write_bytes(b"." * before + b"0123456789a-b" + b"x" * 39)
    assert leaks.holding(path, known) == []


def test_nothing_to_look_for_is_said(tmp_path: Path) -> None:
    assert "none could be looked for" in leaks.left_behind(tmp_path / "none", {}, []).note


def test_a_place_that_is_not_there_was_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    places = {"logs": tmp_path / "logs", "Airflow's logs": tmp_path / "elsewhere"}
    check = leaks.left_behind(tmp_path / "none", places, [])
    assert check.title.startswith("No secret in logs (")
    assert f"Airflow's logs were not looked at: there is no {tmp_path / 'elsewhere'} here" in check.note


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    made = spec_in(tmp_path / "models")
    rule = made.privacy.model_copy(update={"personal": ("height",), "retention_days": 30})
    return made.model_copy(update={"privacy": rule})


def logged(logs: Path, name: str, columns: list[str], days_ago: float = 0.0) -> Path:
    path = logs / "predictions" / "toy" / "toy-1" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"columns": {"numeric": columns, "categorical": []}}) + "\n")
    moment = path.stat().st_mtime - days_ago * privacy.DAY_S
    os.utime(path, (moment, moment))
    return path


def test_what_logs_must_not_keep_is_found_and_too_old_logs_go(tmp_path: Path, spec: ModelSpec) -> None:
    logs = tmp_path / "logs"
    logged(logs, "1.jsonl", ["width"])
    access = dict.fromkeys(privacy.ACCESS_FIELDS, "x")
    gateway = logs / answers.FOLDER / "here.a.jsonl"
    gateway.parent.mkdir()
    gateway.write_text(f"{json.dumps(access)}\n" * 3)
    days = tmp_path / "joined"
    days.mkdir()
    now = datetime.now(UTC)
    for name, days_ago in {"2013-01-01": 29, "2013-01-02": 33}.items():
        wall = pa.array([now - timedelta(days=days_ago), now], pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"wall": wall}), days / f"{name}.parquet")
    (late,) = joined.older(days, now - timedelta(days=32))
    late.rename(tmp_path / late.name)
    assert privacy.privacy(spec, logs, days).problems == ()
    (tmp_path / late.name).rename(late)

    logged(logs, "2.jsonl", ["height", "width"])
    old = logged(logs, "3.jsonl", ["width"], days_ago=31)
    gateway.write_text(f"{json.dumps(access | {'body': 'x'})}\n" * 3)
    asleep = logs / HEALTH / "there.a.jsonl"
    asleep.parent.mkdir()
    asleep.touch()
    os.utime(asleep, (asleep.stat().st_mtime - 31 * privacy.DAY_S,) * 2)
    began = datetime.now(UTC) - timedelta(days=33)
    endless = logs / answers.FOLDER / "there.a.jsonl"
    endless.write_text(f"{json.dumps(access | {'t': began.isoformat()})}\n" * 3)
    check = privacy.privacy(spec, logs, days)
    assert set(check.problems) == {
        "predictions/toy/toy-1/2.jsonl keeps height in plain",
        "predictions/toy/toy-1/3.jsonl is older than 30 days",
        "gateway-access/here.a.jsonl has the field body",
        "gateway-health/there.a.jsonl is older than 30 days",
        "gateway-access/there.a.jsonl has lines that are older than 30 days",
        "2013-01-02.parquet (joined) has predictions that are older than 30 days",
    }
    assert check.looked_at == 8
    assert set(privacy.expire(spec, logs)) == {old, asleep}
    assert not old.exists() and gateway.exists() and endless.exists()
    assert privacy.expire(spec, logs) == []
