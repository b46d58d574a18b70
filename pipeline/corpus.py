"""What to encode: files, folders and globs, as a list of paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = "3g2 3gp asf avi f4v flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset("." + name for name in SUFFIXES.split())


class SourceListError(ValueError):
    """A source that names nothing to encode; the message is one line."""


def expand(sources: Iterable[str]) -> list[Path]:
    """Every file that the sources name, each once (a link and its target are one), folders and globs in sorted order.

    A file is taken whatever its name; a folder gives the files below it that have a video's suffix (links to folders
    are not followed); a glob gives the files that it matches. What is named but cannot be read (a link to nothing, a
    folder that cannot be listed) is in the list too, so that the run tells of it.

    Raises:
        SourceListError: a path that does not exist, a folder without videos, a glob without a match.
    """
    found: dict[str, Path] = {}
    for path in (p for text in sources for p in _paths(text)):
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _paths(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        return list(_videos_below(path)) or _refuse(f"{text}: no videos in this folder ({_shown_suffixes()})")
    if path.exists():
        return [path]
    if glob.has_magic(text):
        matched = [Path(p) for p in sorted(glob.glob(text, recursive=True))]
        return [p for p in matched if not p.is_dir()] or _refuse(f"{text}: matches no file")
    return _refuse(f"{text}: no such file or folder: check the path")


def _videos_below(folder: Path) -> Iterator[Path]:
    closed: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=lambda e: closed.append(Path(e.filename))):
        yield from closed
        closed.clear()
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(here, f) for f in sorted(files) if Path(f).suffix.lower() in VIDEO_SUFFIXES)
    yield from closed


def _shown_suffixes() -> str:
    return ".mp4, .mkv, .webm, .mov and the like"


def _refuse(message: str) -> list[Path]:
    raise SourceListError(message)
