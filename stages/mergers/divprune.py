"""DivPrune: the most diverse tokens of the clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..parts import Merger
from ..reduction import Reduction
from ._divprune_order import greedy
from .uniform import valid_ids


@dataclass(frozen=True)
class DivPrune(Merger):
    """Keeps the tokens farthest from each other: greedy max-min diversity over the whole chunk.

    DivPrune (CVPR 2025, arXiv 2503.02175). Distance is 1 - cos. First the token with the farthest nearest neighbour,
    then k-1 times the token farthest from its nearest chosen one; k = round(n*retain), half to even. Budgets are
    nested: a smaller one keeps a prefix of the same order.

    Differs from the reference: a token is chosen once (there, more than the distinct tokens repeats one index); zero
    vectors are equal to each other and at distance 1 from the rest (there: NaN); distances below 1e-6 are 0, within
    6e-8 of each other a tie, which goes to the lower index; one token is no crash; invalid tokens are left out.
    Only the columns that the choice turns on are worked out, so memory is bounded by 512 of them.
    """

    paper: ClassVar[str] = "DivPrune, CVPR 2025, arXiv 2503.02175"
    family: ClassVar[str] = "max-min diversity"
    complexity: ClassVar[str] = "O(KTND), K kept tokens; at most O((TN)²D) for the first"

    retain: float = 0.098

    def __post_init__(self) -> None:
        if not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.exact(grid, segments, None, self.count(grid, segments, None))[0]

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        seen = valid_ids(grid)
        if tokens < len(seen):
            seen = seen[self._greedy(grid, seen, tokens)[0].sort().values]
        return Reduction.select(grid.shape, seen), None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return round(self.retain * len(valid_ids(grid)))

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): the chosen tokens in the order of choice, then the others by how far they are from those."""
        seen = valid_ids(grid)
        order, far_V = self._greedy(grid, seen, self.count(grid, segments, carry))
        far_V[order] = 3 + far_V.new_tensor(range(len(order))).flip(0)  # above every distance
        return far_V.new_full((grid.count,), float("-inf")).index_copy_(0, seen, far_V)

    def _greedy(self, grid: TokenGrid, seen: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        feat_VD = grid.feat_ND if len(seen) == grid.count else grid.feat_ND[seen]
        return greedy(feat_VD, tokens, grid.per_step)
