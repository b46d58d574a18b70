"""TS-LLaVA's token sampling: evenly spaced tokens, the first and the last among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..ops_spacing import apart, linspace_ids
from ..parts import Merger
from ..reduction import Reduction
from .uniform import valid_ids


@dataclass(frozen=True)
class Linspace(Merger):
    """Keeps tokens at even distances of the chunk's flat ids, from the first to the last, blind to content.

    TS-LLaVA (arXiv 2411.11066), "Sampling": of all tokens of the chunk, rint(linspace(0, N-1, K)) in float32. The
    paper's K is 2880 of 50 frames x 576 tokens; K = max(1, round(N*retain)) with retain = 0.1 is that. `tokens`, where
    given, is K itself. The paper's other half, the thumbnail, is `stages/thumbnail.py`.

    Differs from the reference: fewer tokens than `tokens` are all kept (there: a crash); where float32 would take one
    token twice (K nearly N), its neighbours are taken instead; only valid tokens are counted.
    """

    paper: ClassVar[str] = "TS-LLaVA, arXiv 2411.11066"
    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(TN)"
    either: ClassVar[tuple[str, ...]] = ("retain", "tokens")

    retain: float | None = 0.1
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            if self.tokens < 1:
                raise ValueError(f"tokens must be at least 1, got {self.tokens}")
            object.__setattr__(self, "retain", None)
        elif self.retain is None:
            raise ValueError("linspace needs retain or tokens")
        elif not 0 <= self.retain <= 1:
            raise ValueError(f"retain must be in [0, 1], got {self.retain}")

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        seen = valid_ids(grid)
        return spaced(grid, seen, self._asked(len(seen)))

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        return spaced(grid, valid_ids(grid), tokens), None

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        seen = len(valid_ids(grid))
        return min(seen, self._asked(seen))

    def _asked(self, seen: int) -> int:
        if self.tokens is not None:
            return self.tokens
        assert self.retain is not None
        return max(1, round(seen * self.retain))

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob, tokens=None)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): all alike."""
        return torch.zeros(grid.count, device=grid.data.device)


def spaced(grid: TokenGrid, seen: Tensor, tokens: int) -> Reduction:
    """`tokens` of the ids `seen`, at most all, from the first to the last."""
    places = apart(linspace_ids(len(seen), min(tokens, len(seen))), len(seen))
    return Reduction.select(grid.shape, seen[places.to(seen.device)])
