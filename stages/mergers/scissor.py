"""LLaVA-Scissor: connected components of similar tokens, in each frame and then in the whole clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ...models.types import Segments, TokenGrid
from ..budget import brought_to
from ..ops_graph import similar_components
from ..parts import Merger, Result
from ..reduction import Reduction
from ._scissor_levels import frame_spans, joining_level, misfit
from ._scissor_rows import Components, anchors, assign, entries, means
from .uniform import valid_ids

Nodes = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Scissor(Merger):
    """Averages every token into the nearest of the clip's semantic connected components.

    LLaVA-Scissor (arXiv 2506.21862). Tokens of one frame with a cosine above `tau` (strict) are joined; each connected
    component becomes its mean, a node; the nodes of all frames are joined and averaged alike to representatives R.
    Every token then goes to the representative with the largest cosine: row r = (R_r + sum of its tokens) / (their
    number + 1), R_r being a plain mean of means. A row is anchored at the token of its own component nearest its value.

    `clip_tau`: another level for the nodes than the frames'; exact budgets move it first (there: one level).

    Differs from the reference:
    - components are exact, as the reference's are below 3234 nodes (beyond that it joins a random sample of nodes to
      their neighbours, and loses some);
    - zero vectors are one component of their own (there: NaN, and every token goes to it); they stay in it;
    - cosines within 2.4e-7 are a tie, which goes to the representative of lower number;
    - tau = 1 keeps every token (there: up to rounding); rows ascend by anchor, not by their component's hub;
    - invalid tokens are left out, and segments are not looked at.
    """

    kind: ClassVar[Result] = "merges"
    paper: ClassVar[str] = "LLaVA-Scissor, arXiv 2506.21862"
    family: ClassVar[str] = "connected components"
    complexity: ClassVar[str] = "O(TN²D + M²D + TNKD), M components of frames, K of the clip"

    tau: float = 0.9
    clip_tau: float | None = None

    def __post_init__(self) -> None:
        for name in ("tau", "clip_tau"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} must be in [-1, 1], got {value}")

    @property
    def between_frames(self) -> float:
        """The level above which nodes are joined."""
        return self.tau if self.clip_tau is None else self.clip_tau

    def reduce(self, grid: TokenGrid, segments: Segments) -> Reduction:
        seen, feat_VD = tokens_of(grid)
        return self._rows(grid, seen, feat_VD, self.components(grid, seen, feat_VD))

    def _rows(self, grid: TokenGrid, seen: Tensor, feat_VD: Tensor, parts: Components) -> Reduction:
        label_V = parts.label_V
        if len(label_V.unique()) == len(seen):  # each its own representative, and the nearest: (x + x) / 2
            return Reduction.select(grid.shape, seen)
        best_V = assign(feat_VD, parts, self.between_frames)
        row, token, weight = entries(parts, best_V)
        anchor = seen[anchors(feat_VD, label_V, (row, token, weight))]
        owner = best_V.new_full((grid.count,), -1).index_copy_(0, seen, best_V)
        return Reduction.from_entries(grid.shape, anchor, row, seen[token], weight, owner=owner)

    def components(self, grid: TokenGrid, seen: Tensor, feat_VD: Tensor) -> Components:
        """Components of each frame, and of all frames' means."""
        return self._between(*self._nodes(grid, seen, feat_VD))

    def _nodes(self, grid: TokenGrid, seen: Tensor, feat_VD: Tensor) -> Nodes:
        """int64 (V,): each token's node, a component of its frame; (M,D): the nodes."""
        node_V = similar_components(feat_VD, self.tau, frame_spans(grid, seen))
        if len(node_V.unique()) == len(seen):  # the tokens are the nodes: no copy
            return torch.arange(len(seen), device=seen.device), feat_VD
        return node_V, means(feat_VD, node_V)

    def _between(self, node_V: Tensor, nodes_MD: Tensor) -> Components:
        group_M = similar_components(nodes_MD, self.between_frames, [(0, len(nodes_MD))])
        return Components(node_V, group_M, nodes_MD)

    def exact(
        self, grid: TokenGrid, segments: Segments, carry: Tensor | None, tokens: int
    ) -> tuple[Reduction, Tensor | None]:
        seen, feat_VD = tokens_of(grid)
        if tokens >= len(seen):
            return Reduction.select(grid.shape, seen), None
        chosen, nodes = self._level_for(tokens, grid, seen, feat_VD)
        found = chosen._rows(grid, seen, feat_VD, chosen._between(*nodes))
        valid_N = torch.zeros(grid.count, dtype=torch.bool, device=seen.device).index_fill_(0, seen, True)
        return found if len(found) == tokens else brought_to(found, tokens, misfit(grid, found), valid_N), None

    def _level_for(self, tokens: int, grid: TokenGrid, seen: Tensor, feat_VD: Tensor) -> tuple[Self, Nodes]:
        """The method at the highest level that keeps at most `tokens`, in `at`'s order of levels, and its nodes."""
        nodes = self._nodes(grid, seen, feat_VD)
        if len(nodes[1]) > tokens:  # some nodes are to be joined
            return replace(self, clip_tau=joining_level(nodes[1], [(0, len(nodes[1]))], tokens)), nodes
        level = joining_level(feat_VD, frame_spans(grid, seen), tokens)
        finer = replace(self, tau=max(self.tau, level), clip_tau=1.0)
        return finer, finer._nodes(grid, seen, feat_VD)

    def count(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> int:
        return len(self.components(grid, *tokens_of(grid)).group_M.unique())

    def at(self, knob: float) -> Self:
        """First the clip's level rises from -1 to tau and on to 1, then the frames' from tau to 1.

        Of both together more could keep fewer: finer nodes may be nearer to each other.
        """
        third, rest = 3 * knob, 1 - self.tau
        if third <= 1:
            return replace(self, clip_tau=min(self.tau, third * (self.tau + 1) - 1))
        if third <= 2:
            return replace(self, clip_tau=min(1.0, self.tau + (third - 1) * rest))
        return replace(self, tau=min(1.0, self.tau + (third - 2) * rest), clip_tau=1.0)

    def score(self, grid: TokenGrid, segments: Segments, carry: Tensor | None) -> Tensor:
        """float (N,): how badly a token's row stands for it, 1 - cos to it."""
        return misfit(grid, self.reduce(grid, segments))


def tokens_of(grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """Ids of the valid tokens, int64 (V,), and the tokens (V,D), not copied where all are valid."""
    seen = valid_ids(grid)
    return seen, grid.feat_ND if len(seen) == grid.count else grid.feat_ND[seen]
