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
from ._sttm_tree import Pyramid

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
        return unlike(grid, self.pyramid)


def unlike(grid: TokenGrid, pyramid: Pyramid) -> Tensor:
    """float (N,): 1 - cos of each token to the coarsest cell that it is in, to its step's mean without a pyramid."""
    means_TCD, cell_N = pyramid.levels[0].value.flatten(1, 2), _coarsest(pyramid)
    if len(pyramid.levels) == 1:
        means_TCD, cell_N = ops.step_means(grid.feat_TND)[:, None], torch.zeros_like(cell_N)
    away = [ops.dissimilarity(ops.row_cosine(s, m, cell_N)) for s, m in zip(grid.feat_TND, means_TCD, strict=True)]
    return torch.cat(away)


def _coarsest(pyramid: Pyramid) -> Tensor:
    """int64 (N,): the cell of the coarsest level, in its step, that each place of a step is in."""
    across = pyramid.levels[0].value.shape[2]
    return (pyramid.row[0][:, None] * across + pyramid.column[0]).flatten()
