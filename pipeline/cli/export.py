"""`vidcomp export`: records as training data. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from ..export import Limit, Summary, export
from ..export_index import INDEX
from .screen import PLAIN_EVERY_S, complain, print_json, put


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder of records.")],
    to: Annotated[str, typer.Option(help="webdataset, parquet, lance or npy.")],
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the export goes.")],
    shard_records: Annotated[int | None, typer.Option(min=1, help="Records in a shard, at most.")] = None,
    shard_bytes: Annotated[int | None, typer.Option(min=1, help="Bytes of records in a shard; 1 GiB.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Make every shard again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Lay the finished records of a folder down for training; what is there already is not made again."""
    limit = None
    if shard_records or shard_bytes:
        limit = Limit(shard_records or inf, shard_bytes or inf)
    watch = unwatched if json else progress()
    summary = export(out, to, folder, limit, force=force, tell=complain, watch=watch)
    index = str(folder / INDEX)
    if json:
        print_json({"format": to, "index": index, **asdict(summary)})
    else:
        put(f"{summary.records} records in {summary.shards} shards, {summary.made} made now: {index}")
    return 2 if summary.skipped else 0


def unwatched(so_far: Summary) -> None:
    """Hears of each shard and says nothing."""


def progress() -> Callable[[Summary], None]:
    """A line on stderr now and then."""
    said = time.monotonic()

    def watch(so_far: Summary) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_EVERY_S:
            said = time.monotonic()
            complain(f"export: {so_far.records} records in {so_far.shards} shards")

    return watch
