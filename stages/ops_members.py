"""Groups of tokens as rows: plain means, anchored at the member nearest the mean.

Legend: N tokens, M of them in groups of more than one, K groups, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import csr, ops
from .reduction import Reduction

SAME_PLACE = 2.0**-20  # of a token's length: what rounding leaves between members that are as near to their mean


def averages(grid: tuple[int, int, int], feat_ND: Tensor, group_N: Tensor) -> Reduction:
    """Each group as the plain mean of its members; `group_N` int64 (N,) numbers groups from 0 on, -1 is in none.

    Groups of two, and equal members, are anchored at the lowest id.
    """
    member = (group_N >= 0).nonzero()[:, 0]
    group_M = group_N[member]
    size_K = group_M.bincount()
    anchor_K = nearest_to_mean(feat_ND, member, group_M, size_K)
    return Reduction.from_entries(grid, anchor_K, group_M, member, 1 / size_K.double()[group_M])


def nearest_to_mean(feat_ND: Tensor, member: Tensor, group_M: Tensor, size_K: Tensor) -> Tensor:
    """int64 (K,): of each group the member nearest its mean, the lowest on ties. `member` int64 (M,) ascends."""
    anchor_K = torch.full_like(size_K, len(feat_ND))
    several_M = size_K[group_M] > 1
    anchor_K[group_M[~several_M]] = member[~several_M]
    member, group_M = member[several_M], group_M[several_M]
    away_M, length_M = (d.sqrt_() for d in squared_distances_to_mean(feat_ND, member, group_M, size_K))
    least_K = away_M.new_full((len(size_K),), float("inf")).scatter_reduce_(0, group_M, away_M, "amin")
    near = away_M <= least_K[group_M] + SAME_PLACE * length_M
    return anchor_K.scatter_reduce_(0, group_M[near], member[near], "amin")


def squared_distances_to_mean(
    feat_ND: Tensor, member: Tensor, group_M: Tensor, size_K: Tensor
) -> tuple[Tensor, Tensor]:
    """(M,) twice: squared distance of each member to its group's mean, and its squared length."""
    order = group_M.argsort(stable=True)
    indptr = torch.nn.functional.pad(group_M.bincount(minlength=len(size_K)).cumsum(0), (1, 0))
    wide = ops.wide_dtype(feat_ND.dtype)
    weight = (1 / size_K.to(wide))[group_M[order]]
    away_M, square_M = (torch.zeros(len(member), dtype=wide, device=feat_ND.device) for _ in "ab")
    for block_NC in feat_ND.split(csr.COLUMNS, dim=1):
        rows_MC = block_NC[member].to(wide)
        square_M += rows_MC.square().sum(1)
        away_M += (rows_MC - csr.matmul(indptr, order, weight, rows_MC)[group_M]).square_().sum(1)
    return away_M, square_M
