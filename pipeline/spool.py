"""`OUT/.spool`: room on this machine's disk for remote files while they are read, bounded for all processes together.

A file's name holds the bytes that are set aside for it, and its process holds a lock on it: so the folder itself is the
account, and what a crash left is known by having no lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..stages.safefile import writing
from ..stages.store import lock_file

SPOOL, LOCK = ".spool", "lock"
NAME = re.compile(r"[0-9a-f]{32}\.[^.]*\.([0-9]+)\.part")
WAIT_S = 0.1  # seconds between two looks for room


@contextmanager
def room(out: Path, digest: str, size: int, limit: int) -> Iterator[Path]:
    """An empty file in OUT's spool, removed behind the block; waits until `size` bytes of `limit` are free.

    `digest` (32 hex digits) begins the file's name. Who waits may hold other room, as long as it gives that back
    without having got this one.
    """
    with writing(out):
        while (taken := _take(out, digest, size, limit)) is None:
            time.sleep(WAIT_S)
    fd, path = taken
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)
        remove_leftovers(out)


def remove_leftovers(out: Path) -> None:
    """Remove what crashed processes left in OUT's spool, and the spool itself where nothing is in it."""
    if (out / SPOOL).is_dir():
        with suppress(OSError), _alone(out) as folder:
            list(_held(folder))


def _take(out: Path, digest: str, size: int, limit: int) -> tuple[int, Path] | None:
    """A new file, open and locked; None: there is no room for it yet."""
    with _alone(out) as folder:
        if sum(_held(folder)) + size > limit:
            return None
        fd, name = tempfile.mkstemp(prefix=f"{digest}.", suffix=f".{size}.part", dir=folder)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd, Path(name)


def _held(folder: Path) -> Iterator[int]:
    """The bytes set aside for each file of a living process; the others are removed."""
    for path in folder.iterdir():
        if (name := NAME.fullmatch(path.name)) and not _left_over(path):
            yield int(name[1])


def _left_over(path: Path) -> bool:
    """Remove a file unless its process lives, which holds its lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # given back just now
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """OUT's spool, which no other process changes inside; it goes when it is empty."""
    folder = out / SPOOL
    out.mkdir(parents=True, exist_ok=True)
    lock = lock_file(folder / LOCK)
    try:
        yield folder
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()
        os.close(lock)
