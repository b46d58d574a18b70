"""Evenly spaced tokens: a baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..parts import Merger
from ..reduction import Reduction


@dataclass(frozen=True)
class Uniform(Merger):
    """Keeps max(1, int(N*retain)) tokens at even distances of the chunk's flat ids, blind to content.

    A baseline of vidcomp's own. Of V valid tokens, K are the middles of K equal runs: number (2i+1)*V // 2K.
    """

    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(TN)"

    retain: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        seen = valid_ids(grid)
        return evenly(grid, seen, max(1, int(len(seen) * self.retain)))

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        return evenly(grid, valid_ids(grid), tokens), None

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): all alike."""
        return torch.zeros(grid.count, device=grid.data.device)


def valid_ids(grid: TokenGrid) -> Tensor:
    """int64 (V,): flat ids of the valid tokens, ascending."""
    if grid.valid is None:
        return torch.arange(grid.count, device=grid.data.device)
    return grid.valid.flatten().nonzero()[:, 0]


def evenly(grid: TokenGrid, seen: Tensor, tokens: int) -> Reduction:
    """`tokens` of the ids `seen`, at most all, as far apart as they can be."""
    count = min(tokens, len(seen))
    middle = (2 * torch.arange(count, device=seen.device) + 1) * len(seen) // max(1, 2 * count)
    return Reduction.select(grid.shape, seen[middle])
