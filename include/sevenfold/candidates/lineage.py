"""Where a candidate comes from: the code, the environment and the gates in force when it was made."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sevenfold.candidates.candidate import hash_of_gates
from sevenfold.environments import ENVIRONMENTS
from sevenfold.gates.policy import Policy, gate_path, load_gate
from sevenfold.kubernetes import images
from sevenfold.settings import REPOSITORY, settings

CODE = ("dags", "plugins", "include", "requirements.lock")
"""What decides how Sevenfold behaves. Changes elsewhere, as in tests and documents, make no tree dirty."""

NO_CODE = (":(exclude)*.ipynb", ":(exclude)include/kubernetes/images")
"""What no activity runs: saving a notebook makes no tree dirty, nor does building images of it."""


@dataclass(frozen=True)
class Code:
    """The code that is running: its commit, and the files that differ from it."""

    commit: str
    changed: tuple[str, ...]


def code(repository: Path = REPOSITORY) -> Code:
    """The code's git commit; in an image what it was built of; else a hash of all its files.

    `make images` builds SEVENFOLD_CODE_COMMIT into an image, and SEVENFOLD_CODE_CHANGED: what differed.
    """
    named = os.environ.get("SEVENFOLD_CODE_COMMIT")
    if named:
        return Code(
            named, tuple(filter(None, os.environ.get("SEVENFOLD_CODE_CHANGED", "").split(os.pathsep)))
        )
    commit = _git(repository, "rev-parse", "HEAD")
    if commit is None:
        return Code(f"files-{_hash_of_files(repository)}", ())
    status = _git(repository, "status", "--porcelain", "--untracked-files=all", "--", *CODE, *NO_CODE) or ""
    return Code(commit.strip(), tuple(line[3:] for line in status.splitlines()))


def environment_digest(repository: Path = REPOSITORY) -> dict[str, str]:
    """Digests of the images that a candidate depends on; on a laptop SHA-256 of the lock instead."""
    if settings().runtime == "kubernetes" and (digests := images.of_a_candidate()):
        return digests
    lock = repository / "requirements.lock"
    return {"environment": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}


def gates(models_dir: Path, model: str) -> dict[str, Policy]:
    """The gates of a model as their files say now, by environment; some environments have none."""
    return {
        environment: load_gate(models_dir, model, environment)
        for environment in ENVIRONMENTS
        if gate_path(models_dir, model, environment).is_file()
    }


def policy_hash(models_dir: Path, model: str) -> str:
    """SHA-256 of all gates of a model; an environment without a gate counts as such."""
    return hash_of_gates({name: gate.hash for name, gate in gates(models_dir, model).items()})


def _git(repository: Path, *arguments: str) -> str | None:
    """What git says, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _hash_of_files(repository: Path) -> str:
    digest = hashlib.sha256()
    for name in CODE:
        below = repository / name
        for path in sorted([below] if below.is_file() else below.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".ipynb":
                digest.update(str(path.relative_to(repository)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:40]
