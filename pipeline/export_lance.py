"""Lance: one dataset, the folder itself; each shard is a data file, so each is one fragment.

The data files are the same bytes for the same records; Lance's own commit, written last, has a time and a random name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lance
import pyarrow as pa
from lance.file import LanceFileWriter
from lance.fragment import DataFile, FragmentMetadata

from ..stages.safefile import Header
from .export_format import SCRATCH, Format, Item
from .export_table import SCHEMA, odd_tensor, row

VERSION: Final = "stable"  # of Lance's file format
COMMITS = ("_versions", "_transactions")


class Lance(Format):
    """Data files are written alone, and committed together: Lance's own way would give them random names."""

    pattern = r"data/shard-\d{6,}\.lance"

    def name(self, number: int, items: Sequence[Item]) -> str:
        return f"data/shard-{number:06d}.lance"

    def refusal(self, header: Header) -> str | None:
        return odd_tensor(header)

    def write(self, path: Path, items: Sequence[Item]) -> None:
        with plain_errors(), LanceFileWriter(str(path), SCHEMA, version=VERSION) as table:
            for item in items:
                table.write_batch(row(item))

    def begin(self, folder: Path) -> None:
        for name in COMMITS:
            if (folder / name).exists():
                shutil.rmtree(folder / name)

    def finish(self, folder: Path, shards: Sequence[tuple[str, int]]) -> None:
        with plain_errors():
            like = layout(folder / SCRATCH)
            parts = [FragmentMetadata(n, [placed(folder / name, like)], rows) for n, (name, rows) in enumerate(shards)]
            lance.LanceDataset.commit(str(folder), lance.LanceOperation.Overwrite(SCHEMA, parts))


def layout(scratch: Path) -> DataFile:
    """How Lance numbers the columns of our schema: read off a dataset of its own making, of one empty row."""
    made = lance.write_dataset(pa.Table.from_pylist([{}], SCHEMA), str(scratch), data_storage_version=VERSION)
    shutil.rmtree(scratch)
    found: DataFile = made.get_fragments()[0].metadata.files[0]
    return found


def placed(path: Path, like: DataFile) -> DataFile:
    """A shard as Lance refers to it."""
    numbers = like.fields, like.column_indices, like.file_major_version, like.file_minor_version
    return DataFile(path.name, *numbers, file_size_bytes=path.stat().st_size)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What Lance raises where it cannot write, as one `OSError` without the place in its own source."""
    try:
        yield
    except (OSError, RuntimeError) as e:
        raise OSError(getattr(e, "errno", None), str(e).partition(", /")[0]) from None
