"""An actor of a cluster that nobody hears any more ends itself; one that is only answered late does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALONE = """
import sys, time
from vidcomp.pipeline.runners import actor

class Answer:
    def remote(self):
        return self
    def future(self):
        return self
    def result(self, within_s):
        if sys.argv[1] == "gone":
            raise RuntimeError("the actor died")
        if sys.argv[1] == "late":
            raise TimeoutError
        return True

class Ears:
    is_there = Answer()

actor.TICK_S = actor.ASK_S = 0.01
orders = actor.Orders(lambda told, stream: None, {}, lambda error: None, None, 600.0)
actor.Actor(orders, None, Ears())
time.sleep(1)
print("lives")
"""


@pytest.mark.parametrize(("ears", "ended"), [("gone", (-9, "")), ("late", (0, "lives\n")), ("there", (0, "lives\n"))])
def test_whoever_is_not_heard_ends(ears: str, ended: tuple[int, str]) -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, ears], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ended, done.stderr
