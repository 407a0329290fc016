"""What is kept from libraries stays away, and they still work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sevenfold.settings import REPOSITORY

CHECKED = """
import sys
from sevenfold.{module} import {first}
{then}
import jsonschema
assert "lark" not in sys.modules, "the grammars were built"
jsonschema.validate({{"at": "2020-01-01"}}, {{"properties": {{"at": {{"format": "date"}}}}}},
                    format_checker=jsonschema.FormatChecker())
"""


@pytest.mark.parametrize(
    ("module", "first", "then"),
    [
        ("light_imports", "without_iris", "without_iris()"),
        ("data.data_quality", "validate", "import great_expectations"),
    ],
)
def test_no_grammar_of_iris_is_built(module: str, first: str, then: str) -> None:
    code = CHECKED.format(module=module, first=first, then=then)
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY / "include", capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
