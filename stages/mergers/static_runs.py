"""Static runs: patches that stay similar to the first of them, averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid, brief, law
from .. import ops, ops_runs
from ..parts import Merger, Result
from ..reduction import Reduction

USUAL = 0.9
HALVINGS = 12


@dataclass(frozen=True)
class StaticRuns(Merger):
    """Averages the tokens of a place for as long as they stay similar to the run's first token.

    vidcomp's own; run-length coding (as `rlt`) of features. A token whose cosine with its run's *first* token is not
    above `threshold` (strict) begins a new run, so that slow drift is noticed where comparing neighbours would miss it.
    A row is its run's mean, anchored at the first token. Two zero vectors count as equal, an invalid token ends a run.
    `retain`, where given, holds instead: exactly int(N*retain) rows, by the largest threshold that gives no more and,
    for the rest, runs that begin at the tokens least similar to their run's first.

    With a threshold it is causal: the open runs' first tokens are carried over a chunk's border, so that anchors do not
    depend on `chunk_frames`. A row's mean, size and box end at the border; what continues a run beyond it is in no row.
    """

    family: ClassVar[str] = "runs"
    complexity: ClassVar[str] = "O(TND), 12 times that for a given number of rows"
    kind: ClassVar[Result] = "merges"
    either: ClassVar[tuple[str, ...]] = ("threshold", "retain")

    threshold: float | None = USUAL
    retain: float | None = None

    def __post_init__(self) -> None:
        if self.retain is not None:
            if not 0 <= self.retain <= 1:
                raise ValueError(f"retain must be in [0, 1], got {self.retain}")
            object.__setattr__(self, "threshold", None)
        elif self.threshold is None:
            raise ValueError("static_runs needs threshold or retain")
        elif not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [-1, 1], got {self.threshold}")

    @property
    def causal(self) -> bool:
        return self.threshold is not None

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return self.step(grid, segments, None)[0]

    def step(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> tuple[Reduction, Tensor | None]:
        if self.threshold is None:
            assert self.retain is not None
            return self.exact(grid, segments, carry, int(_valid_count(grid) * self.retain))
        _, start_N, first_ND = follow(grid, self.threshold, carry)
        return means(grid, start_N), first_ND

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        wanted = min(tokens, _valid_count(grid))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            count = int(follow(grid, fine(middle), carry)[1].sum())
            low, high = (middle, high) if count <= wanted else (low, middle)
            if count == wanted:
                break
        change_N, start_N, first_ND = follow(grid, fine(low), carry)
        chosen_N = ops.top_mask(torch.where(start_N, change_N + 2, change_N), wanted)  # 2: the largest change there is
        return means(grid, chosen_N), first_ND if self.causal else None

    def at(self, knob: float) -> Self:
        """By `retain`: a run depends on where it begins, so a higher threshold may well give fewer of them."""
        return replace(self, retain=knob)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        if self.retain is not None:
            return int(_valid_count(grid) * self.retain)
        return super().count(grid, segments, carry)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): 1 - cos to the run's first token, inf without a run before, -inf where invalid."""
        return follow(grid, USUAL if self.threshold is None else self.threshold, carry)[0]


def follow(grid: TokenGrid, threshold: float, carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """float (N,) change since the run began, bool (N,) whether a run begins, (H*W, D) first tokens of the open runs."""
    wanted = tuple(grid.feat_TND.shape[1:])
    law(carry is None or tuple(carry.shape) == wanted, f"carried tokens {brief(carry)} must be {wanted}")
    valid_TN = None if grid.valid is None else grid.valid.flatten(1)
    near_TN, first_ND = ops_runs.run_cosine(grid.feat_TND, threshold, valid_TN, carry)
    change_TN = torch.where(near_TN.isnan(), ops_runs.NEW, ops.dissimilarity(near_TN))
    start_TN = ~(near_TN > threshold)
    if valid_TN is not None:
        change_TN.masked_fill_(~valid_TN, ops_runs.GONE)
        start_TN &= valid_TN
    return change_TN.flatten(), start_TN.flatten(), first_ND


def fine(knob: float) -> float:
    """The threshold at a place in [0, 1] of the search: finer steps where tokens are similar, as most are."""
    return 1 - 2 * (1 - knob) ** 2


def means(grid: TokenGrid, start_N: Tensor) -> Reduction:
    """A mean for each run."""
    valid_TN = None if grid.valid is None else grid.valid.flatten(1)
    indptr, indices = ops_runs.run_entries(start_N.view(len(grid.data), -1), valid_TN)
    sizes = indptr.diff()
    weights = (1 / sizes).repeat_interleave(sizes)
    return Reduction(grid.shape, indptr, indices, weights, indices[indptr[:-1]])


def _valid_count(grid: TokenGrid) -> int:
    return grid.count if grid.valid is None else int(grid.valid.sum())
