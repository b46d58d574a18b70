"""How much the pictures changed under each token, in whole numbers: for the methods that look at pixels.

Legend: F frames of Y x X pixels, T steps of `tubelet` frames (the last may have fewer), H x W patches. Everything
stays uint8 until differences are summed, and sums are exact integers: no normalised float copy of the video is made,
and what does not change differs by exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.types import TokenGrid, brief

WHITE = 255


def patch_sums(before_YX3: Tensor, after_YX3: Tensor, grid_HW: tuple[int, int]) -> Tensor:
    """int64 (H, W, 3): sum of |before - after| over each patch's pixels, by colour; both uint8."""
    h, w = grid_HW
    before, after = before_YX3.contiguous(), after_YX3.contiguous()
    apart = torch.maximum(before, after).sub_(torch.minimum(before, after))
    rows = apart.view(h, len(apart) // h, -1).sum(1, dtype=torch.int32)
    return rows.view(h, w, -1, 3).sum(2)


def step_changes(pixels_FYX3: Tensor, tubelet: int, grid_HW: tuple[int, int], before_YX3: Tensor | None) -> Tensor:
    """int64 (T-1, H, W, 3): `patch_sums` of each step's last frame and the first frame of the step before.

    (T, H, W, 3) where `before_YX3`, the first frame of the step before these pixels, is given.
    """
    frames = len(pixels_FYX3)
    first = [pixels_FYX3[f] for f in range(0, frames, tubelet)]
    last = [pixels_FYX3[min(f + tubelet, frames) - 1] for f in range(0, frames, tubelet)]
    pairs = zip([before_YX3, *first], last, strict=False)
    sums = [patch_sums(before, after, grid_HW) for before, after in pairs if before is not None]
    return torch.stack(sums) if sums else torch.empty(0, *grid_HW, 3, dtype=torch.int64, device=pixels_FYX3.device)


def pixels_of(grid: TokenGrid, method: str) -> Tensor:
    """The grid's pixels; a `ValueError` where it has none."""
    if grid.pixels is None:
        raise ValueError(f"{method} needs pixels uint8 (F,Hp,Wp,3), the frames that the tokens were made of")
    return grid.pixels


# -- what the next chunk needs -----------------------------------------------------------------------------


def to_carry(grid: TokenGrid, pixels_FYX3: Tensor, tubelet: int) -> Tensor:
    """uint8 (Hp, Wp, 4): the last step's first frame; the fourth channel is 0 where its patches are invalid."""
    frame = pixels_FYX3[(len(pixels_FYX3) - 1) // tubelet * tubelet]
    carry = torch.nn.functional.pad(frame, (0, 1), value=WHITE)
    if grid.valid is not None:
        _, h, w = grid.shape
        seen_HW = grid.valid[-1].to(frame.device)
        carry[..., 3] *= seen_HW.repeat_interleave(len(frame) // h, 0).repeat_interleave(frame.shape[1] // w, 1)
    return carry


def from_carry(carry: Tensor, pixels_FYX3: Tensor, grid_HW: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The carried frame uint8 (Hp, Wp, 3), and bool (H, W) whether each patch of it was valid."""
    wanted = (*pixels_FYX3.shape[1:3], 4)
    if tuple(carry.shape) != wanted:
        raise ValueError(f"carried frame {brief(carry)} must be uint8{wanted}")
    (h, w), (high, wide) = grid_HW, wanted[:2]
    return carry[..., :3], carry[:: high // h, :: wide // w, 3] > 0
