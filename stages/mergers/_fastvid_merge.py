"""FastVID's STPrune: a plan of budgets made into a `Reduction`.

Legend: T frames, N tokens of a frame, D channels; A anchors of a segment, B centres of an anchor, P pool tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops
from ..reduction import Reduction
from ._fastvid_plan import Plan

Entries = tuple[Tensor, Tensor, Tensor]  # row, source token, weight


def keep_valid(grid: TokenGrid) -> Reduction:
    """Every valid token, unchanged."""
    ids = torch.arange(grid.count, device=grid.data.device)
    return Reduction.select(grid.shape, ids if grid.valid is None else ids[grid.valid.flatten()])


def merge(grid: TokenGrid, segments: Segments, plan: Plan, beta: float, k: int) -> Reduction:
    """Salient tokens as they are, centres with what joined them, rows in raster order of time."""
    salient_TN = salient_tokens(grid, plan)
    alone = salient_TN.flatten().nonzero()[:, 0]
    anchors, entries = (
        [alone],
        [(torch.arange(len(alone), device=alone.device), alone, alone.new_ones(len(alone)).float())],
    )
    pool_TN = ~salient_TN if grid.valid is None else ~salient_TN & grid.valid.reshape(salient_TN.shape)
    rows = len(alone)
    for first, end in segments.spans():
        for frames in alike(range(first, end), plan.centres):
            centre_AB = torch.stack([centres_of(grid, frame, salient_TN, plan.centres[frame], k) for frame in frames])
            row, index, weight = join(grid, centre_AB, first, pool_TN[first:end], plan.pool_has_centres, beta)
            anchors.append(centre_AB.flatten())
            entries.append((row + rows, index, weight))
            rows += centre_AB.numel()
    row, index, weight = (torch.cat(part) for part in zip(*entries, strict=True))
    return Reduction.from_entries(grid.shape, torch.cat(anchors), row, index, weight)


def salient_tokens(grid: TokenGrid, plan: Plan) -> Tensor:
    """bool (T, N): ATS, each frame's most attended valid patches."""
    assert grid.attention is not None  # `Method.decide` saw to what `needs` names
    attention_TN = grid.attention.reshape(grid.shape[0], -1).float()
    if grid.valid is not None:
        attention_TN = attention_TN.masked_fill(~grid.valid.reshape(attention_TN.shape), float("-inf"))
    return ops.top_mask(attention_TN, torch.tensor(plan.salient, device=attention_TN.device))


def alike(frames: range, centres: dict[int, int]) -> list[list[int]]:
    """The anchors among `frames`, in runs with equal numbers of centres, so that a run goes through one matmul."""
    runs: list[list[int]] = []
    for frame in (f for f in frames if centres.get(f)):
        if runs and centres[runs[-1][0]] == centres[frame]:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def centres_of(grid: TokenGrid, frame: int, salient_TN: Tensor, count: int, k: int) -> Tensor:
    """int64 (count,): flat ids of the frame's `count` best density peaks that are not salient."""
    candidates = (~salient_TN[frame]).nonzero()[:, 0]
    score = ops.dpc_scores(grid.feat_TND[frame][candidates], k)
    return frame * grid.per_step + candidates[ops.top(score, count)]


def join(
    grid: TokenGrid, centre_AB: Tensor, first: int, pool_LN: Tensor, pool_has_centres: bool, beta: float
) -> Entries:
    """DTM: for each anchor, every pool token joins its most similar centre; rows numbered as `centre_AB` lies."""
    a, b = centre_AB.shape
    pool_P = first * grid.per_step + pool_LN.flatten().nonzero()[:, 0]
    best_PA = best_centres(grid, centre_AB, first, pool_LN)
    row_PA = best_PA + b * torch.arange(a, device=best_PA.device)
    index_PA = pool_P[:, None].expand(-1, a)
    if not pool_has_centres:
        other = (pool_P[:, None, None] != centre_AB).all(-1)
        row_PA, index_PA = row_PA[other], index_PA[other]
    row, index, centre = row_PA.flatten(), index_PA.flatten(), centre_AB.flatten()
    joined = row.bincount(minlength=a * b)
    own = (1 / (joined + 1)).clamp_min(beta)
    weight = ((1 - own) / joined.clamp_min(1))[row]
    return (
        torch.cat([row, torch.arange(a * b, device=row.device)]),
        torch.cat([index, centre]),
        torch.cat([weight, own]),
    )


def best_centres(grid: TokenGrid, centre_AB: Tensor, first: int, pool_LN: Tensor) -> Tensor:
    """int64 (P, A): the centre, by its number within the anchor, that each pool token is most similar to."""
    unit = ops.unit_rows(grid.feat_ND[centre_AB.flatten()])
    steps = grid.feat_TND[first : first + len(pool_LN)]
    # Whole frames lie together in memory: multiplying the few salient tokens along is cheaper than gathering the rest.
    best = [ops.best_centre(step, unit, len(centre_AB))[pool] for step, pool in zip(steps, pool_LN, strict=True)]
    return torch.cat(best)
