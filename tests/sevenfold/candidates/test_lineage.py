"""What a candidate is made of is found out, with git, in an image and in a folder of plain files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.toy import spec_in

from sevenfold.candidates import lineage
from sevenfold.model.spec import load_spec

GATE = """\
environment: testing
model: toy
description: A gate of the toy, for tests only.
metrics:
  - {metric: log_loss, activity: benchmark, unit: nats, direction: lower, rule: at_most, limit: LIMIT,
     meaning: Worse than a coin is useless.}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "a.py").write_text("a = 1\n")
    (tmp_path / "requirements.lock").write_text("numpy==1\n")
    return tmp_path


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    done = subprocess.run(
        ["git", "-C", str(repository), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_commit_and_what_differs_from_it(repository: Path) -> None:
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    assert lineage.code(repository) == lineage.Code(git(repository, "rev-parse", "HEAD"), ())
    (repository / "notes.txt").write_text("not code")
    (repository / "include" / "notebooks").mkdir()
    (repository / "include" / "notebooks" / "ideas.ipynb").write_text("{}")
    assert lineage.code(repository).changed == ()
    (repository / "include" / "a.py").write_text("a = 2\n")
    (repository / "include" / "b.py").write_text("b = 1\n")
    assert lineage.code(repository).changed == ("include/a.py", "include/b.py")


def test_without_git_the_files_themselves_are_hashed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    before = lineage.code(repository)
    assert before.commit.startswith("files-")
    (repository / "include" / "ideas.ipynb").write_text("{}")
    assert lineage.code(repository).commit == before.commit
    (repository / "include" / "a.py").write_text("a = 2\n")
    assert lineage.code(repository).commit != before.commit
    monkeypatch.setenv("PATH", "")
    assert lineage.code(repository).commit.startswith("files-")


def test_an_image_says_its_commit_itself(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_CODE_COMMIT", "abc123")
    assert lineage.code(repository) == lineage.Code("abc123", ())


def test_the_lock_is_the_environment(repository: Path) -> None:
    first = lineage.environment_digest(repository)
    (repository / "requirements.lock").write_text("numpy==2\n")
    assert first.keys() == {"environment"}
    assert lineage.environment_digest(repository) != first
    (repository / "requirements.lock").unlink()
    assert lineage.environment_digest(repository) == {}


def test_the_policy_hash_changes_with_a_limit_and_not_with_a_comment(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    none = lineage.policy_hash(tmp_path, "toy")
    gate = spec.folder / "gates" / "testing.yaml"
    gate.parent.mkdir()
    hashes = []
    for content in (GATE.replace("LIMIT", "0.6"), "# new\n" + GATE.replace("LIMIT", "0.6")):
        gate.write_text(content)
        hashes.append(lineage.policy_hash(tmp_path, "toy"))
    gate.write_text(GATE.replace("LIMIT", "0.5"))
    assert hashes[0] == hashes[1]
    assert len({none, hashes[0], lineage.policy_hash(tmp_path, "toy")}) == 3


def test_the_gates_of_every_model_can_be_hashed() -> None:
    spec = load_spec("flight_delay")
    assert len(lineage.policy_hash(spec.folder.parent, "flight_delay")) == 64
