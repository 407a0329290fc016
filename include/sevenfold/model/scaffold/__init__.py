"""`sevenfold new-model`: a folder for a new model that works from the first minute on.

The folder in `folder/` is what a model is made of, with made-up data that its owner replaces. `{{name}}` and
the like stand for what differs; `{{only:regression}} ... {{end}}` for what only some kinds of tasks have.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from sevenfold.errors import SevenfoldError
from sevenfold.model import tasks
from sevenfold.model.spec import load_spec

FOLDER = Path(__file__).parent / "folder"
SUFFIX = ".txt"
"""Of every file in `FOLDER`: they are no Python yet."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_ONLY = re.compile(r"^ *\{\{only:([\w|]+)\}\}\n(.*?)^ *\{\{end\}\}\n", re.DOTALL | re.MULTILINE)

SAID_OF = {
    "binary_classification": {
        "settings": "positive: is the case",
        "rate": "true_positive_rate",
        "label": "0 or 1",
        "onnx_difference": "0.0001",
        "unit": "probability",
        "second_unit": "rank",
        "second_direction": "higher",
        "second_rule": "auc",
        "second_margin": "0.02",
        "residual": "",
        "other_gaps": "false_positive_rate_gap, calibration_gap",
        "attack": "0.25",
        "attacked": ".07",
    },
    "multiclass_classification": {
        "settings": "classes: [low, level, high]",
        "rate": "accuracy",
        "label": "the place of its class in model.yaml, from 0",
        "onnx_difference": "0.0001",
        "unit": "probability",
        "second_unit": "share",
        "second_direction": "higher",
        "second_rule": "non_inferior",
        "second_margin": "0.02",
        "residual": "",
        "other_gaps": "calibration_gap",
        "attack": "0.35",
        "attacked": ".11",
    },
    "regression": {
        "settings": "unit: pieces\ntolerance: 15",
        "rate": "wrong_rate",
        "label": "the number itself",
        "onnx_difference": "0.01",
        "unit": "pieces",
        "second_unit": "pieces",
        "second_direction": "lower",
        "second_rule": "non_inferior",
        "second_margin": "0.5",
        "residual": ", mean_residual",
        "other_gaps": "calibration_gap",
        "attack": "1.2",
        "attacked": ".4",
    },
}
"""What the template says of each kind of task."""


class NotScaffolded(SevenfoldError):
    """No folder was made: its name cannot be one, is taken, or the kind of task is none."""


def new_model(name: str, kind: str, owner: str, models: Path) -> Path:
    """Makes the folder of a new model, whole or not at all, and returns it.

    Raises:
        NotScaffolded: naming what is wrong with the name or the kind.
    """
    if not _NAME.fullmatch(name):
        raise NotScaffolded(
            f"{name!r} cannot be a model's name: lower-case letters, digits and underscores, a letter first"
        )
    if kind not in tasks.KINDS:
        raise NotScaffolded(f"there is no kind of task {kind!r}; there are: {', '.join(tasks.KINDS)}")
    folder = models / name
    if folder.exists():
        raise NotScaffolded(f"{folder} exists already: choose another name, or remove it first")
    half = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=models))
    try:
        half.chmod(0o755)
        for template in sorted(FOLDER.rglob(f"*{SUFFIX}")):
            path = half / template.relative_to(FOLDER).with_suffix("")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(template.read_text(), name, kind, owner))
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    load_spec(name, models)
    return folder


def filled(text: str, name: str, kind: str, owner: str) -> str:
    """A template's text for one model."""
    task = tasks.KINDS[kind]
    said = {
        **SAID_OF[kind],
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "owner": owner,
        "kind": kind,
        "linear": task.linear,
        "second": task.second,
    }
    text = _ONLY.sub(lambda found: found[2] if kind in found[1].split("|") else "", text)
    return _PLACE.sub(lambda found: said[found[1]], text)
