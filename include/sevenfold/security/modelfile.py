"""Whether a model file can do anything but compute: our own allow-list first, modelscan second."""

from __future__ import annotations

from pathlib import Path

from sevenfold.candidates.not_onnx import PICKLE
from sevenfold.security.check import Check

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Operators that ONNX itself defines. Any other runs code of whoever registered it."""


def model_file(path: Path) -> Check:
    """The file is ONNX by its content, complete in itself, of standard operators, and no scanner objects.

    modelscan knows no ONNX: that it scanned nothing is a note, never a pass. The pass is the allow-list's.
    """
    problems = [*_by_content(path)]
    scanned, found = _modelscan(path)
    problems += found
    unscanned = "modelscan has no scanner for this format and scanned nothing; its content was checked"
    note = "" if scanned else unscanned
    return Check("model_findings", "Model file only computes", "files", 1, tuple(problems), note)


def _by_content(path: Path) -> list[str]:
    import onnx

    if path.read_bytes()[:1] == PICKLE:
        return ["it is a pickle"]
    try:
        model = onnx.load(path, load_external_data=False)
        outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            return [f"its weights {name} lie in another file" for name in outside]
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have a class for each reason
        said = str(error).splitlines() or [type(error).__name__]
        return [f"it is no valid ONNX: {said[0]}"]
    domains = {one.domain for one in (*model.opset_import, *model.graph.node, *model.functions)}
    return [
        f"it uses operators of {domain}, which are not ONNX's own" for domain in sorted(domains - {*DOMAINS})
    ]


def _modelscan(path: Path) -> tuple[int, list[str]]:
    """How many files it scanned, and what it found in them."""
    import logging

    from modelscan.modelscan import ModelScan  # type: ignore[import-untyped]

    logging.getLogger("modelscan").setLevel(logging.ERROR)
    result = ModelScan().scan(path)
    found = [f"modelscan: {issue.get('severity')} {issue.get('description')}" for issue in result["issues"]]
    found += [f"modelscan could not read it: {error.get('description')}" for error in result["errors"]]
    return int(result["summary"]["scanned"]["total_scanned"]), found
