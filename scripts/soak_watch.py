"""What a process and all below it hold, looked at every so often until it ends. Linux."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from process_tree import below


@dataclass(frozen=True)
class Held:
    """Of a tree of processes, at one moment."""

    at_s: float
    mib: float
    handles: int
    processes: int


class Watch:
    """Looks at a process every `every_s` seconds, in a thread, until `close`."""

    def __init__(self, process: subprocess.Popen[bytes], every_s: float) -> None:
        self.seen = list[Held]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(process.pid, every_s), daemon=True)
        self._begun_s = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self, pid: int, every_s: float) -> None:
        while not self._stop.wait(every_s):
            family = [pid, *below(pid)]
            mib = sum(resident(each) for each in family)
            self.seen.append(Held(time.monotonic() - self._begun_s, mib, handles(pid), len(family)))

    def warm(self) -> list[Held]:
        """What was seen behind the first fifth of the time, and before the very end, when all goes."""
        last_s = self.seen[-1].at_s
        return [held for held in self.seen if 0.2 * last_s <= held.at_s <= 0.98 * last_s]

    def growth(self) -> float:
        """Of memory: the most that was held in the last third over that in the first one, once warm; 0.01 is one
        hundredth. Peaks, since it goes up and down with every chunk."""
        found = [held.mib for held in self.warm()]
        third = max(len(found) // 3, 1)
        return max(found[-third:]) / max(found[:third]) - 1


def resident(pid: int) -> float:
    """MiB; 0 of one that has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    return 0.0


def handles(pid: int) -> int:
    """Open descriptors."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
