"""FastVID's budgets: how many salient tokens each frame keeps and how many centres it gives, by code path.

The reference's three code paths differ here and in their merge pools, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...models.types import Segments, TokenGrid


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


Planner = Callable[[TokenGrid, Segments, float, float, int], Plan]


def onevision(grid: TokenGrid, segments: Segments, retain: float, context_share: float, anchor_stride: int) -> Plan:
    """LLaVA-OneVision: every frame of a segment has the same salient count, every anchor the same centre count."""
    kept = int(grid.per_step * retain)
    context = int(kept * context_share)
    salient = kept - context
    centres: dict[int, int] = {}
    for first, end in segments.spans():
        stride = fitting_stride(end - first, context, grid.per_step - salient, anchor_stride)
        anchors = range(end - 1, first - 1, -stride)
        centres |= {frame: context * (end - first) // len(anchors) for frame in reversed(anchors) if context}
    return Plan([salient] * grid.shape[0], centres, pool_has_centres=True)


def fitting_stride(frames: int, context: int, candidates: int, stride: int) -> int:
    """The widest stride, at most `stride`, whose anchors each have enough candidates for their share of centres."""
    while stride > 1 and context * frames // -(-frames // stride) > candidates:
        stride -= 1
    return stride


ONEVISION: Planner = onevision
