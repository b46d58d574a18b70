"""Pure tensor functions that the methods share: one pass over the features, block by block, no copies of the whole.

Legend: T steps, N tokens of one step, D channels, R rows of any list of tokens, M centres, G groups, K chosen.
Any float dtype comes in; sums run in float32 (float64 for float64). The row-wise functions give the same bits at any
thread count, block size and neighbourhood; `best_centre`, by a matmul, takes what rounding leaves for a tie.
Deterministic everywhere: ties go to the lower index, NaN scores come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

COSINE_EPS = 1e-8  # torch.cosine_similarity's: each norm is at least this
SAME_COSINE = 1e-6  # 1 - cos of equal directions comes out below this in float32
WORK_BYTES = 3 << 20  # one working block: small enough for a core's cache, large enough to hide the call overhead


# -- blocks ------------------------------------------------------------------------------------------------


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What values of `dtype` are summed in: float32, float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def widen(rows: Tensor) -> Tensor:
    """`rows` in their summing dtype; no copy where they have it."""
    return rows.to(wide_dtype(rows.dtype))


def row_blocks(rows: int, channels: int) -> Iterator[slice]:
    """Slices that cover `rows` in blocks of about `WORK_BYTES` of float32."""
    per_block = max(1, WORK_BYTES // (4 * max(1, channels)))
    return (slice(first, first + per_block) for first in range(0, rows, per_block))


def _dots(a_RD: Tensor, b_RD: Tensor, scratch_RD: Tensor, out_R: Tensor) -> None:
    """Row by row dot products. Multiply-then-sum, as BLAS rounds by alignment and by neighbours."""
    product = scratch_RD[: len(a_RD)]
    torch.mul(a_RD, b_RD, out=product)
    torch.sum(product, -1, out=out_R)


def same_cosine(dtype: torch.dtype) -> float:
    """What rounding may leave between equal cosines that a matmul worked out in `dtype`."""
    return 4 * torch.finfo(dtype).eps


# -- norms and cosines -------------------------------------------------------------------------------------


def cosine(dots: Tensor, squares_a: Tensor, squares_b: Tensor) -> Tensor:
    """Cosines from dot products and squared norms, by torch.cosine_similarity's eps rule (a zero vector: 0).

    In float64, so that equal vectors give exactly 1.
    """
    norms = [s.double().sqrt().clamp_min_(COSINE_EPS) for s in (squares_a, squares_b)]
    return (dots.double() / (norms[0] * norms[1])).to(dots.dtype)


def dissimilarity(cosines: Tensor) -> Tensor:
    """1 - cos, at least 0; what rounding leaves between equal directions counts as 0."""
    away = 1 - cosines
    return away.masked_fill_(away < SAME_COSINE, 0)


def squared_norms(feat_RD: Tensor) -> Tensor:
    """(R,): squared length of each row."""
    out_R = feat_RD.new_empty(len(feat_RD), dtype=wide_dtype(feat_RD.dtype))
    for at in row_blocks(*feat_RD.shape):
        rows = widen(feat_RD[at])
        _dots(rows, rows, torch.empty_like(rows), out_R[at])
    return out_R


def adjacent_cosine(feat_TND: Tensor, before_ND: Tensor | None = None) -> Tensor:
    """(T-1, N): cosine of each token with the same place one step earlier; (T, N) where `before_ND` precedes step 0.

    Every element is read once; the reference's two normalised, shifted copies of the video are not made.
    """
    steps = [*([] if before_ND is None else [before_ND]), *feat_TND.unbind(0)]
    n, d = feat_TND.shape[1:]
    dots, squares = (feat_TND.new_zeros(len(steps), n, dtype=wide_dtype(feat_TND.dtype)) for _ in "ab")
    for at in row_blocks(n, d):
        _adjacent_dots([step[at] for step in steps], dots[:, at], squares[:, at])
    return cosine(dots[1:], squares[:-1], squares[1:])


def _adjacent_dots(steps: Sequence[Tensor], dots_TR: Tensor, squares_TR: Tensor) -> None:
    """Dot product with the step before (row 0 stays) and squared norm of each row, for one block of places."""
    wide = wide_dtype(steps[0].dtype)
    scratch = torch.empty_like(steps[0], dtype=wide, memory_format=torch.contiguous_format)
    held = [torch.empty_like(scratch) for _ in "ab"] if steps[0].dtype != wide else []
    before: Tensor | None = None
    for t, step in enumerate(steps):
        rows = held[t % 2].copy_(step) if held else step
        _dots(rows, rows, scratch, squares_TR[t])
        if before is not None:
            _dots(rows, before, scratch, dots_TR[t])
        before = rows


def row_cosine(feat_RD: Tensor, target_MD: Tensor, pick_R: Tensor | None = None) -> Tensor:
    """(R,): cosine of each row with its target: `target_MD[pick_R]`, row by row without `pick_R`, or the only one."""
    wide = wide_dtype(feat_RD.dtype)
    dots, squares = (feat_RD.new_empty(len(feat_RD), dtype=wide) for _ in "ab")
    goals = squared_norms(target_MD).to(wide)
    if pick_R is None:
        pick_R = torch.arange(len(feat_RD), device=feat_RD.device) % max(1, len(target_MD))
    for at in row_blocks(*feat_RD.shape):
        rows = widen(feat_RD[at])
        target = target_MD if len(target_MD) == 1 else target_MD[pick_R[at]]
        scratch = torch.empty_like(rows)
        _dots(rows, rows, scratch, squares[at])
        _dots(rows, target.to(wide), scratch, dots[at])
    return cosine(dots, squares, goals[pick_R])


def step_means(feat_TND: Tensor) -> Tensor:
    """(T, D): mean token of each step, in the summing dtype."""
    t, n, d = feat_TND.shape
    out_TD = feat_TND.new_empty(t, d, dtype=wide_dtype(feat_TND.dtype))
    for step, mean_D in zip(feat_TND, out_TD, strict=True):
        torch.sum(widen(step), 0, out=mean_D)
    return out_TD.div_(max(1, n))


# -- choosing ----------------------------------------------------------------------------------------------


def top_mask(score: Tensor, k: int | Tensor) -> Tensor:
    """bool (..., N): the k highest of the last dimension, the lower index on ties, NaN last.

    `k` is one number or int64 (...,), one for each list; more than N means all.
    """
    n = score.shape[-1]
    score = score.float() if not score.dtype.is_floating_point else score
    score = torch.where(score.isnan(), float("-inf"), score)
    want = torch.as_tensor(k, device=score.device).expand(score.shape[:-1])[..., None].clamp(0, n)
    most = int(want.max()) if want.numel() else 0
    if most == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    least = score.topk(most, dim=-1).values.gather(-1, (want - 1).clamp_min(0))
    above, tied = score > least, score == least
    missing = want - above.sum(-1, keepdim=True)
    return (above | (tied & (tied.cumsum(-1) <= missing))) & (want > 0)


def top(score_N: Tensor, k: int) -> Tensor:
    """int64 (min(k, N),): ids of the k highest scores, ascending; the lower id on ties, NaN last."""
    return top_mask(score_N, k).nonzero()[:, 0]


def levelled(values: Tensor, tolerance: float | Tensor) -> Tensor:
    """`values` with near-equal ones of the last dimension made equal: each becomes the least of its level.

    A level ends before a value more than `tolerance` above the one below it, and at the latest before one more than
    twice that above the level's first: near-equal values stay together, but many do not chain into one level. The
    tolerance is one number, or one for each value, not less for larger ones.
    """
    ordered, order = values.sort(dim=-1)
    near = torch.as_tensor(tolerance, device=values.device).expand_as(values).gather(-1, order)
    apart = torch.nn.functional.pad(ordered[..., 1:] > (ordered + near)[..., :-1], (1, 0), value=True)
    if bool(apart.all()):
        return values
    place = torch.arange(values.shape[-1], device=values.device).expand_as(order)
    began = torch.where(apart, place, 0).cummax(-1).values
    far = ordered + 2 * near
    if bool((ordered > far.gather(-1, began)).any()):
        border = torch.where(apart, place, values.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
        following = torch.nn.functional.pad(border[..., 1:], (0, 1), value=values.shape[-1])
        after = torch.searchsorted(ordered, far, right=True).maximum(place + 1).minimum(following)
        began = torch.where(walked(after), place, 0).cummax(-1).values
    return torch.empty_like(values).scatter_(-1, order, ordered.gather(-1, began))


def walked(after: Tensor) -> Tensor:
    """bool (..., N): the places that one comes by from place 0 on, going from each place i to `after[i]` > i."""
    jump = torch.nn.functional.pad(after, (0, 1), value=after.shape[-1])  # the end leads to itself
    seen = torch.zeros_like(jump)
    seen[..., 0] = 1
    for _ in range(after.shape[-1].bit_length()):  # each time the strides double
        seen = seen.scatter_reduce(-1, jump, seen, "amax")
        jump = jump.gather(-1, jump)
    return seen[..., :-1] > 0


def ranks(values: Tensor) -> Tensor:
    """int64: the place of each value of the last dimension from the least on; the lower index on ties."""
    order = values.argsort(dim=-1, stable=True)
    place = torch.arange(values.shape[-1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, place)


# -- centres -----------------------------------------------------------------------------------------------


def unit_rows(feat_RD: Tensor) -> Tensor:
    """A copy with every row at length 1, in the summing dtype; a zero row stays zero."""
    rows = widen(feat_RD)
    lengths = squared_norms(feat_RD).sqrt_().clamp_min_(COSINE_EPS)
    return rows / lengths[:, None]


def best_centre(feat_RD: Tensor, unit_MD: Tensor, groups: int = 1) -> Tensor:
    """int64 (R, groups): the most cosine-similar centre to each row, in each of `groups` equal runs of the M centres.

    Numbered within its run; the lower number on ties, which are cosines that rounding may have set apart. The rows need
    no normalising: their length scales all alike.
    """
    best_GR = torch.empty(groups, len(feat_RD), dtype=torch.int64, device=feat_RD.device)
    blur = same_cosine(unit_MD.dtype)
    for at in row_blocks(*feat_RD.shape):
        rows = widen(feat_RD[at])
        dots = (unit_MD @ rows.T).view(groups, -1, len(rows))  # this way round BLAS is faster: the centres are the few
        least = dots.amax(1, keepdim=True).sub_(torch.linalg.vector_norm(rows, dim=1), alpha=blur)
        best_GR[:, at] = (dots >= least).max(1).indices  # the first that is
    return best_GR.T
