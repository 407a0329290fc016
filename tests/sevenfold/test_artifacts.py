from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from sevenfold.artifacts import Altered, ArtifactStore, BadArtifactName, MissingArtifact, open_artifacts

MODEL = b"weights" * 1000
DIGEST = hashlib.sha256(MODEL).hexdigest()


@dataclass
class Where:
    id: str = "coin/testing/manual__2026-11-23T18:00:00+00:00"


@pytest.fixture(params=["folder", "remote"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A folder, and fsspec's memory in the place of object storage."""
    url = f"file://{tmp_path}/artifacts" if request.param == "folder" else f"memory://{tmp_path.name}"
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
