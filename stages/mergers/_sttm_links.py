"""STTM's leaves, and the groups that their links over consecutive frames collapse to.

Legend: T steps, N tokens of a step, M leaf cells ("nodes") of all steps, E links.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ._sttm_read import Pyramid


@dataclass(frozen=True, eq=False)
class Nodes:
    """The leaves at one threshold, numbered in raster order of time by their top-left token."""

    pyramid: Pyramid
    threshold: float

    @cached_property
    def level_TN(self) -> Tensor:
        """int64: the level of each token's node."""
        return self.pyramid.tree.leaf_levels(self.pyramid.agree, self.threshold)

    @cached_property
    def corner_TN(self) -> Tensor:
        """int64: flat id of the top-left token of each token's node."""
        corner_TN = self.pyramid.tree.corner[self.pyramid.tree.at(self.level_TN)]
        t, n = corner_TN.shape
        return corner_TN + torch.arange(0, t * n, n, device=corner_TN.device)[:, None]

    @cached_property
    def corner_M(self) -> Tensor:
        """int64: flat id of each node's top-left token."""
        return self._is_corner_N.nonzero()[:, 0]

    @cached_property
    def place_N(self) -> Tensor:
        """int64: the node of each token that is its node's top-left one."""
        return self._is_corner_N.cumsum(0) - 1

    @property
    def number_TN(self) -> Tensor:
        """int64: the node of each token."""
        return self.place_N[self.corner_TN]

    @property
    def share_TN(self) -> Tensor:
        """float64: the weight of each token in its node."""
        return self.pyramid.tree.shares(self.level_TN)

    @cached_property
    def _is_corner_N(self) -> Tensor:
        corner_N = self.corner_TN.flatten()
        return corner_N == torch.arange(len(corner_N), device=corner_N.device)

    def groups(self, threshold: float | None) -> Tensor:
        """int64 (M,): the first node of each node's group; every node is its own without a threshold above 0."""
        alone = torch.arange(len(self.corner_M), device=self.corner_M.device)
        if threshold is None or threshold <= 0:
            return alone
        assert self.pyramid.linked_at == self.threshold, "the links are those of the leaves at another threshold"
        return collapse(alone, self.place_N[self.pyramid.pairs[self.pyramid.near >= threshold]])


def collapse(root_M: Tensor, pairs_E2: Tensor) -> Tensor:
    """int64 (M,): the first node that links lead each node to, by the reference's loop.

    Not the connected components: it ends as soon as every root is its own root, though links may still cross.
    """
    i, j = pairs_E2.unbind(1)
    while True:
        lower = torch.minimum(root_M[i], root_M[j])
        root_M = root_M.scatter_reduce(0, i, lower, "amin").scatter_reduce(0, j, lower, "amin")
        root_M = root_M[root_M]
        if torch.equal(root_M, root_M[root_M]):
            return root_M
