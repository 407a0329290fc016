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


TRAINED = """
import sys
import torch
from sevenfold.training.schedule import optimiser
from sevenfold.training.settings import TrainingSettings

def learn(make):
    network = torch.nn.Linear(3, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.zeros_(network.bias)
    step = make(network)
    for number in range(5):
        step.zero_grad()
        network(torch.full((2, 3), float(number))).square().sum().backward()
        step.step()
    return network.weight.detach(), step.state_dict()

settings = TrainingSettings(learning_rate=0.1, weight_decay=0.2, schedule="constant")
light, _ = learn(lambda network: optimiser(network, settings, 5)[0])
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
as_ever, _ = learn(lambda network: torch.optim.Adam(
    network.parameters(), lr=0.1, weight_decay=0.2, fused=True, decoupled_weight_decay=True))
assert "torch._dynamo" in sys.modules, "torch does without by itself: without_compiler may go"
assert torch.equal(light, as_ever), (light, as_ever)
"""


def test_no_compiler_is_imported_to_train_and_the_steps_are_the_same_to_the_bit() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TRAINED], cwd=REPOSITORY / "include", capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
