"""STTM's one pass over the features: how alike each frame's cells are inside, and its leaves with the frame before's.

Only the cells of two blocks of steps are held at any time.

Legend: T steps, N tokens of a step, R cells of a step, C those above the finest level, D channels, P parts (heads),
B steps of one block, S slots: the steps of two blocks, E links.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops
from ..ops_pairs import Pairs
from ._sttm_tree import Tree

BLOCK_BYTES = 8 << 20  # of a block's cells: few enough for the cache, enough for the calls not to count
LENGTH_EPS = 1e-8  # the reference adds it to a length before it divides


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What the thresholds are asked of. `agree` (T,C): the least cosine of a cell with what its four slots hold.

    `pairs` int64 (E,2): top-left tokens of leaves in consecutive steps of which one holds the other, `near` (E,): how
    alike these are; for the leaves at the spatial threshold `linked_at`, none without it.
    """

    tree: Tree
    agree: Tensor
    linked_at: float | None
    pairs: Tensor
    near: Tensor


def read(data_THWD: Tensor, tree: Tree, weighted: bool, parts: int, linked_at: float | None) -> Pyramid:
    """Reads each token once. `weighted`: cells are sums of tokens, else means of means."""
    reader = _Reader(data_THWD, tree, weighted, parts)
    agree_TC = data_THWD.new_empty(len(data_THWD), len(tree.slots), dtype=reader.cells.dtype)
    pairs, near = [tree.slots.new_empty(0, 2)], [agree_TC.new_empty(0)]
    for steps in reader.blocks():
        agree_TC[steps] = reader.agreement(steps)
        if linked_at is not None:
            at = slice(max(0, steps.start - 1), steps.stop)
            found, alike = reader.links(at, tree.at(tree.leaf_levels(agree_TC[at], linked_at)))
            pairs.append(found)
            near.append(alike)
    return Pyramid(tree, agree_TC, linked_at, torch.cat(pairs), torch.cat(near))


class _Reader:
    """The cells of this block and the one before. A step's slot, its number modulo S, is the same in both passes."""

    def __init__(self, data_THWD: Tensor, tree: Tree, weighted: bool, parts: int) -> None:
        self.data, self.tree, self.weighted, self.parts = data_THWD, tree, weighted, parts
        t, _, _, d = data_THWD.shape
        self.block = min(t, max(1, BLOCK_BYTES // (4 * max(1, tree.count * d))))
        self.slots = self.block if self.block == t else 2 * self.block
        self.cells = data_THWD.new_empty(self.slots, tree.count, d, dtype=ops.wide_dtype(data_THWD.dtype))
        self.square = self.cells.new_empty(self.slots, tree.count, parts)
        self.kin: dict[int, Pairs] = {}

    def blocks(self) -> list[slice]:
        """Steps of each block."""
        t = len(self.data)
        return [slice(first, min(t, first + self.block)) for first in range(0, t, self.block)]

    def agreement(self, steps: slice) -> Tensor:
        """(B,C): the least cosine of each cell with what its slots hold; the steps' cells and squares are kept."""
        first, count = steps.start % self.slots, steps.stop - steps.start
        cells, square = (kept[first : first + count] for kept in (self.cells, self.square))
        fill(cells, self.data[steps], self.tree, self.weighted)
        dots = self._kin(count).dots(cells).view(count, -1, self.parts)
        square.copy_(dots[:, : self.tree.count])
        slots_C4 = self.tree.slots
        apart = dots[:, self.tree.count :].view(count, *slots_C4.shape, self.parts)
        return ops.cosine(apart, square[:, : len(slots_C4), None], square[:, slots_C4]).mean(-1).amin(-1)

    def _kin(self, steps: int) -> Pairs:
        """Of the cells of so many steps: each with itself, then each with its four slots, step by step."""
        if steps not in self.kin:
            r, slots_C4 = self.tree.count, self.tree.slots
            own = torch.arange(r, device=slots_C4.device)
            first = torch.cat([own, own[: len(slots_C4)].repeat_interleave(4)])
            second = torch.cat([own, slots_C4.flatten()])
            base = torch.arange(steps, device=own.device)[:, None] * r
            self.kin[steps] = Pairs.of((base + first).flatten(), (base + second).flatten(), steps * r, self.parts)
        return self.kin[steps]

    def links(self, steps: slice, leaf_TN: Tensor) -> tuple[Tensor, Tensor]:
        """int64 (E,2), (E,): links between consecutive ones of `steps`, whose leaves are given.

        Cells of one tree that share a place lie in one another; the smaller one's corner names the pair once.
        """
        corner_TN = self.tree.corner[leaf_TN]
        starts_TN = corner_TN == torch.arange(leaf_TN.shape[1], device=leaf_TN.device)
        t, n = (starts_TN[:-1] | starts_TN[1:]).nonzero().unbind(1)
        number = torch.arange(steps.start, steps.stop, device=leaf_TN.device)[:, None]
        row_TN = number % self.slots * self.tree.count + leaf_TN
        token_TN = number * leaf_TN.shape[1] + corner_TN
        near = self._similarity(row_TN[t, n], row_TN[t + 1, n])
        return torch.stack([token_TN[t, n], token_TN[t + 1, n]], 1), near

    def _similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """(E,): mean over parts of the cosines of the cells in rows `a` and `b` of all slots."""
        length = self.square.flatten(0, 1).double().sqrt_().add_(LENGTH_EPS)
        dots = Pairs.of(a, b, len(length), self.parts).dots(self.cells)
        return (dots.double() / (length[a] * length[b])).mean(-1).to(dots.dtype)


def fill(cells_BRD: Tensor, data_BHWD: Tensor, tree: Tree, weighted: bool) -> None:
    """All cells of steps, fine to coarse."""
    levels = [
        cells_BRD[:, start : start + h * w].unflatten(1, (h, w))
        for start, (h, w) in zip(tree.starts, tree.sizes, strict=True)
    ]
    levels[-1].copy_(data_BHWD)
    for fine, coarse in zip(levels[:0:-1], levels[-2::-1], strict=True):
        rows = fine.new_empty(len(fine), coarse.shape[1], *fine.shape[2:])
        _fold(fine, rows, 1, weighted)
        _fold(rows, coarse, 2, weighted)


def _fold(fine: Tensor, out: Tensor, axis: int, weighted: bool) -> None:
    """Sums or means of neighbours along `axis`: (0,1)(2,3).. of an even side, (0)(1,2)(3,4).. of an odd one."""
    fine, out = fine.transpose(0, axis), out.transpose(0, axis)
    alone = len(fine) % 2
    out[:alone] = fine[:alone]
    first, second = fine[alone::2], fine[alone + 1 :: 2]
    if weighted:
        torch.add(first, second, out=out[alone:])
    else:
        torch.lerp(first, second, 0.5, out=out[alone:])  # in one go; of equal cells it is their value


def coarsest(data_BHWD: Tensor, tree: Tree, weighted: bool) -> Tensor:
    """(B,cells,D): the coarsest cells of steps."""
    b, _, _, d = data_BHWD.shape
    cells_BRD = data_BHWD.new_empty(b, tree.count, d, dtype=ops.wide_dtype(data_BHWD.dtype))
    fill(cells_BRD, data_BHWD, tree, weighted)
    return cells_BRD[:, : tree.sizes[0][0] * tree.sizes[0][1]]
