"""LLaVA-Scissor's second half: every token to its nearest representative, and what the rows are made of.

Legend: V tokens (all valid ones), M nodes (components of one frame each), K representatives, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import csr, ops, ops_graph
from ..ops_members import SAME_PLACE

SAME = 2.0**-22  # cosines nearer to each other are a tie
MARGIN = 1e-5  # far more than a cosine's rounding error
BLOCK = 512  # tokens compared at once


@dataclass(frozen=True)
class Components:
    """Tokens in nodes in representatives: `node_V` int64 (V,), `group_M` int64 (M,), `nodes_MD` the nodes' means."""

    node_V: Tensor
    group_M: Tensor
    nodes_MD: Tensor

    @property
    def label_V(self) -> Tensor:
        """int64 (V,): the representative that each token is part of."""
        return self.group_M[self.node_V]


def means(feat_RD: Tensor, label_R: Tensor) -> Tensor:
    """(K, D) in the summing dtype: plain mean of the rows of each label."""
    indptr = torch.nn.functional.pad(label_R.bincount().cumsum(0), (1, 0))
    order = label_R.argsort(stable=True)
    weight = (1 / indptr.diff().to(ops.wide_dtype(feat_RD.dtype)))[label_R[order]]
    if feat_RD.dtype == weight.dtype:
        return csr.matmul(indptr, order, weight, feat_RD)
    out_KD = feat_RD.new_empty(len(indptr) - 1, feat_RD.shape[1], dtype=weight.dtype)
    for first in range(0, feat_RD.shape[1], csr.COLUMNS):
        at = slice(first, first + csr.COLUMNS)
        out_KD[:, at] = csr.matmul(indptr, order, weight, feat_RD[:, at].to(weight.dtype))
    return out_KD


def assign(feat_VD: Tensor, parts: Components, tau: float) -> Tensor:
    """int64 (V,): the representative with the largest cosine to each token, the lower number on ties.

    Most comparisons need not be made. Nodes of different components have a cosine of at most tau, so a token that is a
    node by itself has one of at most tau * mean |node| / |mean node| with any other representative than its own.
    """
    label_V, reps_KD = parts.label_V, means(parts.nodes_MD, parts.group_M)
    length_K = ops.squared_norms(reps_KD).sqrt_()
    own_V = ops.row_cosine(feat_VD, reps_KD, label_V)
    bound_K = _reach(parts, length_K) * abs(tau) + MARGIN
    order_K = bound_K.argsort(descending=True, stable=True)
    order_K = order_K[length_K[order_K] > 0]  # a mean without a direction is near to nothing
    # how many representatives, those of the highest bound first, could be nearer than the token's own
    rivals_V = len(order_K) - torch.searchsorted(bound_K[order_K].flip(0), own_V)
    rivals_V[parts.node_V.bincount()[parts.node_V] > 1] = len(order_K)
    rivals_V[ops.squared_norms(feat_VD) == 0] = 0
    rival_count, token_V = rivals_V.sort(stable=True)
    compared = token_V[rival_count > 0]
    unit_KD = reps_KD.mul_(ops_graph.inverse(length_K)[:, None])[order_K]
    best_V = label_V.clone()
    for at in compared.split(BLOCK) if len(compared) else ():
        few = int(rivals_V[at[-1]])
        best_V[at] = _nearest(feat_VD[at], unit_KD[:few], order_K[:few], label_V[at], own_V[at])
    return best_V


def _reach(parts: Components, length_K: Tensor) -> Tensor:
    """(K,): mean length of a representative's nodes over the length of their mean."""
    length_M = ops.squared_norms(parts.nodes_MD).sqrt_()
    sum_K = torch.zeros_like(length_K).index_add_(0, parts.group_M, length_M)
    return sum_K / parts.group_M.bincount() * ops_graph.inverse(length_K)


def _nearest(feat_BD: Tensor, unit_KD: Tensor, number_K: Tensor, own_B: Tensor, cosine_B: Tensor) -> Tensor:
    """int64 (B,): number of the nearest of some representatives and the token's own, the lowest on ties."""
    rows = ops.widen(feat_BD)
    near_BK = (rows @ unit_KD.T).mul_(ops_graph.inverse(ops.squared_norms(rows).sqrt_())[:, None])
    least_B = torch.maximum(near_BK.amax(1), cosine_B) - SAME
    last = torch.iinfo(torch.int64).max
    lowest_B = torch.where(near_BK >= least_B[:, None], number_K, last).amin(1)
    return torch.where(cosine_B >= least_B, torch.minimum(lowest_B, own_B), lowest_B)


def entries(parts: Components, best_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(row, token, weight) of (R_r + sum of the tokens assigned) / (how many + 1), R_r a mean of means."""
    label_V, token_V = parts.label_V, torch.arange(len(best_V), device=best_V.device)
    share_V = 1 / (parts.node_V.bincount()[parts.node_V].double() * parts.group_M.bincount()[label_V])
    terms_K = best_V.bincount(minlength=len(parts.group_M.bincount())).double() + 1
    weight = torch.cat([share_V / terms_K[label_V], 1 / terms_K[best_V]])
    return torch.cat([label_V, best_V]), token_V.repeat(2), weight


def anchors(feat_VD: Tensor, label_V: Tensor, cells: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """int64 (K,): of each representative's own tokens the one nearest the row's value, the lowest on ties.

    A row's own tokens are in no other's, so no anchor comes twice.
    """
    size_K = label_V.bincount()
    several = (size_K[label_V] > 1).nonzero()[:, 0]
    wide = ops.wide_dtype(feat_VD.dtype)
    indptr, indices, weights = csr.build(len(size_K), *cells)
    away, square = (torch.zeros(len(several), dtype=wide, device=feat_VD.device) for _ in "ab")
    for block in feat_VD.split(csr.COLUMNS, dim=1):
        column = block.to(wide)
        rows = column[several]
        square += rows.square().sum(1)
        away += (rows - csr.matmul(indptr, indices, weights, column)[label_V[several]]).square_().sum(1)
    away.sqrt_()
    group, anchor_K = label_V[several], torch.full_like(size_K, len(label_V))
    least_K = away.new_full((len(size_K),), float("inf")).scatter_reduce_(0, group, away, "amin")
    near = away <= least_K[group] + SAME_PLACE * square.sqrt_()
    anchor_K.scatter_reduce_(0, group[near], several[near], "amin")
    alone = (size_K[label_V] == 1).nonzero()[:, 0]
    return anchor_K.scatter_(0, label_V[alone], alone)
