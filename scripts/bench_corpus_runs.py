"""One `vidcomp encode` watched from outside: when its inputs got through, what its processes held, what others took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from process_tree import below, command_of, cpu_s, rss_mib

EVERY_S: Final = 0.2
MOST: Final = 0.1  # that any role's memory may grow by
ROLES: Final = {"decode_child": "decode children", "pipeline.cli.worker": "workers"}  # by words of their commands


@dataclass
class Watch:
    """The processes of a tree, looked at now and then: CPU seconds of each so far, and MiB by role over time."""

    root: int
    cpu: dict[int, float] = field(default_factory=dict)
    held: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _roles: dict[int, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Once more."""
        sums: defaultdict[str, float] = defaultdict(float)
        for pid in (self.root, *below(self.root)):
            self.cpu[pid] = max(cpu_s(pid), self.cpu.get(pid, 0.0))
            sums[self._role(pid)] += rss_mib(pid)
        for role, mib in sums.items():
            self.held[role].append(mib)

    def keep_looking(self) -> None:
        """Until `stop`."""
        while not self._stop.wait(EVERY_S):
            self.look()

    def stop(self) -> None:
        self._stop.set()

    def _role(self, pid: int) -> str:
        if pid == self.root:
            return "command"
        if pid not in self._roles:
            words = command_of(pid)
            self._roles[pid] = next((role for word, role in ROLES.items() if word in words), "others")
        return self._roles[pid]


@dataclass(frozen=True)
class Ran:
    """A run that is through. Seconds: `start_s` until the first input was, `work_s` from there to the last, `end_s` to
    the exit. `others`: share of the machine that other processes took. `held` {role: MiB (second tenth of the time,
    last tenth)}."""

    inputs: int
    start_s: float
    work_s: float
    end_s: float
    others: float
    held: dict[str, tuple[float, float]]

    @property
    def rate(self) -> float:
        """Inputs a second, start-up apart."""
        return (self.inputs - 1) / self.work_s

    @property
    def grew(self) -> bool:
        """Whether some of its processes hold more at the end."""
        return any(last > (1 + MOST) * first for first, last in self.held.values())


def run(sources: Path, out: Path, *more: str) -> Ran:
    """`vidcomp encode SOURCES -o OUT ...`, on one decoding and one torch thread for each worker."""
    words = [sys.executable, "-m", "vidcomp", "encode", str(sources), "-o", str(out), "--set", "decode.threads=1"]
    began_s, busy_s = time.time(), machine_s()
    with subprocess.Popen([*words, *more, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as popen:
        watch = Watch(popen.pid)
        looking = threading.Thread(target=watch.keep_looking)
        looking.start()
        told = json.loads(popen.communicate()[0])
        watch.stop()
        looking.join()
    ended_s, busy_s = time.time(), machine_s() - busy_s
    if popen.returncode or told["counts"] != {"ok": told["inputs"]}:
        raise RuntimeError(f"{' '.join(words)}: exit {popen.returncode}, {told['counts']}")
    through_s = sorted(json.loads(line)["at_s"] for line in (out / "manifest.jsonl").read_bytes().splitlines())
    others = (busy_s - sum(watch.cpu.values())) / ((ended_s - began_s) * (os.cpu_count() or 1))
    return Ran(
        inputs=told["inputs"],
        start_s=through_s[0] - began_s,
        work_s=through_s[-1] - through_s[0],
        end_s=ended_s - through_s[-1],
        others=max(others, 0.0),
        held={role: first_and_last(mib) for role, mib in watch.held.items()},
    )


def first_and_last(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the second tenth (start-up is over by then) and of the last."""
    tenth = max(len(values) // 10, 1)
    return median(values[tenth : 2 * tenth] or values), median(values[-tenth:])


def machine_s() -> float:
    """CPU seconds that all processes of the machine have taken."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _, _, irq, soft = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


BUSY = """
import hashlib, sys, time
until = float(sys.argv[1]) + float(sys.argv[2])
while time.monotonic() < float(sys.argv[1]): pass
done, block = 0, bytes(1 << 16)
while time.monotonic() < until: hashlib.blake2b(block).digest(); done += 1
print(done)
"""


def busy(processes: int, seconds: float = 3.0) -> float:
    """What so many processes get done together that only compute, as a rate."""
    words = [sys.executable, "-c", BUSY, str(time.monotonic() + 0.5), str(seconds)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(processes)]
    return sum(int(each.communicate()[0]) for each in running) / seconds
