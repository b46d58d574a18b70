"""Parquet: one row a record, one row group a row, so that a reader holds one record at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.safefile import Header
from .export_format import Format, Item
from .export_table import LISTS, SCHEMA, odd_tensor, row

LARGEST = (1 << 31) - (1 << 26)  # bytes of a page, less what else stands in it: a cell is never split over pages


class Parquet(Format):
    """No dictionaries: a group is one row, and zstd finds what repeats within it."""

    pattern = r"shard-\d{6,}\.parquet"

    def name(self, number: int, items: Sequence[Item]) -> str:
        return f"shard-{number:06d}.parquet"

    def refusal(self, header: Header) -> str | None:
        sizes = {"tokens": 0, "other tensors": 0}  # what goes into one page each
        for name, entry in header.entries.items():
            if name not in LISTS:
                sizes["tokens" if name == "tokens" else "other tensors"] += entry.end - entry.start
        large = [name for name, size in sizes.items() if size > LARGEST]
        if large:
            return f"its {large[0]} are {sizes[large[0]]} bytes, over Parquet's 2 GiB a page: export to another format"
        return odd_tensor(header)

    def write(self, path: Path, items: Sequence[Item]) -> None:
        with open(path, "wb") as out, pq.ParquetWriter(out, SCHEMA, compression="zstd", use_dictionary=False) as table:
            for item in items:
                table.write_table(pa.Table.from_batches([row(item)]))
