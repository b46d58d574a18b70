"""Processes of one session (what a leader started, and all that these start), as /proc has them. Linux."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

END_S = 4.0  # a killed process goes at once, but for one that waits for a disk, or for a CPU
LOOKS = 2  # in a row that find none: one that was starting another when it was killed hides it from a single look


def members(session: int) -> Iterator[int]:
    """The processes of a session that have not ended."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            state, _, _, its_session = file.read().rpartition(b")")[2].split()[:4]
            if int(its_session) == session and state not in (b"Z", b"X"):
                yield int(name)


def end_session(session: int, spare: int | None = None) -> None:
    """SIGKILL to every process of a session but `spare`, until there are none."""
    until, looks = time.monotonic() + END_S, LOOKS
    while looks and time.monotonic() < until:
        left = [pid for pid in members(session) if pid != spare]
        looks = LOOKS if left else looks - 1
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
