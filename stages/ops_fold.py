"""Fewer channels with about the same distances, by seeded random signs.

Legend: R rows, D channels, C folded ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import ops


def folded(feat_RD: Tensor, channels: int, seed: int) -> Tensor:
    """(R, min(D, channels)) on the CPU, float32 or float64: channels added up with random signs, the same every time.

    Squared distances stay within about sqrt(2 / channels) of themselves. With no more than `channels` nothing is done.
    A sign belongs to the channel's place: other orders of the channels give other distances, within the same bounds.
    """
    if feat_RD.shape[1] <= channels:
        return ops.widen(feat_RD).cpu().contiguous()
    draws = torch.Generator().manual_seed(seed)
    sign_D = torch.randint(0, 2, (feat_RD.shape[1],), generator=draws) * 2.0 - 1
    out_RC = torch.zeros(len(feat_RD), channels, dtype=ops.wide_dtype(feat_RD.dtype))
    for block_RC, sign_C in zip(feat_RD.split(channels, dim=1), sign_D.split(channels), strict=True):
        out_RC[:, : len(sign_C)] += block_RC.cpu() * sign_C.to(out_RC.dtype)
    return out_RC
