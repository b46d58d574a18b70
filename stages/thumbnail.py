"""A thumbnail: a few frames of a video in one picture, for models that see one picture.

It is made of frames *before* the encoder, so there is no `Reduction` of it: it is encoded like any other frame.
Legend: F frames, H W pixels, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..models.types import brief
from .ops_spacing import linspace_ids


def thumbnail(frames_FHWC: Tensor, cells: int = 6, size: tuple[int, int] | None = None) -> Tensor:
    """(H', W', C) in the frames' dtype: `cells` frames at even distances in time, row by row in a grid.

    TS-LLaVA (arXiv 2411.11066), "thumbnail". The grid is the factor pair of `cells` with the least difference, rows >=
    columns (6: 3 x 2; a prime: one column). Within `size` (H, W), by default the frames' own, a cell has H // rows by
    W // columns pixels and the picture is not padded. Frames are averaged over areas where the cell is smaller than
    they are in either direction, else interpolated bilinearly. It neither keeps the frames' shape nor normalises.

    Differs from the reference: fewer frames than cells fill several cells each (there: a crash), so that the picture
    keeps its layout; uint8 frames give a uint8 picture, rounded half to even (there: normalised floats only).

    Raises:
        ValueError: frames that are none, or a size with less than one pixel for a cell.
    """
    if frames_FHWC.ndim != 4 or not frames_FHWC.numel():
        raise ValueError(f"frames must be (F,H,W,C), at least one, got {brief(frames_FHWC)}")
    rows, columns = grid_shape(cells)
    height, width = size or (frames_FHWC.shape[1], frames_FHWC.shape[2])
    cell = (height // rows, width // columns)
    if min(cell) < 1:
        raise ValueError(f"{rows} x {columns} cells do not fit into {height} x {width} pixels")
    chosen = frames_FHWC[thumbnail_steps(len(frames_FHWC), cells).to(frames_FHWC.device)]
    small_FHWC = resized(chosen, cell)
    picture = small_FHWC.view(rows, columns, *cell, -1).transpose(1, 2)  # rows, H, columns, W, C
    return picture.reshape(rows * cell[0], columns * cell[1], -1)


def thumbnail_steps(frames: int, cells: int) -> Tensor:
    """int64 (cells,): which of `frames` frames go into the cells, ascending."""
    return linspace_ids(frames, cells)


def grid_shape(cells: int) -> tuple[int, int]:
    """(rows, columns), rows >= columns, as near to a square as `cells` divides."""
    if cells < 1:
        raise ValueError(f"cells must be at least 1, got {cells}")
    columns = max(c for c in range(1, cells + 1) if cells % c == 0 and c * c <= cells)
    return cells // columns, columns


def resized(frames_FHWC: Tensor, cell: tuple[int, int]) -> Tensor:
    """(F, *cell, C) in the frames' dtype, computed in float32."""
    planes = frames_FHWC.permute(0, 3, 1, 2).float()
    if cell[0] < planes.shape[2] or cell[1] < planes.shape[3]:
        out: Tensor = interpolate(planes, cell, mode="area")
    else:
        out = interpolate(planes, cell, mode="bilinear", align_corners=False)
    if frames_FHWC.dtype == torch.uint8:
        out = out.round_().clamp_(0, 255)
    return out.permute(0, 2, 3, 1).contiguous().to(frames_FHWC.dtype)
