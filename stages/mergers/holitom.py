"""HoliTom: static patches averaged through their window and clustered, the most attended of each frame's others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from ...models.types import Segments, TokenGrid
from .. import ops_static
from ..parts import Merger, Need, Result
from ..reduction import Reduction
from ._holitom_merge import merge
from ._holitom_plan import Plan, plan


@dataclass(frozen=True)
class HoliTom(Merger):
    """HoliTom's outer-LLM merging: each window's static patches become clusters, its dynamic patches are pruned.

    HoliTom (NeurIPS 2025, arXiv 2505.21334), as its code does it. A place is static in a window if each of its adjacent
    cosines there is above `tau`. With saved = sum of |static| * (L - 1), r' = min(retain / (1 - saved/(F*N)), 1).
    Static: u = mean over the window; round(|static|*r') density peaks of u (min(k, that) neighbours) are centres, each
    other place joins the nearest one: out = beta*centre + (1-beta)*mean(joined), or the centre alone.
    Dynamic: each frame keeps its ceil(|dynamic|*r') most attended ones, unchanged. Meant for `dp_static`'s windows,
    takes any. Static rows are anchored at the centre, in the window's first step; newline vectors are the model's.
    `retain` is nominal: ceil and round decide the count, and retain = 1 still averages static places.

    Differs from the reference:
    - equal densities (all of them, where one centre is wanted), distances and attention go to the lower index, without
      noise; attention that is no number comes last;
    - newline vectors belong to the model, so no row of a grid that is not square is lost with them;
    - the share of contextual tokens (D > 0: a crash there) is left out, and so is what it does inside the LLM;
    - retain = 0 keeps nothing; a video may be cut into any windows, one for the whole of it or one for each frame.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"attention"})
    paper: ClassVar[str] = "HoliTom, NeurIPS 2025, arXiv 2505.21334"
    family: ClassVar[str] = "segment clusters"
    complexity: ClassVar[str] = "O(TND + P²D), P static places of each segment"
    kind: ClassVar[Result] = "both"

    retain: float = 0.15
    tau: float = 0.8
    beta: float = 0.6
    k: int = 7

    def __post_init__(self) -> None:
        for field, low in (("retain", 0), ("beta", 0), ("tau", -1)):
            value = getattr(self, field)
            if not low <= value <= 1:
                raise ValueError(f"{field} must be in [{low}, 1], got {value}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def plan(self, grid: TokenGrid, segments: Segments) -> Plan:
        """Which places are static in each window, and how many tokens it keeps of either kind."""
        static_SN = ops_static.unchanged(ops_static.traced(grid, segments), self.tau)
        return plan(static_SN, segments.lengths.tolist(), self.retain)

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        return merge(grid, segments, self.plan(grid, segments), self.beta, self.k)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return self.plan(grid, segments).rows

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        return super().exact(grid, ops_static.traced(grid, segments), carry, tokens)  # measured once, asked often

    def at(self, knob: float) -> Self:
        return replace(self, retain=knob)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): received attention, the method's own measure of a single token."""
        assert grid.attention is not None  # `Method.decide` saw to what `needs` names
        return grid.attention.flatten()
