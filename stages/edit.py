"""Reductions with rows taken out, tokens put in, or tokens ruled out: what budgets and the gate do to a decision.

Legend: K rows, N source tokens, E stored entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .reduction import Reduction


def keep_rows(found: Reduction, keep: Tensor) -> Reduction:
    """Only the rows `keep` int64, ascending. A token of another row stays with a kept row that has it too.

    Where the method states its owners, tokens of rows that go are dropped.
    """
    kept_K = torch.zeros_like(found.anchor, dtype=torch.bool).index_fill_(0, keep, True)
    stays_E = kept_K[found.row_of_entry]
    indptr = torch.nn.functional.pad(found.indptr.diff()[keep].cumsum(0), (1, 0))
    sizes = None if found.stated_sizes is None else found.stated_sizes[keep]
    owner = None if found.stated_owner is None else renumbered(found.stated_owner, kept_K)
    indices, weights = found.indices[stays_E], found.weights[stays_E]
    return Reduction(found.grid, indptr, indices, weights, found.anchor[keep], sizes, owner)


def renumbered(owner_N: Tensor, kept_K: Tensor) -> Tensor:
    """int32 (N,): owners by the numbers that kept rows have among themselves; -1 where the row is not kept."""
    if not len(kept_K):
        return torch.full_like(owner_N, -1)
    row_N = owner_N.clamp_min(0).long()
    place_K = kept_K.cumsum(0) - 1
    return torch.where((owner_N >= 0) & kept_K[row_N], place_K[row_N], -1).int()


def add_tokens(found: Reduction, ids: Tensor) -> Reduction:
    """`found` and a row for each token of `ids` int64 (no row's anchor): itself, unchanged.

    The new row owns its token. Groups that the token was in keep it as a member: their values, weights and sizes are
    the method's own and do not change.
    """
    if not len(ids):
        return found
    new = len(found) + torch.arange(len(ids), device=ids.device)
    owner_N = found.owner.long().index_put((ids,), new)
    sizes = found.stated_sizes
    return Reduction.from_entries(
        found.grid,
        torch.cat([found.anchor, ids]),
        torch.cat([found.row_of_entry, new]),
        torch.cat([found.indices, ids]),
        torch.cat([found.weights, found.weights.new_ones(len(ids))]),
        sizes=None if sizes is None else torch.cat([sizes, sizes.new_ones(len(ids))]),
        owner=owner_N,
    )


def restrict(found: Reduction, valid_N: Tensor) -> Reduction:
    """`found` over the valid tokens alone: the others leave their rows, and the rest of a row shares their weight.

    A row whose anchor goes is anchored at its heaviest member (ties: the lower id); it goes too where nothing with a
    weight is left or another row has that anchor. Stated sizes stay as they were stated.
    """
    live_E = valid_N[found.indices]
    if bool(live_E.all()):
        return found
    row, index, weight = found.row_of_entry[live_E], found.indices[live_E], found.weights[live_E].double()
    total_K = weight.new_zeros(len(found)).index_add_(0, row, weight)
    anchor_K = torch.where(valid_N[found.anchor], found.anchor, heaviest(row, index, weight, len(found)))
    kept_K = (total_K > 0) & first_claims(anchor_K, moved_K=~valid_N[found.anchor])
    stays = kept_K[row]
    place_K = kept_K.cumsum(0) - 1
    return Reduction.from_entries(
        found.grid,
        anchor_K[kept_K],
        place_K[row[stays]],
        index[stays],
        (weight / total_K[row])[stays],
        sizes=None if found.stated_sizes is None else found.stated_sizes[kept_K],
        owner=None if found.stated_owner is None else renumbered(found.stated_owner.where(valid_N, -1), kept_K),
    )


def heaviest(row_E: Tensor, index_E: Tensor, weight_E: Tensor, rows: int) -> Tensor:
    """int64 (K,): the index with the largest weight in each row, the lower on ties, -1 in an empty row."""
    most_K = weight_E.new_full((rows,), -1).scatter_reduce_(0, row_E, weight_E, "amax")
    best = weight_E == most_K[row_E]
    out_K = torch.full((rows,), torch.iinfo(torch.int64).max, device=row_E.device)
    out_K.scatter_reduce_(0, row_E[best], index_E[best], "amin")
    return out_K.masked_fill_(most_K < 0, -1)


def first_claims(anchor_K: Tensor, moved_K: Tensor) -> Tensor:
    """bool (K,): whether a row is the first to claim its anchor; rows that always had theirs come before moved ones."""
    order = torch.argsort(2 * anchor_K + moved_K, stable=True)
    fresh = torch.ones_like(moved_K)
    fresh[1:] = anchor_K[order].diff() > 0
    return torch.empty_like(fresh).index_put_((order,), fresh)
