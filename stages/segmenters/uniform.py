"""Equal runs: the segmenter of methods that have none of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...models.types import Segments, TokenGrid
from ..parts import Segmenter


@dataclass(frozen=True)
class Uniform(Segmenter):
    """`segments` runs whose lengths differ by at most one step; never more runs than steps."""

    family: ClassVar[str] = "fixed"
    complexity: ClassVar[str] = "O(S)"

    segments: int = 1

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, got {self.segments}")

    def segment(self, grid: TokenGrid) -> Segments:
        steps = grid.shape[0]
        count = min(self.segments, steps)
        return Segments(torch.arange(count) * steps // count, steps)
