"""ToMe, token merging: rounds of bipartite soft matching in which similar tokens are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ...models.types import TokenGrid
from ._bipartite_merger import Bipartite


@dataclass(frozen=True)
class ToMe(Bipartite):
    """Averages the most similar pairs of every second token with the others, round by round in each frame.

    ToMe (ICLR 2023, arXiv 2210.09461), section 3 and `merge.py`'s bipartite_soft_matching without class token, on the
    model's visual tokens, which are their own metric. A round that merges r (at most half of the tokens): tokens at
    even places find the token at an odd place with the largest cosine; the r best of them join it, several may join
    one. What is left, by falling similarity and then the odd places, is the next round's sequence.
    `proportional`: averages count a token as often as the source tokens it stands for (merge_wavg); else plain means
    of means. `rounds`: merges per frame; the default is the paper's r = 13 in each of ViT-B's 12 layers, 196 to 40.
    `retain`, where given, holds instead: halving rounds until ceil(N*retain) tokens are left (at least 1), as the
    STTM repository's baselines do with 1 - prune_ratio. `scope`: `frame`, or `video`: the chunk is one sequence.
    Anchored at the odd token that others joined.

    Differs from the reference: all rounds follow one another before the LLM, not one in each layer, and attention is
    left alone; rows come in raster order; similarities within 5e-7 count as ties and go to the lower place (there:
    unspecified); a zero vector is similar to nothing (there: NaN); one token, r = 0 and retain = 1 change nothing
    (there, of the last: a crash); a frame's retained share works for any number of frames (there: a crash). The
    `kth` and random variants are left out.
    """

    paper: ClassVar[str] = "ToMe, ICLR 2023, arXiv 2210.09461"
    family: ClassVar[str] = "bipartite matching"
    complexity: ClassVar[str] = "O(TN²D)"

    rounds: tuple[int, ...] | None = (13,) * 12
    proportional: bool = True
    scope: Literal["frame", "video"] = "frame"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds is None and self.retain is None:
            raise ValueError("tome needs rounds or retain")
        if self.scope not in ("frame", "video"):
            raise ValueError(f"scope must be 'frame' or 'video', got {self.scope!r}")

    @property
    def weighted(self) -> bool:
        return self.proportional

    @property
    def causal(self) -> bool:
        return self.scope == "frame"

    def own_rounds(self, tokens: int) -> Sequence[int]:
        assert self.rounds is not None  # `__post_init__` saw to it
        return self.rounds

    def sequences(self, grid: TokenGrid) -> Tensor:
        """(B,t,D): what is matched within itself: each frame, or the chunk."""
        return grid.feat_TND if self.scope == "frame" else grid.feat_ND[None]
