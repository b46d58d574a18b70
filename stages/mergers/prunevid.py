"""PruneVid: patches that stay alike through a scene averaged over it, then static and dynamic ones clustered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops, ops_cluster, ops_static
from ..parts import Merger, Result
from ..reduction import Reduction
from ._cluster_rows import ClusterRows, flat_ids, member_counts


@dataclass(frozen=True)
class PruneVid(Merger):
    """PruneVid's merging before the LLM: a cluster of static patches for a scene, of dynamic ones for a frame.

    PruneVid (ACL 2025, arXiv 2412.16117), "Spatial-Temporal Token Merging", as its code does it. A place is static in a
    window if the mean cosine of its pairs of steps is above `tau` (strict); it is averaged over the window. The static
    means of a window, and the dynamic tokens of each frame, are grouped: from `min_cluster` tokens on, n of them become
    max(1, int(n*cluster_ratio)) clusters around density peaks (`k` neighbours), each the plain mean of its members;
    fewer stay as they are. Meant for `dpc_frames`, takes any segments. Rows are anchored at cluster centres, static
    ones in the window's first step. There is no target budget: `cluster_ratio` is the knob, and the counts follow.

    Differs from the reference:
    - rows come in raster order of their anchors, not in order of noisy scores;
    - a window of one step is all dynamic (there: 0/0), so one frame works, and so does any cut of the video;
    - int(n*cluster_ratio) = 0 gives one cluster, and fewer tokens than `k` are all neighbours (there: crashes);
    - equal densities and distances go to the lower index, without noise.
    """

    paper: ClassVar[str] = "PruneVid, ACL 2025, arXiv 2412.16117"
    family: ClassVar[str] = "segment clusters"
    complexity: ClassVar[str] = "O(TND + G²D), G tokens of each group: at most O(TN²D)"
    kind: ClassVar[Result] = "both"

    tau: float = 0.8
    cluster_ratio: float = 0.5
    k: int = 7
    min_cluster: int = 15

    def __post_init__(self) -> None:
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau must be in [-1, 1], got {self.tau}")
        if not 0 <= self.cluster_ratio <= 1:
            raise ValueError(f"cluster_ratio must be in [0, 1], got {self.cluster_ratio}")
        for field in ("k", "min_cluster"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")

    def static(self, grid: TokenGrid, segments: Segments) -> Tensor:
        """bool (S, N): the places that stay alike through each window of more than one step."""
        similar_SN = ops_static.compared(grid, segments).mutual_SN
        return ops_static.above(similar_SN, self.tau) & (segments.lengths > 1)[:, None].to(similar_SN.device)

    def clusters(self, tokens: int) -> int:
        """How many rows a group of so many tokens becomes."""
        return tokens if tokens < self.min_cluster else max(1, int(tokens * self.cluster_ratio))

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        out, feat_TND = ClusterRows(grid), grid.feat_TND
        for (first, end), static_N in zip(segments.spans(), self.static(grid, segments), strict=True):
            place_P = static_N.nonzero()[:, 0]
            if len(place_P):
                mean_PD = ops_static.window_mean(feat_TND[first:end])[place_P]
                self._group(out, flat_ids(grid, first, end, place_P)[:, None], mean_PD[None])
            self._dynamic(out, feat_TND, first, end, (~static_N).nonzero()[:, 0])
        return out.reduction()

    def _dynamic(self, out: ClusterRows, feat_TND: Tensor, first: int, end: int, place_P: Tensor) -> None:
        for at in ops_cluster.batches(first, end, len(place_P), feat_TND.shape[2]):
            index_GP = flat_ids(out.grid, at.start, at.stop, place_P)
            self._group(out, index_GP[None], feat_TND[at].index_select(1, place_P))

    def _group(self, out: ClusterRows, index_LGP: Tensor, feat_GPD: Tensor) -> None:
        count = self.clusters(feat_GPD.shape[1])
        centre_GM, label_GP = ops_cluster.cluster(feat_GPD, count, self.k, by_score=True)
        out.groups(index_LGP, centre_GM, label_GP, 1 / member_counts(label_GP, count).double())

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        still = self.static(grid, segments).sum(1).tolist()
        windows = zip(still, segments.lengths.tolist(), strict=True)
        return sum(self.clusters(s) + length * self.clusters(grid.per_step - s) for s, length in windows)

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        return super().exact(grid, ops_static.compared(grid, segments), carry, tokens)  # measured once, asked often

    def at(self, knob: float) -> Self:
        return replace(self, cluster_ratio=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): how far a token is from what its place is on average in its window; 1 in a window of one step."""
        feat_TND = grid.feat_TND
        away = [away_from_mean(feat_TND[first:end]) for first, end in segments.spans()]
        return torch.cat(away).flatten()


def away_from_mean(feat_LND: Tensor) -> Tensor:
    """(L, N): 1 - cos(token, mean token of its place); 1 in a lone step, where all is new."""
    if len(feat_LND) == 1:
        return torch.ones(feat_LND.shape[:2], dtype=ops.wide_dtype(feat_LND.dtype), device=feat_LND.device)
    mean_ND = ops_static.window_mean(feat_LND)
    return torch.stack([ops.dissimilarity(ops.row_cosine(step, mean_ND)) for step in feat_LND])
