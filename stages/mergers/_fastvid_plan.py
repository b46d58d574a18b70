"""FastVID's budgets: how many salient tokens each frame keeps and how many centres it gives, one planner a code path.

The reference's three code paths differ here and in whether centres join a centre, and nowhere else.
Legend: T frames, N tokens of a frame, L frames of a segment, S tokens that a segment keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...models.types import Segments, TokenGrid
from ..segmenters.dyseg import DySeg


@dataclass(frozen=True)
class Plan:
    """`salient` tokens of each frame (T), `centres` {anchor frame: how many}, and whether centres join a centre too."""

    salient: list[int]
    centres: dict[int, int]
    pool_has_centres: bool

    @property
    def rows(self) -> int:
        """Tokens kept."""
        return sum(self.salient) + sum(self.centres.values())


class Knobs(NamedTuple):
    """The hyper-parameters that plans are made from, named as `FastVid`'s fields."""

    retain: float
    context_share: float
    anchor_stride: int
    ignore: float


def onevision(grid: TokenGrid, segments: Segments, knobs: Knobs) -> Plan:
    """LLaVA-OneVision: every frame of a segment has the same salient count, every anchor the same centre count."""
    kept = int(grid.per_step * knobs.retain)
    context = int(kept * knobs.context_share)
    salient = kept - context
    centres: dict[int, int] = {}
    for first, end in segments.spans():
        for stride in range(knobs.anchor_stride, 0, -1):
            anchors = back_from_last(range(first, end), stride)
            share = context * (end - first) // len(anchors)
            if salient + share <= grid.per_step:
                break
        centres |= dict.fromkeys(anchors, share)
    return Plan([salient] * grid.shape[0], centres, pool_has_centres=True)


def llava_video(grid: TokenGrid, segments: Segments, knobs: Knobs) -> Plan:
    """LLaVA-Video: a segment's S = R*L tokens spread over its frames and anchors to the last one."""
    kept = int(grid.per_step * knobs.retain)
    salient: list[int] = []
    centres: dict[int, int] = {}
    for first, end in segments.spans():
        tokens = kept * (end - first)
        context = int(tokens * knobs.context_share)
        salient += spread(tokens - context, end - first)
        for stride in range(knobs.anchor_stride, 0, -1):
            anchors = back_from_last(range(first, end), stride)
            shares = dict(zip(anchors, spread(context, len(anchors)), strict=True))
            if all(salient[frame] + share <= grid.per_step for frame, share in shares.items()):
                break
        centres |= shares
    return Plan(salient, centres, pool_has_centres=False)


def qwen2_5_vl(grid: TokenGrid, segments: Segments, knobs: Knobs) -> Plan:
    """Qwen2.5-VL: as LLaVA-Video, but only the last frame of each run of like frames keeps anything, and caps cut."""
    n = grid.per_step
    kept = int(n * knobs.retain)
    changes = run_ends(grid, knobs.ignore)
    salient = [0] * grid.shape[0]
    centres: dict[int, int] = {}
    for first, end in segments.spans():
        tokens = kept * (end - first)
        context = max(int(tokens * knobs.context_share), 1)
        active = [frame for frame in range(first, end) if frame == end - 1 or changes[frame]]
        anchors = back_from_last(active, knobs.anchor_stride)
        most = max(n // 2, 1) if end - first > 1 else n
        for frame, share in zip(anchors, spread(context, len(anchors)), strict=True):
            centres[frame] = min(share, most)
        for frame, share in zip(active, spread(max(tokens - context, 0), len(active)), strict=True):
            salient[frame] = min(share, n - centres.get(frame, 0))
    return Plan(salient, centres, pool_has_centres=False)


Planner = Callable[[TokenGrid, Segments, Knobs], Plan]
PLANS: dict[str, Planner] = {"onevision": onevision, "llava_video": llava_video, "qwen2_5_vl": qwen2_5_vl}


def run_ends(grid: TokenGrid, ignore: float) -> list[bool]:
    """For each frame but the last, whether the next is unlike it: cosine of frame vectors < `ignore`, by DySeg's rule.

    From the grid, not from the segmenter, which need not have looked at frame vectors.
    """
    assert grid.frame_vectors is not None  # `Method.decide` saw to what `needs` names
    ends: list[bool] = DySeg(segments=1, tau=ignore).cuts(grid.frame_vectors).tolist()
    return ends


def back_from_last(frames: Sequence[int], stride: int) -> Sequence[int]:
    """Every `stride`-th of `frames`, the last first: of 3 4 5 6 7 by 2 these are 7 5 3."""
    return frames[::-1][::stride]


def spread(tokens: int, places: int) -> list[int]:
    """`tokens` over `places`, the first ones taking one more of what does not divide: 8 over 3 are 3 3 2."""
    return [tokens // places + (place < tokens % places) for place in range(places)]
