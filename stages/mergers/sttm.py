"""STTM: quadtree cells of each frame, linked over consecutive frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..budget import bisect
from ..parts import Merger, Need, Result
from ..reduction import Reduction
from ._sttm_budget import Measured, unlike
from ._sttm_links import Nodes
from ._sttm_read import Pyramid, read
from ._sttm_tree import Tree

UNREACHABLE = 1.001  # above every cosine, with rounding
LEAST = 1e-6  # the lowest temporal threshold that still merges


@dataclass(frozen=True)
class Sttm(Merger):
    """Averages each frame's quadtree cells that are alike inside, then cells of consecutive frames that are alike.

    STTM (ICCV 2025, arXiv 2507.07990), before the LLM's first layer. Cells are halved in number (rounded up) until a
    side has 2; of an odd side the first row or column is alone. The `root_level` coarsest levels are left out. From the
    coarsest cells down, a cell stays whole where its cosine with all four slots is at least `spatial_threshold`, else
    it is split; an empty slot holds the frame's first cell of the next level (the reference's way, kept). Cells are
    means of their children, means of means; `weighted`: means of their tokens. `head_dim`: cosines are means over runs
    of so many channels. Then cells of consecutive frames of which one holds the other are linked where their cosine is
    at least `temporal_threshold` (None or not above 0: none are), and links collapse to the earliest cell by the
    reference's loop, which can end before all linked cells are in one group. A row is the mean of its group's cells,
    anchored at the top-left token of the earliest.

    Budgets: over the lower half of the knob the temporal threshold rises from just above 0 until nothing is linked,
    then the spatial one until every token is a cell; without temporal merging the spatial one rises from -1. Single
    tokens are added by how little they resemble the coarsest cell that they are in.

    Differs from the reference: grids of one row or column are halved along the other, and their slots across are no
    slots (there: a crash, or no end for one token); `weighted` stands grids with odd and even sides (there: a crash);
    more `root_level` than there are levels leaves the tokens themselves; one frame has no links; cosines are summed in
    float32 whatever the features' dtype.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"grid"})
    paper: ClassVar[str] = "STTM, ICCV 2025, arXiv 2507.07990"
    family: ClassVar[str] = "quadtree"
    complexity: ClassVar[str] = "O(TND)"
    kind: ClassVar[Result] = "merges"

    spatial_threshold: float = 0.85
    temporal_threshold: float | None = 0.65
    root_level: int = 1
    weighted: bool = False
    head_dim: int | None = None

    def __post_init__(self) -> None:
        for name in ("spatial_threshold", "temporal_threshold"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if self.root_level < 0:
            raise ValueError(f"root_level must be at least 0, got {self.root_level}")
        if self.head_dim is not None and self.head_dim < 1:
            raise ValueError(f"head_dim must be at least 1, or none for whole tokens, got {self.head_dim}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.merged(grid, Nodes(self.pyramid(grid), self.spatial_threshold))

    def pyramid(self, grid: TokenGrid) -> Pyramid:
        """All that the thresholds are asked of: the temporal one, and the spatial one, at which leaves are linked."""
        d = grid.data.shape[3]
        if self.head_dim is not None and d % self.head_dim:
            raise ValueError(f"head_dim must divide the {d} channels, got {self.head_dim}")
        parts = d // self.head_dim if self.head_dim else 1
        linked_at = self.spatial_threshold if (self.temporal_threshold or 0) > 0 else None
        return read(grid.data, self.tree(grid), self.weighted, parts, linked_at)

    def tree(self, grid: TokenGrid) -> Tree:
        """The cells of each frame."""
        return Tree.over(*grid.shape[1:], self.root_level, grid.data.device)

    def merged(self, grid: TokenGrid, nodes: Nodes) -> Reduction:
        """The groups of `nodes` at this temporal threshold, as rows."""
        first_M = nodes.groups(self.temporal_threshold)
        first_K, row_M = first_M.unique(return_inverse=True)
        row_N = row_M[nodes.number_TN.flatten()]
        if self.weighted:
            weight_N = 1 / row_N.bincount().double()[row_N]
        else:
            weight_N = nodes.share_TN.flatten() / row_M.bincount().double()[row_N]
        ids_N = torch.arange(grid.count, device=row_N.device)
        return Reduction.from_entries(grid.shape, nodes.corner_M[first_K], row_N, ids_N, weight_N)

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        return bisect(Measured(self, self.pyramid(grid)), grid, segments, carry, tokens)

    def at(self, knob: float) -> Self:
        if self.temporal_threshold is None or self.temporal_threshold <= 0:
            return replace(self, spatial_threshold=-1 + knob * (1 + UNREACHABLE))
        if knob <= 0.5:
            return replace(self, temporal_threshold=max(LEAST, 2 * knob * UNREACHABLE))
        rise = max(0.0, UNREACHABLE - self.spatial_threshold) * (2 * knob - 1)
        return replace(self, temporal_threshold=None, spatial_threshold=self.spatial_threshold + rise)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): 1 - cos to the coarsest cell that the token is in, to its frame's mean without a pyramid."""
        return unlike(grid, self.tree(grid), self.weighted)
