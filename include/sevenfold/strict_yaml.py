"""Reads a YAML file into a strict pydantic model: an error names file, line and key in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sevenfold.errors import SevenfoldError

Model = TypeVar("Model", bound=BaseModel)


class InvalidFile(SevenfoldError):
    """A YAML file that is missing, unreadable or says something that its schema does not know."""


def read(path: Path, model: type[Model]) -> Model:
    """The file's content as a `model`.

    Raises:
        InvalidFile: naming the file, the line and the key of the first thing that is wrong.
    """
    document = _load(path)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        first = unknown_first[0]  # a misspelt key explains the missing one
        location = first["loc"]
        key = ".".join(str(part) for part in location) or "the whole file"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key"
        raise InvalidFile(f"{path}, line {_line(document, location)}, key {key}: {message}") from None


def _load(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidFile(f"{path}, line {line}: not valid YAML, {error.problem}") from None
    except YAMLError as error:
        raise InvalidFile(f"{path}: not valid YAML, {error}") from None


def _line(document: Any, location: tuple[int | str, ...]) -> int:
    """The line, counted from 1, of the deepest part of `location` that the file holds."""
    node, line = document, 1
    for part in location:
        try:
            positions = node.lc
            line = (positions.key(part) if isinstance(part, str) else positions.item(part))[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
