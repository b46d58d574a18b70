"""Density-peak clustering (DPC-kNN) of groups of tokens: pure functions, without noise.

Density peaks with k nearest neighbours (Rodriguez and Laio 2014; Du et al. 2016), in the form of FastVID, HoliTom and
PruneVid. Instead of the references' unseeded noise of 1e-6 equal densities rank by index: the lower counts as denser,
so that of a group of equal rows exactly one can be a centre.

Legend: G groups of equal size, R rows of a group, M centres of it, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import ops

FEW = 25  # rows: of so many torch.cdist, and so the references, takes differences, of more a matmul
CLOSE = 2.0**-10  # of two rows' squared norms: squared distances up to this are coarse where a float32 matmul gave them
EQUAL = 2.0**-44  # the same: up to this rows are equal, where a float64 one did
FINE, COARSE = 2.0**-22, 2.0**-20  # rounding of well-resolved values, relative to each; of others, to the largest
BATCH_BYTES = 8 << 20  # groups that are worked on together: many small ones cost more in calls than in arithmetic


def batches(first: int, end: int, rows: int, channels: int) -> Iterator[slice]:
    """Slices that cover the groups [first, end): few enough at once for the cache, enough to hide the call overhead."""
    each = max(1, BATCH_BYTES // (4 * max(1, rows) * max(1, rows, channels)))
    return (slice(at, min(at + each, end)) for at in range(first, end, each) if rows)


def cluster(feat_GRD: Tensor, count: int, k: int, *, by_score: bool = False) -> tuple[Tensor, Tensor]:
    """(int64 (G,M), int64 (G,R)): the rows that are centres, and for each row the number of its centre.

    The `count` best density peaks over `k` neighbours are centres, in row order or from the best score on; every other
    row goes to the nearest centre, the first on ties. A centre is always its own. `count` at or above R: all are.
    """
    rows_GR = torch.arange(feat_GRD.shape[1], device=feat_GRD.device).expand(feat_GRD.shape[:2])
    if count >= rows_GR.shape[1]:
        return rows_GR, rows_GR
    apart = Apart.of(feat_GRD)
    centre_GM = density_peaks(apart, k).argsort(dim=-1, descending=True, stable=True)[:, :count]
    if not by_score:
        centre_GM = centre_GM.sort(-1).values
    label_GR = apart.nearest(centre_GM)
    return centre_GM, label_GR.scatter_(1, centre_GM, rows_GR[:, :count])


def peak_scores(feat_RD: Tensor, k: int) -> Tensor:
    """(R,): `density_peaks` of one group, which may be empty."""
    return density_peaks(Apart.of(feat_RD[None]), k)[0] if len(feat_RD) else ops.widen(feat_RD.new_empty(0))


def density_peaks(apart: Apart, k: int) -> Tensor:
    """(G, R): how good a cluster centre each row is, NaN as the worst: log(density x distance to the nearest denser).

    density = exp(-mean of the k smallest squared distances, itself included; fewer than k rows: of all); the densest
    row's distance is the largest of all. The logarithm keeps the order where exp underflows.
    """
    near = apart.squared_GRR.topk(min(k, apart.squared_GRR.shape[2]), dim=-1, largest=False).values
    thin_GR = near.sum(-1).div_(near.shape[2])  # in order of distance: equal neighbourhoods give the same bits
    thin_GR = ops.levelled(thin_GR, apart.blur(thin_GR))
    rank_GR = ops.ranks(thin_GR)
    denser = rank_GR[:, None] < rank_GR[:, :, None]
    gap_GR = torch.where(denser, apart.squared_GRR, apart.most_G[:, None, None]).amin(-1)
    score = gap_GR.log_().div_(2).sub_(thin_GR)
    score = score.masked_fill_(score.isnan(), float("-inf"))
    return -ops.levelled(-score, torch.where(apart.fine_G, FINE, COARSE)[:, None])


@dataclass(frozen=True, eq=False)
class Apart:
    """Squared distances over D between the rows of each group, symmetric; equal rows are exactly 0 apart.

    `most_G`: the largest of each group; `fine_G`: whether even the smallest of it have all their digits.
    """

    squared_GRR: Tensor
    most_G: Tensor
    fine_G: Tensor

    @classmethod
    def of(cls, feat_GRD: Tensor) -> Apart:
        """By matmuls, in float64 where differences of the rows themselves would say more than float32 does."""
        rows = feat_GRD.double() if feat_GRD.shape[1] <= FEW else ops.widen(feat_GRD)
        squared, fine_G = by_product(rows)
        if squared.dtype != torch.float64:
            for group in fine_G.nonzero()[:, 0].tolist():  # one by one they stay in the cache
                squared[group] = by_product(feat_GRD[group, None].double())[0][0]
        return cls(squared, squared.amax((1, 2)), fine_G | (squared.dtype == torch.float64))

    def blur(self, value_GR: Tensor) -> Tensor:
        """(G, R): what rounding may leave between equal values, means of squared distances."""
        return torch.where(self.fine_G[:, None], value_GR * FINE, self.most_G[:, None] * COARSE)

    def nearest(self, centre_GM: Tensor) -> Tensor:
        """int64 (G, R): number of the nearest centre to each row, the first on ties."""
        away_GRM = self.squared_GRR.gather(2, centre_GM[:, None].expand(-1, self.squared_GRR.shape[1], -1))
        least_GR = away_GRM.amin(-1)
        return (away_GRM <= (least_GR + self.blur(least_GR))[..., None]).max(-1).indices  # the first that is


def by_product(rows_GRD: Tensor) -> tuple[Tensor, Tensor]:
    """(G, R, R) squared distances over D, those too small for the dtype as 0, and bool (G,) where any two rows' are.

    Taken about the mean row: a large common part (outlier channels) then costs no precision. The squared norms are read
    off the product, which saves a pass over the tokens.
    """
    rows = rows_GRD - rows_GRD.mean(1, keepdim=True)
    gram = rows @ rows.mT
    squares = gram.diagonal(dim1=1, dim2=2)
    reach = squares[:, :, None] + squares[:, None]
    squared = (reach - gram).sub_(gram.mT)  # the two triangles of a matmul may round differently
    small = squared <= reach.mul_(EQUAL if rows.dtype == torch.float64 else CLOSE)
    squared.masked_fill_(small, 0)
    return squared.div_(max(1, rows.shape[2])), small.count_nonzero((1, 2)) > rows.shape[1]
