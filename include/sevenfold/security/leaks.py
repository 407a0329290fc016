"""Whether anything secret lies where it must not: in the code that moves, in logs and in reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sevenfold.security.check import Check

CODE = ("dags", "plugins", "include", "docker", "airflow_settings.yaml", "requirements.txt")
"""What of the repository goes into images and to Airflow."""
STAYS = "docker/.env"
"""The passwords of `make compose`: git ignores the file, and no image gets it."""
CHUNK = 1 << 20
"""Bytes of a file that are looked at together."""
SHORTEST = 12
"""Letters of a secret that is looked for; shorter ones stand in any text."""
TEXT = (".py", ".yaml", ".yml", ".json", ".md", ".txt", ".toml", ".html", ".cfg", ".mako", "")
PLUGINS = (
    *("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "BasicAuthDetector"),
    *("PrivateKeyDetector", "JwtTokenDetector", "AWSKeyDetector", "AzureStorageKeyDetector"),
    *("GitHubTokenDetector", "GitLabTokenDetector", "SlackDetector"),
)
"""What detect-secrets looks for: by form and entropy, and of the vendors that this talks to. Each plugin
costs half a second on every run; the tokens of others are found by their entropy."""
NAMED = r"""[sS]ecretName: ["']?[a-z0-9.-]+\W*$"""
"""A line of a manifest that says which Secret it means, by its name; what is in it stands elsewhere."""
KEPT_AWAY = ("__pycache__", "node_modules")


def in_code(root: Path) -> Check:
    """detect-secrets over everything that goes into an image: keys and passwords, by form and entropy."""
    files = [path for name in CODE for path in _files(root / name) if path.suffix in TEXT]
    files = [path for path in files if path != root / STAYS]
    title = "No secret in the code that moves (detect-secrets)"
    return Check("secrets_in_code", title, "files", len(files), tuple(_detected(files, root)))


def left_behind(secrets: Path, places: Mapping[str, Path], reports: Iterable[Path]) -> Check:
    """None of this installation's own secrets stands in a log or report, and no report has one by its form.

    Args:
        secrets: the folder of passwords, tokens and keys.
        places: folders by what lies there; one that is not there was not looked at, and is named.
        reports: files that people may look at.
    """
    known = known_secrets(secrets)
    pages = [path for path in reports if path.is_file()]
    seen = [name for name, place in places.items() if place.is_dir()]
    files = [*(path for name in seen for path in _files(places[name])), *pages]
    found = [f"{path.name} holds {name}" for path in files for name in holding(path, known)]
    found += _detected([path for path in pages if path.suffix in TEXT], None)
    notes = [
        f"{name} were not looked at: there is no {places[name]} here" for name in places if name not in seen
    ]
    if not known:
        notes.append(f"no secret is kept in {secrets.name}, so none could be looked for by its value")
    title = f"No secret in {', '.join(seen) or 'pages'} ({len(known)} known ones and detect-secrets)"
    return Check("secrets_left", title, "files", len(files), tuple(found), "; ".join(notes))


def known_secrets(folder: Path) -> dict[bytes, str]:
    """Every secret value in a folder, and the name of where it stands."""
    found: dict[bytes, str] = {}
    for path in _files(folder):
        try:
            text = path.read_text()
        except (UnicodeDecodeError, OSError):
            continue
        values = _values(json.loads(text)) if path.suffix == ".json" else iter([text])
        for value in values:
            if "PUBLIC" not in value and "trusted" not in path.parts:
                found |= {line: f"a secret of {path.name}" for line in _lines(value)}
    return found


def holding(path: Path, known: dict[bytes, str]) -> list[str]:
    """The secrets that a file holds, however large it is: a part of it is in memory at a time."""
    overlap = max(map(len, known), default=1) - 1
    found: set[str] = set()
    end = b""
    try:
        with path.open("rb") as opened:
            while read := opened.read(CHUNK):
                part = end + read
                found |= {name for value, name in known.items() if name not in found and value in part}
                end = part[max(0, len(part) - overlap) :]  # a secret may lie across two parts
    except OSError:
        pass  # it has gone, or is nobody's to read
    return sorted(found)


def _lines(value: str) -> list[bytes]:
    """The lines of a secret by which it is recognised: of a key in PEM those between its marks."""
    lines = [line.strip() for line in value.splitlines() if "-----" not in line]
    return [line.encode() for line in lines if len(line) >= SHORTEST and " " not in line]


def _values(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for name, value in document.items():
            if name not in ("kid", "keyid", "public"):
                yield from _values(value)
    elif isinstance(document, list):
        for value in document:
            yield from _values(value)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = (path for path in place.rglob("*") if path.is_file() and not set(KEPT_AWAY) & set(path.parts))
    return sorted(found)


def _detected(files: Iterable[Path], root: Path | None) -> list[str]:
    from detect_secrets.core.secrets_collection import SecretsCollection
    from detect_secrets.settings import get_filters, transient_settings

    secrets = SecretsCollection()
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}) as chosen:
        chosen.filters["detect_secrets.filters.regex.should_exclude_line"] = {"pattern": [NAMED]}
        get_filters.cache_clear()
        for path in files:
            secrets.scan_file(str(path))
    return [
        f"{Path(name).relative_to(root) if root else Path(name).name}, line {one.line_number}: {one.type}"
        for name in sorted(secrets.files)
        for one in sorted(secrets[name], key=lambda one: one.line_number)
    ]
