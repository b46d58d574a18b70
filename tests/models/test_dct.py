"""The built-in encoder against a DCT written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vidcomp.models import dct
from vidcomp.models.dct import DctEncoder


def frames(t: int = 3, h: int = 224, w: int = 224, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (t, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def times(t: int) -> torch.Tensor:
    return torch.arange(t, dtype=torch.float64)


def by_hand(patch: torch.Tensor, plane: int, u: int, v: int) -> float:
    """One coefficient of one patch (16,16,3), straight from the definition."""
    rgb = torch.tensor(dct.YCBCR[plane], dtype=torch.float64)
    values = ((patch.double() - 128) * rgb).sum(-1)
    total = 0.0
    for y in range(16):
        for x in range(16):
            wave = math.cos(math.pi * (y + 0.5) * u / 16) * math.cos(math.pi * (x + 0.5) * v / 16)
            total += float(values[y, x]) * wave
    return total * math.sqrt((1 if u == 0 else 2) / 16) * math.sqrt((1 if v == 0 else 2) / 16)


@pytest.mark.parametrize(
    ("channel", "plane", "u", "v"),
    [(0, 0, 0, 0), (1, 0, 0, 1), (8, 0, 1, 0), (35, 0, 7, 0), (36, 1, 0, 0), (46, 2, 0, 0), (55, 2, 3, 0)],
)
def test_a_channel_is_its_coefficient(channel: int, plane: int, u: int, v: int) -> None:
    clip = frames(1)
    grid = DctEncoder().encode(clip, times(1))
    assert grid.data.shape == (1, 14, 14, 56)
    patch = clip[0, 32:48, 80:96]
    assert float(grid.data[0, 2, 5, channel]) == pytest.approx(by_hand(patch, plane, u, v), abs=2e-2)


def test_grey_is_zero() -> None:
    grid = DctEncoder().encode(torch.full((1, 224, 224, 3), 128, dtype=torch.uint8), times(1))
    assert float(grid.data.abs().max()) == 0


def test_same_bytes_at_any_chunk_size_and_thread_count() -> None:
    clip, encoder = frames(37, 90, 160), DctEncoder()
    whole = encoder.encode(clip, times(37)).data
    pieces = torch.cat([encoder.encode(part, times(len(part))).data for part in clip.split(5)])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    again = encoder.encode(clip, times(37)).data
    torch.set_num_threads(before)
    assert torch.equal(whole, pieces)
    assert torch.equal(whole, again)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (9, 640), (224, 224), (1080, 1920)])
def test_any_picture_size(h: int, w: int) -> None:
    assert DctEncoder().encode(frames(1, h, w), times(1)).data.shape == (1, 14, 14, 56)
