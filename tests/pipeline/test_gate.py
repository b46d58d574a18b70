"""A gate in front of the encoder: what it skips is not encoded, and the record tells where it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vidcomp
from vidcomp.models.types import TokenGrid

WHOLE = {"method": "uniform", "retain": 1.0}
GATED = {"gate": "rlt", "config": {"gate": {"threshold": 0.03}}}


def encode(clip: Path, out: Path, **how: Any) -> vidcomp.VideoRecord:
    return vidcomp.encode(clip, fps=5.0, out=out, **how)


def test_kept_tokens_are_those_of_the_whole(clip: Path, tmp_path: Path) -> None:
    whole, gated = encode(clip, tmp_path, **WHOLE), encode(clip, tmp_path, **WHOLE, **GATED)
    assert 0 < len(gated) < len(whole)
    t, y, x = gated.positions.long().unbind(1)
    _, h, w = whole.grid
    assert torch.equal(gated.tokens, whole.tokens[(t * h + y) * w + x])  # the built-in encoder sees each patch alone
    assert torch.equal(gated.sizes.long(), torch.bincount(gated.owner.long(), minlength=len(gated)))
    assert int(gated.sizes.sum()) == len(whole)
    assert gated.meta["method"]["gate"]["skips"] == "exact"
    assert gated.meta["method"]["gate"]["patch"] == 16


def test_a_method_behind_a_gate_counts_what_was_skipped(clip: Path, tmp_path: Path) -> None:
    record = encode(clip, tmp_path, method="tome", **GATED)
    owned = record.owner[record.owner >= 0].long()
    assert torch.equal(record.sizes.long(), torch.bincount(owned, minlength=len(record)))
    assert int(record.sizes.sum()) == record.owner.numel()
    t, y, x = record.positions.unbind(1)
    t0, t1, y0, y1, x0, x1 = record.boxes.unbind(1)
    assert bool(((t0 <= t) & (t < t1) & (y0 <= y) & (y < y1) & (x0 <= x) & (x < x1)).all())


def test_chunks_do_not_matter_to_a_causal_gate(clip: Path, tmp_path: Path) -> None:
    def made(frames: int) -> vidcomp.VideoRecord:
        return encode(clip, tmp_path, settings=[f"chunk_frames={frames}"], **WHOLE, **GATED)

    one, many = made(64), made(4)
    assert torch.equal(one.positions, many.positions)
    assert torch.equal(one.tokens, many.tokens)


def test_only_kept_tokens_reach_the_encoder(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcomp.models.dct import DctEncoder

    seen: list[tuple[int, int]] = []
    own = DctEncoder.encode

    def watched(self: DctEncoder, *args: Any, keep: Any = None, **how: Any) -> TokenGrid:
        seen.append((int(keep.sum()), keep.numel()))
        return own(self, *args, keep=keep, **how)

    monkeypatch.setattr(DctEncoder, "encode", watched)
    record = encode(clip, tmp_path, **WHOLE, **GATED)
    assert sum(kept for kept, _ in seen) == len(record)
    assert sum(count for _, count in seen) == record.owner.numel()


@pytest.mark.parametrize(
    ("gate", "settings", "message"),
    [
        ("evs", (), "looks at pixels alone, evs needs features"),
        ("dtd", (), "looks at pixels alone, dtd needs features"),
        ("rtl", (), "no merger 'rtl'"),
        ("rlt", ["gate.speed=1"], "has no 'speed'"),
    ],
)
def test_what_is_no_gate(clip: Path, tmp_path: Path, gate: str, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(clip, tmp_path, gate=gate, settings=settings)


def test_dtd_by_pixels_is_one(clip: Path, tmp_path: Path) -> None:
    record = encode(clip, tmp_path, gate="dtd", settings=["gate.mode=pixel", "gate.threshold=0.02"], **WHOLE)
    assert 0 < len(record) < record.owner.numel()
