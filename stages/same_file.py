"""Whether a file is still the one whose content was digested: a download in progress, or a swap, must not pass."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .failure import SourceError


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the file system knows a file's state by."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        s = os.stat(path)
        return cls(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns)

    def check(self, path: Path) -> None:
        """`SourceError` unless the file at `path` is as it was when stamped."""
        try:
            same = self == self.of(path)
        except OSError:
            same = False
        if not same:
            raise SourceError("unreadable", "it changed while it was read", "encode it again once it is complete")
