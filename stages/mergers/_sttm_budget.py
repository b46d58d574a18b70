"""STTM with its pyramid at hand, so that a budget can be bisected without reading the features again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Merger
from ..reduction import Reduction
from ._sttm_links import Nodes
from ._sttm_read import Pyramid, coarsest
from ._sttm_tree import Tree

if TYPE_CHECKING:
    from .sttm import Sttm


@dataclass(frozen=True)
class Measured(Merger):
    """`method` for the one grid that `pyramid` was built of. `seen`: the leaves at the last spatial threshold asked."""

    method: Sttm
    pyramid: Pyramid
    seen: dict[float, Nodes] = field(default_factory=dict)

    def nodes(self) -> Nodes:
        """The leaves at this spatial threshold."""
        threshold = self.method.spatial_threshold
        if threshold not in self.seen:
            self.seen.clear()
            self.seen[threshold] = Nodes(self.pyramid, threshold)
        return self.seen[threshold]

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.method.merged(grid, self.nodes())

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return len(self.nodes().groups(self.method.temporal_threshold).unique())

    def at(self, knob: float) -> Self:
        return replace(self, method=self.method.at(knob))

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        return unlike(grid, self.pyramid.tree, self.method.weighted)


def unlike(grid: TokenGrid, tree: Tree, weighted: bool) -> Tensor:
    """float (N,): 1 - cos of each token to the coarsest cell that it is in, to its step's mean without a pyramid."""
    whole = len(tree.sizes) == 1
    cell_N = torch.zeros_like(tree.cell[0]) if whole else tree.cell[0]
    away_TN = grid.data.new_empty(len(grid.data), grid.per_step, dtype=ops.wide_dtype(grid.data.dtype))
    for step_HWD, away_N in zip(grid.data, away_TN, strict=True):
        feat_ND = step_HWD.flatten(0, 1)
        means_CD = ops.step_means(feat_ND[None]) if whole else coarsest(step_HWD[None], tree, weighted)[0]
        away_N.copy_(ops.dissimilarity(ops.row_cosine(feat_ND, means_CD, cell_N)))
    return away_TN.flatten()
