"""Memory that is freed in a thread, and asked for again, or given back: counted by the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGAIN = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from vidcomp.stages.heap import give_back, keep_freed

if sys.argv[1] == "keep":
    assert keep_freed()

def compute(times, arrays):
    for _ in range(times):
        held = [np.ones(20_000_000, np.uint8) for _ in range(arrays)]
        del held

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def all_of_it():
    compute(3, 4)
    before = faults()
    compute(10, 4)
    print(faults() - before)
    print(resident_mib())
    give_back()
    print(resident_mib())
    compute(1, 60)
    print(resident_mib())
    give_back()
    print(resident_mib())

thread = threading.Thread(target=all_of_it)
thread.start()
thread.join()
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")


def told(how: str) -> list[float]:
    """Pages asked of the kernel by ten rounds, when all that they need was had before; MiB held afterwards, and when
    asked to give back; and the same two behind a round of 1200 MB."""
    done = subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def test_what_is_freed_is_kept_for_what_comes_next() -> None:
    assert told("keep")[0] < told("leave")[0] / 10


def test_no_more_is_kept_than_a_bound() -> None:
    _, usual, usual_again, peak, peak_again = told("keep")
    assert usual_again == pytest.approx(usual, abs=2)  # what the next video needs
    assert peak > 900 > 300 > peak_again
