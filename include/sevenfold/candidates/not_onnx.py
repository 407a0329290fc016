"""Why a file that was to be a model cannot be loaded: what it is instead, where that can be seen."""

from __future__ import annotations

import zipfile
from pathlib import Path

PICKLE = b"\x80"
"""First byte of every pickle since protocol 2."""


def why_not(path: Path, error: Exception) -> str:
    """One sentence: a pickle is named as such, of anything else ONNX Runtime says what is wrong."""
    with path.open("rb") as file:
        first = file.read(1)
    if first == PICKLE:
        return f"{path} is a pickle, which runs code when it is loaded: a candidate is an ONNX file"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".pkl") for name in archive.namelist()):
                return f"{path} is an archive with a pickle in it (torch.save): a candidate is an ONNX file"
    return f"{path} is not an ONNX model that can be loaded: {error}"
