"""DySeg, FastVID's dynamic temporal segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Need, Segmenter


@dataclass(frozen=True)
class DySeg(Segmenter):
    """Cuts where neighbouring frame vectors differ most: at least `segments` runs, and at every cosine below `tau`.

    FastVID (NeurIPS 2025, arXiv 2503.11187), "Dynamic Temporal Segmentation". With s_t = cos(G_t, G_t+1), a cut follows
    every step t among the segments - 1 smallest s_t, or with s_t < tau (strict).

    Differs from the reference: fewer steps than `segments` give one run per step (there: a crash), equal similarities
    are cut at the earlier step (there: topk's whim), and similarities within 1e-6 of 1 count as equal.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"frame_vectors"})
    paper: ClassVar[str] = "FastVID, NeurIPS 2025, arXiv 2503.11187"
    family: ClassVar[str] = "cuts"
    complexity: ClassVar[str] = "O(TG)"

    segments: int = 8
    tau: float = 0.9

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, got {self.segments}")
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau must be in [-1, 1], got {self.tau}")

    def segment(self, grid: TokenGrid) -> Segments:
        assert grid.frame_vectors is not None  # `Method.decide` saw to what `needs` names
        cut = self.cuts(grid.frame_vectors).nonzero()[:, 0].cpu() + 1
        return Segments(torch.cat([cut.new_zeros(1), cut]), grid.shape[0])

    def cuts(self, vectors_TG: Tensor) -> Tensor:
        """bool (T-1,): whether a segment ends after the step."""
        similar = ops.adjacent_cosine(vectors_TG[:, None])[:, 0]
        change = ops.dissimilarity(similar)
        return ops.top_mask(change, self.segments - 1) | ((similar < self.tau) & (change > 0))
