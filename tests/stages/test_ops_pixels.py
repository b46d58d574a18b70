"""Differences of uint8 pictures, patch by patch, in whole numbers."""

import pytest
import torch

from vidcomp.models.types import TokenGrid
from vidcomp.stages.ops_pixels import from_carry, patch_sums, pixels_of, step_changes, to_carry


def pictures(f, high, wide, seed=0):
    return torch.randint(0, 256, (f, high, wide, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize(("high", "wide", "h", "w"), [(8, 12, 2, 3), (5, 7, 5, 7), (6, 4, 1, 1), (300, 2, 1, 2)])
def test_patch_sums_are_exact(high, wide, h, w):
    a, b = pictures(2, high, wide)
    want = (a.int() - b.int()).abs().view(h, high // h, w, wide // w, 3).sum((1, 3))
    assert torch.equal(patch_sums(a, b, (h, w)), want)
    assert torch.equal(patch_sums(b, a, (h, w)), want)


def test_black_and_white_do_not_overflow():
    black = torch.zeros(512, 512, 3, dtype=torch.uint8)
    assert patch_sums(black, black + 255, (1, 1)).tolist() == [[[255 * 512 * 512] * 3]]


@pytest.mark.parametrize(("frames", "tubelet"), [(1, 1), (1, 2), (4, 2), (5, 2), (7, 3), (6, 1)])
def test_last_frames_against_first_frames_of_the_step_before(frames, tubelet):
    pixels, before = pictures(frames, 4, 6), pictures(1, 4, 6, seed=1)[0]
    starts = list(range(0, frames, tubelet))
    want = [
        patch_sums(pixels[a], pixels[min(a + 2 * tubelet, frames) - 1], (2, 3)) for a in starts[:-1]
    ]  # `min`: the last step may have fewer
    alone = step_changes(pixels, tubelet, (2, 3), None)
    assert alone.shape == (len(starts) - 1, 2, 3, 3)
    assert all(torch.equal(x, y) for x, y in zip(alone, want, strict=True))
    after = step_changes(pixels, tubelet, (2, 3), before)
    assert torch.equal(after[1:], alone)
    assert torch.equal(after[0], patch_sums(before, pixels[min(tubelet, frames) - 1], (2, 3)))


@pytest.mark.parametrize(("frames", "tubelet", "first"), [(6, 2, 4), (5, 2, 4), (1, 2, 0), (7, 3, 6), (3, 1, 2)])
def test_the_carry_is_the_last_steps_first_frame(frames, tubelet, first):
    pixels = pictures(frames, 4, 6)
    steps = -(-frames // tubelet)
    valid = torch.ones(steps, 2, 3, dtype=torch.bool)
    valid[-1, 1, 2] = False
    grid = TokenGrid(torch.zeros(steps, 2, 3, 1), torch.arange(steps).double(), valid=valid, pixels=pixels)
    carry = to_carry(grid, pixels, tubelet)
    frame, seen = from_carry(carry, pixels, (2, 3))
    assert torch.equal(frame, pixels[first])
    assert torch.equal(seen, valid[-1])


def test_missing_pixels_are_one_line():
    grid = TokenGrid(torch.zeros(1, 2, 3, 1), torch.zeros(1).double())
    with pytest.raises(ValueError, match="rlt needs pixels uint8") as e:
        pixels_of(grid, "rlt")
    assert "\n" not in str(e.value)
