"""Some merge blocks of a clip through a tower of Qwen's make: what it is told in place of its whole grid.

Source: vision_utils.py of transformers 5.23. All that a tower computes from `grid_thw` it takes from keywords where
they are given (on the tower itself they have no `video_` before them), and then its rows may be any merge blocks. Each
kept patch has the position that it has in the whole picture and attends to the kept patches of its own step alone, so
the result is that of the whole tower with the keys of dropped patches masked.

Legend: grid int64 (1,3): t, h, w in patches; m = merge_size; keep bool (T,H,W) of merge blocks, on the CPU, n of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Told = dict[str, Tensor]


def patch_rows(keep: Tensor, merge: int) -> Tensor:
    """int64 (n*m*m,): rows of the kept blocks' patches among those of the whole clip."""
    return (keep.flatten().nonzero() * merge**2 + torch.arange(merge**2)).flatten()


def steps(grid: Tensor, keep: Tensor, merge: int) -> Told:
    """Of every tower: positions for the rotary embedding (n*m*m,2), and where each step's rows end."""
    positions = _vision_utils().get_vision_position_ids(grid, merge)[patch_rows(keep, merge)]
    count, height, width = keep.shape
    ends = _ends(keep.flatten(), torch.arange(count + 1) * height * width, merge)
    return {"position_ids": positions, "cu_seqlens": ends}


def windows(grid: Tensor, keep: Tensor, merge: int, window_size: int, patch_size: int) -> Told:
    """Of Qwen2.5-VL: kept blocks in the order of their windows, and where each window's rows end."""
    order, ends = _vision_utils().get_vision_window_index(grid, merge, window_size, patch_size)
    place = keep.flatten().cumsum(0) - 1  # of each block among the kept
    kept = keep.flatten()[order]
    return {"window_index": place[order[kept]], "cu_window_seqlens": _ends(kept, ends // merge**2, merge)}


def table(grid: Tensor, keep: Tensor, merge: int, side: int, mode: str, align_corners: bool) -> Told:
    """Of Qwen3-VL: rows of the learned position table (n*m*m,4) that a patch's own is mixed of, and their weights."""
    taps = _vision_utils().get_vision_interpolation_indices_and_weights(grid, side, mode, align_corners, merge)
    return dict(zip(("interp_indices", "interp_weights"), (tap[patch_rows(keep, merge)] for tap in taps), strict=True))


def spread(rows: Tensor, shown: Tensor) -> Tensor:
    """(n,...) -> (t,H,W,...): each row where `shown` bool (t,H,W) is True, zeros elsewhere."""
    if len(rows) == shown.numel():
        return rows.view(*shown.shape, *rows.shape[1:])
    whole = rows.new_zeros(*shown.shape, *rows.shape[1:])
    whole[shown.to(rows.device)] = rows
    return whole


def step_means(data: Tensor, valid: Tensor | None) -> Tensor:
    """(t,H,W,D) -> float32 (t,D): the mean of each step's valid tokens; the others are zeros."""
    count = data.shape[1] * data.shape[2] if valid is None else valid.sum((1, 2)).clamp(min=1)[:, None]
    mean: Tensor = data.sum((1, 2), dtype=torch.float32) / count
    return mean


def _ends(kept: Tensor, ends: Tensor, merge: int) -> Tensor:
    """int32: where runs of blocks that end at `ends` end among the patches of the `kept` ones; empty runs are none."""
    before = pad(kept.cumsum(0), (1, 0))[ends.long()]
    distinct: Tensor = torch.unique_consecutive(before * merge**2).int()
    return distinct


def _vision_utils() -> Any:
    return import_module("transformers.vision_utils")
