"""A mark in a folder, by which other machines know that they see the same folder."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..stages.safefile import writing
from ..stages.store import lock_file

PREFIX = ".cluster-"


@dataclass(frozen=True)
class Mark:
    """A file in a folder, locked for as long as it counts: one that nobody holds was left by a run that was killed."""

    path: Path
    _lock: int

    @classmethod
    def leave(cls, folder: Path) -> Self:
        """A new one; those that nobody holds are removed. `OutputError` where the folder takes none."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(f"{PREFIX}*"):
                with suppress(OSError):
                    remove_unheld(path)
            path = folder / f"{PREFIX}{secrets.token_hex(8)}"
            return cls(path, lock_file(path))

    def remove(self) -> None:
        """The machines have no more need of it; doing so again changes nothing."""
        with suppress(OSError):
            self.path.unlink()
            os.close(self._lock)


def remove_unheld(path: Path) -> None:
    """Unlink a file that nobody has locked; OSError where somebody has."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(fd)
