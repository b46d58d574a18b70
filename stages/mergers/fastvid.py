"""FastVID: the most attended patches of each frame, and density peaks that the rest of the segment is merged into."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..parts import Merger, Need, Result
from ..reduction import Reduction
from ._fastvid_merge import keep_valid, merge
from ._fastvid_plan import ONEVISION, Plan

PLANS = {"onevision": ONEVISION}


@dataclass(frozen=True)
class FastVid(Merger):
    """Keeps each frame's most attended patches, and density peaks that the rest of the segment is averaged into.

    FastVID (NeurIPS 2025, arXiv 2503.11187), "STPrune": attention-based selection (ATS) and density merging (DTM).
    R = int(N*retain) tokens a frame, of which ctx = int(R*context_share) context and R - ctx salient ones.
    ATS: each frame keeps its most attended patches unchanged.
    DTM: in each segment of L frames every `anchor_stride`-th frame, counted back from the last, is an anchor and gives
    b = ctx*L // anchors centres, its best density peaks (`k` neighbours) that are not salient. Every patch of the
    segment that is not salient (centres too) joins, for each anchor, the centre with the largest cosine:
    out = w*centre + (1-w)*mean(joined), w = max(1/(joined+1), beta). `variant` names the reference's code path.

    Differs from the reference, which crashes or draws noise in all these cases:
    - retain = 1 keeps every token unchanged; int(R*context_share) = 0 keeps salient tokens only;
    - b more than a frame's candidates (retain above about 0.45): the anchors stand closer until b fits;
    - fewer candidates than `k`: all of them are neighbours; one frame, or fewer frames than segments: see `dyseg`;
    - equal attention, densities and cosines (identical frames, zero vectors) go to the lower index, without noise;
    - a centre that only ties with another for its own patch keeps its place, as its weight is at least beta;
    - whether a segment is one frame is asked of its length, not of the number of centres (anchor_stride 1 or 2);
    - invalid tokens are neither salient nor merged.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"attention"})
    paper: ClassVar[str] = "FastVID, NeurIPS 2025, arXiv 2503.11187"
    kind: ClassVar[Result] = "both"

    retain: float = 0.1
    context_share: float = 0.4
    anchor_stride: int = 4
    beta: float = 0.6
    k: int = 4
    variant: Literal["onevision"] = "onevision"

    def __post_init__(self) -> None:
        for field in ("retain", "context_share", "beta"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {value}")
        for field in ("anchor_stride", "k"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.variant not in PLANS:
            raise ValueError(f"variant must be one of {', '.join(PLANS)}, got {self.variant!r}")

    def plan(self, grid: TokenGrid, segments: Segments) -> Plan:
        """How many salient tokens each frame keeps, and which frames give how many centres."""
        make = PLANS[self.variant]
        return make(grid, segments, self.retain, self.context_share, self.anchor_stride)

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        if self._keeps_all(grid):
            return keep_valid(grid)
        return merge(grid, segments, self.plan(grid, segments), self.beta, self.k)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return grid.count if self._keeps_all(grid) else self.plan(grid, segments).rows

    def _keeps_all(self, grid: TokenGrid) -> bool:
        return int(grid.per_step * self.retain) >= grid.per_step

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): received attention, the method's own measure of a single token."""
        assert grid.attention is not None  # `Method.decide` saw to what `needs` names
        return grid.attention.flatten()
