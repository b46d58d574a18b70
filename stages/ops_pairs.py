"""Dot products of listed pairs of rows, read where they lie: no gathered copies, no products written out.

Legend: R rows, D channels, P equal runs of them (heads), E pairs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of R rows, their P runs of channels apart, sorted by the first one: compressed sparse rows.

    `indptr` int64 (R*P+1,), `second` int64 (E*P,); `order` int64 (E*P,): where each stood in the caller's list.
    """

    indptr: Tensor
    second: Tensor
    order: Tensor
    parts: int

    @classmethod
    def of(cls, first_E: Tensor, second_E: Tensor, rows: int, parts: int = 1) -> Self:
        """Pairs in any order; one may come twice."""
        part_P = torch.arange(parts, device=first_E.device)
        first, second = ((ids[:, None] * parts + part_P).flatten() for ids in (first_E, second_E))
        order = first.argsort(stable=True)
        counts = first.bincount(minlength=rows * parts)
        return cls(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), second[order], order, parts)

    def dots(self, rows_RD: Tensor) -> Tensor:
        """(E,P) in the rows' dtype, which is summed in. One thread sums each from the first channel to the last.

        So the bits depend on the two rows alone: equal rows give what each gives with itself.
        """
        rows = rows_RD.reshape(len(self.indptr) - 1, -1)
        sorted_E = torch.sparse.sampled_addmm(self._zeros(rows), rows, rows.T).values()
        return torch.empty_like(sorted_E).index_copy_(0, self.order, sorted_E).view(-1, self.parts)

    def _zeros(self, rows: Tensor) -> Tensor:
        """What is added to the dot products, and says which they are; unchecked, as a pair may come twice."""
        size, zeros = (len(rows), len(rows)), rows.new_zeros(len(self.second))
        with warnings.catch_warnings():  # torch calls its CSR support beta, once per process
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            return torch.sparse_csr_tensor(self.indptr, self.second, zeros, size, check_invariants=False)
