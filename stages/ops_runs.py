"""Runs: tokens of one place, step after step, that one of them stands for.

Legend: T steps, N places of a step, D channels, R places of one block, K runs, E members of all runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.types import TokenGrid
from . import ops

NEW = float("inf")  # change of a token that has nothing to be compared with
GONE = float("-inf")  # change of an invalid token


def mark(change: Tensor, grid: TokenGrid, before_HW: Tensor | None) -> Tensor:
    """(T, N) on the grid's device: `change` with `NEW` where nothing comes before, `GONE` where a token is invalid.

    `change` is (T, ...), or (T-1, ...) for steps 1 and on. `before_HW`: validity of the step before this chunk, None
    where there is none or all of it is valid. After an invalid token comes a new one.
    """
    change_TN = change.to(grid.data.device).flatten(1)
    if len(change_TN) < len(grid.data):
        change_TN = torch.cat([change_TN.new_full((1, grid.per_step), NEW), change_TN])
    if before_HW is not None:
        change_TN[0].masked_fill_(~before_HW.to(change_TN.device).flatten(), NEW)
    if grid.valid is not None:
        change_TN[1:].masked_fill_(~grid.valid[:-1].flatten(1), NEW)
        change_TN.masked_fill_(~grid.valid.flatten(1), GONE)
    return change_TN


def run_entries(start_TN: Tensor, valid_TN: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The runs that begin at `start_TN` bool and end before the next start of the same place, as CSR rows.

    `indptr` int64 (K+1,), `indices` int64 (E,): flat ids, rows by their first member, members in time. Tokens before
    their place's first start, and invalid ones, are in no run.
    """
    t, n = start_TN.shape
    ids_TN = torch.arange(t * n, device=start_TN.device).view(t, n)
    first_TN = ids_TN.where(start_TN, ids_TN.new_tensor(-1)).cummax(0).values
    inside_TN = first_TN >= 0 if valid_TN is None else (first_TN >= 0) & valid_TN
    first_E, order = first_TN[inside_TN].sort(stable=True)
    _, sizes_K = first_E.unique_consecutive(return_counts=True)
    return torch.nn.functional.pad(sizes_K.cumsum(0), (1, 0)), ids_TN[inside_TN][order]


def run_cosine(
    feat_TND: Tensor, threshold: float, valid_TN: Tensor | None = None, first_ND: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(T, N): cosine of each token with its run's first token; (N, D): the first tokens of the runs at the end.

    A token whose cosine is not above `threshold` begins a run. NaN where there is nothing to compare with: no token
    before (`first_ND`: the runs' first tokens so far, NaN where there is none), or an invalid one just before.
    Two zero vectors are equal: 1. Every element is read once.
    """
    t, n, d = feat_TND.shape
    near_TN = feat_TND.new_empty(t, n, dtype=ops.wide_dtype(feat_TND.dtype))
    first_ND = feat_TND.new_full((n, d), float("nan")) if first_ND is None else first_ND.clone()
    for at in ops.row_blocks(n, d):
        steps = feat_TND[:, at].unbind(0)
        valid = None if valid_TN is None else valid_TN[:, at].unbind(0)
        first_ND[at] = _follow(steps, ops.widen(first_ND[at]), near_TN[:, at], threshold, valid)
    return near_TN, first_ND


def _follow(
    steps: tuple[Tensor, ...],
    first_RD: Tensor,
    near_TR: Tensor,
    threshold: float,
    valid: tuple[Tensor, ...] | None,
) -> Tensor:
    """`run_cosine` for one block of places."""
    scratch = torch.empty_like(first_RD)
    held = torch.empty_like(first_RD) if steps[0].dtype != first_RD.dtype else None
    first_squares = torch.mul(first_RD, first_RD, out=scratch).sum(-1)
    for t, step in enumerate(steps):
        rows = step if held is None else held.copy_(step)
        dots = torch.mul(rows, first_RD, out=scratch).sum(-1)
        squares = torch.mul(rows, rows, out=scratch).sum(-1)
        near = ops.cosine(dots, squares, first_squares).clamp_max_(1)
        near_TR[t] = near.masked_fill_((squares == 0) & (first_squares == 0), 1)
        fresh = (~(near > threshold)).nonzero()[:, 0]
        if len(fresh):
            first_RD.index_copy_(0, fresh, rows[fresh])
            first_squares.index_copy_(0, fresh, squares[fresh])
        if valid is not None:
            first_RD.masked_fill_(~valid[t][:, None], float("nan"))
            first_squares.masked_fill_(~valid[t], float("nan"))
    return first_RD
