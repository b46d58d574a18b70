"""Parquet: one row a record, one row group a row, so that a reader holds one record at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.safefile import Header
from .export_format import Format, Item
from .export_table import LISTS, SCHEMA, odd_tensor, row

LARGEST = (1 << 31) - (1 << 20)  # bytes of one cell: Parquet counts them in 31 bits


class Parquet(Format):
    """No dictionary: it would take equal numbers with different bits (0.0 and -0.0) for the same."""

    pattern = r"shard-\d{6,}\.parquet"

    def name(self, number: int, items: Sequence[Item]) -> str:
        return f"shard-{number:06d}.parquet"

    def refusal(self, header: Header) -> str | None:
        cells = {name: entry.end - entry.start for name, entry in header.entries.items() if name not in LISTS}
        large = [name for name, size in cells.items() if size > LARGEST]
        if large:
            return f"its {large[0]} are {cells[large[0]]} bytes, over the 2 GiB of a Parquet cell: take another format"
        return odd_tensor(header)

    def write(self, path: Path, items: Sequence[Item]) -> None:
        with open(path, "wb") as out, pq.ParquetWriter(out, SCHEMA, compression="zstd", use_dictionary=False) as table:
            for item in items:
                table.write_table(pa.Table.from_batches([row(item)]))
