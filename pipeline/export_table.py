"""A record as one row of a table, for Parquet and Lance; imports pyarrow.

Tensors whose type every record shares are lists of numbers. The others, `tokens` first, are the raw bytes of each of
their rows, beside dtype and shape: Arrow has no bfloat16, and every bit must come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..stages.safefile import Header, read_header
from .export_format import DTYPES, Item, facts, tensor_bytes

# fmt: off
LISTS = {  # name: its dtype in a record, Arrow's type of one row of it, numbers in such a row (0: one alone)
    "positions": ("I32", pa.int32(), 3), "boxes": ("I32", pa.int32(), 6), "sizes": ("I32", pa.int32(), 0),
    "pts_s": ("F64", pa.float64(), 0), "owner": ("I32", pa.int32(), 0), "grid_pts_s": ("F64", pa.float64(), 0),
    "frame_pts_s": ("F64", pa.float64(), 0), "frame_index": ("I64", pa.int64(), 0),
}
FACTS = {
    "key": pa.string(), "status": pa.string(), "content": pa.string(), "recipe": pa.string(), "model": pa.string(),
    "method": pa.string(), "codec": pa.string(), "width": pa.int64(), "height": pa.int64(),
    "duration_s": pa.float64(), "source_fps": pa.float64(), "has_audio": pa.bool_(), "fps": pa.float64(),
    "frames": pa.int64(), "grid": pa.list_(pa.int64(), 3), "tokens_in": pa.int64(), "tokens_out": pa.int64(),
    "meta": pa.string(),
}
RAW = {"rows": pa.list_(pa.large_binary()), "dtype": pa.string(), "shape": pa.list_(pa.int64())}
# fmt: on


def element(kind: pa.DataType, width: int) -> pa.DataType:
    """Arrow's type of one row of a tensor."""
    return pa.list_(kind, width) if width else kind


SCHEMA = pa.schema(
    {
        **FACTS,
        "tokens": RAW["rows"],
        "tokens_dtype": RAW["dtype"],
        "tokens_shape": RAW["shape"],
        **{name: pa.list_(element(kind, width)) for name, (_, kind, width) in LISTS.items()},
        "other": pa.list_(pa.struct({"name": pa.string(), **RAW})),
    }
)


def odd_tensor(header: Header) -> str | None:
    """Why a record does not fit the table; None: it does."""
    for name, (dtype, _, width) in LISTS.items():
        entry = header.entries[name]
        if entry.dtype != dtype or entry.shape[1:] != ((width,) if width else ()) or not entry.shape:
            return f"{name} is {entry.dtype} {list(entry.shape)}, which is not a record's: encode the video again"
    return None


def row(item: Item) -> pa.RecordBatch:
    """One record; its tensors are in memory while the row is."""
    header = read_header(item.path)
    told = facts(header)
    columns: dict[str, Any] = {name: pa.array([told[name]], kind) for name, kind in FACTS.items()}
    columns["tokens"], columns["tokens_dtype"], columns["tokens_shape"] = raw(header, ["tokens"])
    columns |= {name: numbers(header, name) for name in LISTS}
    names = sorted(header.entries.keys() - LISTS.keys() - {"tokens"})
    kinds = SCHEMA.field("other").type.value_type
    others = pa.StructArray.from_arrays([pa.array(names, pa.string()), *raw(header, names)], fields=list(kinds))
    columns["other"] = pa.ListArray.from_arrays(pa.array([0, len(names)], pa.int32()), others)
    return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def raw(header: Header, names: Sequence[str]) -> list[pa.Array]:
    """Tensors as `RAW` has them: the bytes of their rows (along the first axis), torch's name of their dtype, shape."""
    entries = [header.entries[name] for name in names]
    data = [tensor_bytes(header.path, entry) for entry in entries]
    counts = [entry.shape[0] if entry.shape else 1 for entry in entries]
    steps = np.repeat([len(d) // max(n, 1) for d, n in zip(data, counts, strict=True)], counts)
    ends = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    joined = data[0] if len(data) == 1 else b"".join(data)
    cells = pa.Array.from_buffers(pa.large_binary(), len(steps), [None, pa.py_buffer(ends), pa.py_buffer(joined)])
    rows = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *counts]), pa.int32()), cells)
    dtypes = pa.array([DTYPES[entry.dtype] for entry in entries], RAW["dtype"])
    return [rows, dtypes, pa.array([list(entry.shape) for entry in entries], RAW["shape"])]


def numbers(header: Header, name: str) -> pa.Array:
    """A column of one cell that is a whole tensor, not copied."""
    _, kind, width = LISTS[name]
    data = tensor_bytes(header.path, header.entries[name])
    values = pa.Array.from_buffers(kind, len(data) * 8 // kind.bit_width, [None, pa.py_buffer(data)])
    rows = pa.FixedSizeListArray.from_arrays(values, width) if width else values
    return pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
