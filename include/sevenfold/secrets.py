"""Passwords made at first start, kept in files that only their owner can read.

On a cluster the files are a Secret's, mounted read-only: nothing is made there, and the pod's group may read.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from sevenfold.errors import SevenfoldError

VIEWER = "viewer"
AIRFLOW_USERS = ("admin", "approver", VIEWER)
"""Who can sign in to Airflow: the requester of promotions, the person who approves them, and the tests of
staging, which may only look."""


class UnsafeSecrets(SevenfoldError):
    """A secrets file can be read by others, or is not what it should be."""


def airflow_passwords(folder: Path, users: Sequence[str] = AIRFLOW_USERS) -> dict[str, str]:
    """The passwords of Airflow's users, each made at the first call that asks for it.

    Raises:
        UnsafeSecrets: the file can be read by others than its owner, or does not hold the passwords.
    """
    return _kept(folder / "airflow.json", users)


def _kept(path: Path, names: Sequence[str]) -> dict[str, str]:
    if mounted(path.parent):
        require_file(path)
        return _read(path, names)
    private_folder(path.parent)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _read(path, ()) if path.exists() else {}
        if lacking := [name for name in names if name not in kept]:
            fresh = {name: secrets.token_urlsafe(12) for name in lacking}
            write_private(path, json.dumps(kept | fresh))
    return _read(path, names)


def _read(path: Path, needed: Sequence[str]) -> dict[str, str]:
    """All passwords in the file."""
    if not is_private(path):
        raise UnsafeSecrets(
            f"{path} can be read by others: run chmod 600 {path}, and change what stands in it"
        )
    try:
        kept = {str(name): str(password) for name, password in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError) as error:
        raise UnsafeSecrets(f"{path} does not hold passwords: delete it and start again") from error
    if lacking := [name for name in needed if name not in kept]:
        raise UnsafeSecrets(
            f"{path} does not hold the passwords of {', '.join(lacking)}: apply what "
            "`sevenfold cluster-secrets` prints"
        )
    return kept


def private_folder(folder: Path) -> Path:
    """Makes `folder` readable by its owner only.

    What a cluster mounts stays as it is: a Secret, which is read-only, and the folder at the top of a volume,
    which is root's and lets the pod's group in.
    """
    if not mounted(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not _top_of_volume(folder):
            folder.chmod(0o700)
    return folder


def _top_of_volume(folder: Path) -> bool:
    there = folder.stat()
    return there.st_uid == 0 != os.getuid() and not there.st_mode & stat.S_IWOTH


def mounted(path: Path) -> bool:
    """Whether `path`, or the nearest folder above it, is on a read-only file system, as a pod's Secret is."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    return bool(os.statvfs(there).f_flag & os.ST_RDONLY)


def is_private(path: Path) -> bool:
    """Whether only its owner can read the file; one that is mounted read-only its group may read as well.

    (A kubelet gives the files of a Secret to root and to the pod's group, mode 440.)
    """
    others = 0o027 if mounted(path) else 0o077
    return not path.stat().st_mode & others


def require_file(path: Path) -> None:
    """Refuses a file that is missing where none can be made.

    Raises:
        UnsafeSecrets: with what to do.
    """
    if not path.exists():
        raise UnsafeSecrets(
            f"{path} is missing, and its folder is mounted read-only: put it into the namespace's Secret "
            "`sevenfold-files` (`sevenfold secret-files` makes one)"
        )


def write_private(path: Path, content: str) -> None:
    """Writes a file of mode 600 in one step: never half-written, never readable by others."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
