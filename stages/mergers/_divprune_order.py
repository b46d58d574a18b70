"""Max-min diversity: the greedy order, exactly, from a few columns of the distance matrix.

Legend: V tokens, B of a batch, D channels. Distance is 1 - cos; between zero vectors 0, from them to others 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops, ops_graph

SAME = 2.0**-24  # distances no farther from each other are a tie: the last bit of a cosine
BATCH = 64  # columns worked out together
HELD = 8 * BATCH  # columns kept, the oldest overwritten
GONE = -1.0  # below every distance: chosen already


class Columns:
    """Columns of the V x V distance matrix, worked out in batches and kept for a while."""

    def __init__(self, feat_VD: Tensor) -> None:
        length_V = ops.squared_norms(feat_VD).sqrt_()
        self.feat_VD, self.inverse_V, self.zero_V = feat_VD, ops_graph.inverse(length_V), length_V == 0
        self.has_zero = bool(self.zero_V.any())
        held = max(1, min(HELD, len(feat_VD)))
        self.held = length_V.new_empty(held, len(feat_VD))
        self.place_V = torch.full((len(feat_VD),), -1)  # asked one by one: kept where Python is
        self.id_of_place = torch.full((held,), -1)
        self.next = 0

    def work_out(self, ids_B: Tensor) -> Tensor:
        """(B, V): distances of the tokens `ids_B` to all."""
        unit_BD = ops.widen(self.feat_VD[ids_B]) * self.inverse_V[ids_B, None]
        if self.next + len(ids_B) > len(self.held):
            self.next = 0
        place = torch.arange(self.next, self.next + len(ids_B))
        out_BV = self.held[self.next : self.next + len(ids_B)]
        for at in _blocks(self.feat_VD):
            out_BV[:, at] = unit_BD @ ops.widen(self.feat_VD[at]).T
        torch.sub(1, out_BV.mul_(self.inverse_V), out=out_BV)
        out_BV.masked_fill_(out_BV < ops.SAME_COSINE, 0)
        if self.has_zero:
            out_BV.masked_fill_(self.zero_V[ids_B, None] & self.zero_V, 0)
        gone = self.id_of_place[place]
        self.place_V[gone[gone >= 0]] = -1
        self.place_V[ids_B.cpu()], self.id_of_place[place] = place, ids_B.cpu()
        self.next += len(ids_B)
        return out_BV

    def of(self, token: int, far_V: Tensor) -> Tensor:
        """(V,): distances to `token`; where they are not kept, its batch is it and the farthest others not kept."""
        if self.place_V[token] < 0:
            fresh_V = far_V.masked_fill(self.place_V.to(far_V.device) >= 0, GONE)
            fresh_V[token] = float("inf")
            ids_B = fresh_V.topk(min(BATCH, len(self.held))).indices
            self.work_out(ids_B[fresh_V[ids_B] > GONE])
        return self.held[int(self.place_V[token])]


def _blocks(feat_VD: Tensor) -> list[slice]:
    """All tokens at once, or the blocks in which they are widened."""
    rows = len(feat_VD) if feat_VD.dtype == ops.wide_dtype(feat_VD.dtype) else 2048
    return [slice(first, first + rows) for first in range(0, len(feat_VD), max(1, rows))]


def greedy(feat_VD: Tensor, count: int, stride: int) -> tuple[Tensor, Tensor]:
    """int64 (count,) tokens in the order of choice, and float (V,) how far all others are from them (-1: chosen).

    First the token farthest from its nearest neighbour, then each time the one farthest from those chosen; the lowest
    on ties. Tokens `stride` apart are likely to be alike.
    """
    columns, chosen = Columns(feat_VD), list[int]()
    far_V = feat_VD.new_full((len(feat_VD),), float("inf"), dtype=columns.held.dtype)
    for _ in range(min(count, len(feat_VD))):
        token = farthest(far_V) if chosen else loneliest(columns, stride)
        far_V = torch.minimum(far_V, columns.of(token, far_V))
        chosen.append(token)
        far_V[token] = GONE
    return torch.tensor(chosen, dtype=torch.int64, device=feat_VD.device), far_V


def farthest(far_V: Tensor) -> int:
    """The largest value's index, the lowest on ties."""
    return int((far_V >= far_V.max() - SAME).byte().argmax())


def loneliest(columns: Columns, stride: int) -> int:
    """The token farthest from its nearest neighbour, without all distances.

    Any distance bounds a token's nearest from above. Tokens are worked out from the highest bound on, until no other's
    bound reaches the farthest found; each batch lowers the bounds of all.
    """
    bound_V = neighbour_bound(columns.feat_VD, stride)
    nearest_V = torch.full_like(bound_V, GONE)  # exact ones
    open_V = torch.ones_like(bound_V, dtype=torch.bool)
    if columns.has_zero:  # equal, though their cosine is 0
        bound_V[columns.zero_V.nonzero()[:, 0]] = 0 if int(columns.zero_V.sum()) > 1 else 1
    while bool((open_V & (bound_V >= nearest_V.max() - SAME)).any()):
        wanted_V = bound_V.masked_fill(~open_V, GONE)
        ids_B = wanted_V.topk(min(BATCH, len(columns.held), int(open_V.sum()))).indices.sort().values
        away_BV = columns.work_out(ids_B).clone()
        away_BV[torch.arange(len(ids_B)), ids_B] = float("inf")
        nearest_V[ids_B], open_V[ids_B] = away_BV.amin(1), False
        bound_V = torch.minimum(bound_V, away_BV.amin(0))
    return farthest(nearest_V)


def neighbour_bound(feat_VD: Tensor, stride: int) -> Tensor:
    """(V,): distance of each token to the nearer of those `stride` before and after; inf without any."""
    bound_V = feat_VD.new_full((len(feat_VD),), float("inf"), dtype=ops.wide_dtype(feat_VD.dtype))
    if 0 < stride < len(feat_VD):
        away = ops.dissimilarity(ops.row_cosine(feat_VD[stride:], feat_VD[:-stride]))
        bound_V[stride:] = away
        bound_V[:-stride] = torch.minimum(bound_V[:-stride], away)
    return bound_V
