"""Parquet: one row a record, one row group a row, so that a reader holds one record at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.safefile import Header
from .export_format import Format, Item
from .export_table import SCHEMA, odd_tensor, row


class Parquet(Format):
    """No dictionaries: a group is one row, and zstd finds what repeats within it."""

    pattern = r"shard-\d{6,}\.parquet"

    def name(self, number: int, items: Sequence[Item]) -> str:
        return f"shard-{number:06d}.parquet"

    def refusal(self, header: Header) -> str | None:
        return odd_tensor(header)

    def write(self, path: Path, items: Sequence[Item]) -> None:
        with open(path, "wb") as out, pq.ParquetWriter(out, SCHEMA, compression="zstd", use_dictionary=False) as table:
            for item in items:
                table.write_table(pa.Table.from_batches([row(item)]))
