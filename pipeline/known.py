"""What earlier runs came to, asked without opening a record or hashing an input. Imports no torch.

An input is unchanged while its path, its recipe and its stamp (size, time, inode; a server's tag) are those of its row.
Its record is there while a file of its name is: presence under its final name is completeness.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..stages.store import SUFFIX, Store
from .item import Item
from .manifest import Manifest
from .result import Result

log = logging.getLogger(__name__)


class Known:
    """The manifest and the records of one folder."""

    def __init__(self, out: Path, digest_of: Callable[[Item], str]) -> None:
        self.manifest = Manifest(out)
        self._store, self._digest_of = Store(out), digest_of
        self._present = names_in(out)

    def result(self, item: Item, *, retry: bool = False) -> Result | None:
        """What became of an input that has not changed since; None: it must be looked at. `retry`: failures too."""
        row = self._unchanged(item)
        if row is None:
            return None
        key = row.get("key")
        if key is None:
            return None if retry else Result.remembered(row, None)
        return Result.remembered(row, str(self._store.path(key))) if f"{key}{SUFFIX}" in self._present else None

    def content(self, item: Item) -> str | None:
        """The content digest of an input that has not changed since; None: it is not known."""
        row = self._unchanged(item)
        return None if row is None else row.get("content")

    def is_unsure(self, item: Item) -> bool:
        """Whether an input's stamp was known, and is not now: that of a URL which nobody has listed."""
        if item.url is None or item.error is not None or item.stamp is not None:
            return False
        row = self.manifest.last(item.name, self._digest_of(item))
        return row is not None and row.get("stamp") is not None

    def settled(self, asked: Item) -> Item:
        """An input that was asked about. Where its server could not be asked it is taken for what it was, if its record
        stands: a server that is down has changed no video."""
        if asked.error is None or asked.error.reason == "missing":
            return asked
        row = self.manifest.last(asked.name, self._digest_of(asked))
        if row is None or row.get("key") is None or f"{row['key']}{SUFFIX}" not in self._present:
            return asked
        log.warning("%s: taken for unchanged, its record stands (%s)", asked.name, asked.error)
        return replace(asked, error=None, stamp=row["stamp"])

    def _unchanged(self, item: Item) -> dict[str, Any] | None:
        row = self.manifest.last(item.name, self._digest_of(item))
        return row if row is not None and item.stamp_text is not None and row.get("stamp") == item.stamp_text else None


def names_in(folder: Path) -> frozenset[str]:
    """Every name in a folder; none where there is no such folder."""
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
