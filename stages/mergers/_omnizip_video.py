"""OmniZip's pictures: the order in which each frame's tokens stay, even frames by density peaks, odd ones by change.

Legend: T steps, N tokens of a step, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import ops
from ._omnizip_windows import Span

NEIGHBOURS = 5
UNIT_EPS = 1e-12
SAME_DENSITY = 2.0**-21  # mean of cosine distances: differences below are rounding


def rank_tokens(feat_TND: Tensor, windows: Sequence[Span]) -> Tensor:
    """int64 (T, N): the place of each token in its frame, 0 = the last to be dropped; the lower index on ties.

    Frames count from their window's first: even ones are ranked by themselves, odd ones against the frame before.
    """
    scores = []
    for first, end in windows:
        for t in range(first, end):
            even = (t - first) % 2 == 0
            scores.append(spatial(feat_TND[t]) if even else temporal(feat_TND[t], feat_TND[t - 1]))
    order_TN = torch.stack(scores).sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(order_TN.shape[1], device=order_TN.device).expand_as(order_TN)
    return torch.empty_like(order_TN).scatter_(1, order_TN, places)


def temporal(feat_ND: Tensor, before_ND: Tensor) -> Tensor:
    """(N,): 1 - cos to the same place in the frame before."""
    return ops.dissimilarity(ops.row_cosine(feat_ND, before_ND))


def spatial(feat_ND: Tensor) -> Tensor:
    """(N,): density among the nearest neighbours times distance to the nearest denser token, by cosine.

    The densest token's distance is its largest one. Equal densities rank by index, the lower as the denser: of a flat
    background one token stands out, not all.
    """
    rows_ND = ops.widen(feat_ND)
    unit_ND = rows_ND / ops.squared_norms(rows_ND).sqrt_().clamp_min_(UNIT_EPS)[:, None]
    away_NN = ops.dissimilarity(unit_ND @ unit_ND.T)
    thin_N = mean_of_nearest(away_NN, min(NEIGHBOURS, len(away_NN) - 1))
    away_NN.fill_diagonal_(0)
    thin_N = ops.levelled(thin_N, SAME_DENSITY)
    rank_N = ops.ranks(thin_N)
    gap_N = torch.where(rank_N < rank_N[:, None], away_NN, float("inf")).amin(1)
    gap_N = torch.where(rank_N == 0, away_NN.amax(1), gap_N)
    return (-thin_N).exp() * gap_N


def mean_of_nearest(away_NN: Tensor, k: int) -> Tensor:
    """(N,): mean of the k smallest distances to others; overwrites the diagonal."""
    if k < 1:
        return away_NN.new_zeros(len(away_NN))
    away_NN.fill_diagonal_(float("inf"))
    return away_NN.topk(k, dim=1, largest=False).values.mean(1)
