"""Exact budgets: a video's tokens shared out over its chunks, and a method brought to an exact number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models.types import Segments, TokenGrid
from . import ops
from .edit import add_tokens, keep_rows, restrict
from .reduction import Reduction

if TYPE_CHECKING:
    from .parts import Merger

HALVINGS = 24  # of the knob's range [0, 1]: finer than one token in ten million

Number = int | float | Fraction


def exactly(value: Number) -> Fraction:
    """The number as it was written: 0.1 is 1/10, not the binary fraction next to it."""
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)


def share_of_total(tokens: int, frames: int, first: int, end: int) -> int:
    """What frames [first, end) of `frames` get of a video's `tokens`; the shares of all chunks sum to `tokens`."""
    return tokens * end // frames - tokens * first // frames


def share_of_rate(tokens_per_second: Number, fps: Number, first: int, end: int) -> int:
    """What frames [first, end), sampled at `fps`, get at `tokens_per_second`; exact over any run of chunks."""
    per_frame = exactly(tokens_per_second) / exactly(fps)
    return int(per_frame * end) - int(per_frame * first)  # int() is floor: nothing here is negative


@dataclass(frozen=True, slots=True)
class ChunkBudget:
    """Shares a video's budget over its chunks: `asked` as `Budget`'s fields, `frames` sampled frames at `fps`."""

    asked: Mapping[str, Number]
    frames: int
    fps: Number

    def of(self, first: int, end: int) -> int | None:
        """Tokens for the sampled frames [first, end); None where the method's own parameter decides."""
        if "tokens" in self.asked:
            return share_of_total(int(self.asked["tokens"]), self.frames, first, end)
        if "tokens_per_second" in self.asked:
            return share_of_rate(self.asked["tokens_per_second"], self.fps, first, end)
        return None


# -- one chunk, exactly ------------------------------------------------------------------------------------


def bisect(
    merger: Merger, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
) -> tuple[Reduction, Tensor | None]:
    """A decision of `merger` with exactly min(tokens, valid tokens) rows, and what it carries on.

    The knob is bisected to the largest count at or under `tokens`; then tokens are added by the merger's score, each as
    a row of its own, unchanged. Where even the lowest knob keeps more, the rows stay whose anchors score best. Ties go
    to the lower index.
    """
    valid_N = torch.ones(grid.count, dtype=torch.bool, device=grid.data.device)
    if grid.valid is not None:
        valid_N = grid.valid.flatten()
    wanted = min(tokens, int(valid_N.sum()))
    found, carried = best_knob(merger, grid, segments, carry, wanted).step(grid, segments, carry)
    found = restrict(found, valid_N)
    if len(found) != wanted:
        found = brought_to(found, wanted, merger.score(grid, segments, carry), valid_N)
    return found, carried


def brought_to(found: Reduction, wanted: int, score_N: Tensor, valid_N: Tensor) -> Reduction:
    """`found` with `wanted` rows: only those whose anchors score best, or the best other valid tokens beside them."""
    if len(found) > wanted:
        return keep_rows(found, ops.top(score_N[found.anchor], wanted))
    free = valid_N.index_fill(0, found.anchor, False).nonzero()[:, 0]
    return add_tokens(found, free[ops.top(score_N[free], wanted - len(found))])


def best_knob(merger: Merger, grid: TokenGrid, segments: Segments, carry: Tensor | None, wanted: int) -> Merger:
    """`merger` at the largest knob found that keeps at most `wanted` rows; at its lowest where none does."""
    low, high = 0.0, 1.0
    if _count(merger.at(high), grid, segments, carry) <= wanted:
        return merger.at(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        count = _count(merger.at(middle), grid, segments, carry)
        if count == wanted:
            return merger.at(middle)
        low, high = (middle, high) if count < wanted else (low, middle)
    return merger.at(low)


def _count(merger: Merger, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
    if grid.valid is None:
        return merger.count(grid, segments, carry)
    return len(restrict(merger.step(grid, segments, carry)[0], grid.valid.flatten()))
