from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from sevenfold.evidence import objects
from sevenfold.evidence.artifacts import (
    Altered,
    ArtifactStore,
    BadArtifactName,
    MissingArtifact,
    open_artifacts,
)
from sevenfold.evidence.objects import BadStorageUrl, StorageUnavailable

MODEL = b"weights" * 1000
DIGEST = hashlib.sha256(MODEL).hexdigest()


@dataclass
class Where:
    id: str = "coin/testing/manual__2026-11-23T18:00:00+00:00"


@pytest.fixture(params=["folder", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A folder, and a bucket of S3."""
    url = f"file://{tmp_path}/artifacts" if request.param == "folder" else request.getfixturevalue("s3")
    return open_artifacts(url, tmp_path / "cache")


def test_bytes_come_back_by_their_digest(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(MODEL)
    assert artifacts.put(MODEL) == DIGEST
    assert artifacts.put(tmp_path / "model.onnx") == DIGEST
    assert artifacts.get(DIGEST).read_bytes() == MODEL
    assert artifacts.get(DIGEST).read_bytes() == MODEL


def test_what_is_not_there_is_named(artifacts: ArtifactStore) -> None:
    with pytest.raises(MissingArtifact, match=f"no file with sha256 {'0' * 64}"):
        artifacts.get("0" * 64)
    with pytest.raises(MissingArtifact, match="has no reports"):
        artifacts.read("reports/never.html")


def test_one_flipped_bit_is_refused(artifacts: ArtifactStore) -> None:
    artifacts.put(MODEL)
    place = artifacts.get(DIGEST)
    flipped = bytearray(MODEL)
    flipped[100] ^= 1
    place.write_bytes(flipped)
    with pytest.raises(Altered, match="has been altered"):
        artifacts.get(DIGEST)
    artifacts.put(MODEL)
    assert artifacts.get(DIGEST).read_bytes() == MODEL, "putting it again heals it"


def test_half_a_file_is_never_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = open_artifacts(f"file://{tmp_path}/artifacts", tmp_path / "cache")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            artifacts.put(MODEL)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
    with pytest.raises(MissingArtifact):
        artifacts.get(DIGEST)


def test_an_object_that_was_altered_in_its_bucket_is_refused_and_healed(s3: str, tmp_path: Path) -> None:
    artifacts = open_artifacts(s3, tmp_path / "cache")
    artifacts.put(MODEL)
    artifacts.write(f"sha256/{DIGEST[:2]}/{DIGEST}", b"other weights")
    with pytest.raises(Altered, match="has been altered"):
        artifacts.get(DIGEST)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()], "it is not cached"
    artifacts.put(MODEL)
    assert artifacts.get(DIGEST).read_bytes() == MODEL


def test_a_large_file_arrives_whole(s3: str, tmp_path: Path) -> None:
    """Above 5 MiB it goes in several parts, which become visible together."""
    large = random.Random(7).randbytes(12 << 20)
    (tmp_path / "model.onnx").write_bytes(large)
    artifacts = open_artifacts(s3, tmp_path / "cache")
    assert artifacts.get(artifacts.put(tmp_path / "model.onnx")).read_bytes() == large


def test_storage_that_lets_nobody_in_says_so_in_one_sentence(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = open_artifacts("s3://no-such-bucket/here", tmp_path / "cache")
    for attempt in (lambda: nowhere.put(MODEL), lambda: nowhere.get(DIGEST), lambda: nowhere.read("x")):
        with pytest.raises(
            StorageUnavailable, match=r"no-such-bucket/here .*specified bucket does not exist"
        ) as caught:
            attempt()
        assert caught.value.retry
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(objects, "RETRIES", 0)
    with pytest.raises(StorageUnavailable, match=r"^s3://\S+ cannot be used: .*127\.0\.0\.1:1") as caught:
        open_artifacts(s3, tmp_path / "cache").put(MODEL)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadStorageUrl, match="hdfs://x/y is no URL of a storage"):
        open_artifacts("hdfs://x/y", tmp_path / "cache").put(MODEL)


def test_mlflow_keeps_its_files_there_by_the_same_variables(s3: str, tmp_path: Path) -> None:
    """What `mlflow server --artifacts-destination s3://...` does with what it is sent."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    (tmp_path / "model.onnx").write_bytes(MODEL)
    get_artifact_repository(f"{s3}/mlflow").log_artifact(str(tmp_path / "model.onnx"), "model")
    assert open_artifacts(s3, tmp_path / "cache").read("mlflow/model/model.onnx") == MODEL


def test_a_report_lies_where_its_promotion_says(artifacts: ArtifactStore) -> None:
    path, digest = artifacts.put_report(Where(), "drift", "drift.html", "<p>calm</p>")
    assert path == "reports/coin/testing/manual__2026-11-23T18:00:00+00:00/drift/drift.html"
    assert digest == hashlib.sha256(b"<p>calm</p>").hexdigest()
    assert artifacts.read(path) == b"<p>calm</p>"
    assert artifacts.put_report(Where(), "drift", "drift.html", b"new")[0] == path
    assert artifacts.read(path) == b"new"


@pytest.mark.parametrize("name", ["../../secrets", "/etc/passwd", "", "a/../../b"])
def test_a_report_stays_in_its_folder(artifacts: ArtifactStore, name: str) -> None:
    with pytest.raises(BadArtifactName, match="is no name for a report"):
        artifacts.put_report(Where(), "drift", name, "")
