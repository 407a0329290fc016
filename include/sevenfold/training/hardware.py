"""What a network is trained on: a GPU where there is one, in mixed precision and compiled, else the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sevenfold.training.processes import Processes
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Hardware:
    """A device and how it is used; `precision` and `compile` are what really happens there."""

    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False

    @classmethod
    def of(cls, settings: TrainingSettings, processes: Processes) -> Hardware:
        """A GPU for each process with what the settings want of it, or the CPU, where they mean nothing.

        (bfloat16 on a CPU without AMX is slower than float32, and compilation takes longer than it saves.)
        """
        import torch

        if torch.cuda.device_count() < processes.on_machine:
            return cls()
        return cls(f"cuda:{processes.local_rank}", settings.precision, settings.compile)

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network on this device, compiled if that is wanted; its weights stay those of `network`."""
        import torch

        network.to(self.device)
        compiled: Any = torch.compile(network) if self.compile else network
        return compiled  # type: ignore[no-any-return]

    def autocast(self) -> AbstractContextManager[Any]:
        """Where matrix products are computed in the chosen precision."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], getattr(torch, self.precision))

    def scaler(self) -> Any:
        """Keeps float16 gradients from vanishing (Micikevicius and others, 2018); passes others on."""
        import torch

        kind = self.device.partition(":")[0]
        return torch.amp.GradScaler(kind, enabled=self.precision == "float16")
