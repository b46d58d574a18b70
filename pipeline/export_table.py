"""A record as one row of a table, for Parquet and Lance; imports pyarrow.

Tensors whose type every record shares are lists of numbers. The others, `tokens` first, are raw bytes beside their
dtype and shape: Arrow has no bfloat16, and every bit must come back.
"""

from __future__ import annotations

from typing import Any

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
RAW = {"dtype": pa.string(), "shape": pa.list_(pa.int64()), "data": pa.large_binary()}
# fmt: on


def element(kind: pa.DataType, width: int) -> pa.DataType:
    """Arrow's type of one row of a tensor."""
    return pa.list_(kind, width) if width else kind


SCHEMA = pa.schema(
    {
        **FACTS,
        "tokens": RAW["data"],
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
    tokens = raw(header, "tokens")
    columns: dict[str, Any] = {name: pa.array([told[name]], kind) for name, kind in FACTS.items()}
    columns["tokens"] = blob(tokens["data"])
    columns["tokens_dtype"] = pa.array([tokens["dtype"]], RAW["dtype"])
    columns["tokens_shape"] = pa.array([tokens["shape"]], RAW["shape"])
    columns |= {name: numbers(header, name) for name in LISTS}
    others = [{"name": name, **raw(header, name)} for name in sorted(header.entries.keys() - LISTS.keys() - {"tokens"})]
    columns["other"] = pa.array([others], SCHEMA.field("other").type)
    return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def raw(header: Header, name: str) -> dict[str, Any]:
    """A tensor as bytes, with torch's name of its dtype and its shape."""
    entry = header.entries[name]
    return {"dtype": DTYPES[entry.dtype], "shape": list(entry.shape), "data": tensor_bytes(header.path, entry)}


def blob(data: bytes) -> pa.Array:
    """A column of one cell that is these bytes, not copied."""
    offsets = pa.array([0, len(data)], pa.int64()).buffers()[1]
    return pa.Array.from_buffers(RAW["data"], 1, [None, offsets, pa.py_buffer(data)])


def numbers(header: Header, name: str) -> pa.Array:
    """A column of one cell that is a whole tensor, not copied."""
    _, kind, width = LISTS[name]
    data = tensor_bytes(header.path, header.entries[name])
    values = pa.Array.from_buffers(kind, len(data) * 8 // kind.bit_width, [None, pa.py_buffer(data)])
    rows = pa.FixedSizeListArray.from_arrays(values, width) if width else values
    return pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
