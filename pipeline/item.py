"""One input of a run: what the user called it, where it is, and what listing it already told."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..stages.failure import SourceError
from ..stages.same_file import FileStamp

SUFFIXES = "3g2 3gp asf avi f4v flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset("." + name for name in SUFFIXES.split())


class SourceListError(ValueError):
    """A source that names nothing to encode, or a list that cannot be read; the message is one line."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input. It has a `path` or a `url`, or neither where a list's row names nothing; with an `error` it has
    failed before anything is read.

    `name` stands in OUT/manifest.jsonl: the path as it was given or found, or the URL without its secrets.
    """

    name: str
    path: Path | None = None
    url: str | None = None
    start_s: float | None = None  # seconds on the video's own clock, as `sample.start_s`; None: from its start
    end_s: float | None = None  # seconds, exclusive; None: to its end
    id: str | None = None  # what a list's row calls it; never part of an output's name
    error: SourceError | None = None
    size: int = 0  # bytes; 0 where they are not known
    stamp: FileStamp | str | None = None  # what the file system, or a server (`remote.stamp_of`), knows its state by

    @classmethod
    def local(cls, path: str, state: Callable[[], os.stat_result] | None = None) -> Self:
        """A file as the file system has it; what cannot be a video carries its error.

        `state` looks it up, links followed; None: `os.stat`.
        """
        whole = Path(path)
        try:
            found = os.stat(path) if state is None else state()
        except (OSError, ValueError) as e:
            return cls(str(whole), whole, error=absent(path, e))
        stamp = FileStamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return cls(str(whole), whole, error=not_a_file(found.st_mode), size=found.st_size, stamp=stamp)

    @property
    def stamp_text(self) -> str | None:
        """`stamp` as text."""
        if isinstance(self.stamp, FileStamp):
            return f"{self.stamp.device}:{self.stamp.inode}:{self.stamp.size}:{self.stamp.mtime_ns}"
        return self.stamp


def absent(path: str, error: OSError | ValueError) -> SourceError:
    """Why nothing is known of a path."""
    if not isinstance(error, OSError):  # a NUL, or a character that is none in the file system's encoding
        return SourceError("missing", "no file can have such a name", "check the path")
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceError("unreadable", f"cannot be read ({error.strerror})", "check the path and its permissions")
    what = f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else "no such file"
    return SourceError("missing", what, "check the path")


def not_a_file(mode: int) -> SourceError | None:
    """The error of what is no regular file, by its `st_mode`."""
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return SourceError("unreadable", "a folder, where one file is asked for", "name its files, or it as a source")
    return SourceError("unreadable", "not a regular file", "give a video file or a folder of them")
