"""The processes below one, as /proc has them, and what becomes of them. Linux."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36
TICK_S: Final = 0.02


def adopt_orphans() -> None:
    """From now on this process is the parent of every descendant whose own parent has died: none can get away."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def below(pid: int) -> list[int]:
    """The living descendants of a process, parents before children."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for found, parent, state in processes():
        if state != "Z":
            children[parent].append(found)
    tree = list(children[pid])
    for each in tree:  # it grows meanwhile
        tree += children[each]
    return tree


def processes() -> Iterable[tuple[int, int, str]]:
    """(number, parent's number, state) of all."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            stat = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace")
            state, parent = stat.rpartition(")")[2].split()[:2]
            yield int(name), int(parent), state


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, in the order given."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def left_after(seconds: float) -> list[int]:
    """Our descendants that live still when so much time has passed; returns at once when there are none. What has
    ended is reaped, so no `Popen` of ours may be waited for afterwards."""
    until = time.monotonic() + seconds
    while (left := below(os.getpid())) and time.monotonic() < until:
        time.sleep(TICK_S)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return left


def command_of(pid: int) -> str:
    """What a process was started as, for people."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return "?"


def rss_mib(pid: int) -> float:
    """Memory of a process that is in RAM, pages that it shares with others included; 0 where it is gone."""
    with suppress(OSError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20
    return 0.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken so far; 0 where it is gone."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
