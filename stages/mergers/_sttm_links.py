"""STTM's links between cells of consecutive frames, and the groups that they collapse to.

Legend: T steps, N tokens of a step, M leaf cells ("nodes") of all steps, E links, D channels, P parts (heads).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import ops
from ._sttm_tree import Pyramid, part_dots

LENGTH_EPS = 1e-8  # the reference adds it to a length before it divides


@dataclass(frozen=True, eq=False)
class Nodes:
    """The leaves at one threshold, numbered in raster order of time by their top-left token."""

    pyramid: Pyramid
    threshold: float

    @cached_property
    def level_TN(self) -> Tensor:
        """int64: the level of each token's node."""
        return self.pyramid.leaf_levels(self.threshold).flatten(1)

    @cached_property
    def corner_M(self) -> Tensor:
        """int64: flat id of each node's top-left token."""
        return self.first_TN.flatten().nonzero()[:, 0]

    @cached_property
    def first_TN(self) -> Tensor:
        """bool: whether a token is its node's top-left one."""
        return self._corner_TN == torch.arange(self._corner_TN.numel(), device=self._corner_TN.device).view_as(
            self._corner_TN
        )

    @cached_property
    def number_TN(self) -> Tensor:
        """int64: the node of each token."""
        place = self.first_TN.flatten().cumsum(0) - 1
        return place[self._corner_TN]

    @cached_property
    def share_TN(self) -> Tensor:
        """float64: the weight of each token in its node."""
        return self.pyramid.shares(self._level_THW).flatten(1)

    @property
    def _level_THW(self) -> Tensor:
        return self.level_TN.view(self.pyramid.levels[-1].value.shape[:3])

    @cached_property
    def _corner_TN(self) -> Tensor:
        return self.pyramid.corners(self._level_THW).flatten(1)

    @cached_property
    def links(self) -> tuple[Tensor, Tensor]:
        """int64 (E,2), float (E,): pairs of nodes in consecutive steps of which one holds the other, and how similar.

        Cells of one tree that share a place lie in one another; the smaller one's corner names the pair once.
        """
        pairs, near = [], []
        values = _Rows(self)
        for t in range(len(self.level_TN) - 1):
            at = (self.first_TN[t] | self.first_TN[t + 1]).nonzero()[:, 0]
            pairs.append(torch.stack([self.number_TN[t, at], self.number_TN[t + 1, at]], 1))
            near.append(values.similarity(t, at))
        if not pairs:
            return self.number_TN.new_empty(0, 2), self.pyramid.levels[0].square.new_empty(0)
        return torch.cat(pairs), torch.cat(near)

    def groups(self, threshold: float | None) -> Tensor:
        """int64 (M,): the first node of each node's group; every node is its own without a threshold above 0."""
        alone = torch.arange(len(self.corner_M), device=self.corner_M.device)
        if threshold is None or threshold <= 0:
            return alone
        pairs, near = self.links
        return collapse(alone, pairs[near >= threshold])


class _Rows:
    """Values of the nodes that hold given places of a step; the later step's rows are kept for the next call."""

    def __init__(self, nodes: Nodes) -> None:
        self.pyramid, self.level_TN = nodes.pyramid, nodes.level_TN
        finest = nodes.pyramid.levels[-1].value
        shape = (self.level_TN.shape[1], finest.shape[-1])
        wide = ops.wide_dtype(finest.dtype)
        self.now, self.then = (torch.empty(shape, dtype=wide, device=finest.device) for _ in "ab")
        self.scratch = self.now.new_empty(self.now.numel())

    def similarity(self, t: int, at: Tensor) -> Tensor:
        """(E,): mean over parts of the cosines of the nodes at places `at` in steps t and t + 1."""
        (a, length_a), (b, length_b) = (self._read(t, at, self.now), self._read(t + 1, at, self.then))
        dots = part_dots(a, b, length_a.shape[-1], self.scratch)
        return (dots.double() / (length_a * length_b)).mean(-1).to(dots.dtype)

    def _read(self, t: int, at: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """(E,D) values and float64 (E,P) lengths of the nodes at places `at` of step `t`."""
        out, level_E = out[: len(at)], self.level_TN[t, at]
        w = self.pyramid.column.shape[1]
        square = self.pyramid.levels[0].square
        length = square.new_empty(len(at), square.shape[-1], dtype=torch.float64)
        for i, level in enumerate(self.pyramid.levels):
            here = (level_E == i).nonzero()[:, 0]
            if len(here):
                cell = (self.pyramid.row[i, at[here] // w], self.pyramid.column[i, at[here] % w])
                out[here] = level.value[t][cell].to(out.dtype)
                length[here] = level.square[t][cell].double().sqrt() + LENGTH_EPS
        return out, length


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
