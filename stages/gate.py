"""The gate: which tokens are worth encoding, decided from pixels alone, before the encoder sees them.

Any merger that looks at nothing but pixels can be one. What it skips is in no token of the encoder's, and its run is
counted to the token that stands for it: the record's sizes, boxes and owners are those of both decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.types import Frames, Segments, TokenGrid
from .parts import Merger
from .reduction import Reduction


@dataclass(frozen=True)
class Gate:
    """A merger in front of the encoder; ValueError for one that needs more than pixels."""

    merger: Merger

    def __post_init__(self) -> None:
        if self.merger.needs != {"pixels"}:
            name, needs = self.merger.name(), ", ".join(sorted(self.merger.needs)) or "features"
            raise ValueError(f"a gate looks at pixels alone, {name} needs {needs}: take rlt, or dtd in its pixel mode")

    @torch.no_grad()
    def decide(
        self, frames: Frames, pts_s: Tensor, grid_HW: tuple[int, int], carry: Tensor | None
    ) -> tuple[Reduction, Tensor | None]:
        """The reduction of a chunk's grid, and what the next chunk's call takes as `carry`.

        `frames` at model size; `pts_s` float64 (T,) of the grid's steps.
        """
        steps = len(pts_s)
        unseen = torch.zeros(1).expand(steps, *grid_HW, 1)
        grid = TokenGrid(unseen, pts_s, pixels=frames.data)
        return self.merger.step(grid, Segments(torch.zeros(1, dtype=torch.int64), steps), carry)


def kept_mask(gate: Reduction) -> Tensor:
    """bool (T,H,W): the tokens that a gate lets through."""
    keep = torch.zeros(gate.source_count, dtype=torch.bool)
    keep[gate.anchor] = True
    return keep.view(gate.grid)


def behind(gate: Reduction, found: Reduction) -> Reduction:
    """`found`, a decision over the tokens that `gate` let through (in full-grid ids), with all that these stand for."""
    place_N = torch.zeros(gate.source_count, dtype=torch.int64, device=found.anchor.device)
    place_N[gate.anchor] = torch.arange(len(gate), device=found.anchor.device)
    among = Reduction(
        (len(gate), 1, 1),
        found.indptr,
        place_N[found.indices],
        found.weights,
        place_N[found.anchor],
        stated_owner=found.owner[gate.anchor],
    )
    return among @ gate
