"""Memory that is freed in a thread, and asked for again, counted by the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGAIN = """
import resource, sys, threading
import numpy as np
from vidcomp.stages.heap import keep_freed

if sys.argv[1] == "keep":
    assert keep_freed()

def compute(times):
    for _ in range(times):
        held = [np.ones(20_000_000, np.uint8) for _ in range(4)]
        del held

def both():
    compute(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    compute(10)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=both)
thread.start()
thread.join()
"""


def faults(how: str) -> int:
    """Pages asked of the kernel by ten rounds, when all that they need was had before."""
    done = subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_is_freed_is_kept_for_what_comes_next() -> None:
    assert faults("keep") < faults("leave") / 10
