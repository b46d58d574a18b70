"""Density-peak clustering (DPC-kNN) of groups of tokens: pure functions, without noise.

Density peaks with k nearest neighbours (Rodriguez and Laio 2014; Du et al. 2016), in the form of HoliTom and PruneVid;
`ops.dpc_scores` is the same for one group and without labels.

Legend: G groups of equal size, R rows of a group, M centres of it, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from . import ops

SAME_DENSITY = 2.0**-20  # of the largest squared distance: the reference's noise blurs densities about as much
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
    distances = squared_distances(feat_GRD)
    centre_GM = density_peaks(distances, k).argsort(dim=-1, descending=True, stable=True)[:, :count]
    if not by_score:
        centre_GM = centre_GM.sort(-1).values
    label_GR = distances.gather(2, centre_GM[:, None].expand(-1, rows_GR.shape[1], -1)).argmin(-1)
    return centre_GM, label_GR.scatter_(1, centre_GM, rows_GR[:, :count])


def squared_distances(feat_GRD: Tensor) -> Tensor:
    """(G, R, R): squared distances over D of each group, symmetric; equal rows are exactly 0 apart.

    As `ops.squared_distances`, but squared norms are read off the product, which saves a pass over the tokens.
    """
    rows = ops.widen(feat_GRD)
    rows = rows - rows.mean(1, keepdim=True)
    gram = rows @ rows.mT
    squares = gram.diagonal(dim1=1, dim2=2)
    reach = squares[:, :, None] + squares[:, None]
    distances = (reach - gram).sub_(gram.mT)  # the two triangles of a matmul may round differently
    distances.masked_fill_(distances <= reach.mul_(ops.SAME_DISTANCE), 0)
    return distances.div_(max(1, rows.shape[2]))


def density_peaks(distances_GRR: Tensor, k: int) -> Tensor:
    """(G, R): how good a cluster centre each row is, NaN as the worst: log(density x distance to the nearest denser).

    density = exp(-mean of the k smallest squared distances, itself included); the densest row's distance is the largest
    of all. Of near-equal densities that of the lower row counts as the higher.
    """
    most_G = distances_GRR.amax((1, 2))
    near = distances_GRR.topk(min(k, distances_GRR.shape[2]), dim=-1, largest=False, sorted=False).values
    thin_GR = near.sum(-1).div_(near.shape[2])
    rank_GR = density_rank(thin_GR, most_G[:, None] * SAME_DENSITY)
    denser = rank_GR[:, None] < rank_GR[:, :, None]
    gap_GR = torch.where(denser, distances_GRR, most_G[:, None, None]).amin(-1)
    score = gap_GR.log_().div_(2).sub_(thin_GR)
    return score.masked_fill_(score.isnan(), float("-inf"))


def density_rank(thin_GR: Tensor, tolerance_G1: Tensor) -> Tensor:
    """int64 (G, R): place of each row from the smallest value on; runs of near-equal values go by index."""
    ordered, order = thin_GR.sort(stable=True)
    level = torch.nn.functional.pad((ordered.diff() > tolerance_G1).cumsum(-1), (1, 0))
    by_index = torch.empty_like(level).scatter_(1, order, level).argsort(stable=True)
    place = torch.arange(thin_GR.shape[1], device=thin_GR.device).expand_as(level)
    return torch.empty_like(by_index).scatter_(1, by_index, place)
