"""What to encode: files, folders, globs, lists and URLs, as a list of items."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from ..stages.same_file import FileStamp
from . import urls
from .folders import matches, videos_below
from .item import Item as Item
from .item import SourceListError as SourceListError
from .manifest_row import Row
from .manifests import is_list, rows


def items(sources: Iterable[str], column: str | None = None) -> list[Item]:
    """Every input that the sources name, each once, in the sources' order; folders and globs in sorted order.

    A folder gives the files below it that have a video's suffix (links to folders are not followed, hidden folders
    not entered); a glob gives the files that it matches; a list (`manifests`) one item a row, its relative paths from
    the list's own folder, whose paths stand in `column`. Any other file is taken whatever its name. What is named but
    cannot be a video (a link to nothing, a closed folder, a row that cannot be used) is an item with its error.
    Inputs are one where they are the same file, whatever links lead to it, or URL, and the same window of it.

    Raises:
        SourceListError: a path that does not exist, a folder without videos, a glob without a match, a list that
            cannot be read or is empty.
    """
    known = _Known()
    return [item for text in sources for item in _named(text, column) if known.is_new(item)]


def _named(text: str, column: str | None) -> Iterable[Item]:
    if urls.is_url(text):
        from .remote import listed

        return listed(text)
    if os.path.isdir(text):
        return list(videos_below(text)) or _nothing(f"{text}: no videos in this folder (.mp4, .mkv and the like)")
    if os.path.exists(text):
        return _file(text, column)
    if glob.has_magic(text):
        found = chain.from_iterable(_file(p, column) if isinstance(p, str) else [p] for p in matches(text))
        return list(found) or _nothing(f"{text}: matches no file")
    return _nothing(f"{text}: no such file or folder: check the path")


def _nothing(message: str) -> list[Item]:
    raise SourceListError(message)


def _file(path: str, column: str | None) -> list[Item]:
    if not is_list(path):
        return [Item.local(path)]
    found = [_listed(path, row) for row in rows(path, column)]
    return found or _nothing(f"{path}: it lists nothing")


def _listed(manifest: str, row: Row) -> Item:
    """The input of a list's row. Its text is a path or a URL as it stands, and never becomes an output's name."""
    if row.error:
        return Item(f"{manifest}:{row.number}", error=row.error)
    if urls.is_url(row.text):
        item = Item(urls.shown(row.text), url=row.text, error=urls.refusal(row.text))
    else:
        item = Item.local(os.path.join(os.path.dirname(manifest), row.text))
    return replace(item, start_s=row.start_s, end_s=row.end_s, id=row.id)


class _Known:
    """The inputs so far. Real paths are looked up only for files with the number of one that is known."""

    def __init__(self) -> None:
        self._first: dict[object, str] = {}
        self._all: set[object] = set()

    def is_new(self, item: Item) -> bool:
        """Whether it is none of those before it."""
        window = (item.start_s, item.end_s)
        if item.path is None:
            return self._add((item.url or item.name, window))
        path = os.fspath(item.path)
        if not isinstance(item.stamp, FileStamp):
            return self._add((path, window))
        number = (item.stamp.device, item.stamp.inode, window)
        if number not in self._first:
            self._first[number] = path
            return True
        self._add((os.path.realpath(self._first[number]), window))
        return self._add((os.path.realpath(path), window))

    def _add(self, what: object) -> bool:
        size = len(self._all)
        self._all.add(what)
        return len(self._all) > size
