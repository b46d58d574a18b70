"""FastVID's DTM: which pool tokens each centre is averaged with, and how they weigh.

Legend: L frames of a segment, N tokens of a frame, D channels; A anchors, B centres of an anchor, P pool tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import ops

Entries = tuple[Tensor, Tensor, Tensor]  # row, source token, weight


def join(
    feat_LND: Tensor, first: int, pool_LN: Tensor, centres: Sequence[Tensor], pool_has_centres: bool, beta: float
) -> Entries:
    """For each anchor, every pool token joins its most similar centre; rows are numbered through `centres`.

    `feat_LND` and `pool_LN` are the segment's, from frame `first` on; `centres` the flat ids by anchor, none empty.
    A centre weighs w = max(1 / (joined + 1), beta), what joined it shares 1 - w.
    """
    pool_P = first * pool_LN.shape[1] + pool_LN.flatten().nonzero()[:, 0]
    if not centres:
        return pool_P[:0], pool_P[:0], feat_LND.new_empty(0, dtype=torch.float32)
    size_A = torch.tensor([len(ids) for ids in centres], device=pool_P.device)
    row_PA = best_centres(feat_LND, first, pool_LN, centres, size_A) + (size_A.cumsum(0) - size_A)
    centre = torch.cat(list(centres))
    joins_PA = torch.ones_like(row_PA, dtype=torch.bool)
    if not pool_has_centres:  # other anchors' are in the pool
        anchor = torch.arange(len(centres), device=pool_P.device).repeat_interleave(size_A)
        joins_PA[torch.searchsorted(pool_P, centre), anchor] = False
    row, index = row_PA[joins_PA], pool_P[:, None].expand_as(row_PA)[joins_PA]
    joined = row.bincount(minlength=len(centre))
    own = (1 / (joined + 1)).clamp_min(beta)
    weight = ((1 - own) / joined.clamp_min(1))[row]
    return (
        torch.cat([row, torch.arange(len(centre), device=row.device)]),
        torch.cat([index, centre]),
        torch.cat([weight, own]),
    )


def best_centres(feat_LND: Tensor, first: int, pool_LN: Tensor, centres: Sequence[Tensor], size_A: Tensor) -> Tensor:
    """int64 (P, A): the centre, by its number within the anchor, that each pool token is most similar to."""
    b = int(size_A.max())
    # Anchors of fewer centres have their first one again, so that all go through one matmul and one read of the video.
    centre_AB = torch.stack([torch.cat([ids, ids[:1].expand(b - len(ids))]) for ids in centres])
    unit = ops.unit_rows(feat_LND.flatten(0, 1)[centre_AB.flatten() - first * pool_LN.shape[1]])
    # Whole frames lie together in memory: multiplying the few salient tokens along is cheaper than gathering the rest.
    best_PA = torch.cat(
        [ops.best_centre(step, unit, len(centres))[pool] for step, pool in zip(feat_LND, pool_LN, strict=True)]
    )
    return best_PA.masked_fill_(best_PA >= size_A, 0)
