"""FastVID's STPrune: a plan of budgets made into a `Reduction`.

Legend: T frames, N tokens of a frame, D channels, L frames of a segment, P its pool tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import csr, ops, ops_cluster
from ..reduction import Reduction
from ._fastvid_join import Entries, join
from ._fastvid_plan import Plan

MOST_ENTRIES = 1 << 20  # of the matrix sorted at once: takes about 50 MB

Rows = tuple[Tensor, csr.Csr]  # anchors, and their rows of the sparse matrix


def keep_valid(grid: TokenGrid) -> Reduction:
    """Every valid token, unchanged."""
    ids = torch.arange(grid.count, device=grid.data.device)
    return Reduction.select(grid.shape, ids if grid.valid is None else ids[grid.valid.flatten()])


def merge(grid: TokenGrid, segments: Segments, plan: Plan, beta: float, k: int) -> Reduction:
    """Salient tokens as they are, centres with what joined them, rows in raster order of time."""
    anchor, (indptr, indices, weights) = stacked(rows_by_span(grid, segments, plan, beta, k))
    return Reduction(grid.shape, indptr, indices, weights, anchor)


def rows_by_span(grid: TokenGrid, segments: Segments, plan: Plan, beta: float, k: int) -> Iterator[Rows]:
    """The rows of spans that follow one another in time."""
    feat_TND = grid.feat_TND
    salient_TN = salient_tokens(grid, plan)
    pool_TN = ~salient_TN if grid.valid is None else ~salient_TN & grid.valid.reshape(salient_TN.shape)
    for first, end in segments.spans():
        pool_LN = pool_TN[first:end]
        for begin, stop, anchors in blocks(first, end, plan, pool=int(pool_LN.sum())):
            found = [centres_of(feat_TND, frame, pool_TN[frame], plan.centres[frame], k) for frame in anchors]
            centres = [ids for ids in found if len(ids)]
            joined = join(feat_TND[first:end], first, pool_LN, centres, plan.pool_has_centres, beta)
            salient = begin * grid.per_step + salient_TN[begin:stop].flatten().nonzero()[:, 0]
            yield rows_of(salient, centres, joined)


def salient_tokens(grid: TokenGrid, plan: Plan) -> Tensor:
    """bool (T, N): ATS, each frame's most attended valid patches."""
    assert grid.attention is not None  # `Method.decide` saw to what `needs` names
    attention_TN = ops.widen(grid.attention).reshape(grid.shape[0], -1)
    counts = torch.tensor(plan.salient, device=attention_TN.device)
    if grid.valid is None:
        return ops.top_mask(attention_TN, counts)
    valid_TN = grid.valid.reshape(attention_TN.shape)
    return ops.top_mask(attention_TN.masked_fill(~valid_TN, float("-inf")), counts) & valid_TN


def blocks(first: int, end: int, plan: Plan, pool: int) -> Iterator[tuple[int, int, list[int]]]:
    """A segment cut behind anchors into spans (begin, stop, anchors in it) whose entries can be sorted at once.

    One span but for very long segments, where the entries, anchors x `pool`, grow with the square of the length.
    """
    anchors = [frame for frame in range(first, end) if plan.centres.get(frame)]
    each = max(1, MOST_ENTRIES // max(1, pool))
    begin = first
    for at in range(0, max(1, len(anchors)), each):
        here = anchors[at : at + each]
        stop = here[-1] + 1 if at + each < len(anchors) else end
        yield begin, stop, here
        begin = stop


def centres_of(feat_TND: Tensor, frame: int, pool_N: Tensor, count: int, k: int) -> Tensor:
    """int64 (count,): flat ids of the frame's `count` best density peaks in the pool, ascending; all where fewer."""
    candidates = pool_N.nonzero()[:, 0]
    score = ops_cluster.peak_scores(feat_TND[frame][candidates], k)
    return frame * feat_TND.shape[1] + candidates[ops.top(score, count)]


def rows_of(salient: Tensor, centres: list[Tensor], joined: Entries) -> Rows:
    """The rows of a span of time, sorted by anchor: salient tokens alone, centres with what joined them."""
    anchor = torch.cat([*centres, salient])
    place = torch.argsort(torch.argsort(anchor))
    row, index, weight = joined
    alone = place[len(anchor) - len(salient) :]
    built = csr.build(
        len(anchor),
        torch.cat([place[row], alone]),
        torch.cat([index, salient]),
        torch.cat([weight, weight.new_ones(len(salient))]),
    )
    return anchor.sort().values, built


def stacked(spans: Iterable[Rows]) -> Rows:
    """The rows of all spans as one matrix."""
    anchors, built = zip(*spans, strict=True)
    counts, indices, weights = zip(*[(indptr.diff(), index, weight) for indptr, index, weight in built], strict=True)
    indptr = torch.nn.functional.pad(torch.cat(counts).cumsum(0), (1, 0))
    return torch.cat(anchors), (indptr, torch.cat(indices), torch.cat(weights))
