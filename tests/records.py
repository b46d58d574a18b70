"""Records made here from random numbers: every dtype that tokens may have, with and without optional tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidcomp.stages.record import VideoRecord
from vidcomp.stages.record_check import FACTS
from vidcomp.stages.schema import SCHEMA
from vidcomp.stages.store import record_key

SOURCE = {
    "codec": "h264",
    "width": 96,
    "height": 64,
    "duration_s": 6.0,
    "fps": 10.0,
    "has_audio": False,
    "declared_frames": None,
}
DTYPES = (torch.bfloat16, torch.float32, torch.float16, torch.int8)


def video_record(number: int, rows: int = 5, channels: int = 6) -> VideoRecord:
    """The record of a video that never was: `rows` of a 2 x 3 x 4 grid, the same for the same numbers."""
    random = torch.Generator().manual_seed(number)
    bits = torch.randint(-128, 127, (rows, channels * 2), generator=random).to(torch.int8)
    dtype = DTYPES[number % len(DTYPES)]
    kept = torch.arange(rows, dtype=torch.int32) % 24
    optional: dict[str, Any] = {}
    if number % 2:
        optional["frame_vectors"] = torch.randn(2, 4, generator=random).bfloat16()
        optional["extra"] = {"deep": torch.randn(rows, 2, 3, generator=random)}
    return VideoRecord(
        tokens=bits.to(dtype) / 3 if dtype.is_floating_point else bits,
        positions=torch.stack([kept // 12, kept // 4 % 3, kept % 4], dim=1),
        boxes=torch.arange(rows * 6, dtype=torch.int32).reshape(rows, 6),
        sizes=torch.ones(rows, dtype=torch.int32),
        pts_s=torch.linspace(0, 1, rows, dtype=torch.float64) * torch.tensor([-1.0, 0.0, 1.0, 1 / 3, 0.0])[kept % 5],
        owner=torch.randint(-1, rows, (24,), generator=random).int(),
        grid_pts_s=torch.tensor([0.0, 1 / 3], dtype=torch.float64),
        frame_pts_s=torch.rand(4, generator=random, dtype=torch.float64),
        frame_index=torch.arange(4) * 10,
        meta=meta(number),
        **optional,
    )


def meta(number: int) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(FACTS, "x")
    told = {"schema": SCHEMA, "grid": [2, 3, 4], "fps": 1.0, "frames": 4, "status": "ok", "source": SOURCE}
    parts = {"model": {"family": "dct"}, "method": {"name": "evs", "merger": {"retain": number / 10}}}
    return {**facts, **told, **parts, "key": record_key(str(number), "recipe")}


def make_records(folder: Path, count: int, rows: int = 5, channels: int = 6) -> list[Path]:
    """`count` records under their keys; their paths in the order of the keys."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [video_record(n, rows, channels) for n in range(count)]
    for record in made:
        record.save(folder / f"{record.meta['key']}.safetensors")
    return sorted(folder / f"{record.meta['key']}.safetensors" for record in made)


def damage(path: Path) -> None:
    """Change one bit of a file's last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
