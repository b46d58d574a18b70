"""Finished records as training data: shard by shard, each whole or absent, the same bytes for the same records.

An export depends on the whole records of the folder alone: in the order of their keys they fill shard after shard. A
later run leaves every shard that is as it should be, makes the others anew, and writes the index last.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from ..stages.safefile import DamagedFileError, OutputError, writing
from ..stages.store import SUFFIX, Store
from .errors import ConfigError
from .export_format import Format, Item, whole
from .export_index import Ledger
from .export_place import held, make, remove

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
        ConfigError: an unknown format, one whose package is not installed, no records, a folder with another export.
        OutputError: `folder` cannot be written to. DamagedFileError: a record changed in between.
    """
    form = format_of(to)
    if form.by_record and limit is not None:
        raise ConfigError(f"--to {to} makes a folder of each record: leave --shard-records and --shard-bytes out")
    if not any(out.glob(f"*{SUFFIX}")):
        raise ConfigError(f"{out}: no records there: give the folder that encode wrote to")
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
                make(ledger, form, names[-1], items)
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
