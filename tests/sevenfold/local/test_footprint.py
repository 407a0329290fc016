"""Memory of a process tree."""

from __future__ import annotations

import subprocess
import sys
import time

from sevenfold.local.footprint import PeakMemory, memory

HOLDS_64_MIB = "import time; block = bytearray(64 << 20); print('held', flush=True); time.sleep(30)"


def test_children_count_and_the_dead_do_not() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS_64_MIB], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        assert memory([child.pid]) > 64 << 20
        child.kill()
    assert memory([child.pid]) == 0


def test_the_peak_stays_when_the_memory_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS_64_MIB], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        with PeakMemory([child.pid], every=0.05) as peak:
            time.sleep(0.3)
            child.kill()
            child.wait()
            time.sleep(0.3)
    assert peak.peak > 64 << 20
    assert peak.last == 0
