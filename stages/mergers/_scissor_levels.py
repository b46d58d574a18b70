"""LLaVA-Scissor's exact budgets: the level of similarity that leaves so many components, and what stands badly for it.

Legend: V tokens (all valid ones), R rows, E edges of a spanning forest.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from ...models.types import TokenGrid
from .. import ops
from ..ops_forest import joining_levels
from ..reduction import Reduction

BELOW = 2.0**-21  # cosines nearer to a level than this may round to either side of it


def joining_level(rows_RD: Tensor, spans: Iterable[tuple[int, int]], most: int) -> float:
    """The highest level that leaves at most `most` components, -1 where all leave more."""
    level_E = joining_levels(rows_RD, spans)
    joins = len(rows_RD) - most
    return max(-1.0, float(level_E[joins - 1]) - BELOW) if joins <= len(level_E) else -1.0


def frame_spans(grid: TokenGrid, seen: Tensor) -> list[tuple[int, int]]:
    """Where each frame's valid tokens begin and end among `seen`."""
    border = torch.searchsorted(seen, torch.arange(len(grid.data) + 1, device=seen.device) * grid.per_step)
    return list(pairwise(border.tolist()))


def misfit(grid: TokenGrid, found: Reduction) -> Tensor:
    """float (N,): 1 - cos of each token to its row."""
    if not len(found):
        return torch.zeros(grid.count, device=grid.data.device)
    return ops.dissimilarity(ops.row_cosine(grid.feat_ND, found.apply(grid.feat_ND), found.owner.long()))
