"""HoliTom's budgets: how many tokens each window keeps, once its static places are known.

Legend: S windows, N places of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """Static places of each window (S,N), how many tokens it keeps of them, and how many dynamic ones in each step."""

    static_SN: Tensor
    lengths: list[int]
    static: list[int]
    dynamic: list[int]

    @property
    def rows(self) -> int:
        """Tokens kept."""
        return sum(self.static) + sum(d * length for d, length in zip(self.dynamic, self.lengths, strict=True))


def plan(static_SN: Tensor, lengths: list[int], retain: float) -> Plan:
    """Spends `retain` on what time leaves: r' = retain / (share of tokens not saved), 1 at most.

    The reference's arithmetic to the letter (Python doubles, half to even), as counts hang on its rounding.
    """
    n = static_SN.shape[1]
    still = static_SN.sum(1).tolist()
    total = sum(lengths) * n
    saved = sum(places * (length - 1) for places, length in zip(still, lengths, strict=True))
    share = min(retain / ((total - saved) / total), 1)
    return Plan(
        static_SN, lengths, [round(places * share) for places in still], [math.ceil((n - p) * share) for p in still]
    )
