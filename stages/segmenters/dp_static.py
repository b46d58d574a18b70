"""HoliTom's windows: the cut of a video that makes the most patch tokens redundant in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops, ops_static
from ..parts import Segmenter


@dataclass(frozen=True)
class DpStatic(Segmenter):
    """Windows of at most `max_window` steps that, all together, save the most tokens: the global optimum.

    HoliTom (NeurIPS 2025, arXiv 2505.21334), "Global Redundancy-aware Temporal Merging". A place is static in the
    window [s, e] if cos(x_t, x_t+1) > tau (strict) at every step on the way; the window saves |static| * (e - s)
    tokens. Dynamic programming over the last step; ties: the lone step first, then the shortest window.

    Differs from the reference: static places are counted from run lengths, one histogram for each last step, so there
    is no steps x steps x places table and nothing waits for a device. The same windows come out.
    """

    paper: ClassVar[str] = "HoliTom, NeurIPS 2025, arXiv 2505.21334"
    family: ClassVar[str] = "dynamic programming"
    complexity: ClassVar[str] = "O(TND + TW), W = max_window"

    tau: float = 0.8
    max_window: int = 1024

    def __post_init__(self) -> None:
        if not -1 <= self.tau <= 1:
            raise ValueError(f"tau must be in [-1, 1], got {self.tau}")
        if self.max_window < 1:
            raise ValueError(f"max_window must be at least 1, got {self.max_window}")

    def segment(self, grid: TokenGrid) -> Segments:
        adjacent_TN = ops.adjacent_cosine(grid.feat_TND)
        starts = best_windows(ops_static.above(adjacent_TN, self.tau).cpu(), self.max_window)
        return ops_static.Traced(torch.tensor(starts), grid.shape[0], grid.data, adjacent_TN)


def best_windows(same_TN: Tensor, most: int) -> list[int]:
    """First step of each window, from bool (T-1, N): whether a place stays the same from each step to the next."""
    steps, n = len(same_TN) + 1, same_TN.shape[1]
    run_N = torch.zeros(n, dtype=torch.int64)  # links that have held without a break up to this step
    saved = torch.zeros(steps + 1, dtype=torch.int64)  # [i]: the most that the first i steps can save
    links = torch.arange(min(most, steps))
    length = []
    for end in range(1, steps + 1):
        if end > 1:
            run_N = (run_N + 1) * same_TN[end - 2]
        longest = min(end, most)
        gain = links[:longest] * at_least(run_N, longest)
        total = saved[end - longest : end].flip(0) + gain  # [j]: with a last window of j + 1 steps
        best = int(total.argmax())  # the first of equals: the shortest window
        saved[end] = total[best]
        length.append(best + 1)
    return walk_back(length)


def at_least(run_N: Tensor, values: int) -> Tensor:
    """int64 (values,): how many runs are at least 0, 1, 2, ... long."""
    exactly = run_N.clamp_max(values - 1).bincount(minlength=values)
    return exactly.flip(0).cumsum(0).flip(0)


def walk_back(length: list[int]) -> list[int]:
    """First step of each window, from the length of the best last window after each step."""
    starts, end = [], len(length)
    while end:
        end -= length[end - 1]
        starts.append(end)
    return starts[::-1]
