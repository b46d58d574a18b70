"""Finished records as training data: shard by shard, each whole or absent, the same bytes for the same records.

An export depends on the whole records of the folder alone: in the order of their keys they fill shard after shard. A
later run leaves every shard that is as it should be, makes the others anew, and writes the index last.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from ..stages.safefile import DamagedFileError, OutputError, sync_folder, writing
from ..stages.store import Store, lock_file
from .errors import ConfigError
from .export_format import SCRATCH, Format, Item, whole
from .export_index import Ledger, Shard

FORMATS = {
    "webdataset": ("export_webdataset", "Webdataset"),
    "parquet": ("export_parquet", "Parquet"),
    "lance": ("export_lance", "Lance"),
    "npy": ("export_npy", "Npy"),
}
NEEDS = {"pyarrow": "parquet", "lance": "lance"}  # package: the extra that brings it
SHARD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Limit:
    """What a shard may hold: records, and bytes of records (one record is taken whatever its size)."""

    records: float = inf
    bytes: float = inf


@dataclass(slots=True)
class Summary:
    """What an export came to; `skipped` counts records that are damaged or do not fit the format."""

    records: int = 0
    shards: int = 0
    made: int = 0
    skipped: int = 0
    why: list[str] = field(default_factory=list)  # of the first ones skipped


def export(
    out: Path,
    to: str,
    folder: Path,
    limit: Limit | None = None,
    *,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    watch: Callable[[Summary], None] = lambda so_far: None,
) -> Summary:
    """Lay the whole records of `out` down in `folder`; `limit` None: 1 GiB a shard.

    `tell` hears one line about each record that is left out, `watch` of each shard that is in place. `force` makes
    every shard anew.

    Raises:
        ConfigError: an unknown format, one whose package is not installed, a folder that holds another export.
        OutputError: `folder` cannot be written to. DamagedFileError: a record changed in between.
    """
    form = format_of(to)
    if form.by_record and limit is not None:
        raise ConfigError(f"--to {to} makes a folder of each record: leave --shard-records and --shard-bytes out")
    if folder.resolve() == out.resolve():
        raise ConfigError(f"{folder}: holds the records themselves: give another folder with -o")
    limit = Limit(records=1) if form.by_record else limit or Limit(bytes=SHARD_BYTES)
    summary = Summary()
    with held(folder):
        ledger = Ledger(folder, to, form)
        names = []
        for number, items in enumerate(cut(found(out, form, summary, tell), limit)):
            names.append(form.name(number, items))
            if force or not ledger.holds(names[-1], items):
                begin(ledger, form)
                ledger.add(make(folder, form, names[-1], items))
                summary.made += 1
            summary.shards += 1
            summary.records += len(items)
            watch(summary)
        finish(ledger, form, names)
    return summary


def format_of(name: str) -> Format:
    """A format by its name; what it needs is imported here."""
    if name not in FORMATS:
        raise ConfigError(f"no format {name!r}; there are: {', '.join(FORMATS)}")
    module, cls = FORMATS[name]
    try:
        made: Format = getattr(importlib.import_module(f".{module}", __package__), cls)()
    except ModuleNotFoundError as e:
        if e.name not in NEEDS:
            raise
        raise ConfigError(f"--to {name} needs {e.name}: pip install 'vidcomp[{NEEDS[e.name]}]'") from None
    return made


def found(out: Path, form: Format, summary: Summary, tell: Callable[[str], None]) -> Iterator[Item]:
    """Every record that can be exported, by key; the others are told of and counted."""
    for path in Store(out).records():
        try:
            yield whole(path, form)
        except (DamagedFileError, OSError) as e:
            why = str(e) if isinstance(e, DamagedFileError) else str(OutputError.of(str(path), e, "read"))
            summary.skipped += 1
            summary.why += [why] if len(summary.why) < 10 else []
            tell(f"left out: {why}")


def cut(items: Iterable[Item], limit: Limit) -> Iterator[list[Item]]:
    """Items in their order, as many to a shard as it may hold."""
    shard: list[Item] = []
    size = 0
    for item in items:
        if shard and (len(shard) == limit.records or size + item.stamp.size > limit.bytes):
            yield shard
            shard, size = [], 0
        shard.append(item)
        size += item.stamp.size
    if shard:
        yield shard


def make(folder: Path, form: Format, name: str, items: Sequence[Item]) -> Shard:
    """Write a shard under a temporary name, sync it, and put it in its place."""
    scratch, place = folder / SCRATCH, folder / name
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
    return shard


def begin(ledger: Ledger, form: Format) -> None:
    """Something changes: until the end the folder does not say that it is whole."""
    with writing(ledger.folder):
        ledger.change()
        form.begin(ledger.folder)


def finish(ledger: Ledger, form: Format, names: Sequence[str]) -> None:
    """Remove what no longer belongs to the export, and write the index."""
    with writing(ledger.folder):
        for name in ledger.strays(names):
            begin(ledger, form)
            remove(ledger.folder / name)
            ledger.forget(name)
        if not ledger.is_whole():
            form.finish(ledger.folder, [(name, len(ledger.known[name].records)) for name in names])
            ledger.finish()


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
