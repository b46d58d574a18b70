"""STTM's pyramid of cells over each frame, and the leaves that its search from the coarsest level down stops at.

Legend: T steps, H W rows and columns, N = H*W tokens of a step, h w those of a level, B steps of one block, D channels,
P parts (heads) of a token, L levels (coarse to fine), C child or parent cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from .. import ops


@dataclass(frozen=True, eq=False)
class Level:
    """Cells of one size: `value` (T,h,w,D), the finest one's are the tokens; `square` (T,h,w,P) their squared lengths.

    `agree` (T,h,w): the least cosine of a cell with what its four slots hold; nothing (0 cells) at the finest level.
    """

    value: Tensor
    square: Tensor
    agree: Tensor


@dataclass(frozen=True, eq=False)
class Pyramid:
    """Levels from coarse to fine. `row` int64 (L,H), `column` (L,W): the cell, along its axis, of each place.

    `top` (L,H) and `left` (L,W) are the first place of that cell; `height`, `width` float64, a place's share in it.
    """

    levels: list[Level]
    row: Tensor
    column: Tensor
    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def leaf_levels(self, threshold: float) -> Tensor:
        """int64 (T,H,W): the level of the cell that the search ends with at each place."""
        t, h, w, _ = self.levels[-1].value.shape
        open_THW = torch.ones(t, h, w, dtype=torch.bool, device=self.row.device)
        level_THW = open_THW.new_zeros(t, h, w, dtype=torch.int64)
        for level, row_H, column_W in zip(self.levels[:-1], self.row, self.column, strict=False):
            splits = ~(level.agree >= threshold)
            open_THW &= splits[:, row_H][:, :, column_W]
            level_THW += open_THW
        return level_THW

    def corners(self, level_THW: Tensor) -> Tensor:
        """int64 (T,H,W): flat id of the top-left token of each place's leaf; no two leaves share it."""
        t, h, w = level_THW.shape
        y, x = (torch.arange(n, device=level_THW.device) for n in (h, w))
        step = torch.arange(t, device=level_THW.device)[:, None, None] * h * w
        return step + self.top[level_THW, y[:, None]] * w + self.left[level_THW, x]

    def shares(self, level_THW: Tensor) -> Tensor:
        """float64 (T,H,W): the weight of each token in its leaf's mean of means."""
        _, h, w = level_THW.shape
        y, x = (torch.arange(n, device=level_THW.device) for n in (h, w))
        return self.height[level_THW, y[:, None]] * self.width[level_THW, x]


def level_sizes(h: int, w: int, root_level: int) -> list[tuple[int, int]]:
    """Rows and columns of each level, coarse to fine: halved (rounded up) until a side is 2, less the coarsest ones."""
    sizes = [(h, w)]
    while 2 not in sizes[-1] and sizes[-1] != (1, 1):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[: max(1, len(sizes) - root_level)][::-1]


def build(data_THWD: Tensor, root_level: int, weighted: bool, head_dim: int | None) -> Pyramid:
    """The pyramid of every step; each token is read once. `weighted`: cells are sums of tokens, else means of means."""
    t, h, w, d = data_THWD.shape
    if head_dim is not None and d % head_dim:
        raise ValueError(f"head_dim must divide the {d} channels, got {head_dim}")
    parts = d // head_dim if head_dim else 1
    sizes = level_sizes(h, w, root_level)
    wide = ops.wide_dtype(data_THWD.dtype)
    levels = [
        Level(
            data_THWD.new_empty(t, *size, d, dtype=wide) if i < len(sizes) - 1 else data_THWD,
            data_THWD.new_empty(t, *size, parts, dtype=wide),
            data_THWD.new_empty(t, *(size if i < len(sizes) - 1 else (0, 0)), dtype=wide),
        )
        for i, size in enumerate(sizes)
    ]
    scratch = data_THWD.new_empty(0, dtype=wide)
    for at in ops.row_blocks(t, h * w * d):
        scratch = _fill(levels, at, weighted, scratch)
    row, top, height = _axis([size[0] for size in sizes], data_THWD.device)
    column, left, width = _axis([size[1] for size in sizes], data_THWD.device)
    return Pyramid(levels, row, column, top, left, height, width)


