"""EVS, efficient video sampling: keep what changed since the step before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid, brief, law
from .. import ops
from ..parts import Merger
from ..reduction import Reduction

FIRST_STEP = 255.0  # the reference's sentinel: above every dissimilarity, so that the first step stays whole


@dataclass(frozen=True)
class Evs(Merger):
    """Keeps the tokens least similar to the same place one step earlier, ranked over the whole chunk.

    EVS (arXiv 2510.14624), as vLLM's `vllm/multimodal/evs.py` computes it: with dis[t] = 1 - cos(x_t, x_t-1) and
    dis[0] = 255, the max(H*W, int(T*H*W*retain)) largest dis stay, ties to the lower index; retain = 1 - q.
    `threshold`, where given, holds instead of `retain`: what differs by more than it stays (strict), the first step of
    the *video* whole. That form is causal: the last step's tokens are carried over the chunk's border.

    Differs from the reference: cosines are summed in float32 whatever the features' dtype (bfloat16 ones have few
    values, and ties favour early steps); dis below 1e-6 counts as 0, so equal steps tie exactly and the lower index
    stays; exact budgets may cut into the first step; a token after an invalid one counts as new (dis = 1).
    """

    paper: ClassVar[str] = "EVS, arXiv 2510.14624"
    family: ClassVar[str] = "temporal difference"
    complexity: ClassVar[str] = "O(TND)"
    either: ClassVar[tuple[str, ...]] = ("retain", "threshold")

    retain: float | None = 0.25
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            if not 0 <= self.threshold <= 2:
                raise ValueError(f"threshold must be in [0, 2], got {self.threshold}")
            object.__setattr__(self, "retain", None)
        elif self.retain is None:
            raise ValueError("evs needs retain or threshold")
        elif not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    @property
    def causal(self) -> bool:
        return self.threshold is not None

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.step(grid, segments, None)[0]

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        score = self.score(grid, segments, carry)
        if self.threshold is not None:
            return Reduction.select(grid.shape, (score > self.threshold).nonzero()[:, 0]), self._carry(grid)
        assert self.retain is not None
        seen = score >= 0
        kept = max(int(seen[: grid.per_step].sum()), int(int(seen.sum()) * self.retain))
        return Reduction.select(grid.shape, ops.top(score, kept)), None

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        score = self.score(grid, segments, carry)
        kept = ops.top(score, min(tokens, int((score >= 0).sum())))
        return Reduction.select(grid.shape, kept), self._carry(grid)

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob, threshold=None)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): dissimilarity to the step before, 255 without one, -1 where the token is invalid."""
        fits = carry is None or carry.shape == grid.feat_TND.shape[1:]
        law(fits, f"carried step {brief(carry)} must be {tuple(grid.feat_TND.shape[1:])}")
        dis_TN = ops.dissimilarity(ops.adjacent_cosine(grid.feat_TND, carry))
        if carry is None:
            dis_TN = torch.cat([dis_TN.new_full((1, grid.per_step), FIRST_STEP), dis_TN])
        if grid.valid is not None:
            valid_TN = grid.valid.reshape(dis_TN.shape)
            dis_TN[1:].masked_fill_(~valid_TN[:-1], 1)
            dis_TN.masked_fill_(~valid_TN, -1)
        return dis_TN.flatten()

    def _carry(self, grid: TokenGrid) -> Tensor | None:
        """(H*W, D): the last step, with zero vectors (cosine 0 to everything) where it is invalid."""
        if self.threshold is None:
            return None
        last_ND = grid.feat_TND[-1].clone()
        return last_ND if grid.valid is None else last_ND.masked_fill_(~grid.valid[-1].reshape(-1, 1), 0)
