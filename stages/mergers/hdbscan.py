"""HDBSCAN: dense groups of tokens become their means, what belongs nowhere stays by how much it stands out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops, ops_members
from ..edit import add_tokens, keep_rows
from ..parts import Merger, Result
from ..reduction import Reduction
from ..standins import distinctness
from ._hdbscan_groups import label_rows
from .uniform import valid_ids

MOST_POINTS = 2000  # of one segment: the distances of all pairs are looked at


@dataclass(frozen=True)
class Hdbscan(Merger):
    """Keeps max(1, int(N*retain)) rows: clusters, then the tokens in no cluster that stand out most, then members.

    A method of vidcomp's own: HDBSCAN (Campello et al. 2013; scikit-learn's) of the directions of each segment's
    tokens, clusters of at least `min_cluster`. A cluster is the plain mean of its tokens, anchored at the one nearest
    to it. Rows are taken in this order: the clusters, larger ones first; tokens in no cluster, most salient first,
    unchanged; at last members of clusters, most salient first, as rows of their own beside the cluster's.

    `saliency`: `distinctness`, 1 - cos to the frame's mean token, or `attention`, the model's, to be given then.
    Time and memory grow with the square of a segment's tokens: more than 2000 are refused unless `projection` is given,
    a number of channels (16, say) to which directions are first brought by random signs (`seed`) and where a tree finds
    neighbours, or `force`. Tokens that are all alike, which HDBSCAN calls noise, are one cluster; fewer than
    `min_cluster` tokens are none.
    """

    kind: ClassVar[Result] = "both"
    paper: ClassVar[str] = "vidcomp; HDBSCAN, Campello et al. 2013, doi:10.1007/978-3-642-37456-2_14"
    family: ClassVar[str] = "clustering"
    complexity: ClassVar[str] = "O(G²D), G tokens of each segment"

    retain: float = 0.1
    min_cluster: int = 5
    saliency: Literal["distinctness", "attention"] = "distinctness"
    projection: int | None = None
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")
        if self.min_cluster < 2:
            raise ValueError(f"min_cluster must be at least 2, got {self.min_cluster}")
        if self.saliency not in ("distinctness", "attention"):
            raise ValueError(f"saliency must be distinctness or attention, got {self.saliency!r}")
        if self.projection is not None and self.projection < 1:
            raise ValueError(f"projection must be at least 1, got {self.projection}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.exact(grid, segments, None, self.count(grid, segments, None))[0]

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        seen = valid_ids(grid)
        if tokens >= len(seen):
            return Reduction.select(grid.shape, seen), None
        score_N = self.score(grid, segments, carry)
        group_N = self.clusters(grid, segments)
        found = ops_members.averages(grid.shape, grid.feat_ND, group_N)
        if len(found) >= tokens:
            return keep_rows(found, ops.top(found.sizes, tokens)), None
        for free_N in (group_N < 0, (group_N >= 0).index_fill(0, found.anchor, False)):
            free = seen[free_N[seen]]
            found = add_tokens(found, free[ops.top(score_N[free], tokens - len(found))])
        return found, None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        seen = len(valid_ids(grid))
        return min(seen, max(1, int(seen * self.retain)))

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): the saliency."""
        if self.saliency == "distinctness":
            return distinctness(grid).flatten()
        if grid.attention is None:
            raise ValueError("hdbscan with saliency=attention needs attention; give it, or take saliency=distinctness")
        return grid.attention.flatten()

    def clusters(self, grid: TokenGrid, segments: Segments) -> Tensor:
        """int64 (N,): the cluster of each token, segment by segment, -1 in none."""
        seen = valid_ids(grid)
        step = seen // max(1, grid.per_step)
        group_N = torch.full((grid.count,), -1, dtype=torch.int64, device=seen.device)
        found = 0
        for first, end in segments.spans():
            ids = seen[(step >= first) & (step < end)]
            self._check(len(ids), first, end)
            label = label_rows(grid.feat_ND[ids], self.min_cluster, self.projection, self.seed)
            group_N[ids] = torch.where(label < 0, -1, label + found)
            found += int(label.max()) + 1 if len(label) else 0
        return group_N

    def _check(self, points: int, first: int, end: int) -> None:
        if points > MOST_POINTS and self.projection is None and not self.force:
            raise ValueError(
                f"hdbscan: steps {first}..{end - 1} have {points} tokens, more than {MOST_POINTS} in one segment; "
                "cut more segments (segments=8) or smaller chunks, or set projection=16 (rough) or force=True (slow)"
            )
