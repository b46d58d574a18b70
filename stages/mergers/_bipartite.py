"""Bipartite soft matching: every second token offers itself to its most similar neighbour, the best offers merge.

Legend: B sequences (frames, or one video), t tokens of one, A of them at even and O at odd places, D channels,
N source tokens of a sequence, R flat rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import csr, ops

TILE = 2048  # rows and columns of one tile of similarities: 16 MiB of float32
SMALLEST = 1e-30  # a zero vector's length: it is then similar to nothing


@dataclass(frozen=True)
class Matched:
    """Where a sequence's tokens went: `slot` int64 (B,N), `weight` float64 (B,N) in it, `anchor` int64 (B,K) of each.

    Slots are in the reference's order: what stayed apart by falling similarity, then the odd places. An anchor is the
    odd token that others merged into, as a place in the sequence.
    """

    slot: Tensor
    weight: Tensor
    anchor: Tensor


def clipped(rounds: Sequence[int], tokens: int) -> list[int]:
    """What each round merges of a sequence of `tokens`: at most half of what there is; idle rounds are left out."""
    merged = []
    for asked in rounds:
        r = min(asked, tokens // 2)
        tokens -= r
        merged += [r] if r > 0 else []
    return merged


def rounds_to(target: int, tokens: int) -> list[int]:
    """As few rounds as lead from `tokens` down to max(1, target)."""
    merged = []
    while tokens > max(1, target):
        merged.append(min(tokens - max(1, target), tokens // 2))
        tokens -= merged[-1]
    return merged


def match(feat_BtD: Tensor, rounds: Sequence[int], *, weighted: bool, size_BN: Tensor | None = None) -> Matched:
    """Merge `rounds` (clipped ones) one after another; `weighted`: averages count a token as often as its size, which
    is 1 at first where `size_BN` float64 (B,N) does not say."""
    b, n, _ = feat_BtD.shape
    slot_BN = torch.arange(n, device=feat_BtD.device).expand(b, n)
    weight_BN = torch.ones(b, n, dtype=torch.float64, device=feat_BtD.device)
    anchor_Bt, size_Bt = slot_BN, weight_BN if size_BN is None else size_BN
    for i, r in enumerate(rounds):
        goes_Bt = destinations(feat_BtD, r)
        share_Bt, size_Bt = shares(goes_Bt, size_Bt, r, weighted=weighted)
        anchor_Bt = anchors(goes_Bt, anchor_Bt, r)
        weight_BN = weight_BN * share_Bt.gather(1, slot_BN)
        slot_BN = goes_Bt.gather(1, slot_BN)
        if i + 1 < len(rounds):
            feat_BtD = averaged(feat_BtD, goes_Bt, share_Bt, r)
    return Matched(slot_BN, weight_BN, anchor_Bt)


def destinations(feat_BtD: Tensor, r: int) -> Tensor:
    """int64 (B,t): the slot that each token goes to in a round that merges `r` of the even ones."""
    best_BA, partner_BA = best_partner(feat_BtD)
    b, t, _ = feat_BtD.shape
    apart = best_BA.shape[1] - r
    order_BA = falling_order(best_BA)
    goes_Bt = torch.empty(b, t, dtype=torch.int64, device=feat_BtD.device)
    goes_Bt[:, 1::2] = torch.arange(apart, t - r, device=feat_BtD.device)
    stays = torch.arange(-r, apart, device=feat_BtD.device).expand(b, -1)
    rank_BA = torch.empty_like(order_BA).scatter_(1, order_BA, stays)
    goes_Bt[:, ::2] = torch.where(rank_BA < 0, apart + partner_BA, rank_BA)
    return goes_Bt


def shares(goes_Bt: Tensor, size_Bt: Tensor, r: int, *, weighted: bool) -> tuple[Tensor, Tensor]:
    """(B,t): each token's weight in the average it goes to; (B,t-r): source tokens that each average is of."""
    b, t = goes_Bt.shape
    empty = size_Bt.new_zeros(b, t - r)
    counted_Bt = size_Bt if weighted else torch.ones_like(size_Bt)
    whole = empty.scatter_add(1, goes_Bt, counted_Bt)
    return counted_Bt / whole.gather(1, goes_Bt), empty.scatter_add(1, goes_Bt, size_Bt)


