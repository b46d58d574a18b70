"""What the methods of bipartite matching share: rounds or a retained share, sequence by sequence.

Legend: T steps, N tokens of one, B sequences of t tokens, D channels, K kept.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..parts import Merger, Result
from ..reduction import Reduction
from . import _bipartite as bipartite

BLOCK_BYTES = 12 << 20  # frames matched in one go: enough to hide the call overhead


@dataclass(frozen=True)
class Bipartite(Merger):
    """Merges by rounds of bipartite matching; `retain`, where given, holds instead of the rounds."""

    kind: ClassVar[Result] = "merges"
    either: ClassVar[tuple[str, ...]] = ("rounds", "retain")

    rounds: tuple[int, ...] | None = None
    retain: float | None = None

    def __post_init__(self) -> None:
        if self.retain is not None:
            if not 0 <= self.retain <= 1:
                raise ValueError(f"retain must be in [0, 1], got {self.retain}")
            object.__setattr__(self, "rounds", None)
        elif self.rounds is not None:
            for r in self.rounds:
                if not isinstance(r, Integral) or isinstance(r, bool) or r < 0:
                    raise ValueError(f"rounds must be whole numbers of at least 0, got {r!r} in {list(self.rounds)}")
            object.__setattr__(self, "rounds", tuple(map(int, self.rounds)))

    @property
    @abstractmethod
    def weighted(self) -> bool:
        """True where an average counts a token as often as its size."""

    @abstractmethod
    def own_rounds(self, tokens: int) -> Sequence[int]:
        """Merges, round by round, in a sequence of `tokens` where `retain` is not given."""

    def sequences(self, grid: TokenGrid) -> Tensor:
        """(B,t,D): what is matched within itself: each frame."""
        return grid.feat_TND

    @property
    def causal(self) -> bool:
        return True

    def merges(self, tokens: int) -> list[int]:
        """Merges of each round that takes place in a sequence of `tokens`."""
        if self.retain is not None:
            return bipartite.rounds_to(math.ceil(tokens * self.retain), tokens)
        return bipartite.clipped(self.own_rounds(tokens), tokens)

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        feat_BtD = self.sequences(grid)
        b, t, _ = feat_BtD.shape
        rounds = self.merges(t)
        ids = torch.arange(grid.count, device=feat_BtD.device)
        if not rounds:
            return Reduction.select(grid.shape, ids)
        parts = [bipartite.match(part, rounds, weighted=self.weighted) for part in blocks(feat_BtD)]
        slot_Bt, weight_Bt, anchor_BK = (
            torch.cat([getattr(p, x) for p in parts]) for x in ("slot", "weight", "anchor")
        )
        before = torch.arange(b, device=ids.device)[:, None]
        row_N, anchor_K = (slot_Bt + before * anchor_BK.shape[1]).flatten(), (anchor_BK + before * t).flatten()
        return Reduction.from_entries(grid.shape, anchor_K, row_N, ids, weight_Bt.flatten())

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        b, t, _ = self.sequences(grid).shape
        return b * (t - sum(self.merges(t)))

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): 1 - cos to the most similar token that it could be matched with at first."""
        return torch.cat([bipartite.distinctness(part) for part in blocks(self.sequences(grid))]).flatten()


def blocks(feat_BtD: Tensor) -> Iterator[Tensor]:
    """Some whole sequences at a time, widened; one long sequence as it is."""
    b, t, d = feat_BtD.shape
    each = max(1, BLOCK_BYTES // (4 * max(1, t * d)))
    for part in feat_BtD.split(each):
        yield part if b == 1 else ops.widen(part)
