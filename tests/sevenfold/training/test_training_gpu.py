"""On a GPU the loop learns what it learns on a CPU, in every precision, and goes on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.sevenfold.training.test_training import SETTINGS, STOPPING, TRAINING, network, trained, weights

from sevenfold import training
from sevenfold.training import Epoch
from sevenfold.training.hardware import Hardware
from sevenfold.training.processes import ALONE

APART = 0.03
"""Nats: the devices draw different dropout."""


class Interrupted(Exception):
    """Stands in for a kill."""


@pytest.mark.parametrize(
    ("precision", "compiled"),
    [("float32", False), ("bfloat16", False), ("float16", False), ("bfloat16", True)],
)
def test_a_gpu_learns_what_a_cpu_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, compiled: bool
) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    settings = replace(SETTINGS, precision=precision, compile=compiled)
    assert Hardware.of(settings, ALONE) == Hardware("cuda:0", precision, compiled)
    net, fitted = trained(tmp_path / "gpu.pt", settings)
    assert training.verified(tmp_path / "gpu.pt", net)
    assert {value.device.type for value in net.state_dict().values()} == {"cpu"}

    cut = tmp_path / "cut.pt"
    with pytest.raises(Interrupted):
        training.fit(network(), TRAINING, STOPPING, settings, cut, interrupt)
    resumed, rest = trained(cut, settings)
    assert rest.resumed_at == 2 * 8  # two epochs of eight steps
    assert rest.best.stopping_loss == pytest.approx(fitted.best.stopping_loss, abs=APART)
    if not compiled:
        assert weights(resumed) == weights(net)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _, on_cpu = trained(tmp_path / "cpu.pt")
    assert fitted.best.stopping_loss == pytest.approx(on_cpu.best.stopping_loss, abs=APART)


def interrupt(epoch: Epoch) -> None:
    """After the second epoch."""
    if epoch.number == 2:
        raise Interrupted
