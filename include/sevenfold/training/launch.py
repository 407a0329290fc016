"""Starts the processes of a training: torchrun, on this machine or on each of several.

On a cluster of several nodes every pod of the job runs the same activity and thereby this. Who it is, it
reads from what an Indexed Job (JOB_COMPLETION_INDEX, MASTER_ADDR) or the training operator (PET_NODE_RANK,
PET_MASTER_ADDR) sets. A laptop has no other machines: there all processes run beside each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import Resources
from sevenfold.training.job import Job
from sevenfold.training.record import Epoch, Fitted, Progress

if TYPE_CHECKING:
    from torch import nn

PORT = "29400"
"""Where the first node listens when nobody says otherwise."""


class CannotLaunch(SevenfoldError):
    """The processes cannot be started as model.yaml asks for them."""


class TrainingFailed(SevenfoldError):
    """The processes ended with an error; `retry` is what that error says."""

    def __init__(self, sentence: str, retry: bool) -> None:
        super().__init__(sentence)
        self.retry = retry


@dataclass(frozen=True)
class Launch:
    """How many processes train on each node, and which of the nodes this is."""

    processes: int = 1
    nodes: int = 1
    node: int = 0
    address: str = ""
    port: str = PORT

    @classmethod
    def of(cls, resources: Resources, gpus: int, environment: Mapping[str, str] = os.environ) -> Launch:
        """What model.yaml's resources say; `gpus` is how many torch sees here.

        Raises:
            CannotLaunch: a pod of a cluster does not see its GPUs, or does not know the other nodes.
        """
        processes = resources.processes or max(1, min(resources.gpu, gpus))
        if "KUBERNETES_SERVICE_HOST" not in environment:
            return cls(processes=processes * resources.nodes)
        if gpus < resources.gpu:
            raise CannotLaunch(f"this pod was given {resources.gpu} GPUs, but torch sees {gpus}")
        if resources.nodes == 1:
            return cls(processes=processes)
        node = environment.get("PET_NODE_RANK") or environment.get("JOB_COMPLETION_INDEX")
        address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR")
        if node is None or not address:
            raise CannotLaunch(
                f"{resources.nodes} nodes train together, but this pod was not told which one it is "
                "(JOB_COMPLETION_INDEX) and where the first one listens (MASTER_ADDR)"
            )
        port = environment.get("PET_MASTER_PORT") or environment.get("MASTER_PORT") or PORT
        return cls(processes, resources.nodes, int(node), address, port)

    def __str__(self) -> str:
        if self.alone:
            return "one process"
        on = f" on each of {self.nodes} nodes, this one number {self.node}" if self.nodes > 1 else ""
        return f"{self.processes} process{'es' if self.processes > 1 else ''}{on}"

    @property
    def alone(self) -> bool:
        """Whether one process does it all: then nothing is started."""
        return self.processes * self.nodes == 1

    def command(self, folder: Path) -> list[str]:
        """torchrun with the worker and its folder."""
        here = [f"--nproc-per-node={self.processes}", f"--nnodes={self.nodes}"]
        if self.nodes == 1:
            where = ["--standalone"]
        else:
            where = [
                f"--node-rank={self.node}",
                f"--master-addr={self.address}",
                f"--master-port={self.port}",
            ]
        worker = ["-m", "sevenfold.training.worker", str(folder)]
        return [sys.executable, "-m", "sevenfold.training.torchrun", *here, *where, *worker]

    def run(
        self,
        job: Job,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> tuple[nn.Module, Fitted] | None:
        """Trains the job's network with all processes; node 0 gets it, the other nodes get nothing.

        Raises:
            TrainingFailed: with the sentence of the process that failed first.
        """
        if self.alone:
            return job.run(on_epoch, on_progress)
        environment = worker_environment()
        if self.nodes == 1:
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        ended = follow(self.command(job.folder), environment, on_epoch, on_progress)
        if self.node:
            return None
        network, fitted = job.run()  # the checkpoint is finished: this only reads it
        return network, replace(fitted, **ended)


def worker_environment() -> dict[str, str]:
    """What a worker is started with: the modules of this process, and one thread unless it says otherwise."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": paths}


def worker_command(job: Job) -> list[str]:
    """One process that trains."""
    return [sys.executable, "-m", "sevenfold.training.worker", str(job.folder)]


def follow(
    command: list[str],
    environment: Mapping[str, str],
    on_epoch: Callable[[Epoch], None],
    on_progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Runs a worker, or torchrun with several, and passes on what it tells; how it ended.

    Raises:
        TrainingFailed: it ended with an error.
    """
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    error: TrainingFailed | None = None
    ended: dict[str, Any] = {}
    try:
        for line in process.stdout or ():
            match _event(line):
                case {"epoch": epoch}:
                    on_epoch(Epoch(**epoch))
                case {"progress": progress}:
                    on_progress(Progress(**progress))
                case {"ended": how}:
                    ended = how
                case {"error": sentence, "retry": retry}:
                    error = error or TrainingFailed(sentence, retry)
                case _:
                    print(line, end="", flush=True)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if error is not None:
        raise error
    if code:
        raise TrainingFailed(f"the training processes ended with exit code {code}; their log says why", True)
    return ended


def _event(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
