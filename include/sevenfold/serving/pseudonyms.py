"""Personal features in logs: a keyed hash in place of the value, or nothing.

The hash is HMAC-SHA-256 (RFC 2104) of model, feature and value, cut to 128 bits. Who has the logs and not
the key can see whether two values are equal, and nothing else. The key is the deployment's, and there is one:
after a rotation nobody can say any more what an older hash stood for, not even by trying all values.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sevenfold.secrets import UnsafeSecrets, is_private, mounted, private_folder, require_file, write_private

if TYPE_CHECKING:
    import pyarrow as pa

    from sevenfold.model.spec import ModelSpec

FILE = "pseudonym_key.json"
TOKEN = re.compile(r"[0-9a-f]{8}:[0-9a-f]{32}")
"""What stands in a log for a value: the key's name and the hash."""


@dataclass(frozen=True)
class Pseudonyms:
    """The hashes of one model's personal features under one key."""

    model: str
    hashed: tuple[str, ...]
    left_out: tuple[str, ...]
    """Features of which not even a hash is kept."""
    name: str
    key: bytes

    def of(self, feature: str, value: str | float | None) -> str | None:
        """What stands in a log for a value of a feature; a missing one (None, NaN) stays missing.

        Numbers are hashed as the float32 that the model gets.
        """
        if value is None or value != value:
            return None
        said = value.encode() if isinstance(value, str) else (np.float32(value) + np.float32(0)).tobytes()
        message = b"\0".join((self.model.encode(), feature.encode(), said))
        return f"{self.name}:{hmac.new(self.key, message, hashlib.sha256).hexdigest()[:32]}"

    def column(self, feature: str, values: Iterable[str | float | None]) -> list[str | None]:
        """The same for many values."""
        of = lru_cache(maxsize=None)(self.of)
        return [of(feature, one) for one in values]

    def table(self, rows: pa.Table, features: Iterable[str]) -> pa.Table:
        """`rows` with hashes for values, in those of the features that are hashed."""
        import pyarrow as pa

        for name in [one for one in features if one in self.hashed]:
            hashes = pa.array(self.column(name, rows[name].to_pylist()), pa.string())
            rows = rows.set_column(rows.column_names.index(name), name, hashes)
        return rows


def pseudonyms(spec: ModelSpec, folder: Path) -> Pseudonyms | None:
    """The hashes of the model's personal features under the key in `folder`, which is made at first use.

    None if the model has no personal feature.

    Raises:
        UnsafeSecrets: the key can be read by others, is no key, or is missing where none can be made.
    """
    rule = spec.privacy
    if not rule.personal:
        return None
    hashed = tuple(name for name in rule.personal if name not in rule.left_out)
    return Pseudonyms(spec.name, hashed, rule.left_out, *made(folder))


def rotate(folder: Path) -> str:
    """Replaces the key and returns the new one's name. Replicas take it when they begin a new log file.

    Raises:
        UnsafeSecrets: the folder is mounted read-only.
    """
    if mounted(folder):
        raise UnsafeSecrets(
            f"{folder / FILE} is mounted read-only: rotate it where it is kept, then apply the Secret"
        )
    write_private(private_folder(folder) / FILE, _new())
    return made(folder)[0]


def made(folder: Path) -> tuple[str, bytes]:
    """The name of the key in `folder`, and the key, made at first use; raises as `pseudonyms` does."""
    path = folder / FILE
    if not path.exists() and not mounted(folder):
        with (private_folder(folder) / ".pseudonyms.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                write_private(path, _new())
    require_file(path)
    if not is_private(path):
        raise UnsafeSecrets(f"{path} can be read by others: run chmod 600 {path}, and rotate the key")
    try:
        kept = json.loads(path.read_text())
        name, key = str(kept["name"]), bytes.fromhex(kept["key"])
        if len(key) < hashlib.sha256().digest_size or not TOKEN.fullmatch(f"{name}:{'0' * 32}"):
            raise ValueError("too short, or of another name")
    except (ValueError, KeyError, TypeError) as error:
        raise UnsafeSecrets(
            f"{path} does not hold the key of the pseudonyms: delete it, and a new one is made"
        ) from error
    return name, key


def _new() -> str:
    return json.dumps({"name": secrets.token_hex(4), "key": secrets.token_hex(32)})
