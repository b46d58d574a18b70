"""Average pooling: a baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Merger, Need, Result
from ..reduction import Reduction


@dataclass(frozen=True)
class Pool(Merger):
    """Averages cells of `temporal` x `spatial` x `spatial` tokens; a cell at the border averages what is there.

    A baseline of vidcomp's own. Anchored at each cell's top-left token. `retain`, where given, holds instead: the
    picture's shape is kept as far as it goes, in the finest grid of cells with at most N*retain of them; below one
    cell a step, steps are averaged too.
    """

    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(TN)"
    needs: ClassVar[frozenset[Need]] = frozenset({"grid"})
    kind: ClassVar[Result] = "merges"

    spatial: int = 2
    temporal: int = 1
    retain: float | None = None

    def __post_init__(self) -> None:
        if min(self.spatial, self.temporal) < 1:
            raise ValueError(f"spatial and temporal must be at least 1, got {self.spatial} and {self.temporal}")
        if self.retain is not None and not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    @property
    def causal(self) -> bool:
        return self.retain is None and self.temporal == 1

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        t, y, x = (axis.to(grid.data.device) for axis in self.axes(grid))
        across, down = int(x[-1]) + 1, int(y[-1]) + 1
        cell_N = ((t[:, None, None] * down + y[:, None]) * across + x).flatten()
        size_K = cell_N.bincount()
        ids = torch.arange(grid.count, device=cell_N.device)
        top_left_K = torch.full_like(size_K, grid.count).scatter_reduce_(0, cell_N, ids, "amin")
        return Reduction.from_entries(grid.shape, top_left_K, cell_N, ids, 1 / size_K[cell_N])

    def axes(self, grid: TokenGrid) -> list[Tensor]:
        """int64 (T,), (H,), (W,): the cell, along its axis, of each place."""
        if self.retain is None:
            strides = (self.temporal, self.spatial, self.spatial)
            return [torch.arange(n) // s for n, s in zip(grid.shape, strides, strict=True)]
        return [torch.arange(n) * c // n for n, c in zip(grid.shape, self._cells(grid, self.retain), strict=True)]

    def _cells(self, grid: TokenGrid, retain: float) -> tuple[int, int, int]:
        """How many cells along t, y and x: the most that fit among those that keep the picture's shape."""
        t, h, w = grid.shape
        room = retain * h * w
        if room < 1:
            return max(1, int(t * room)), 1, 1
        fitting = (c for c in shaped_like(h, w) if c[0] * c[1] <= room)
        return t, *max(fitting, key=lambda c: (c[0] * c[1], c))

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        t, h, w = (int(axis[-1]) + 1 for axis in self.axes(grid))
        return t * h * w

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): how badly a token's cell stands for it, 1 - cos to the cell's mean."""
        cells = self.reduce(grid, segments)
        return ops.dissimilarity(ops.row_cosine(grid.feat_ND, cells.apply(grid.feat_ND), cells.owner.long()))


def shaped_like(h: int, w: int) -> set[tuple[int, int]]:
    """(down, across) of the coarser grids of nearly the same shape: any number one way, what goes with it the other."""
    down = {(i, max(1, j)) for i in range(1, h + 1) for j in (i * w // h, -(-i * w // h))}
    across = {(max(1, j), i) for i in range(1, w + 1) for j in (i * h // w, -(-i * h // w))}
    return down | across
