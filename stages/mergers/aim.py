"""AIM's merging before the LLM: two rounds of bipartite matching in each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ._bipartite_merger import Bipartite


@dataclass(frozen=True)
class Aim(Bipartite):
    """Averages the most similar half of each frame's tokens away, and then half of what is left.

    AIM (ICCV 2025, arXiv 2412.03248), the token merging before the LLM: ToMe's bipartite matching on the projected and
    pooled features themselves, with plain means: a token that already stands for several counts as one.
    `rounds`: merges per frame, each at most half of what there is; none: N//2, then N//4 of the original N (196 to 98
    to 49). `retain`, where given, holds instead: halving rounds until ceil(N*retain) tokens are left (at least 1).
    Anchored at the odd token that others joined. AIM's pruning inside the LLM is not part of this.

    Differs from the reference: frames of one and of two tokens work (there: a crash, and nothing comes back); rows
    come in raster order; similarities within 5e-7 count as ties and go to the lower place; a zero vector is similar to
    nothing (there: NaN).
    """

    paper: ClassVar[str] = "AIM, ICCV 2025, arXiv 2412.03248"
    family: ClassVar[str] = "bipartite matching"
    complexity: ClassVar[str] = "O(TN²D)"

    @property
    def weighted(self) -> bool:
        return False

    def own_rounds(self, tokens: int) -> Sequence[int]:
        return (tokens // 2, tokens // 4) if self.rounds is None else self.rounds
