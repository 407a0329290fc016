"""Runs a V1Pod as local processes: its container's command, with its environment, volumes and time limit.

What has no meaning without a cluster (sidecars, secrets by reference, images with an ENTRYPOINT) is refused
by name instead of being left out quietly; an optional secret is missing here, as it may be there. Images,
resources and security contexts are the cluster's; here the interpreter of this environment runs the command,
and what it used is logged beside what it asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client.models import (
        V1ConfigMapEnvSource,
        V1Container,
        V1EnvFromSource,
        V1Pod,
        V1SecretEnvSource,
        V1Volume,
    )

KEEPER = Path(__file__).with_name("keeper.py")
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "PYTHONDONTWRITEBYTECODE",
)
"""What a process needs of this machine to run at all; nothing else leaks in, AIRFLOW__* least of all."""
GRACE_SECONDS = 10.0
TAIL_LINES = 20


class CannotRunLocally(Exception):
    """The pod asks for something that only a cluster has. One sentence names it."""


@dataclass(frozen=True)
class Ended:
    """How a pod ended: exit code as a container's, the last lines it wrote, and what it used."""

    exit_code: int
    seconds: float
    tail: list[str] = field(default_factory=list)
    stopped: str | None = None
    cpu_seconds: float | None = None
    peak_mib: float | None = None

    @property
    def last_line(self) -> str:
        """The last line that is not empty: an activity's one error sentence, when it failed."""
        return next((line for line in reversed(self.tail) if line.strip()), "it wrote nothing")