def _axis(sizes: list[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, for each level (L,H): the cell of each place, its first place, the place's share in it."""
    places = sizes[-1]
    row, share = torch.arange(places), torch.ones(places, dtype=torch.float64)
    found = [(row, row, share)]
    for fine in sizes[:0:-1]:
        parent = (torch.arange(fine) + fine % 2) // 2
        share = share / parent.bincount()[parent][row]
        row = parent[row]
        first = torch.searchsorted(row, row)  # rows ascend: where the cell's number comes first
        found.append((row, first, share))
    row_LH, first_LH, share_LH = (torch.stack(axis[::-1]).to(device) for axis in map(list, zip(*found, strict=True)))
    return row_LH, first_LH, share_LH


def _fill(levels: list[Level], at: slice, weighted: bool, scratch: Tensor) -> Tensor:
    """Fill all levels for the steps `at`, fine to coarse; gives the working memory back for the next block."""
    fine_BHWD = ops.widen(levels[-1].value[at])
    if scratch.numel() < fine_BHWD.numel():
        scratch = torch.empty_like(fine_BHWD, memory_format=torch.contiguous_format).view(-1)
    levels[-1].square[at] = part_dots(fine_BHWD, fine_BHWD, levels[-1].square.shape[-1], scratch)
    for fine, coarse in zip(levels[:0:-1], levels[-2::-1], strict=True):
        cell_BHWD = coarse.value[at]
        _pool(fine_BHWD, cell_BHWD, weighted, scratch)
        coarse.square[at] = part_dots(cell_BHWD, cell_BHWD, coarse.square.shape[-1], scratch)
        _agree((fine_BHWD, fine.square[at]), (cell_BHWD, coarse.square[at]), coarse.agree[at], scratch)
        fine_BHWD = cell_BHWD
    return scratch


def part_dots(a_CD: Tensor, b_CD: Tensor, parts: int, scratch: Tensor) -> Tensor:
    """(...,P): dot products along the last dimension, part by part. Multiply-then-sum: bits do not hang on threads."""
    shape = torch.broadcast_shapes(a_CD.shape, b_CD.shape)
    product_CD = scratch[: shape.numel()].view(shape)
    torch.mul(a_CD, b_CD, out=product_CD)
    return product_CD.view(*shape[:-1], parts, shape[-1] // parts).sum(-1)


def _pool(fine_BHWD: Tensor, out_BHWD: Tensor, weighted: bool, scratch: Tensor) -> None:
    """Cells of two by two; of an odd side the first row or column is alone."""
    b, h, w, d = fine_BHWD.shape
    half = (b, -(-h // 2), w, d)
    rows = scratch[: b * half[1] * w * d].view(half)
    _fold(fine_BHWD, rows, 1, weighted)
    _fold(rows, out_BHWD, 2, weighted)


def _fold(fine: Tensor, out: Tensor, axis: int, weighted: bool) -> None:
    """Sums or means of neighbours along `axis`: (0,1)(2,3).. of an even side, (0)(1,2)(3,4).. of an odd one."""
    fine, out = fine.transpose(0, axis), out.transpose(0, axis)
    alone = len(fine) % 2
    out[:alone] = fine[:alone]
    if len(fine) > 1:
        pairs = torch.add(fine[alone::2], fine[alone + 1 :: 2], out=out[alone:])
        if not weighted:
            pairs.mul_(0.5)


def _agree(fine: tuple[Tensor, Tensor], cells: tuple[Tensor, Tensor], out_BHW: Tensor, scratch: Tensor) -> None:
    """The least cosine of each cell with its children, and, where a slot is empty, with the frame's first child."""
    (child, child_square), (cell, cell_square) = fine, cells
    odd = [n % 2 for n in child.shape[1:3]]
    parts = cell_square.shape[-1]
    out_BHW.fill_(float("inf"))
    for sy, sx in product((0, 1), (0, 1)):
        # odd side: rows 1,3,5.. have the cells 1,2,3.. and rows 0,2,4.. the cells 0,1,2..
        py, px = sy * odd[0], sx * odd[1]
        dots = part_dots(child[:, sy::2, sx::2], cell[:, py:, px:], parts, scratch)
        cosines = ops.cosine(dots, child_square[:, sy::2, sx::2], cell_square[:, py:, px:]).mean(-1)
        out_BHW[:, py:, px:] = torch.minimum(out_BHW[:, py:, px:], cosines)
    for axis in (1, 2):
        if odd[axis - 1] and child.shape[axis] > 1:
            edge, square, out = (x.select(axis, 0) for x in (cell, cell_square, out_BHW))
            dots = part_dots(child[:, 0, :1], edge, parts, scratch)
            out.copy_(torch.minimum(out, ops.cosine(dots, child_square[:, 0, :1], square).mean(-1)))
