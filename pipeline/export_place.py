"""How a shard gets into its place: one process at a time, whole or not at all, durable before it has its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..stages.safefile import sync_folder, writing
from ..stages.store import lock_file
from .export_format import SCRATCH, Format, Item
from .export_index import Ledger, Shard


def make(ledger: Ledger, form: Format, name: str, items: Sequence[Item]) -> None:
    """Write a shard under a temporary name, sync it, put it in its place, and note it."""
    scratch, place = ledger.folder / SCRATCH, ledger.folder / name
    with writing(place):
        remove(scratch)
        try:
            form.write(scratch, items)
        except OSError:
            for item in items:
                item.check()
            raise
        for item in items:
            item.check()
        sync(scratch)
        shard = Shard.of(name, scratch, items)
        place.parent.mkdir(exist_ok=True)
        if place.is_dir():
            remove(place)
        os.replace(scratch, place)
        sync_folder(place.parent)
        ledger.add(shard)


def sync(path: Path) -> None:
    """Make a file durable, or a folder with its files."""
    for part in [*path.iterdir(), path] if path.is_dir() else [path]:
        sync_folder(part)  # opens and syncs whatever it is


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; a link is removed, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, for this process alone: a second export waits, and then finds everything made."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_file(folder / ".lock")
    try:
        yield
    finally:
        with suppress(OSError):
            for left in (folder / SCRATCH, *folder.glob(".*.tmp"), folder / ".lock"):
                remove(left)
        os.close(lock)
