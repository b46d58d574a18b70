"""Tokens drawn at random, the same ones every time: a baseline."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Merger
from ..reduction import Reduction


@dataclass(frozen=True)
class Random(Merger):
    """Keeps max(1, int(N*retain)) tokens drawn without replacement, each equally likely.

    A baseline of vidcomp's own. Every step draws from its own generator, seeded by `seed` and the step's pts: no two
    chunks (or steps) share a pattern, nothing is carried, a resumed run draws the same, and no global state is touched.
    """

    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(TN log TN)"

    retain: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        score = self.score(grid, segments, None)
        return Reduction.select(grid.shape, ops.top(score, max(1, int(int((score >= 0).sum()) * self.retain))))

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        score = self.score(grid, segments, carry)
        return Reduction.select(grid.shape, ops.top(score, min(tokens, int((score >= 0).sum())))), None

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): the draws, in [0, 1); -1 where the token is invalid."""
        drawn_TN = torch.stack([self._draw(pts_s, grid.per_step) for pts_s in grid.pts_s.tolist()])
        drawn_N = drawn_TN.flatten().to(grid.data.device)
        return drawn_N if grid.valid is None else drawn_N.masked_fill(~grid.valid.flatten(), -1)

    def _draw(self, pts_s: float, count: int) -> Tensor:
        """float (count,) on the CPU, whatever the device: the same draws everywhere."""
        mixed = hashlib.blake2b(struct.pack("<qd", self.seed, pts_s), digest_size=8).digest()
        own = torch.Generator().manual_seed(int.from_bytes(mixed, "little") >> 1)
        return torch.rand(count, generator=own)
