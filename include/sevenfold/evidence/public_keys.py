"""Public keys by name: one file each in a folder, or all of them in one file beside it.

A laptop has `trusted/<key id>.json`, to which a file is easily added. A cluster's Secret holds no folders:
there `trusted.json` maps the same names to the same contents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securesystemslib.signer import Key  # type: ignore[attr-defined]


def read(folder: Path) -> dict[str, Key]:
    """The keys in `folder` and in `<folder>.json`.

    Raises:
        ValueError: names the file that holds no public key.
    """
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    found: dict[str, Key] = {}
    for path, name, content in _contents(folder):
        try:
            found[name] = SSlibKey.from_dict(content.pop("keyid"), content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no public key: {error}.") from error
    return found


def together(folder: Path) -> str:
    """What `<folder>.json` would hold: all keys of `read`, for a Secret."""
    return json.dumps({name: content for _, name, content in _contents(folder)}, indent=1, sort_keys=True)


def _contents(folder: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    beside = folder.with_name(f"{folder.name}.json")
    for path in [*sorted(folder.glob("*.json")), *([beside] if beside.exists() else [])]:
        try:
            said = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} holds no public key: {error}.") from error
        yield from ((path, *pair) for pair in (said.items() if path == beside else [(path.stem, said)]))
