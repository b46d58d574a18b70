"""Who holds a lock file, and getting hold of one. Nothing is waited for, but for whoever only looks."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

LOOKS = 25  # for a lock, half a second


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock; not, where there is no such file."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)  # in a folder from elsewhere it may be a pipe
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def locked(fd: int) -> bool:
    """Whether the lock is ours from here on: whoever only looks at it (`is_held`) has it for a moment."""
    for _ in range(LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False
