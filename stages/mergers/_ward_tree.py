"""Ward trees over the neighbourhoods of a token grid, and the partition that a number of merges gives.

Legend: V valid tokens, P of one connected part, M merges, E pairs of neighbours, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid


@dataclass(frozen=True)
class Forest:
    """The merges of V points, cheapest first: in each row of `pair` int64 (M,2) two nodes become node V + its number.

    Every merge comes after those it builds on; one tree for each connected part of the neighbourhoods.
    """

    points: int
    pair: Tensor

    def groups(self, count: int) -> Tensor:
        """int64 (V,): the group of each point, numbered by first member, `count` groups or as few as are connected."""
        merges = min(max(0, self.points - count), len(self.pair))
        root = torch.arange(self.points + merges)
        root[self.pair[:merges]] = (self.points + torch.arange(merges))[:, None]
        while not torch.equal(root, root[root]):
            root = root[root]
        top_V = root[: self.points]
        first = torch.full_like(root, self.points).scatter_reduce_(0, top_V, torch.arange(self.points), "amin")
        numbered: Tensor = torch.unique(first[top_V], return_inverse=True)[1]
        return numbered


def grow(feat_VD: Tensor, edges: Tensor) -> Forest:
    """The forest of points `feat_VD` (float, CPU) where `edges` int64 (E,2) are neighbours."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    points = len(feat_VD)
    i, j = torch.cat([edges, edges.flip(1)]).T.numpy()
    graph = coo_matrix((torch.ones(len(i)).numpy(), (i, j)), shape=(points, points)).tocsr()
    parts, part_V = connected_components(graph, directed=False)
    part_V = torch.from_numpy(part_V).long()
    trees = [_tree(feat_VD, graph, (part_V == p).nonzero()[:, 0]) for p in _several(part_V, parts)]
    return _woven(points, trees)


def _several(part_V: Tensor, parts: int) -> list[int]:
    """The parts with more than one point."""
    found: list[int] = (part_V.bincount(minlength=parts) > 1).nonzero()[:, 0].tolist()
    return found


def _tree(feat_VD: Tensor, graph: Any, ids_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, float64 (P-1,) heights that never fall, int64 (P-1,2) children) of one connected part."""
    from sklearn.cluster import ward_tree

    own = graph if len(ids_P) == graph.shape[0] else graph[ids_P.numpy()][:, ids_P.numpy()]
    children, _, _, _, heights = ward_tree(feat_VD[ids_P].numpy(), connectivity=own, return_distance=True)
    # Among neighbours only, a merge may come out cheaper than one below it: it still comes after it.
    return ids_P, torch.from_numpy(heights).cummax(0).values, torch.from_numpy(children).long()


def _woven(points: int, trees: list[tuple[Tensor, Tensor, Tensor]]) -> Forest:
    """The trees' merges in one order of height, with their nodes renumbered."""
    if not trees:
        return Forest(points, torch.empty(0, 2, dtype=torch.int64))
    order = torch.cat([heights for _, heights, _ in trees]).argsort(stable=True)
    node_M = torch.empty_like(order).scatter_(0, order, points + torch.arange(len(order)))
    pairs, first = [], 0
    for ids_P, heights, children in trees:
        names = torch.cat([ids_P, node_M[first : first + len(heights)]])
        pairs.append(names[children])
        first += len(heights)
    return Forest(points, torch.cat(pairs)[order])


def neighbours(grid: TokenGrid, segments: Segments, seen: Tensor) -> Tensor:
    """int64 (E,2): which of the valid tokens `seen` (ids, ascending) touch, by their number among them.

    Up, down, left and right in a step; at the same place, the next valid step of the segment: a patch that the gate
    skipped is one that stayed as it was.
    """
    t, h, w = grid.shape
    number = torch.full((grid.count,), -1, dtype=torch.int64).index_copy_(0, seen, torch.arange(len(seen)))
    number_THW = number.view(t, h, w)
    beside = [_pairs(number_THW[:, :, :-1], number_THW[:, :, 1:]), _pairs(number_THW[:, :-1], number_THW[:, 1:])]
    along = number_THW.permute(1, 2, 0).flatten()
    along = along[along >= 0]  # place by place, in time
    step, place = seen[along] // (h * w), seen[along] % (h * w)
    run = torch.bucketize(step, segments.starts, right=True)
    joined = (place[1:] == place[:-1]) & (run[1:] == run[:-1])
    return torch.cat([*beside, torch.stack([along[:-1], along[1:]], 1)[joined]])


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """int64 (E,2): places of `a` and `b` that are both valid."""
    both = (a >= 0) & (b >= 0)
    return torch.stack([a[both], b[both]], 1)
