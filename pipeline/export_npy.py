"""npy: a folder for each record, `KEY/NAME.npy` for each tensor and `KEY/record.json`.

numpy has no bfloat16: such a tensor's bits are stored as uint16, and `record.json` has every tensor's true dtype.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from numpy.lib.format import write_array_header_1_0

from ..stages.safefile import Entry, Header, blocks_of, canonical, read_header
from .export_format import DTYPES, KEY, Format, Item, facts

STORED = {
    "F64": "<f8",
    "I64": "<i8",
    "F32": "<f4",
    "I32": "<i4",
    "BF16": "<u2",
    "F16": "<f2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


class Npy(Format):
    """Streamed block by block; `numpy.load(..., mmap_mode="r")` reads any tensor."""

    pattern = KEY
    by_record = True

    def name(self, number: int, items: Sequence[Item]) -> str:
        return items[0].key

    def refusal(self, header: Header) -> str | None:
        """A tensor's name becomes a file's."""
        odd = [name for name in header.entries if not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII)]
        return f"its tensor {odd[0]!r:.50} cannot be a file's name: export to another format" if odd else None

    def write(self, path: Path, items: Sequence[Item]) -> None:
        (item,) = items
        header = read_header(item.path)
        path.mkdir()
        for name, entry in header.entries.items():
            write_array(path / f"{name}.npy", header.path, entry)
        tensors = {name: {"dtype": DTYPES[e.dtype], "shape": list(e.shape)} for name, e in header.entries.items()}
        (path / "record.json").write_text(canonical({**facts(header), "tensors": tensors}) + "\n", encoding="ascii")


def write_array(path: Path, record: Path, entry: Entry) -> None:
    """One tensor of a record as an .npy file."""
    with open(path, "wb") as out:
        told = {"descr": STORED[entry.dtype], "fortran_order": False, "shape": entry.shape}
        write_array_header_1_0(out, told)
        for block in blocks_of(record, entry):
            out.write(block)
