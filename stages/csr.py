"""Compressed sparse rows, as pure functions on tensors: the arithmetic behind `Reduction`.

Legend: K rows, N columns, E stored entries, D channels. `indptr` int64 (K+1,) ascending from 0 to E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.types import law

Csr = tuple[Tensor, Tensor, Tensor]  # indptr, indices, weights

COLUMNS = 128  # channels of one block: 6272 tokens of it are 3 MB of float32
READ_AGAIN = 3  # a row may be read this often from memory before blocks of channels are faster


def row_of_entry(indptr: Tensor) -> Tensor:
    """int64 (E,): row number of each entry."""
    rows = torch.arange(len(indptr) - 1, device=indptr.device)
    return rows.repeat_interleave(indptr.diff())


def row_sums(indptr: Tensor, values: Tensor) -> Tensor:
    """(K,): sum of `values` (E,) over each row."""
    out = values.new_zeros(len(indptr) - 1)
    return out.index_add_(0, row_of_entry(indptr), values)


def check_bounds(indptr: Tensor, indices: Tensor, columns: int) -> None:
    """Raise `ShapeError` unless the row borders ascend over all entries and every index names a column."""
    law(
        int(indptr[0]) == 0 and int(indptr[-1]) == len(indices),
        "indptr must run from 0 to the number of entries",
    )
    law(bool((indptr.diff() >= 0).all()), "indptr must ascend")
    if len(indices):
        low, high = int(indices.min()), int(indices.max())
        law(low >= 0 and high < columns, f"indices {low}..{high} leave the {columns} source tokens")


def check_weights(indptr: Tensor, weights: Tensor, tolerance: float) -> None:
    """Raise `ShapeError` unless weights are finite, not negative, and sum to 1 in every row."""
    law(bool(torch.isfinite(weights).all()) and bool((weights >= 0).all()), "weights must be finite and >= 0")
    off = row_sums(indptr, weights.double()) - 1
    law(bool((off.abs() <= tolerance).all()), "every row's weights must sum to 1")


def build(rows: int, row: Tensor, index: Tensor, weight: Tensor) -> Csr:
    """Sort entries by (row, index) and add up those that name the same cell (in float64)."""
    span = int(index.max()) + 1 if len(index) else 1
    cell, slot = torch.unique(row * span + index, return_inverse=True)
    weights = torch.zeros(len(cell), dtype=torch.float64, device=weight.device).index_add_(0, slot, weight.double())
    counts = torch.bincount(cell // span, minlength=rows)
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)), cell % span, weights.float()


def owner_by_weight(row: Tensor, index: Tensor, weight: Tensor, columns: int) -> Tensor:
    """int32 (N,): for each column the row with the largest weight, the lower row on ties, -1 where there is none."""
    owner = torch.full((columns,), -1, dtype=torch.int32, device=row.device)
    best = torch.full((columns,), -1.0, device=row.device).scatter_reduce_(0, index, weight, "amax")
    wins = weight == best[index]
    lowest = torch.full((columns,), torch.iinfo(torch.int64).max, device=row.device)
    lowest.scatter_reduce_(0, index[wins], row[wins], "amin")
    found = best >= 0
    owner[found] = lowest[found].int()
    return owner


def row_boxes(row: Tensor, places: Tensor, rows: int) -> Tensor:
    """int64 (K,6): half-open t0,t1,y0,y1,x0,x1 around the `places` (E,3) of each row's entries."""
    at = row[:, None].expand(-1, 3)
    low = places.new_full((rows, 3), torch.iinfo(torch.int64).max).scatter_reduce_(0, at, places, "amin")
    high = places.new_full((rows, 3), -1).scatter_reduce_(0, at, places, "amax")
    return torch.stack([low, high + 1], dim=-1).reshape(rows, 6)


def matmul(indptr: Tensor, indices: Tensor, weights: Tensor, data_ND: Tensor) -> Tensor:
    """(K,D) in the data's dtype: the sparse matrix times `data_ND`, summed in float32 (float64 for float64 data).

    Zero weights are skipped (they are members, not terms). Each element is summed in entry order by one thread, so the
    bits depend neither on the thread count nor on the blocks. Rows are read where they lie if few are read often; else
    block of channels by block of channels, each widened once into a block that the cache holds.
    """
    if not data_ND.dtype.is_floating_point:
        raise ValueError(f"only floating point data can be averaged, got {data_ND.dtype}")
    mixed = weights != 0
    kept = torch.nn.functional.pad(mixed.cumsum(0), (1, 0))[indptr]
    indices, weights = indices[mixed], weights[mixed]
    wide = torch.promote_types(data_ND.dtype, torch.float32)
    in_place = data_ND.dtype == wide and data_ND.is_contiguous()
    if in_place and len(indices) <= READ_AGAIN * len(data_ND):
        return _bag(kept, indices, weights.to(wide), data_ND)
    touched, local = torch.unique(indices, return_inverse=True)
    out_KD = data_ND.new_empty(len(kept) - 1, data_ND.shape[1])
    for first in range(0, data_ND.shape[1], COLUMNS):
        block = data_ND[:, first : first + COLUMNS]
        block = block if len(touched) == len(block) else block.index_select(0, touched)
        block = block.to(wide, memory_format=torch.contiguous_format).contiguous()
        out_KD[:, first : first + COLUMNS] = _bag(kept, local, weights.to(wide), block)
    return out_KD


def _bag(indptr: Tensor, indices: Tensor, weights: Tensor, data: Tensor) -> Tensor:
    """Weighted sums of rows, each in entry order."""
    if len(indptr) == 1 or data.shape[1] == 0:
        return data.new_zeros(len(indptr) - 1, data.shape[1])
    return torch.nn.functional.embedding_bag(
        indices, data, indptr, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def compose(second: Csr, first: Csr) -> Csr:
    """CSR of `second @ first`; explicit zeros of either stay members."""
    (ptr2, idx2, w2), (ptr1, idx1, w1) = second, first
    fan = ptr1.diff()[idx2]  # each entry of `second` opens into this many entries of `first`
    source = torch.arange(len(idx2), device=idx2.device).repeat_interleave(fan)
    within = torch.arange(len(source), device=idx2.device) - (fan.cumsum(0) - fan)[source]
    entry = ptr1[idx2[source]] + within
    return build(len(ptr2) - 1, row_of_entry(ptr2)[source], idx1[entry], w2[source].double() * w1[entry].double())
