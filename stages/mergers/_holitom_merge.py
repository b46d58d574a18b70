"""HoliTom's plan made into a `Reduction`.

Legend: T steps, N places of a step, S windows, L steps of one; M centres, P static places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops, ops_cluster, ops_static
from ..reduction import Reduction
from ._cluster_rows import ClusterRows, flat_ids, member_counts
from ._holitom_plan import Plan


def merge(grid: TokenGrid, segments: Segments, plan: Plan, beta: float, k: int) -> Reduction:
    """Dynamic tokens as they are, static centres with what joined them."""
    out, feat_TND = ClusterRows(grid), grid.feat_TND
    out.alone(dynamic_tokens(grid, plan))
    for (first, end), static_N, count in zip(segments.spans(), plan.static_SN, plan.static, strict=True):
        if count:
            place_P = static_N.nonzero()[:, 0]
            mean_PD = ops_static.window_mean(feat_TND[first:end])[place_P]
            centre_1M, label_1P = ops_cluster.cluster(mean_PD[None], count, min(k, count))
            index_L1P = flat_ids(grid, first, end, place_P)[:, None]
            out.groups(index_L1P, centre_1M, label_1P, shares(centre_1M, label_1P, beta))
    return out.reduction()


def dynamic_tokens(grid: TokenGrid, plan: Plan) -> Tensor:
    """int64 ids, ascending: the most attended dynamic tokens of each step."""
    assert grid.attention is not None  # `Method.decide` saw to what `needs` names
    device = grid.attention.device
    lengths = torch.tensor(plan.lengths, device=device)
    static_TN = plan.static_SN.to(device).repeat_interleave(lengths, 0)
    count_T = torch.tensor(plan.dynamic, device=device).repeat_interleave(lengths)
    attention_TN = ops.widen(grid.attention).reshape(static_TN.shape)
    lowest = torch.finfo(attention_TN.dtype).min  # so that no dynamic token ranks with the static ones
    attention_TN = attention_TN.nan_to_num(lowest, neginf=lowest).masked_fill(static_TN, float("-inf"))
    return ops.top_mask(attention_TN, count_T).flatten().nonzero()[:, 0].to(grid.data.device)


def shares(centre_GM: Tensor, label_GP: Tensor, beta: float) -> Tensor:
    """(G, P): how much of its row each place is: the centre `beta`, the rest equally; a centre alone is all of it."""
    joined_GP = member_counts(label_GP, centre_GM.shape[1]) - 1
    own = torch.where(joined_GP > 0, beta, 1.0).double()
    share = (1 - beta) / joined_GP.double().clamp_min(1)
    return share.scatter_(1, centre_GM, own.gather(1, centre_GM))
