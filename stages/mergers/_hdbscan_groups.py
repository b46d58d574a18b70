"""HDBSCAN's labels for one segment's tokens.

Legend: R tokens, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops, ops_cluster
from ..ops_fold import folded

SAME_DIRECTION = 1e-12  # squared distance of unit rows: below it is rounding


def label_rows(feat_RD: Tensor, min_cluster: int, projection: int | None, seed: int) -> Tensor:
    """int64 (R,): the cluster of each row by its direction, -1 in none; clusters are numbered from 0 on."""
    if len(feat_RD) < min_cluster:
        return torch.full((len(feat_RD),), -1, dtype=torch.int64, device=feat_RD.device)
    if projection is None:
        label_R = by_distances(ops.unit_rows(feat_RD), min_cluster)
    else:
        length_R = ops.squared_norms(feat_RD).sqrt_().clamp_min_(ops.COSINE_EPS).cpu()
        label_R = by_places(folded(feat_RD, projection, seed) / length_R[:, None], min_cluster)
    return label_R.to(feat_RD.device)


def by_distances(unit_RD: Tensor, min_cluster: int) -> Tensor:
    """Labels from the distances of all pairs."""
    exact_RR = ops_cluster.Apart.of(unit_RD[None].double()).squared_GRR[0]
    squares_RR = exact_RR.float().cpu() * unit_RD.shape[1]  # equal distances have equal bits then
    squares_RR = torch.maximum(squares_RR, squares_RR.T)  # the two triangles may round differently
    squares_RR.masked_fill_(squares_RR < SAME_DIRECTION, 0)
    if not squares_RR.any():
        return torch.zeros(len(squares_RR), dtype=torch.int64)
    return _fit(squares_RR.double().sqrt_(), min_cluster, metric="precomputed")


def by_places(unit_RC: Tensor, min_cluster: int) -> Tensor:
    """Labels from places in few dimensions, by a tree of neighbours."""
    if bool(((unit_RC - unit_RC[0]).square().sum(1) < SAME_DIRECTION).all()):
        return torch.zeros(len(unit_RC), dtype=torch.int64)
    return _fit(unit_RC.double(), min_cluster, metric="euclidean", algorithm="kd_tree")


def _fit(values: Tensor, min_cluster: int, **how: str) -> Tensor:
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=min_cluster, copy=False, **how)
    return torch.from_numpy(model.fit_predict(values.numpy())).long()
