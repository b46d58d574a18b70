"""FastVID: the most attended patches of each frame, and density peaks that the rest of the segment is merged into."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..parts import Merger, Need, Result
from ..reduction import Reduction
from ._fastvid_merge import keep_valid, merge
from ._fastvid_plan import PLANS, Knobs, Plan


@dataclass(frozen=True)
class FastVid(Merger):
    """Keeps each frame's most attended patches, and density peaks that the rest of the segment is averaged into.

    FastVID (NeurIPS 2025, arXiv 2503.11187), "STPrune": attention-based selection (ATS) and density merging (DTM).
    R = int(N*retain) tokens a frame, a share `context_share` of them context, the others salient.
    ATS: each frame keeps its most attended patches unchanged.
    DTM: in each segment every `anchor_stride`-th frame, counted back from the last, is an anchor and gives its best
    density peaks (`k` neighbours) that are not salient as centres. Every patch of the segment that is not salient
    joins, for each anchor, the centre with the largest cosine: out = w*centre + (1-w)*mean(joined),
    w = max(1/(joined+1), beta).
    `variant` names the reference's code path; they share out a segment of L frames (S = R*L tokens) differently:
    - `onevision`: ctx = int(R*context_share); R - ctx salient tokens in every frame, ctx*L // anchors centres in every
      anchor; an anchor's centres join centres too, mostly themselves.
    - `llava_video`: ctx = int(S*context_share) centres over the anchors, one more for those nearest the segment's end;
      S - ctx salient tokens over the frames, one more for the first; an anchor's own centres join none.
    - `qwen2_5_vl`: the same with ctx at least 1, over the last frames alone of runs in which neighbouring frame vectors
      have a cosine of `ignore` or more; other frames keep nothing, though they are merged. In a segment of more than
      one frame an anchor gives at most N//2 centres, and keeps at most N tokens: what is cut off is lost.

    A row names every patch that joined it: memory is 12 bytes for each anchor's frame and patch of its segment, and
    about four times that while the decision is checked. In a segment of 512 frames of 196 patches 0.6 GB, four times
    that with `anchor_stride` 1; twice as long ones take four times as much.

    Differs from the reference, which crashes in most of these cases:
    - retain = 1 keeps every token unchanged (there: a crash, and `qwen2_5_vl` still cuts off); no context
      (int(...) = 0) keeps salient tokens only; R = 0 keeps nothing, or `qwen2_5_vl`'s one context token a segment;
    - more centres than a frame has candidates (retain above about 0.45): the anchors stand closer until they fit;
    - fewer candidates than `k`: all of them are neighbours;
    - one frame, one segment, and fewer frames than segments (see `dyseg`) are planned like any others;
    - equal attention, densities and cosines (identical frames, zero vectors) go to the lower index (there: noise);
      `qwen2_5_vl` takes frame vectors within 1e-6 of cosine 1 for the same, so identical frames are one run;
    - a centre that only ties with another for its own patch keeps its place, as its weight is at least beta;
    - whether a segment is one frame is asked of its length (there, in `onevision`, of the number of centres, which
      anchor_stride 1, or 2 with 3 frames and ctx = 1, mistake: such an anchor then sees the others' patches here);
    - invalid tokens are neither salient nor centres nor merged; `llava_video`'s newlines are the model's to place.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"attention"})
    paper: ClassVar[str] = "FastVID, NeurIPS 2025, arXiv 2503.11187"
    family: ClassVar[str] = "segment clusters"
    complexity: ClassVar[str] = "O(AN²D + TNMD), A anchor frames, M centres of a segment"
    kind: ClassVar[Result] = "both"

    retain: float = 0.1
    context_share: float = 0.4
    anchor_stride: int = 4
    beta: float = 0.6
    k: int = 4
    variant: Literal["onevision", "llava_video", "qwen2_5_vl"] = "onevision"
    ignore: float = 0.95

    def __post_init__(self) -> None:
        for field in ("retain", "context_share", "beta"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {value}")
        for field in ("anchor_stride", "k"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not -1 <= self.ignore <= 1:
            raise ValueError(f"ignore must be in [-1, 1], got {self.ignore}")
        if self.variant not in PLANS:
            raise ValueError(f"variant must be one of {', '.join(PLANS)}, got {self.variant!r}")
        if self.variant == "qwen2_5_vl":
            object.__setattr__(self, "needs", self.needs | {"frame_vectors"})  # of these settings, not of the class

    def plan(self, grid: TokenGrid, segments: Segments) -> Plan:
        """How many salient tokens each frame keeps, and which frames give how many centres."""
        knobs = Knobs(self.retain, self.context_share, self.anchor_stride, self.ignore)
        return PLANS[self.variant](grid, segments, knobs)

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        if self._keeps_all(grid):
            return keep_valid(grid)
        return merge(grid, segments, self.plan(grid, segments), self.beta, self.k)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        if grid.valid is not None:
            return super().count(grid, segments, carry)
        return grid.count if self._keeps_all(grid) else self.plan(grid, segments).rows

    def _keeps_all(self, grid: TokenGrid) -> bool:
        return int(grid.per_step * self.retain) >= grid.per_step

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): received attention, the method's own measure of a single token."""
        assert grid.attention is not None  # `Method.decide` saw to what `needs` names
        return grid.attention.flatten()