class LocalPod:
    """One pod as one process after the other: its init containers, then its base container.

    Args:
        claims: the folder that stands here for a persistent volume claim, by the claim's name.
    """

    def __init__(
        self,
        pod: V1Pod,
        *,
        base: str = "base",
        log: Callable[[str], None] = print,
        environment: Mapping[str, str] = {},
        claims: Mapping[str, Path] = {},
    ) -> None:
        self.pod = pod
        self.base = base
        self.log = log
        self.environment = environment or {}
        self.claims = claims or {}
        self._sandbox = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: str | None = None

    def run(self) -> Ended:
        """Runs the pod to its end and returns how it ended; an exception on the way stops it first.

        Raises:
            CannotRunLocally: the pod asks for something that only a cluster has.
        """
        spec = self.pod.spec
        extra = [c.name for c in spec.containers if c.name != self.base]
        if extra:
            raise CannotRunLocally(f"pod {self.pod.metadata.name} has side containers ({', '.join(extra)})")
        deadline = time.monotonic() + spec.active_deadline_seconds if spec.active_deadline_seconds else None
        self._sandbox = Path(tempfile.mkdtemp(prefix="sevenfold-pod-"))
        try:
            for container in [*(spec.init_containers or []), *spec.containers]:
                ended = self._run_container(container, deadline)
                if ended.exit_code:
                    break
            return ended
        finally:
            shutil.rmtree(self._sandbox, ignore_errors=True)

    def stop(self, why: str) -> None:
        """Asks the keeper to end the whole group. It does so even if this process is killed meanwhile."""
        self._stopped = self._stopped or why
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _run_container(self, container: V1Container, deadline: float | None) -> Ended:
        mounts = self._mounts(container)
        environment = container_environment(self.pod, container, self.environment)
        command = local_command(container, environment, mounts)
        directory = self._sandbox / "work"
        directory.mkdir(exist_ok=True)
        grace = self.pod.spec.termination_grace_period_seconds
        seconds = GRACE_SECONDS if grace is None else grace
        started = time.monotonic()
        ours, theirs = socket.socketpair()
        with ours:
            lifeline = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), str(lifeline), str(seconds), "--", *command],
                cwd=container.working_dir or directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lifeline,),
            )
            theirs.close()
            if self._stopped:  # stop() came between the check in Airflow and the start here
                self._process.terminate()
            tail: deque[str] = deque(maxlen=TAIL_LINES)
            reader = threading.Thread(target=self._follow, args=(self._process, tail), daemon=True)
            reader.start()
            try:
                exit_code = self._wait(self._process, deadline)
            except BaseException:
                self._end_now(self._process)
                raise
            reader.join(2)  # a process that was meant to stay may hold the pipe open
            used = _used(ours)
        return Ended(
            exit_code=exit_code,
            seconds=time.monotonic() - started,
            tail=list(tail),
            stopped=self._stopped,
            cpu_seconds=used.get("cpu_seconds"),
            peak_mib=used.get("peak_mib"),
        )

    def _wait(self, process: subprocess.Popen[bytes], deadline: float | None) -> int:
        while True:
            try:
                code = process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
                return 128 - code if code < 0 else code
            except subprocess.TimeoutExpired:
                deadline = None
                self.stop("ran past its deadline (active_deadline_seconds)")

    def _end_now(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for the end that is asked for here, so that the next try does not meet this one."""
        self.stop("was interrupted")
        process.wait()

    def _follow(self, process: subprocess.Popen[bytes], tail: deque[str]) -> None:
        for raw in process.stdout or ():
            line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
            tail.append(line)
            self.log(line)

    def _mounts(self, container: V1Container) -> dict[str, str]:
        """Each mount path with the directory that stands for it here."""
        volumes = {volume.name: volume for volume in self.pod.spec.volumes or []}
        places = {}
        for mount in container.volume_mounts or []:
            volume = volumes.get(mount.name)
            if volume is None:
                raise CannotRunLocally(
                    f"container {container.name} mounts {mount.name}, which is no volume of the pod"
                )
            if volume.host_path is not None:
                place = Path(volume.host_path.path)
            elif volume.empty_dir is not None or _may_be_missing(volume):
                place = self._sandbox / "volumes" / mount.name
            elif (claim := volume.persistent_volume_claim) is not None and claim.claim_name in self.claims:
                place = self.claims[claim.claim_name]
            else:
                raise CannotRunLocally(f"volume {mount.name} is something that only a cluster has")
            place = place / (mount.sub_path or "")
            place.mkdir(parents=True, exist_ok=True)
            places[mount.mount_path] = str(place)
        return places


def container_environment(pod: V1Pod, container: V1Container, more: Mapping[str, str]) -> dict[str, str]:
    """The variables of a local container: what a process needs here, `more`, then the container's own."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"PYTHONUNBUFFERED": "1"} | dict(more)
    if not all(_source(one).optional for one in container.env_from or []):
        raise CannotRunLocally(
            f"container {container.name} takes variables from secrets or config maps (envFrom)"
        )
    for variable in container.env or []:
        source = variable.value_from
        if source is None:
            environment[variable.name] = expand(variable.value or "", environment)
        elif source.field_ref is not None:
            environment[variable.name] = _field_of(pod, source.field_ref.field_path)
        else:
            raise CannotRunLocally(f"variable {variable.name} comes from a secret or config map of a cluster")
    return environment


def _source(variables: V1EnvFromSource) -> V1SecretEnvSource | V1ConfigMapEnvSource:
    return variables.secret_ref or variables.config_map_ref


def _may_be_missing(volume: V1Volume) -> bool:
    """Whether all of it is optional: a cluster mounts it empty without such a secret or config map."""
    if volume.projected is not None:
        sources = [one.secret or one.config_map for one in volume.projected.sources or []]
        return all(source is not None and source.optional for source in sources)
    source = volume.secret or volume.config_map
    return bool(source is not None and source.optional)


def local_command(
    container: V1Container, environment: Mapping[str, str], mounts: Mapping[str, str]
) -> list[str]:
    """The container's command and arguments as they run here."""
    if not container.command:
        raise CannotRunLocally(
            f"container {container.name} has no command and relies on its image's ENTRYPOINT"
        )
    command = [expand(part, environment) for part in [*container.command, *(container.args or [])]]
    for inside in sorted(mounts, key=len, reverse=True):
        command = [part.replace(f"{inside}/", f"{mounts[inside]}/") for part in command]
    if Path(command[0]).name in ("python", "python3"):
        command[0] = sys.executable
    return command


_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' own rule for $(NAME): an unknown name stays as written, $$ is one dollar."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else environment.get(m[1], m[0]), text)


def _field_of(pod: V1Pod, path: str) -> str:
    metadata = pod.metadata
    known = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace or "default",
        "metadata.uid": metadata.uid or "local",
        "spec.nodeName": socket.gethostname(),
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
    }
    if path in known:
        return str(known[path])
    if keyed := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str((getattr(metadata, keyed[1]) or {}).get(keyed[2], ""))
    raise CannotRunLocally(f"field {path} of a pod has no meaning without a cluster")


def _used(lifeline: socket.socket) -> dict[str, float]:
    """What the keeper wrote when the command ended: {} when it was killed itself."""
    lifeline.settimeout(1)
    try:
        told: dict[str, float] = json.loads(lifeline.recv(4096) or b"{}")
    except (OSError, ValueError):
        return {}
    return told


def signal_name(exit_code: int) -> str | None:
    """The signal behind a container's exit code, if one ended it."""
    try:
        return signal.Signals(exit_code - 128).name if exit_code > 128 else None
    except ValueError:
        return None