def anchors(goes_Bt: Tensor, anchor_Bt: Tensor, r: int) -> Tensor:
    """int64 (B,t-r): anchors of the slots: of an odd token its own, whoever joins; of one that stayed apart its own."""
    new = anchor_Bt.new_empty(goes_Bt.shape[0], goes_Bt.shape[1] - r)
    new.scatter_(1, goes_Bt[:, ::2], anchor_Bt[:, ::2])
    return new.scatter_(1, goes_Bt[:, 1::2], anchor_Bt[:, 1::2])  # over those of the even ones that joined


def averaged(feat_BtD: Tensor, goes_Bt: Tensor, share_Bt: Tensor, r: int) -> Tensor:
    """(B,t-r,D): the tokens that a round leaves, in the summing dtype."""
    b, t, d = feat_BtD.shape
    left = t - r
    row_R = (goes_Bt + torch.arange(b, device=goes_Bt.device)[:, None] * left).flatten()
    order_R = row_R.argsort(stable=True)
    indptr = torch.nn.functional.pad(row_R.bincount(minlength=b * left).cumsum(0), (1, 0))
    weight_R = share_Bt.flatten()[order_R].to(ops.wide_dtype(feat_BtD.dtype))
    feat_RD = feat_BtD.reshape(b * t, d)
    if feat_RD.dtype == weight_R.dtype:
        return csr.matmul(indptr, order_R, weight_R, feat_RD).view(b, left, d)
    out_RD = feat_RD.new_empty(b * left, d, dtype=weight_R.dtype)
    for first in range(0, d, csr.COLUMNS):
        block = feat_RD[:, first : first + csr.COLUMNS].to(weight_R.dtype, memory_format=torch.contiguous_format)
        out_RD[:, first : first + csr.COLUMNS] = csr.matmul(indptr, order_R, weight_R, block)
    return out_RD.view(b, left, d)


# -- similarities ------------------------------------------------------------------------------------------


def tiles(feat_BtD: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Cosines of even with odd tokens, (B, at most TILE, at most TILE) at a time, with the tile's rows and columns."""
    even, odd = feat_BtD[:, ::2], feat_BtD[:, 1::2]
    for first in range(0, even.shape[1], TILE):
        rows = slice(first, first + TILE)
        a = ops.widen(even[:, rows])
        length_a = torch.linalg.vector_norm(a, dim=-1).clamp_min_(SMALLEST)
        for start in range(0, odd.shape[1], TILE):
            columns = slice(start, start + TILE)
            o = ops.widen(odd[:, columns])
            length_o = torch.linalg.vector_norm(o, dim=-1).clamp_min_(SMALLEST)
            dots = torch.bmm(a, o.transpose(1, 2))
            yield rows, columns, dots.div_(length_a[:, :, None]).div_(length_o[:, None, :])


def best_partner(feat_BtD: Tensor) -> tuple[Tensor, Tensor]:
    """(B,A) twice: the largest cosine of each even token with an odd one, and which; the lower on ties."""
    b, t, _ = feat_BtD.shape
    best_BA = feat_BtD.new_full((b, (t + 1) // 2), -float("inf"), dtype=ops.wide_dtype(feat_BtD.dtype))
    blur = ops.same_cosine(best_BA.dtype)
    partner_BA = torch.zeros(best_BA.shape, dtype=torch.int64, device=feat_BtD.device)
    for rows, columns, cosines in tiles(feat_BtD):
        most = cosines.amax(-1)
        which = (cosines >= (most - blur)[..., None]).to(torch.uint8).argmax(-1) + columns.start
        better = most > best_BA[:, rows] + blur
        best_BA[:, rows] = torch.where(better, most, best_BA[:, rows])
        partner_BA[:, rows] = torch.where(better, which, partner_BA[:, rows])
    return best_BA, partner_BA


def falling_order(score_BA: Tensor) -> Tensor:
    """int64 (B,A): places from the highest score to the lowest; near-equal scores go by place."""
    return ops.levelled(-score_BA, ops.same_cosine(score_BA.dtype)).argsort(dim=1, stable=True)


def distinctness(feat_BtD: Tensor) -> Tensor:
    """(B,t): 1 - the largest cosine with a token at a place of the other parity; 1 where there is none."""
    b, t, _ = feat_BtD.shape
    best_Bt = feat_BtD.new_full((b, t), -1, dtype=ops.wide_dtype(feat_BtD.dtype))
    even, odd = best_Bt[:, ::2], best_Bt[:, 1::2]
    for rows, columns, cosines in tiles(feat_BtD):
        even[:, rows] = torch.maximum(even[:, rows], cosines.amax(2))
        odd[:, columns] = torch.maximum(odd[:, columns], cosines.amax(1))
    return ops.dissimilarity(best_Bt) if t > 1 else torch.ones_like(best_Bt)
