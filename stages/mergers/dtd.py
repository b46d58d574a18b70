"""DTD, differential token drop: drop what resembles the same place one step before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid, brief, law
from .. import ops, ops_pixels, ops_runs
from ..parts import Merger, Need
from ..reduction import Reduction


@dataclass(frozen=True)
class Dtd(Merger):
    """Drops the tokens that resemble the same place one step before, by features or by pixels.

    TimeChat-Online's differential token drop (ACM MM 2025, arXiv 2504.17343). The first step of the video stays whole.
    `mode` feature: a token is dropped where cos(it, the one before) > `threshold`; pixel: where the mean of
    |first frame of the step before - last frame of this one| over its pixels and colours in [0,1] is < `threshold`
    (both strict). Not `absolute`: each step drops its int(n*threshold) most similar tokens. The comparison is always
    with the step before, dropped or not. A token's pixels are what the grid makes of the picture: the paper's are 28 x
    28 of 2 frames.

    Causal: the last step's tokens (or its first frame) are carried over a chunk's border; the reference's streaming
    demo keeps the first step of every chunk whole.

    Differs from the reference: pixel differences are exact sums of uint8 (there: normalised floats, undone); equal
    similarities go to the lower index (there: topk's whim), and cosines within 1e-6 of 1 are equal where tokens are
    compared; steps are the grid's, not runs of equal time ids; a token after an invalid one stays; exact budgets may
    cut into the first step.
    """

    paper: ClassVar[str] = "TimeChat-Online, ACM MM 2025, arXiv 2504.17343"
    family: ClassVar[str] = "temporal difference"
    complexity: ClassVar[str] = "O(TND), of pixels O(pixels)"

    threshold: float = 0.5
    mode: Literal["feature", "pixel"] = "feature"
    absolute: bool = True

    def __post_init__(self) -> None:
        if self.mode not in ("feature", "pixel"):
            raise ValueError(f"mode must be feature or pixel, got {self.mode!r}")
        least = -1 if self.absolute and self.mode == "feature" else 0
        if not least <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [{least}, 1], got {self.threshold}")
        if self.mode == "pixel":
            needs: frozenset[Need] = frozenset({"pixels"})
            object.__setattr__(self, "needs", needs)  # of these settings, not of the class

    @property
    def causal(self) -> bool:
        return True

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.step(grid, segments, None)[0]

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        change_N = self.score(grid, segments, carry)
        if self.absolute:
            stays_N = change_N >= (self.threshold if self.mode == "pixel" else -self.threshold)
        else:
            stays_N = ops.top_mask(change_N.view(len(grid.data), -1), self._quota(grid, carry)).flatten()
        return Reduction.select(grid.shape, stays_N.nonzero()[:, 0]), self._carry(grid)

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        if not self.absolute:
            return super().exact(grid, segments, carry, tokens)
        change_N = self.score(grid, segments, carry)
        kept = ops.top(change_N, min(tokens, int((change_N != ops_runs.GONE).sum())))
        return Reduction.select(grid.shape, kept), self._carry(grid)

    def at(self, knob: float) -> Self:
        cosines = self.absolute and self.mode == "feature"
        return replace(self, threshold=2 * knob - 1 if cosines else 1 - knob)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return super().count(grid, segments, carry) if self.absolute else int(self._quota(grid, carry).sum())

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): minus the cosine, or the pixels' change; inf with no valid token before, -inf where invalid."""
        if self.mode == "pixel":
            return pixel_change(grid, carry).flatten()
        wanted = tuple(grid.feat_TND.shape[1:])
        law(carry is None or tuple(carry.shape) == wanted, f"carried tokens {brief(carry)} must be {wanted}")
        near = ops.adjacent_cosine(grid.feat_TND, carry)
        near.masked_fill_(near > 1 - ops.SAME_COSINE, 1)
        change = near.neg_().masked_fill_(near.isnan(), ops_runs.NEW)  # NaN: an invalid token was carried over
        return ops_runs.mark(change, grid, None).flatten()

    def _quota(self, grid: TokenGrid, carry: Tensor | None) -> Tensor:
        """int64 (T,): how many tokens of each step stay."""
        seen_T = grid.data.new_full((len(grid.data),), grid.per_step, dtype=torch.int64)
        if grid.valid is not None:
            seen_T = grid.valid.flatten(1).sum(1)
        dropped_T = (seen_T.double() * self.threshold).long()
        if carry is None:
            dropped_T[0] = 0
        return seen_T - dropped_T

    def _carry(self, grid: TokenGrid) -> Tensor:
        if self.mode == "pixel":
            return ops_pixels.to_carry(grid, ops_pixels.pixels_of(grid, "dtd"), per_step(grid))
        last_ND = grid.feat_TND[-1].clone()
        return last_ND if grid.valid is None else last_ND.masked_fill_(~grid.valid[-1].reshape(-1, 1), float("nan"))


def pixel_change(grid: TokenGrid, carry: Tensor | None) -> Tensor:
    """float64 (T, N): mean change of the pixels in [0,1] since the step before."""
    pixels, (_, h, w) = ops_pixels.pixels_of(grid, "dtd"), grid.shape
    frames, high, wide, _ = pixels.shape
    if high % h or wide % w or -(-frames // per_step(grid)) != len(grid.data):
        raise ValueError(f"{brief(pixels)} do not divide into the grid {grid.shape}: give the frames at model size")
    before, valid = (None, None) if carry is None else ops_pixels.from_carry(carry, pixels, (h, w))
    sums = ops_pixels.step_changes(pixels, per_step(grid), (h, w), before).sum(-1).double()
    return ops_runs.mark(sums / (ops_pixels.WHITE * 3 * (high // h) * (wide // w)), grid, valid)


def per_step(grid: TokenGrid) -> int:
    """Frames to a step; the last step may have fewer."""
    return -(-len(ops_pixels.pixels_of(grid, "dtd")) // len(grid.data))
