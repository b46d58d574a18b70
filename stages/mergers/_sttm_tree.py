"""STTM's tree of cells over the places of a frame.

Legend: T steps, N places of a step, H W its rows and columns, L levels (coarse to fine), R cells of all levels, the
finest level's being the N places; C those above the finest level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tree:
    """Cells, numbered level by level from the coarsest on, in raster order.

    `sizes`: rows and columns of each level. `cell` int64 (L,N): the cell of each level that a place is in; `share`
    float64 (L,N): the place's weight in that cell's mean of means.
    """

    sizes: list[tuple[int, int]]
    cell: Tensor
    share: Tensor

    @classmethod
    def over(cls, h: int, w: int, root_level: int, device: torch.device) -> Tree:
        """The tree of a grid, less its `root_level` coarsest levels."""
        sizes = level_sizes(h, w, root_level)
        (row_LH, height_LH), (column_LW, width_LW) = (_axis([size[axis] for size in sizes]) for axis in (0, 1))
        starts, across = (torch.tensor(x)[:, None, None] for x in (_starts(sizes), [size[1] for size in sizes]))
        cell = starts + row_LH[:, :, None] * across + column_LW[:, None, :]
        share = height_LH[:, :, None] * width_LW[:, None, :]
        return cls(sizes, cell.flatten(1).to(device), share.flatten(1).to(device))

    @cached_property
    def starts(self) -> list[int]:
        """The number of each level's first cell."""
        return _starts(self.sizes)

    @property
    def count(self) -> int:
        """R."""
        return self.starts[-1] + self.cell.shape[1]

    @cached_property
    def corner(self) -> Tensor:
        """int64 (R,): the top-left place of each cell."""
        places = torch.arange(self.cell.shape[1], device=self.cell.device).expand_as(self.cell)
        first = self.cell.new_full((self.count,), self.cell.shape[1])
        return first.scatter_reduce_(0, self.cell.flatten(), places.flatten(), "amin")

    @cached_property
    def slots(self) -> Tensor:
        """int64 (C,4): the cells in the four slots of each cell; in an empty one, the first cell of the next level."""
        found = [self.cell.new_empty(0, 4)]
        for start, (h, w) in zip(self.starts[1:], self.sizes[1:], strict=True):
            y, x = _children(h)[:, None, :, None], _children(w)[None, :, None, :]
            child = torch.where((y < 0) | (x < 0), 0, y * w + x)
            found.append(start + child.reshape(-1, 4).to(self.cell.device))
        return torch.cat(found)

    def leaf_levels(self, agree_TC: Tensor, threshold: float) -> Tensor:
        """int64 (T,N): the level of the cell that the search ends with at each place."""
        splits_TC = ~(agree_TC >= threshold)
        return splits_TC[:, self.cell[:-1]].cumprod(1).sum(1)

    def at(self, level_TN: Tensor) -> Tensor:
        """int64 (T,N): the cell of that level at each place."""
        return self.cell.gather(0, level_TN)

    def shares(self, level_TN: Tensor) -> Tensor:
        """float64 (T,N): the weight of each token in its leaf's mean of means."""
        return self.share.gather(0, level_TN)


def level_sizes(h: int, w: int, root_level: int) -> list[tuple[int, int]]:
    """Rows and columns of each level, coarse to fine: halved (rounded up) until a side is 2, less the coarsest ones."""
    sizes = [(h, w)]
    while 2 not in sizes[-1] and sizes[-1] != (1, 1):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[: max(1, len(sizes) - root_level)][::-1]


def _starts(sizes: list[tuple[int, int]]) -> list[int]:
    return [sum(h * w for h, w in sizes[:level]) for level in range(len(sizes))]


def _axis(sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Along one axis, for each level (L,H): the cell of each place, the place's share in it."""
    row, share = torch.arange(sizes[-1]), torch.ones(sizes[-1], dtype=torch.float64)
    found = [(row, share)]
    for fine in sizes[:0:-1]:
        parent = (torch.arange(fine) + fine % 2) // 2
        share = share / parent.bincount()[parent][row]
        row = parent[row]
        found.append((row, share))
    row_LH, share_LH = (torch.stack(axis[::-1]) for axis in map(list, zip(*found, strict=True)))
    return row_LH, share_LH


def _children(fine: int) -> Tensor:
    """int64 (cells,2): the cells in the two slots along one axis, -1 in an empty one; an only cell is in both."""
    if fine == 1:
        return torch.zeros(1, 2, dtype=torch.int64)
    return torch.arange(-(fine % 2), fine).view(-1, 2)
