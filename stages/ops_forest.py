"""At which similarity components of the graph of similar rows join, for all levels in one go: its spanning forest.

Legend: R rows, B of a block, E edges, L levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import ops, ops_graph

FIRST_ROWS = 16  # a first block of so few: what it joins rules most of the others out
HELD = 4  # edges for each row, held before they are joined to a forest
CUTS = (0.0, 0.01, 0.1)  # shares of the forest's edges, the weakest ones, left out in turn


def joining_levels(rows_RD: Tensor, spans: Iterable[tuple[int, int]]) -> Tensor:
    """(E,), falling: the cosines at which `ops_graph.similar_components` join one by one as their level sinks.

    At a level t in [-1, 1) there are R - (how many are above t) components, up to what rounding does to cosines at t.
    """
    length_R = ops.squared_norms(rows_RD).sqrt_()
    forest = Forest.none(rows_RD)
    for start, end in spans:
        for first, dots in ops_graph.products(rows_RD, length_R, start, end, FIRST_ROWS):
            forest.add(first, dots.mul_(ops_graph.inverse(length_R[first:end])).clamp_max_(1))
        zero = torch.stack(ops_graph.zero_pairs(length_R, start, end))
        forest.hold(zero, length_R.new_ones(zero.shape[1]))
    forest.settle()
    return forest.level_E.sort(descending=True).values


@dataclass
class Forest:
    """A maximum spanning forest in the making: its edges `edge_2E` and their cosines, and those to be joined to it.

    `cuts`: some levels, and the components (R,) that the forest's edges of at least that level make.
    """

    rows: int
    edge_2E: Tensor
    level_E: Tensor
    held: list[tuple[Tensor, Tensor]]
    cuts: list[tuple[float, Tensor]]

    @classmethod
    def none(cls, rows_RD: Tensor) -> Forest:
        """Of no edges."""
        edges = torch.empty(2, 0, dtype=torch.int64, device=rows_RD.device)
        return cls(len(rows_RD), edges, rows_RD.new_empty(0, dtype=ops.wide_dtype(rows_RD.dtype)), [], [])

    def add(self, first: int, cosines: Tensor) -> None:
        """Pairs of the rows from `first` on with all after them, but for those that no forest needs.

        An edge is of no use where its ends are joined already by edges that are none weaker.
        """
        useful = (cosines > float("-inf")).triu_(1)
        for level, label_R in self.cuts:
            label = label_R[first : first + cosines.shape[1]]
            useful &= (cosines > level) | (label[: len(cosines), None] != label)
        at = useful.nonzero()
        self.hold((at + first).T, cosines[at[:, 0], at[:, 1]])

    def hold(self, edge_2E: Tensor, level_E: Tensor) -> None:
        """Edges to be joined to the forest, together with others."""
        self.held.append((edge_2E, level_E))
        if sum(len(levels) for _, levels in self.held) > HELD * self.rows:
            self.settle()
            ordered = self.level_E.sort().values
            levels = [float(ordered[int(share * len(ordered))]) for share in CUTS]
            self.cuts = [
                (level, ops_graph.joined(self.edge_2E[:, self.level_E >= level], self.rows)) for level in levels
            ]

    def settle(self) -> None:
        """Join what is held."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import minimum_spanning_tree

        edges = torch.cat([self.edge_2E, *(edges for edges, _ in self.held)], 1)
        levels = torch.cat([self.level_E, *(levels for _, levels in self.held)])
        first, second = edges.int().cpu().numpy()
        cost = (3 - levels.double()).cpu().numpy()  # above 0, as an edge of cost 0 is none
        tree = minimum_spanning_tree(coo_matrix((cost, (first, second)), (self.rows, self.rows))).tocoo()
        ends = [torch.from_numpy(ids).to(edges.device).long() for ids in (tree.row, tree.col)]
        self.edge_2E, self.held = torch.stack(ends), []
        self.level_E = 3 - torch.from_numpy(tree.data).to(edges.device)
