"""Records in memory and as files: what is equal, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vidcomp.models.types import ShapeError
from vidcomp.stages.record import VideoRecord, load, source
from vidcomp.stages.record_check import FACTS
from vidcomp.stages.safefile import DamagedFileError, write, write_atomically
from vidcomp.stages.schema import SCHEMA


def record(**change: Any) -> VideoRecord:
    """Three rows of a 2 x 2 x 2 grid."""
    kept = torch.tensor([0, 3, 6])
    plain = {
        "tokens": torch.randn(3, 5).bfloat16(),
        "positions": torch.stack([kept // 4, kept // 2 % 2, kept % 2], dim=1).int(),
        "boxes": torch.zeros(3, 6, dtype=torch.int32),
        "sizes": torch.ones(3, dtype=torch.int32),
        "pts_s": torch.zeros(3, dtype=torch.float64),
        "owner": torch.tensor([0, -1, -1, 1, -1, -1, 2, -1], dtype=torch.int32),
        "grid_pts_s": torch.tensor([0.0, 1.0], dtype=torch.float64),
        "frame_pts_s": torch.tensor([0.0, 1.0], dtype=torch.float64),
        "frame_index": torch.tensor([0, 10]),
        "extra": {"deep": torch.randn(3, 2, 4)},
        "meta": {**dict.fromkeys(FACTS, "x"), "schema": SCHEMA, "grid": [2, 2, 2]},
    }
    return VideoRecord(**{**plain, **change})


def test_there_and_back(tmp_path: Path) -> None:
    kept = record()
    kept.save(tmp_path / "a")
    again = load(tmp_path / "a")
    assert all(torch.equal(again.tensors()[name], value) for name, value in kept.tensors().items())
    assert again.tokens.dtype == torch.bfloat16
    assert {k: again.meta[k] for k in kept.meta} == kept.meta
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_step_out_of_a_strided_tensor_is_saved(tmp_path: Path) -> None:
    every_other = torch.arange(2, dtype=torch.float64)[::2]
    assert every_other.stride() == (2,)
    assert b"".join(source(every_other + 0).blocks()) == b"".join(source(every_other).blocks()) == bytes(8)
    assert len(b"".join(source(torch.zeros(2, 3).T[:1]).blocks())) == 8


def test_repr_shows_shapes() -> None:
    shown = repr(record())
    assert "tokens=bfloat16(3, 5)" in shown
    assert "meta" not in shown


@pytest.mark.parametrize(
    "change",
    [
        {"positions": torch.full((3, 3), 9999, dtype=torch.int32)},
        {"positions": torch.zeros(3, 3)},
        {"positions": torch.full((3, 3), -1, dtype=torch.int32)},
        {"owner": torch.full((8,), 3, dtype=torch.int32)},
        {"owner": torch.zeros(7, dtype=torch.int32)},
        {"pts_s": torch.zeros(3)},
        {"tokens": torch.zeros(2, 5)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: Mapping[str, Any]) -> None:
    with pytest.raises(ShapeError):
        record(**change)
    sources = {name: source(value) for name, value in {**record().tensors(), **change}.items()}
    write_atomically(tmp_path / "a", lambda out: write(out, sources, dict(record().meta)))
    with pytest.raises(DamagedFileError, match="encode the video again"):
        load(tmp_path / "a")


@pytest.mark.parametrize("gone", ["schema", "grid", "tokens", "owner"])
def test_a_sealed_file_that_is_no_whole_record_is_refused(tmp_path: Path, gone: str) -> None:
    sources = {name: source(value) for name, value in record().tensors().items() if name != gone}
    meta = {k: v for k, v in record().meta.items() if k != gone}
    write_atomically(tmp_path / "a", lambda out: write(out, sources, meta))
    with pytest.raises(DamagedFileError, match=gone):
        load(tmp_path / "a")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    kept = record()
    replace(kept, meta={**kept.meta, "schema": SCHEMA + 1}).save(tmp_path / "a")
    with pytest.raises(DamagedFileError, match=f"schema {SCHEMA + 1}, this vidcomp reads {SCHEMA}"):
        load(tmp_path / "a")


def test_a_flipped_bit_is_found_unless_the_check_is_waived(tmp_path: Path) -> None:
    record().save(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DamagedFileError, match="is damaged"):
        load(tmp_path / "a")
    assert len(load(tmp_path / "a", verify=False)) == 3


def test_dtypes_there_and_back_or_one_line(tmp_path: Path) -> None:
    rows = torch.arange(3, dtype=torch.int16)[:, None]
    record(extra={"short": rows}).save(tmp_path / "a")
    assert torch.equal(load(tmp_path / "a").extra["short"], rows)
    with pytest.raises(TypeError, match=r"holds no torch.complex64 \(3, 1\): convert it to one of float64, .*bool"):
        record(extra={"odd": rows.to(torch.complex64)}).save(tmp_path / "b")
    assert not (tmp_path / "b").exists()
