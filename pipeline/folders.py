"""The files of folders and globs on this machine. No link to a folder is followed, so a loop of links ends."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..stages.failure import SourceError
from .item import VIDEO_SUFFIXES, Item

Found = os.DirEntry[str] | Item  # an item stands for a folder that cannot be listed


def videos_below(folder: str) -> Iterator[Item]:
    """The files below a folder that have a video's suffix: a folder's own first, by name, then its folders'."""
    for _, found in _walk(folder):
        if isinstance(found, Item):
            yield found
        elif os.path.splitext(found.name)[1].lower() in VIDEO_SUFFIXES and not _leads_to_folder(found):
            yield Item.local(found.path, found.stat)


def matches(pattern: str) -> Iterator[str | Item]:
    """The files that a glob matches, as a shell's: `*` and `**` take no hidden names.

    `glob` follows links in `**`, and does not end where two of them lead up.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        yield from (path for path in sorted(glob.glob(pattern)) if not os.path.isdir(path))
        return
    at = parts.index("**")
    roots = glob.glob("/".join(parts[:at]) or ("/" if at else "."))
    for root in sorted(filter(os.path.isdir, roots)):
        for below, found in _walk(root):
            if isinstance(found, Item):
                yield found
            elif _match(below.split("/"), parts[at:]) and not _leads_to_folder(found):
                yield found.path


def _walk(folder: str) -> Iterator[tuple[str, Found]]:
    """(path below the folder, entry) of all that is no folder. Hidden folders are not entered."""
    waiting = [(folder, "")]
    while waiting:
        here, below = waiting.pop()
        inner = []
        try:
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            error = SourceError("unreadable", "the folder cannot be listed", "check its permissions")
            yield below, Item(str(Path(here)), Path(here), error=error)
            continue
        for entry in entries:
            if not _is_folder(entry):
                yield below + entry.name, entry
            elif not entry.name.startswith("."):
                inner.append((entry.path, f"{below}{entry.name}/"))
        waiting += reversed(inner)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and os.path.isdir(entry.path)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches, both by their parts."""
    if not pattern or not parts:
        return not parts and all(p == "**" for p in pattern)
    first, *rest = pattern
    if parts[0].startswith(".") and not first.startswith("."):
        return first == "**" and _match(parts, rest)
    if first == "**":
        return _match(parts, rest) or _match(parts[1:], pattern)
    return fnmatchcase(parts[0], first) and _match(parts[1:], rest)
