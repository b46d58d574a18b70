"""OmniZip's sound: which audio tokens stay, and what the others that look most like the video are merged into.

Legend: A audio tokens, P pooled ones (neither dominant nor anchors), C anchors, N video tokens, B a block of those.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops
from ..reduction import Reduction

NORM_EPS = 1e-6  # the reference's, added to every length
SAME_SCORE = 1e-6  # likeness to the video: differences below are rounding
BLOCK_BYTES = 8 << 20  # of video tokens in float32: long enough rows of products for a fast matmul


@dataclass(frozen=True)
class Hearing:
    """`kept` bool (A,); `anchor` int64 (C,) of the kept ones; `pool` int64 (P,), all that is not kept. Ids ascend."""

    kept: Tensor
    anchor: Tensor
    pool: Tensor


def listen(attention_A: Tensor, drop: float, contextual: float, merges: int) -> Hearing:
    """The most attended audio tokens, and anchors at even distances among the rest."""
    count = len(attention_A)
    kept = ops.top_mask(attention_A, min(max(round((1 - drop) * count), 0), count))
    rest = (~kept).nonzero()[:, 0]
    anchors = min(max(0, round(contextual * count)), len(rest)) if merges > 0 else 0
    if not anchors:
        return Hearing(kept, rest[:0], rest)
    anchor = rest[:: max(1, len(rest) // anchors)][:anchors]
    kept = kept.index_fill(0, anchor, True)
    return Hearing(kept, anchor, (~kept).nonzero()[:, 0])


def merge_audio(audio_AD: Tensor, heard: Hearing, feat_ND: Tensor, merges: int) -> Reduction:
    """The kept audio tokens over the grid (A,1,1): each anchor with the up to `merges` pooled tokens that joined it.

    A pooled token joins the anchor it is most similar to, and the most video-like stay. An anchor's row is half its own
    token and half their mean, weighted by the softmax of their likeness to the video.
    """
    kept = heard.kept.nonzero()[:, 0]
    row_of_A = heard.kept.cumsum(0) - 1
    index, weight = kept, torch.ones(len(kept), dtype=torch.float64, device=kept.device)
    row = row_of_A[kept]
    if len(heard.anchor) and len(heard.pool):
        unit_PD, unit_CD = normalised(audio_AD[heard.pool]), normalised(audio_AD[heard.anchor])
        joined_P = ops.best_centre(unit_PD, unit_CD)[:, 0]
        likeness_P = likeness_to_video(unit_PD, feat_ND)
        listed = first_of_each(joined_P, ops.ranks(ops.levelled(-likeness_P, SAME_SCORE)), merges)
        goal = heard.anchor[joined_P[listed]]
        share = softmax_by(joined_P[listed], likeness_P[listed].double(), len(heard.anchor))
        weight[row_of_A[goal]] = 0.5
        row, index = torch.cat([row, row_of_A[goal]]), torch.cat([index, heard.pool[listed]])
        weight = torch.cat([weight, share / 2])
    return Reduction.from_entries((len(audio_AD), 1, 1), kept, row, index, weight)


def normalised(rows_RD: Tensor) -> Tensor:
    """Rows over their lengths, in the summing dtype."""
    return ops.widen(rows_RD) / (ops.squared_norms(rows_RD).sqrt_() + NORM_EPS)[:, None]


def likeness_to_video(unit_PD: Tensor, feat_ND: Tensor) -> Tensor:
    """(P,): the largest cosine with any video token."""
    wide = torch.promote_types(unit_PD.dtype, ops.wide_dtype(feat_ND.dtype))
    unit_PD = unit_PD.to(wide)
    best_P = unit_PD.new_full((len(unit_PD),), float("-inf"))
    for rows_BD in feat_ND.split(max(1, BLOCK_BYTES // (4 * max(1, feat_ND.shape[1])))):
        length_B = ops.squared_norms(rows_BD).sqrt_() + NORM_EPS
        dots_BP = rows_BD.to(wide) @ unit_PD.T
        best_P = torch.maximum(best_P, dots_BP.div_(length_B[:, None]).amax(0))
    return best_P


def first_of_each(group_P: Tensor, place_P: Tensor, count: int) -> Tensor:
    """int64: of each group the up to `count` members with the lowest `place_P` (a permutation), group by group."""
    order = (group_P * len(group_P) + place_P).argsort()
    ordered = group_P[order]
    first = torch.searchsorted(ordered, ordered)
    return order[torch.arange(len(order), device=order.device) - first < count]


def softmax_by(group_L: Tensor, score_L: Tensor, groups: int) -> Tensor:
    """(L,): exp(score) over its sum within the group. Cosines need no shift."""
    share_L = score_L.exp()
    return share_L / share_L.new_zeros(groups).index_add_(0, group_L, share_L)[group_L]
