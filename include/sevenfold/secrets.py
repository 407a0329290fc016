"""Passwords made at first start, kept in files that only their owner can read."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path

from sevenfold.errors import SevenfoldError

AIRFLOW_USERS = ("admin", "approver")
"""Who can sign in to Airflow: the requester of promotions, and the person who approves them."""


class UnsafeSecrets(SevenfoldError):
    """A secrets file can be read by others, or is not what it should be."""


def airflow_passwords(folder: Path) -> dict[str, str]:
    """The password of each Airflow user, made at the first call.

    Raises:
        UnsafeSecrets: the file can be read by others than its owner, or does not hold the passwords.
    """
    return _kept(folder / "airflow.json", AIRFLOW_USERS)


def _kept(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    private_folder(path.parent)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_private(path, json.dumps({name: secrets.token_urlsafe(12) for name in names}))
    if path.stat().st_mode & 0o077:
        raise UnsafeSecrets(
            f"{path} can be read by others: run chmod 600 {path}, and change what stands in it"
        )
    try:
        kept = json.loads(path.read_text())
        return {name: str(kept[name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise UnsafeSecrets(
            f"{path} does not hold the passwords of {', '.join(names)}: delete it and start again"
        ) from error


def private_folder(folder: Path) -> Path:
    """Makes `folder` readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, content: str) -> None:
    """Writes a file of mode 600 in one step: never half-written, never readable by others."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
