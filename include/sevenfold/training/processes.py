"""The processes that train one network together: none but this one, or those that torchrun started.

torchrun says who a process is in RANK, WORLD_SIZE and LOCAL_RANK, on one machine and on many. Each process
takes its share of every batch, DistributedDataParallel averages their gradients (gloo between CPUs, nccl
between GPUs), and the first one writes what there is to write.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>."""
PATIENCE = timedelta(minutes=10)
"""As long as the processes wait for one another before they give up."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, as one of them sees them: it is number `rank` of `count`."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    on_machine: int = 1
    """How many of them run on this machine."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wrap(self, network: nn.Module, device: str) -> nn.Module:
        """The network with gradients averaged over all processes."""
        if self.count == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(network, [self.local_rank] if device.startswith("cuda") else None)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's values, the same for all of them."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.all_reduce(values)
        return values

    def from_first(self, content: bytes, device: str) -> bytes:
        """What the first process has, for all of them."""
        if self.count == 1:
            return content
        import torch
        import torch.distributed

        size = torch.tensor([len(content)], device=device)
        torch.distributed.broadcast(size, 0)
        if not int(size):
            return b""
        carried = torch.empty(int(size), dtype=torch.uint8, device=device)
        if self.first:
            carried.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        torch.distributed.broadcast(carried, 0)
        return carried.cpu().numpy().tobytes()


ALONE = Processes()


def end_with_parent() -> None:
    """From now on this process is killed when the one that started it ends, however it ends (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def joined() -> Iterator[Processes]:
    """Joins the processes that torchrun started, if it did; leaves them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    import torch

    local_rank, on_machine = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    gpu = torch.cuda.device_count() >= on_machine
    if gpu:
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield Processes(int(os.environ["RANK"]), count, local_rank, on_machine)
    finally:
        torch.distributed.destroy_process_group()
