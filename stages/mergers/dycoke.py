"""DyCoke's temporal token merging (TTM): of four frames, one or two whole, of the others what changed most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Merger
from ..reduction import Reduction

GROUP = 4
ABOVE = 3.0  # above every dissimilarity


@dataclass(frozen=True)
class DyCoke(Merger):
    """Keeps the first of every four frames whole, and of the others the patches least similar to a frame before.

    DyCoke (CVPR 2025, arXiv 2411.15024), "Token Temporal Merging" (which merges nothing: it drops). Frame f of F, N
    patches each, keeps the int((1 - merge_ratio)*N) patches with the smallest cosine to the same patch of frame f-1
    where f is odd, of frame f-2 where f = 4g+2 < F-2; the other frames stay whole: the first of each group of four, and
    the third of the last group. Groups are counted from the chunk's start (so not causal).

    Differs from the reference: an even number of frames need not follow (there: the last of an odd number is lost), and
    up to four frames are reduced by the same rule (there: a crash); kept patches come in raster order, not by
    similarity; cosines within 1e-6 of 1 are equal, ties go to the lower index. Only the tokens before the LLM: the
    pruning of its KV cache while it answers is not here. Invalid patches take no place, and a patch whose partner is
    invalid counts as most changed.
    """

    paper: ClassVar[str] = "DyCoke, CVPR 2025, arXiv 2411.15024"
    family: ClassVar[str] = "temporal difference"
    complexity: ClassVar[str] = "O(TND)"

    merge_ratio: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.merge_ratio <= 1:
            raise ValueError(f"merge_ratio must be in [0, 1], got {self.merge_ratio}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        chosen_TN = ops.top_mask(changes(grid), self.quota(grid))
        return Reduction.select(grid.shape, chosen_TN.flatten().nonzero()[:, 0])

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return int(self.quota(grid).sum())

    def quota(self, grid: TokenGrid) -> Tensor:
        """int64 (T,): how many tokens of each frame stay."""
        seen_T = grid.data.new_full((len(grid.data),), grid.per_step, dtype=torch.int64)
        if grid.valid is not None:
            seen_T = grid.valid.flatten(1).sum(1)
        whole_T = [partner(t, len(grid.data)) is None for t in range(len(grid.data))]
        return torch.where(seen_T.new_tensor(whole_T).bool(), seen_T, ((1 - self.merge_ratio) * seen_T.double()).long())

    def at(self, knob: float) -> Self:
        return replace(self, merge_ratio=1 - knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): 1 - cos to the frame that a frame is reduced against.

        Tokens of whole frames come before all others, among themselves by what changed since the whole frame before.
        """
        change_TN = changes(grid)
        feat_TND, before = grid.feat_TND, None
        for t in range(len(change_TN)):
            if partner(t, len(change_TN)) is None:
                change_TN[t] = ABOVE + (ABOVE if before is None else change(feat_TND[t], feat_TND[before]))
                before = t
        return _valid_first(change_TN, grid).flatten()


def partner(frame: int, frames: int) -> int | None:
    """The frame that `frame` of `frames` is reduced against, None where it stays whole.

    Of 8: None, 0, 0, 2, None, 4, None, 6 (the last group's third frame stays whole).
    """
    if frame % 2:
        return frame - 1
    return frame - 2 if frame % GROUP == 2 and frame < frames - 2 else None


def change(feat_ND: Tensor, before_ND: Tensor) -> Tensor:
    """float (N,): 1 - cos to the same patch of another frame."""
    return ops.dissimilarity(ops.adjacent_cosine(feat_ND[None], before_ND)[0])


def changes(grid: TokenGrid) -> Tensor:
    """float (T, N): change against each frame's partner, 0 in whole frames, -1 where invalid; the highest stay."""
    feat_TND = grid.feat_TND
    change_TN = feat_TND.new_zeros(feat_TND.shape[:2], dtype=ops.wide_dtype(feat_TND.dtype))
    for t in range(len(feat_TND)):
        against = partner(t, len(feat_TND))
        if against is not None:
            change_TN[t] = change(feat_TND[t], feat_TND[against])
            if grid.valid is not None:
                change_TN[t].masked_fill_(~grid.valid[against].flatten(), ABOVE)
    return _valid_first(change_TN, grid)


def _valid_first(change_TN: Tensor, grid: TokenGrid) -> Tensor:
    return change_TN if grid.valid is None else change_TN.masked_fill_(~grid.valid.flatten(1), -1)
