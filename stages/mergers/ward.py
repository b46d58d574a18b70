"""Ward's clustering of neighbouring tokens in space and time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops, ops_members
from ..edit import keep_rows
from ..ops_fold import folded
from ..parts import Merger, Need, Result
from ..reduction import Reduction
from ._ward_tree import grow, neighbours
from .uniform import valid_ids

SEED = 0


@dataclass(frozen=True)
class Ward(Merger):
    """Merges the pair of neighbouring groups that costs the least variance, until max(1, int(N*retain)) are left.

    A method of vidcomp's own: Ward's minimum variance clustering (1963) over the T x H x W grid, each token a neighbour
    of the four around it and of the same place one step on (scikit-learn's `ward_tree`). So groups are connected in
    space and time, and never cross a segment's border. All budgets cut one tree: a smaller one only merges further.
    Rows are plain means, anchored at the member nearest the mean.

    More than `channels` channels are folded to that many for the tree alone, by seeded random signs: distances within
    sqrt(2 / channels), a tenth of the memory. A channel's sign goes by its place, so that there, alone among the
    methods, the order of the channels matters. Where fewer rows are wanted than there are segments (or, with invalid
    tokens, unconnected parts), the largest groups stay.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"grid"})
    kind: ClassVar[Result] = "merges"
    paper: ClassVar[str] = "vidcomp; Ward 1963, doi:10.1080/01621459.1963.10500845"
    family: ClassVar[str] = "clustering"
    complexity: ClassVar[str] = "O(TND + TNC log TN), C folded channels"

    retain: float = 0.1
    channels: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.exact(grid, segments, None, self.count(grid, segments, None))[0]

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        seen = valid_ids(grid)
        if tokens >= len(seen):
            return Reduction.select(grid.shape, seen), None
        feat_VC = folded(grid.feat_ND, self.channels, SEED)[seen.cpu()]  # folded first: no copy of all channels
        forest = grow(feat_VC, neighbours(grid, segments, seen.cpu()))
        group_N = torch.full((grid.count,), -1, dtype=torch.int64, device=seen.device)
        group_N[seen] = forest.groups(tokens).to(seen.device)
        found = ops_members.averages(grid.shape, grid.feat_ND, group_N)
        return keep_rows(found, ops.top(found.sizes, tokens)) if len(found) > tokens else found, None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        seen = len(valid_ids(grid))
        return min(seen, max(1, int(seen * self.retain)))

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): how badly a token's group stands for it, 1 - cos to the group's mean."""
        groups = self.reduce(grid, segments)
        if not len(groups):
            return torch.zeros(grid.count, device=grid.data.device)
        return ops.dissimilarity(ops.row_cosine(grid.feat_ND, groups.apply(grid.feat_ND), groups.owner.long()))
