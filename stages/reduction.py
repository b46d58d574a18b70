"""A reduction: the sparse matrix that says which source tokens each kept token is made of.

Every published method is a linear map over source tokens, so a method only *decides* and this one class
applies, composes, inverts and describes (decide, then apply: after ToMe's `merge.py`, arXiv 2210.09461).

Legend: K rows (kept), N = T*H*W columns (source tokens), E stored entries, D channels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..models.types import CompressedTokens, Shaped, TokenGrid, brief, law
from . import csr

ROW_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, repr=False, eq=False)
class Reduction(Shaped):
    """A sparse K x N matrix in CSR form over a chunk's grid (T,H,W), with an anchor for each row.

    `indptr` int64 (K+1,), `indices` int64 (E,), `weights` float32 (E,); `anchor` int64 (K,): the source token
    whose position the row carries. Explicit zero weights are members that a row stands for without mixing them in.
    `stated_sizes` int32 (K,) where a method counts otherwise than by entries (run lengths); `stated_owner`
    int32 (N,) where a method's own assignment differs from "the row with the largest weight".

    Laws, checked here: weights finite and >= 0, rows sum to 1, anchors strictly ascending (raster order in
    time) and members of their rows, K <= N.
    """

    grid: tuple[int, int, int]
    indptr: Tensor
    indices: Tensor
    weights: Tensor
    anchor: Tensor
    stated_sizes: Tensor | None = None
    stated_owner: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        csr.check_bounds(self.indptr, self.indices, self.source_count)
        csr.check_weights(self.indptr, self.weights, ROW_SUM_TOLERANCE)
        law(bool((self.anchor.diff() > 0).all()), "anchors must ascend and none may come twice")
        is_anchor = self.indices == self.anchor[self.row_of_entry]
        law(bool(csr.row_sums(self.indptr, is_anchor.long()).eq(1).all()), "each anchor must be in its row, once")

    def _check_shapes(self) -> None:
        k, n = len(self.anchor), self.source_count
        for name, ids in (("indptr", self.indptr), ("indices", self.indices), ("anchor", self.anchor)):
            law(ids.ndim == 1 and ids.dtype == torch.int64, f"{name} must be int64 (n,), got {brief(ids)}")
        law(self.weights.dtype == torch.float32, f"weights must be float32, got {brief(self.weights)}")
        law(len(self.indptr) == k + 1, f"{len(self.indptr)=} must be rows + 1 = {k + 1}")
        law(len(self.indices) == len(self.weights), f"{len(self.indices)=} must equal {len(self.weights)=}")
        law(k <= n, f"{k} rows from {n} source tokens")
        for name, value, size in (("sizes", self.stated_sizes, k), ("owner", self.stated_owner, n)):
            right = value is None or (tuple(value.shape) == (size,) and value.dtype == torch.int32)
            law(right, f"stated {name} must be int32 ({size},), got {brief(value)}")
        if self.stated_owner is not None and n:
            low, high = int(self.stated_owner.min()), int(self.stated_owner.max())
            law(low >= -1 and high < k, f"owners {low}..{high} are not rows 0..{k - 1} or -1")

    # -- making one ----------------------------------------------------------------------------------

    @classmethod
    def select(cls, grid: tuple[int, int, int], kept: Tensor) -> Reduction:
        """Keep the source tokens `kept` int64 (K,), ascending, unchanged; drop the rest."""
        ones = torch.ones(len(kept), dtype=torch.float32, device=kept.device)
        return cls(grid, torch.arange(len(kept) + 1, device=kept.device), kept, ones, kept)

    @classmethod
    def from_entries(
        cls,
        grid: tuple[int, int, int],
        anchor: Tensor,
        row: Tensor,
        index: Tensor,
        weight: Tensor,
        *,
        sizes: Tensor | None = None,
        owner: Tensor | None = None,
    ) -> Reduction:
        """Build from entries in any order, rows in any order; entries that name the same cell are added up.

        `anchor` int64 (K,) by row; `row`, `index` int64 (E,), `weight` float (E,). Rows are sorted by anchor,
        and `sizes` (K,) and `owner` (N,), given in the caller's row numbers, are carried along.
        """
        order = torch.argsort(anchor)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        indptr, indices, weights = csr.build(len(anchor), place[row], index, weight)
        if owner is not None:
            owner = torch.where(owner >= 0, place[owner.clamp_min(0).long()], -1).int()
        sizes = None if sizes is None else sizes[order].int()
        return cls(grid, indptr, indices, weights.float(), anchor[order], sizes, owner)

    # -- what it is ----------------------------------------------------------------------------------

    @property
    def source_count(self) -> int:
        """N."""
        t, h, w = self.grid
        return t * h * w

    def __len__(self) -> int:
        return len(self.anchor)

    @cached_property
    def row_of_entry(self) -> Tensor:
        """int64 (E,): the row that each stored entry stands in."""
        return csr.row_of_entry(self.indptr)

    @cached_property
    def is_selection(self) -> bool:
        """True where every row is one source token, unchanged."""
        return len(self.indices) == len(self.anchor)

    @cached_property
    def sizes(self) -> Tensor:
        """int32 (K,): source tokens each row stands for."""
        return self.indptr.diff().int() if self.stated_sizes is None else self.stated_sizes

    @cached_property
    def owner(self) -> Tensor:
        """int32 (N,): the row each source token went to (the largest weight, then the lower row), -1 = dropped."""
        if self.stated_owner is not None:
            return self.stated_owner
        return csr.owner_by_weight(self.row_of_entry, self.indices, self.weights, self.source_count)

    @cached_property
    def positions(self) -> Tensor:
        """int32 (K,3): t, y, x of each row's anchor."""
        return self.coordinates(self.anchor).int()

    @cached_property
    def boxes(self) -> Tensor:
        """int32 (K,6): half-open t0,t1,y0,y1,x0,x1 around all entries of each row."""
        return csr.row_boxes(self.row_of_entry, self.coordinates(self.indices), len(self)).int()

    def coordinates(self, ids: Tensor) -> Tensor:
        """int64 (..., 3): t, y, x of flat source ids."""
        _, h, w = self.grid
        return torch.stack([ids // (h * w), ids // w % h, ids % w], dim=-1)

    def to_sparse(self) -> Tensor:
        """The matrix as a torch sparse CSR tensor, float32 (K, N)."""
        size = (len(self), self.source_count)
        with warnings.catch_warnings():  # torch calls its CSR support beta, once per process
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            return torch.sparse_csr_tensor(self.indptr, self.indices, self.weights, size=size, check_invariants=True)

    # -- what it does --------------------------------------------------------------------------------

    def apply(self, data: Tensor) -> Tensor:
        """Kept tokens (K, ...) in `data`'s dtype, summed in float32.

        `data` is (N, D), (T, H*W, D) or (T, H, W, D, ...), else any shape that starts like one of them. A pure
        selection copies rows bit for bit.
        """
        flat = self._flat(data)
        if self.is_selection:
            return flat[self.anchor]
        rows = csr.matmul(self.indptr, self.indices, self.weights, flat.reshape(self.source_count, -1))
        return rows.reshape(len(self), *flat.shape[1:])

    def expand(self, rows: Tensor, fill: float = 0) -> Tensor:
        """(N, ...): each source token shows its owner's row of `rows` (K, ...), `fill` where it was dropped."""
        law(rows.shape[0] == len(self), f"rows must be ({len(self)},...), got {tuple(rows.shape)}")
        out = rows.new_full((self.source_count, *rows.shape[1:]), fill)
        kept = self.owner >= 0
        out[kept] = rows[self.owner[kept].long()]
        return out

    def compress(self, grid: TokenGrid) -> CompressedTokens:
        """Apply to a token grid and all that belongs to it."""
        law(grid.shape == self.grid, f"reduction over {self.grid} cannot reduce a grid of {grid.shape}")
        return CompressedTokens(
            tokens=self.apply(grid.data),
            positions=self.positions.cpu(),
            boxes=self.boxes.cpu(),
            sizes=self.sizes.cpu(),
            pts_s=grid.pts_s[self.positions[:, 0].long().cpu()],
            extra={name: self.apply(value) for name, value in grid.extra.items()},
        )

    def __matmul__(self, first: Reduction) -> Reduction:
        """`second @ first`: the reduction that applies `first`, then `second` (whose source tokens are first's rows).

        Sizes add up over the rows merged; a source token belongs to the row that its row belongs to.
        """
        law(self.source_count == len(first), f"{self.source_count=} must equal the rows of the first, {len(first)}")
        indptr, indices, weights = csr.compose(
            (self.indptr, self.indices, self.weights), (first.indptr, first.indices, first.weights)
        )
        owner = first.owner
        if len(first):
            owner = torch.where(owner >= 0, self.owner[owner.clamp_min(0).long()], -1)
        sizes = csr.row_sums(self.indptr, first.sizes[self.indices].long()).int()
        return Reduction(first.grid, indptr, indices, weights, first.anchor[self.anchor], sizes, owner.int())

    def _flat(self, data: Tensor) -> Tensor:
        t, h, w = self.grid
        leads = [(t * h * w,), (t, h * w), (t, h, w)]
        # In a narrow grid several may fit, (T,1,1,D) and (T,1): the one that leaves one dimension, D, comes first.
        for lead in sorted(leads, key=lambda lead: abs(data.ndim - len(lead) - 1)):
            if tuple(data.shape[: len(lead)]) == lead:
                return data.reshape(t * h * w, *data.shape[len(lead) :])
        raise ValueError(f"data {tuple(data.shape)} does not start with the grid {self.grid}")
