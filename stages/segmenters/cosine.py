"""Cuts by cosine: a new segment wherever two neighbouring frames are not alike enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Segmenter


@dataclass(frozen=True)
class Cosine(Segmenter):
    """Cuts between neighbouring steps whose frame vectors have a cosine of `threshold` or less.

    Our own. The model's frame vectors where it gives them, else the mean token of each step. What rounding leaves
    between equal directions counts as 1; a zero vector is like nothing (cosine 0), another zero vector included.
    """

    family: ClassVar[str] = "cuts"
    complexity: ClassVar[str] = "O(TND), of frame vectors O(TG)"

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [-1, 1], got {self.threshold}")

    def segment(self, grid: TokenGrid) -> Segments:
        vectors_TG = ops.step_means(grid.feat_TND) if grid.frame_vectors is None else grid.frame_vectors
        away_T = ops.dissimilarity(ops.adjacent_cosine(vectors_TG[:, None])[:, 0])
        cut = (1 - away_T <= self.threshold).nonzero()[:, 0].cpu() + 1
        return Segments(torch.cat([cut.new_zeros(1), cut]), grid.shape[0])
