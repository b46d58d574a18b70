"""What stays the same through a segment: similarities over time, and means, in passes over the features.

Legend: T steps, N tokens of a step, D channels, S segments, L steps of one segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.types import Segments, TokenGrid
from . import ops


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Traced(Segments):
    """Segments that bring a measurement of the features `of` along, so that nobody has to read those again.

    `adjacent_TN` (T-1,N): cosine of each token with the same place one step later.
    """

    of: Tensor
    adjacent_TN: Tensor


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Compared(Segments):
    """Segments with `mutual_SN` (S,N): how alike each place of the features `of` is through each segment."""

    of: Tensor
    mutual_SN: Tensor


def traced(grid: TokenGrid, segments: Segments) -> Traced:
    """`segments` with the features' adjacent cosines: those they bring along if they are of `grid`, else measured."""
    if isinstance(segments, Traced) and segments.of is grid.data:
        return segments
    return Traced(segments.starts, segments.length, grid.data, ops.adjacent_cosine(grid.feat_TND))


def compared(grid: TokenGrid, segments: Segments) -> Compared:
    """`segments` with the mutual cosines of each place: those they bring along if they are of `grid`, else measured."""
    if isinstance(segments, Compared) and segments.of is grid.data:
        return segments
    feat_TND = grid.feat_TND
    mutual_SN = torch.stack([mutual_cosine(feat_TND[first:end]) for first, end in segments.spans()])
    return Compared(segments.starts, segments.length, grid.data, mutual_SN)


def above(similar: Tensor, tau: float) -> Tensor:
    """bool: whether a cosine is above `tau` (strict; what rounding puts above 1 counts as 1)."""
    return similar.clamp_max(1) > tau


def unchanged(found: Traced, tau: float) -> Tensor:
    """bool (S, N): places whose every adjacent cosine within the segment is above `tau`; none in a lone step."""
    change_TN = (~above(found.adjacent_TN, tau)).cumsum(0)
    change_TN = torch.nn.functional.pad(change_TN, (0, 0, 1, 0))  # [t]: changes on the way from step 0 to step t
    first = found.starts.to(change_TN.device)
    last = first + found.lengths.to(first.device) - 1
    return (change_TN[last] == change_TN[first]) & (last > first)[:, None]


def mutual_cosine(feat_LND: Tensor) -> Tensor:
    """(N,): mean cosine over all pairs of different steps at each place; 0 for a lone step.

    Sum_t,u cos(x_t, x_u) is the squared length of the sum of unit vectors: one pass instead of one for each pair.
    """
    steps, n, d = feat_LND.shape
    out_N = feat_LND.new_zeros(n, dtype=ops.wide_dtype(feat_LND.dtype))
    if steps == 1:
        return out_N
    for at in ops.row_blocks(n, d):
        total = _unit_sum(feat_LND[:, at])
        out_N[at] = (ops.squared_norms(total).double() - steps).div_(steps * (steps - 1)).to(out_N.dtype)
    return out_N


def _unit_sum(feat_LRD: Tensor) -> Tensor:
    """(R, D): sum over the steps of the tokens at length 1, for one block of places."""
    total = torch.zeros_like(feat_LRD[0], dtype=ops.wide_dtype(feat_LRD.dtype), memory_format=torch.contiguous_format)
    scratch = torch.empty_like(total)
    for step in feat_LRD:
        rows = ops.widen(step)
        length = torch.mul(rows, rows, out=scratch).sum(-1).sqrt_().clamp_min_(ops.COSINE_EPS)
        total.add_(torch.mul(rows, length.reciprocal_()[:, None], out=scratch))
    return total


def window_mean(feat_LND: Tensor) -> Tensor:
    """(N, D): mean token of each place over the steps, in the summing dtype."""
    total_ND = torch.zeros_like(feat_LND[0], dtype=ops.wide_dtype(feat_LND.dtype))
    for step in feat_LND:
        total_ND.add_(step)
    return total_ND.div_(len(feat_LND))
