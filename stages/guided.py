"""A chunk's decision under guidance: any merger, window by window, and the windows' reductions as one of the chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from ..models.types import Segments, TokenGrid
from . import ops
from .edit import add_tokens, keep_rows, restrict
from .guide import Guidance, window_sums
from .guide_weights import shares
from .methods import Method
from .parts import Merger
from .reduction import Reduction
from .standins import complete

Window = tuple[tuple[int, int], int]  # its first step and the one behind its last; how many tokens it is due


@torch.no_grad()
def decide_guided(
    method: Method, grid: TokenGrid, carry: Tensor | None, tokens: int | None, guidance: Guidance
) -> tuple[Reduction, Tensor | None]:
    """As `Method.decide`, with as many rows as that gives, shared out over the windows by their weights.

    Where the method prunes, and its scores tell tokens apart, its unguided rows go and come window by window in the
    order of these, which is the whole chunk's. Else each window is decided as a chunk of its own, with what the one
    before it carries on; segments end at its borders. The next chunk's carry is that of the unguided decision.
    """
    unguided, after = method.decide(grid, carry, tokens)
    spans = [(at, min(at + guidance.steps, len(grid.data))) for at in range(0, len(grid.data), guidance.steps)]
    if len(spans) == 1:
        return unguided, after
    counts = shares(len(unguided), guidance.window_weights, window_sums(valid_of_steps(grid), guidance.steps))
    grid = complete(grid, method.stand_ins, method.needs)
    carry = None if carry is None else carry.to(grid.data.device)
    segments = method.segmenter.segment(grid)
    windows = list(zip(spans, counts, strict=True))
    if method.merger.kind == "prunes":
        score_N = method.merger.score(grid, segments, carry)
        if bool(score_N.min() < score_N.max()):
            return brought_to_each(unguided, score_N, valid_of(grid), windows), after
    return decided_apart(method.merger, grid, segments, carry, windows), after


def brought_to_each(found: Reduction, score_N: Tensor, valid_N: Tensor, windows: Sequence[Window]) -> Reduction:
    """`found` with as many rows in each window as it is due: those whose anchors score best, or the best other valid
    tokens beside them."""
    step = found.grid[1] * found.grid[2]
    stay, come = list[Tensor](), list[Tensor]()
    free_N = valid_N.index_fill(0, found.anchor, False)
    for (first, end), count in windows:
        mine = ((found.anchor >= first * step) & (found.anchor < end * step)).nonzero()[:, 0]
        free = free_N[first * step : end * step].nonzero()[:, 0] + first * step
        stay.append(mine[ops.top(score_N[found.anchor[mine]], min(count, len(mine)))])
        come.append(free[ops.top(score_N[free], max(count - len(mine), 0))])
    return add_tokens(keep_rows(found, torch.cat(stay)), torch.cat(come))


def decided_apart(
    merger: Merger, grid: TokenGrid, segments: Segments, carry: Tensor | None, windows: Sequence[Window]
) -> Reduction:
    """Each window as a chunk of its own, with exactly as many rows as it is due."""
    parts: list[Reduction] = []
    for span, count in windows:
        part = window(grid, *span)
        found, carry = merger.exact(part, within(segments, *span), carry, count)
        parts.append(restrict(found, valid_of(part)))
    return stacked(parts, grid.shape)


def valid_of(grid: TokenGrid) -> Tensor:
    """bool (N,)."""
    if grid.valid is None:
        return torch.ones(grid.count, dtype=torch.bool, device=grid.data.device)
    return grid.valid.flatten()


def valid_of_steps(grid: TokenGrid) -> list[int]:
    """How many valid tokens each step has."""
    found: list[int] = valid_of(grid).view(len(grid.data), -1).sum(1).tolist()
    return found


def window(grid: TokenGrid, first: int, end: int) -> TokenGrid:
    """Steps `first` to `end`, with all that belongs to them but the sound."""
    at = slice(first, end)
    pixels = grid.pixels
    if pixels is not None:
        each = -(-len(pixels) // len(grid.data))
        pixels = pixels[first * each : end * each]
    return replace(
        grid,
        data=grid.data[at],
        pts_s=grid.pts_s[at],
        attention=None if grid.attention is None else grid.attention[at],
        frame_vectors=None if grid.frame_vectors is None else grid.frame_vectors[at],
        valid=None if grid.valid is None else grid.valid[at],
        extra={name: value[at] for name, value in grid.extra.items()},
        pixels=pixels,
        audio=None,
        audio_attention=None,
    )


def within(segments: Segments, first: int, end: int) -> Segments:
    """The segments of steps `first` to `end`, cut at these."""
    starts = segments.starts
    inside = starts[(starts > first) & (starts < end)] - first
    return Segments(torch.cat([starts.new_zeros(1), inside]), end - first)


def stacked(parts: Sequence[Reduction], grid: tuple[int, int, int]) -> Reduction:
    """Reductions of consecutive stretches of steps as one over the whole `grid`."""
    source, rows, entries = offsets(parts)
    stated = [p.stated_sizes is not None for p in parts], [p.stated_owner is not None for p in parts]
    owners = (torch.where(p.owner >= 0, p.owner + row, -1) for p, row in zip(parts, rows, strict=True))
    indptr = [parts[0].indptr[:1], *(p.indptr[1:] + at for p, at in zip(parts, entries, strict=True))]
    return Reduction(
        grid,
        torch.cat(indptr),
        torch.cat([p.indices + at for p, at in zip(parts, source, strict=True)]),
        torch.cat([p.weights for p in parts]),
        torch.cat([p.anchor + at for p, at in zip(parts, source, strict=True)]),
        torch.cat([p.sizes for p in parts]) if any(stated[0]) else None,
        torch.cat(list(owners)) if any(stated[1]) else None,
    )


def offsets(parts: Sequence[Reduction]) -> tuple[list[int], list[int], list[int]]:
    """Where each part's source tokens, rows and entries begin among those of all."""
    counts = [(p.source_count, len(p), len(p.indices)) for p in parts]
    source, rows, entries = ([0, *accumulate(each)][:-1] for each in zip(*counts, strict=True))
    return source, rows, entries
