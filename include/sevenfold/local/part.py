"""One part of the local stack in the foreground, for whoever keeps it running himself, as Docker does.

    python -m sevenfold.local.part prepare|gateway|reconciler|watchman|replicas

`make up` has a supervisord for all parts; docker/compose.yaml has a container for each.
"""

from __future__ import annotations

import os
import sys

from sevenfold.errors import SevenfoldError
from sevenfold.local.supervision import Supervisor
from sevenfold.settings import Settings, settings
from sevenfold.told_to_end import told_to_end

LOOK_S = 1.0


def prepare(here: Settings) -> None:
    """Makes what all parts share: folders, tables, keys and passwords. Done again it changes nothing."""
    from sevenfold.local import stack

    stack.prepare(here)


def replicas(here: Settings) -> None:
    """Runs the supervisord to which activities give replicas, until SIGTERM; they drain then."""
    stop = told_to_end()
    supervisor = Supervisor(here.home)
    supervisor.start()
    while not stop.wait(LOOK_S) and supervisor.running():
        pass
    supervisor.shutdown()
    if not stop.is_set():
        raise SevenfoldError("the supervisord of the replicas has ended: its log says why")


def become(here: Settings, name: str) -> None:
    """Goes on as a program of the stack.

    Raises:
        SevenfoldError: the stack has no such part.
    """
    from sevenfold.local import stack

    programs = {program.name: program for program in stack.programs(here)}
    if name not in programs:
        known = ", ".join((*sorted(programs), "prepare", "replicas"))
        raise SevenfoldError(f"the stack has no part {name}: it has {known}")
    program = programs[name]
    os.chdir(program.directory or here.home)
    os.execvpe(program.command[0], program.command, {**os.environ, **program.env})  # noqa: S606


def main() -> None:
    """Runs the part that is named."""
    name = sys.argv[1] if len(sys.argv) == 2 else "nothing"
    try:
        own = {"prepare": prepare, "replicas": replicas}.get(name)
        if own is not None:
            own(settings())
        else:
            become(settings(), name)
    except SevenfoldError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
